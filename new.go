package cache

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/engine"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redisurl"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

const (
	defaultTimeout   = 250 * time.Millisecond
	defaultMaxValue  = 8 << 20
	defaultLocalOnly = 10_000
	defaultLoadLimit = 256
)

var defaultBreaker = breakerConfig{failures: 5, open: time.Second}

// NewClient returns a go-redis client for a URL, as sql.Open does: without I/O.
//
//	redis://user:password@host:6379/0?pool_size=20     one server
//	rediss://…                                         … over TLS
//	unix:///run/redis.sock?db=1                        … over a socket
//	redis://h1:7000,h2:7000,h3:7000                    a cluster
//	redis+sentinel://s1:26379,s2:26379/mymaster/0      a master watched by sentinels
//
// Parameters are those of go-redis: pool_size, min_idle_conns, dial_timeout,
// read_timeout, write_timeout and the others. By default, the client honors the
// deadlines of contexts, does not retry failed commands and gives up dialing after
// a second: a cache has a fallback, and exists to avoid waiting. [New] accepts any
// other go-redis client as well.
//
// The error wraps [ErrInvalidOption] and never contains the URL's password.
func NewClient(url string) (redis.UniversalClient, error) {
	return redisurl.Parse(url)
}

// New returns a cache of values of type V under keys of type K, without a source.
// name identifies the cache in Redis and in metrics; caches of the same name share
// their values if they agree in V, codec and version, and otherwise see misses. New
// does no I/O.
//
// rdb is any go-redis client, also one that is embedded in a type or decorated. A decorator
// that hides the kind of its client, such as a struct that embeds a redis.UniversalClient,
// needs a method Unwrap() redis.UniversalClient: without it the cache can't subscribe to
// notifications, so that New returns an error for a cache with a local tier or a
// [WithTransport] that subscribes, and [Cache.InvalidatePattern] returns an error.
//
// K is a string, integer or bool type, a type with a text appender or marshaler,
// or a struct of such; see [Source].Key for others. The error joins all invalid arguments
// and options and matches [ErrInvalidOption].
func New[K comparable, V any](rdb redis.UniversalClient, name string, opts ...Option) (*Cache[K, V], error) {
	return NewFrom(rdb, name, Source[K, V]{}, opts...)
}

// NewFrom is [New] for a cache in front of src: Get, GetMany and Update load values
// from it that the tiers do not have.
func NewFrom[K comparable, V any](rdb redis.UniversalClient, name string, src Source[K, V], opts ...Option) (*Cache[K, V], error) {
	return build(name, src, opts, func(cfg *config) store.Store { return cfg.chooseStore(rdb) })
}

// build makes a cache on the store that open returns; nil for a LocalOnly cache.
func build[K comparable, V any](name string, src Source[K, V], opts []Option, open func(*config) store.Store) (*Cache[K, V], error) {
	cfg := config{timeout: defaultTimeout, maxValue: defaultMaxValue, breaker: defaultBreaker, loadLimit: defaultLoadLimit}
	cfg.applyAll(opts)
	cfg.checkName(name)
	cfg.compile()

	c := &Cache[K, V]{}
	chooseWriting(&cfg, &src)
	checkWeigh(&cfg, &src)
	checkBatchLoads(&cfg, &src)
	if cfg.policy.Audit > 0 && cfg.localOnly && src.loader() == nil {
		cfg.mistake("%v: a LocalOnly cache has nothing to compare local hits with but its source: give it one that loads, through NewFrom", strategy.Audit(cfg.policy.Audit))
	}
	cfg.checkLocalValues(src.Weigh != nil)
	c.chooseKeys(&cfg, src.Key)
	typ := reflect.TypeFor[V]()
	cfg.chooseCodec(typ)
	cfg.checkCloning(typ, src.Clone != nil)
	if src.Removed != nil && cfg.policy.LocalEntries == 0 && len(cfg.errs) == 0 {
		cfg.mistake("Source.Removed would never be called, since there is no local tier: add strategy.LRU(n) or strategy.TinyLFU(n)")
	}
	cfg.checkQueue(c.keys != nil && !c.keys.Reversible(), reflect.TypeFor[K]())
	st := open(&cfg)
	if err := cfg.err(); err != nil {
		return nil, err
	}

	ec := engine.Config{
		Name: name, Prefix: cfg.prefix, Types: types[K, V]{c.keys}, Source: src.untyped(),
		Codec: cfg.codec, CodecName: cfg.codecName, Version: cfg.version, MaxValue: cfg.maxValue,
		Policy: cfg.policy, LocalTTL: cfg.localTTL(), CloneByCodec: cfg.cloning,
		Invalidator: cfg.invalidator, Store: st, Values: cfg.localValues, Transport: cfg.receivesBy(), Timeout: cfg.timeout, Failures: cfg.breaker.failures, Open: cfg.breaker.open,
		LoadLimit: cfg.loadLimit, Recorder: cfg.recorder, Log: cfg.log,
	}
	if !cfg.staysLocal() {
		ec.Fingerprint = fingerprint[V](cfg.codecName)
	}
	if cfg.policy.LocalEntries > 0 {
		ec.Local = func(fences *fence.Table) (engine.Local, error) { return c.makeLocal(&cfg, fences) }
	}
	var err error
	if c.engine, err = engine.New(ec); err != nil {
		return nil, err
	}
	c.loader, c.dflt = c.engine.Loader(), src.Default
	c.watchRemoved(src.Removed)
	if c.engine.Clones() {
		c.clone = func(v V) (V, error) {
			copied, err := c.engine.Clone(&v)
			return valueOf[V](copied), err
		}
	}
	return c, nil
}

