package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/breaker"
	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redisurl"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/topk"
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

	names := store.NewNames(cfg.prefix, name)
	c := &Cache[K, V]{
		name: name, prefix: names.Data, names: names, valueVersion: cfg.version, maxValue: cfg.maxValue,
		policy: cfg.policy, src: src, missPredictor: missPredictor{streak: missStreak}, reports: newReports(name, cfg.log), rand: rand.Float64, fences: fence.NewTable(), closing: make(chan struct{}),
	}
	c.failures.byKey.Max = maxFailures
	if load := src.loader(); load != nil {
		c.loader = &loader[K, V]{one: load, many: src.LoadMany}
	}
	c.chooseWriting(&cfg)
	c.chooseKeys(&cfg)
	c.chooseCodec(&cfg)
	c.chooseCloning(&cfg)
	if cfg.localOnly {
		c.chooseOwnCopy()
	}
	c.chooseQueue(&cfg)
	store := open(&cfg)
	if err := cfg.err(); err != nil {
		return nil, err
	}
	if s, ok := store.(interface{ Database() int }); ok {
		c.names = c.names.In(s.Database())
	}

	c.stats, c.tagged = newStats(cfg.recorder), topk.New(maxTagged)
	if err := c.chooseLocal(&cfg); err != nil {
		return nil, err
	}
	c.invalidation = invalidation.Policy{Mode: invalidation.Mode(cfg.invalidator.Mode()), Delay: cfg.invalidator.Delay()}
	c.slidesLocally = store == nil && c.policy.Sliding > 0
	if store == nil {
		c.clock, c.localClock = logicalclock.NewTable(), &logicalclock.LocalClock{}
		c.fences.WithClaims()
	} else {
		c.client = client.New(store, cfg.timeout)
		c.client.Observe = c.observe
		c.client.Detours(c.detoured)
		c.client.Break(breaker.Config{Failures: cfg.breaker.failures, Open: cfg.breaker.open, Changed: c.circuitChanged})
		c.chooseTransport(&cfg)
		if err := c.startQueue(cfg.prefix); err != nil {
			return nil, err
		}
		c.loader = c.queueFirst(c.loader)
	}
	c.limit = newLoadLimit(cfg.loadLimit)
	c.refresher = newRefresher(c)
	c.flights = flight.New[K, beginning, result[V]](func(v any, stack []byte) error {
		return &PanicError{Value: v, Stack: stack} // a panic of this package: those of user code are recovered at the call
	})
	return c, nil
}

// config holds the options, independent of K and V.
type config struct {
	prefix      string
	codec       codec.Codec
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
		c.strategies = append([]strategy.Strategy{strategy.LRU(defaultLocalOnly)}, c.strategies...)
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
}

func (c *Cache[K, V]) chooseKeys(cfg *config) {
	if c.src.Key != nil {
		c.keys = keys.Func(c.src.Key)
		return
	}
	var err error
	if c.keys, err = keys.For[K](); err != nil {
		cfg.mistake("keys: %w", err)
	}
}

func (c *Cache[K, V]) chooseCodec(cfg *config) {
	typ := reflect.TypeFor[V]()
	c.codec = cfg.codec
	if c.codec == nil {
		c.codec = codec.JSON()
		if typ.Kind() == reflect.String || typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Uint8 {
			c.codec = codec.Raw()
		}
	}
	c.held = holds(c.codec, typ)
	if cfg.localOnly {
		return // values are never encoded, except to copy them
	}
	if usercode.IsNil(c.codec) {
		return // reported by WithCodec
	}
	if err := checkType(c.codec, typ); err != nil {
		cfg.mistake("codec: %w", err)
	}
	c.sealer = seals(c.codec)
	if err := usercode.Do(func() { c.codecName = c.codec.Name() }); err != nil {
		cfg.mistake("codec: %w", err)
	}
	c.fingerprint = fingerprint[V](c.codecName)
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
		if err := store.Unknown(); err != nil && c.listens() {
			c.mistake("there is nothing to hear notifications by: %w; or choose invalidate.NoTransport()", err)
		}
		return store
	}
	return nil
}

// listens reports whether the cache is to receive notifications.
func (c *config) listens() bool {
	if c.transport != nil {
		return *c.transport != invalidate.NoTransport()
	}
	return c.policy.LocalEntries > 0
}

func (c *Cache[K, V]) chooseLocal(cfg *config) error {
	if c.policy.LocalEntries == 0 {
		return nil
	}
	lc := local.Config[K]{Capacity: c.policy.LocalEntries, Bytes: c.policy.LocalBytes, Fences: c.fences}
	if c.keys.Reversible() {
		lc.Decode = c.keys.Decode
	}
	var err error
	if c.local, err = local.New[K, V](lc); err != nil {
		return fmt.Errorf("cache: New: %w: %w", ErrInvalidOption, err)
	}
	// In a LocalOnly cache only an explicit LocalTTL shortens the life of an entry.
	explicit := slices.ContainsFunc(c.policy.Strategies, func(s strategy.Strategy) bool { return s.Name() == "LocalTTL" })
	if !cfg.localOnly || explicit {
		c.localTTL = c.policy.LocalTTL
	}
	return nil
}

// chooseTransport makes the coordinator, which connects the cache with the other processes.
func (c *Cache[K, V]) chooseTransport(cfg *config) {
	transport := coherence.None
	switch {
	case cfg.transport != nil:
		transport = coherence.Transport(cfg.transport.Kind())
	case c.local != nil:
		transport = coherence.Broadcast
	}
	ac := coherence.Config{
		Client: c.client, Names: c.names, Fences: c.fences, Quote: keys.QuotePattern, Transport: transport, StartTimeout: cfg.timeout, Policy: c.invalidation, Events: &events{c.stats, c.reports, c.client.Misfit},
		Changed: func(encoded string) { c.failures.forget(c.prefix + encoded) }, ChangedAny: c.failures.forgetAll,
	}
	if c.local != nil {
		ac.Local = &localInvalidator[K, V]{c.local, c.keys, c.fences}
	}
	c.coherence = coherence.New(ac)
	c.clock = c.coherence.Clock
	c.invalidator = &invalidation.Invalidator{Store: c.client, Names: c.names, Policy: c.invalidation, Outbox: c.coherence.Outbox, Known: c.clock.Known}
	if c.sealer != nil {
		c.invalidator.Sign = c.resign
	}
}