// config holds the options, independent of K and V.
type config struct {
	prefix      string
	codec       codec.Codec
	codecName   string
	strategies  []strategy.Strategy
	policy      strategy.Policy
	invalidator invalidate.Policy
	transport   *invalidate.Transport
	recorder    metrics.Recorder
	log         *slog.Logger
	timeout     time.Duration
	version     uint32
	maxValue    int
	breaker     breakerConfig
	loadLimit   int
	open        func() store.Store // for tests: in place of a client; see package hook
	localOnly   bool
	localValues bool
	cloning     bool
	errs        []error
}

type breakerConfig struct {
	failures int
	open     time.Duration
}

func (c *config) mistake(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalidOption}, args...)...))
}

func (c *config) err() error {
	if len(c.errs) == 0 {
		return nil
	}
	return fmt.Errorf("cache: New: %w", errors.Join(c.errs...))
}

func (c *config) applyAll(opts []Option) {
	for _, o := range opts {
		if o == nil {
			c.mistake("an option is nil")
			continue
		}
		o.apply(c)
	}
}

// checkName refuses names that would make the keys of one cache look like those of another,
// or a metric label unreadable.
func (c *config) checkName(name string) {
	switch {
	case name == "":
		c.mistake("the name is empty: it tells this cache from others, in Redis and in metrics")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		c.mistake("the name %q contains white space or control characters", name)
	case strings.Contains(name, ":"):
		c.mistake("the name %q contains ':', which ends it in Redis keys: use WithPrefix for name spaces", name)
	}
}

// compile checks the options that do not depend on K and V.
func (c *config) compile() {
	if c.localOnly {
		c.strategies = append([]strategy.Strategy{strategy.TinyLFU(defaultLocalOnly)}, c.strategies...)
	}
	var err error
	if c.policy, err = strategy.Compile(c.strategies...); err != nil {
		c.errs = append(c.errs, err)
	}
	if err := c.invalidator.Validate(); err != nil {
		c.errs = append(c.errs, err)
	}
	if i := strings.Index(c.prefix, "{"); i >= 0 && strings.HasPrefix(c.prefix[i:], "{}") {
		c.mistake("the prefix %q begins with an empty hash tag {}, which would spread over a cluster what has to be on one node", c.prefix)
	}
	if c.localOnly && c.transport != nil && *c.transport != invalidate.NoTransport() {
		c.mistake("%v has nothing to hear by in a LocalOnly cache", *c.transport)
	}
	if d := c.policy.LocalDuringOutage; c.localOnly && d > 0 {
		c.mistake("%v: a LocalOnly cache has no Redis whose outage it could go on during: leave it out", strategy.LocalDuringOutage(d))
	}
}

func (c *Cache[K, V]) chooseKeys(cfg *config, key func(K) string) {
	if key != nil {
		c.keys = keys.Func(key)
		return
	}
	var err error
	if c.keys, err = keys.For[K](); err != nil {
		cfg.mistake("keys: %w", err)
	}
}

// chooseCodec decides how values of a type are encoded.
func (c *config) chooseCodec(typ reflect.Type) {
	if c.codec == nil {
		c.codec = codec.JSON()
		if typ.Kind() == reflect.String || typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Uint8 {
			c.codec = codec.Raw()
		}
	}
	if c.staysLocal() {
		return // values are never encoded, except to copy them
	}
	if usercode.IsNil(c.codec) {
		return // reported by WithCodec
	}
	if err := checkType(c.codec, typ); err != nil {
		c.mistake("codec: %w", err)
	}
	if err := usercode.Do(func() { c.codecName = c.codec.Name() }); err != nil {
		c.mistake("codec: %w", err)
	}
}

// checkCloning checks that the codec can copy values of a type that stay local; if they go to
// Redis, chooseCodec has. clones says whether the source copies them.
func (c *config) checkCloning(typ reflect.Type, clones bool) {
	if clones || !c.cloning || !c.staysLocal() || engine.IsConstant(typ) || usercode.IsNil(c.codec) {
		return
	}
	if err := checkType(c.codec, typ); err != nil {
		c.mistake("WithCloning copies by the codec: %w", err)
	}
}

// checkType returns the error of the codec's CheckType, nil if it has no such method.
func checkType(cd codec.Codec, t reflect.Type) error {
	ch, ok := cd.(codec.TypeChecker)
	if !ok {
		return nil
	}
	return usercode.Call(func() error { return ch.CheckType(t) })
}

func (c *config) chooseStore(rdb redis.UniversalClient) store.Store {
	if c.open != nil {
		return c.open()
	}
	none := usercode.IsNil(rdb)
	switch {
	case c.localOnly && !none:
		c.mistake("LocalOnly uses no Redis: the client must be nil")
	case !c.localOnly && none:
		c.mistake("the Redis client is nil: give one, see NewClient, or the option LocalOnly")
	case !none:
		store, err := redisstore.NewRedis(rdb)
		if err != nil {
			c.mistake("%w", err)
			return nil
		}
		if err := store.Unknown(); err != nil && c.receivesBy() != invalidate.NoTransport() {
			c.mistake("there is nothing to hear notifications by: %w; or choose invalidate.NoTransport()", err)
		}
		return store
	}
	return nil
}

// makeLocal makes the local tier.
func (c *Cache[K, V]) makeLocal(cfg *config, fences *fence.Table) (engine.Local, error) {
	lc := local.Config[K]{Capacity: cfg.policy.LocalEntries, Bytes: cfg.policy.LocalBytes, Fences: fences}
	if cfg.policy.LocalTinyLFU {
		lc.Policy = local.TinyLFU
	}
	if c.keys.Reversible() {
		lc.Decode = c.keys.Decode
	}
	var err error
	c.local, err = local.New[K, V](lc)
	return local.Untyped[K, V]{Tier: c.local}, err
}

// localTTL is the bound of a local entry's life. Where values stay local, only an explicit LocalTTL
// shortens it.
func (c *config) localTTL() time.Duration {
	explicit := slices.ContainsFunc(c.policy.Strategies, func(s strategy.Strategy) bool { return s.Name() == "LocalTTL" })
	if c.staysLocal() && !explicit {
		return 0
	}
	return c.policy.LocalTTL
}

// receivesBy is how the cache receives notifications.
func (c *config) receivesBy() invalidate.Transport {
	switch {
	case c.transport != nil:
		return *c.transport
	case c.policy.LocalEntries > 0:
		return invalidate.Broadcast()
	}
	return invalidate.NoTransport()
}

// checkWeigh checks that what Weigh returns is used.
func checkWeigh[K comparable, V any](cfg *config, src *Source[K, V]) {
	if src.Weigh != nil && cfg.policy.LocalBytes == 0 {
		cfg.mistake("Source.Weigh is for strategy.LocalBytes(n), which bounds the local tier by bytes: add it")
	}
}

// checkBatchLoads checks that there is a function that loads batches.
func checkBatchLoads[K comparable, V any](cfg *config, src *Source[K, V]) {
	if cfg.policy.BatchLoads > 0 && src.LoadMany == nil {
		cfg.mistake("%v needs Source.LoadMany, through NewFrom", strategy.BatchLoads(cfg.policy.BatchLoads, cfg.policy.BatchWait))
	}
}

// chooseWriting checks that the source has the functions that the write strategy needs.
func chooseWriting[K comparable, V any](cfg *config, src *Source[K, V]) {
	stores := src.Store != nil || src.StoreMany != nil
	switch mode := cfg.policy.Write; {
	case mode == strategy.ModeCache && (stores || src.Delete != nil):
		cfg.policy.Write = strategy.ModeThrough
		if !stores {
			cfg.mistake("Source.Delete without Source.Store: a cache that deletes from its source has to store there, too")
		}
	case mode != strategy.ModeCache && !stores:
		name := slices.IndexFunc(cfg.policy.Strategies, func(s strategy.Strategy) bool {
			return s.Name() == "WriteThrough" || s.Name() == "WriteAround" || s.Name() == "WriteBehind"
		})
		cfg.mistake("%v needs Source.Store or Source.StoreMany, through NewFrom", cfg.policy.Strategies[max(name, 0)])
	}
}

// checkQueue checks that keys of a type can be kept in a write-behind queue. asJSON says that
// they are kept there as JSON, since their encoding is not reversible.
func (c *config) checkQueue(asJSON bool, typ reflect.Type) {
	if c.policy.Write != strategy.ModeBehind {
		return
	}
	if c.localOnly {
		c.mistake("strategy.WriteBehind() keeps writes in Redis, which a LocalOnly cache has not: write strategy.WriteThrough()")
	}
	if asJSON {
		if err := checkType(engine.QueuedKeys, typ); err != nil {
			c.mistake("strategy.WriteBehind() keeps keys in its queue as JSON: %w", err)
		} else if hasInterface(typ, map[reflect.Type]bool{}) {
			c.mistake("strategy.WriteBehind() keeps keys in its queue as JSON, from which what an interface in a %v holds would come back as another type: give its field a type", typ)
		}
	}
}

// hasInterface reports whether a key type contains an interface.
func hasInterface(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	if t.Kind() == reflect.Interface {
		return true
	}
	switch reflect.New(t).Interface().(type) {
	case json.Marshaler, encoding.TextMarshaler:
		return false
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Array:
		return hasInterface(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if hasInterface(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}
