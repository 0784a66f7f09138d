// Package engine is a cache without its types: what package cache makes of it adds K and V.
//
// Keys are known by their encodings in Redis, and values by pointers that are passed on; what
// needs their types is asked of [Types], of the [Source] and of the [Local] tier.
//
// There is one way through the package for a read and one for a write, each told at the
// beginning of its file:
//
//	read.go    a read falls through the tiers: local, Redis, source
//	lead.go    a load: lease, source, fill
//	write.go   a write: encode, fence, Redis, local tier
//	update.go  a write that depends on what the key holds
package engine

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/report"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/topk"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// Cache is a cache. All methods are safe for concurrent use.
type Cache struct {
	name   string
	prefix string      // of the Redis keys of entries: the prefix option, the name, ':'; "" without Redis
	names  store.Names // of the cache's keys and channels in Redis

	types        Types
	src          Source
	loader       Loader // of the source, behind the write-behind queue; nil if it doesn't load
	codec        codec.Codec
	codecName    string
	held         holder       // the codec if V is an interface, else nil
	sealer       codec.Sealer // the codec if it seals, else nil; see sealed.go
	inRedis      bool         // values are stored in Redis
	legacy       legacyCodec  // reads the records of other programs; nil: they are foreign
	fingerprint  uint64       // of the codec and V; see frame.Header.Type
	valueVersion uint32
	maxValue     int

	policy   strategy.Policy
	localTTL time.Duration // bound of a local entry's life; 0: none
	outage   *outage       // the local tier during an outage of Redis; nil: it is not used then
	// slidesLocally: a local hit prolongs the entry's life.
	slidesLocally bool
	clone         cloner
	own           cloner // copies values for Update in a LocalOnly cache; nil: it can't

	runsUserCode bool // storing a value calls functions of the program, of a codec for example

	backend      backend
	misfit       func(error) store.Misfit // why an error of Redis does not pass by itself; nil without Redis
	local        Local                    // nil: no local tier
	validity     *coherence.Coordinator   // of the local tier, nil if it is always valid: for the fast path
	fences       *fence.Table
	invalidation invalidation.Policy   // what happens to an invalidated entry
	clock        *logicalclock.Table   // the logical clock, for tags and Clear; see clockOf
	clocks       []*logicalclock.Table // by part, of which clock is the first; nil: there is one
	flights      *flight.Group[string, beginning, *result]
	limit        *loadLimit
	batcher      *loadBatcher // nil: single loads are not collected
	receiveAll   func()       // see coherence.Coordinator.ReceiveAll; nil without Redis
	watchdog     watchdog     // of loaders

	recordSize atomic.Int64 // size of the last record that was encoded, in bytes
	leaseTimes leaseTimes

	refresher *refresher
	auditor   *auditor // nil: local hits are not audited
	given     given
	queue     *queue // nil: not WriteBehind
	failures  failures

	stats   *stats
	tagged  *topk.Table // the tags that are invalidated most often
	reports *report.Reports
	rand    func() float64 // in [0, 1)

	closed    atomic.Bool
	closing   chan struct{} // closed by Close
	closeOnce sync.Once
}

// Config says how a cache is made. All of it has been checked.
type Config struct {
	Name   string
	Prefix string // of the prefix option
	Types  Types
	Source Source

	Codec       codec.Codec
	CodecName   string
	Fingerprint uint64 // of the codec and V
	Version     uint32
	MaxValue    int // bytes

	Policy       strategy.Policy
	Invalidator  invalidate.Policy
	LocalTTL     time.Duration // bound of a local entry's life; 0: none
	CloneByCodec bool          // the codec copies values, if Source.Clone does not

	// Local makes the local tier; nil: there is none.
	Local func(*fence.Table) (Local, error)

	Store     store.Store // nil: LocalOnly
	Values    bool        // values are not stored there; see localValues
	Transport invalidate.Transport
	Timeout   time.Duration // of an operation on Redis
	Failures  int           // of the circuit breaker, before it opens
	Open      time.Duration // how long it stays open
	LoadLimit int

	Recorder metrics.Recorder // nil: none
	Log      *slog.Logger     // nil: slog.Default()
}

// New makes a cache.
func New(cfg Config) (*Cache, error) {
	names := store.NewNames(cfg.Prefix, cfg.Name)
	legacy, _ := cfg.Codec.(legacyCodec)
	if legacy != nil {
		cfg.Codec = legacy.Inner()
	}
	prefix := names.Data
	if cfg.Store == nil {
		prefix = ""
	}
	c := &Cache{
		name: cfg.Name, prefix: prefix, names: names, types: cfg.Types, src: cfg.Source, loader: cfg.Source.Loader,
		codec: cfg.Codec, legacy: legacy, codecName: cfg.CodecName, fingerprint: cfg.Fingerprint, valueVersion: cfg.Version, maxValue: cfg.MaxValue,
		policy: cfg.Policy, localTTL: cfg.LocalTTL, invalidation: invalidation.Policy{Mode: invalidation.Mode(cfg.Invalidator.Mode()), Delay: cfg.Invalidator.Delay()}, inRedis: cfg.Store != nil && !cfg.Values, slidesLocally: (cfg.Store == nil || cfg.Values) && cfg.Policy.Sliding > 0,
		fences: fence.NewTable(), limit: newLoadLimit(cfg.LoadLimit), runsUserCode: cfg.Store != nil && !cfg.Values || cfg.Source.TTL != nil || cfg.Source.Tags != nil,
		stats: newStats(cfg.Recorder), tagged: topk.New(maxTagged), reports: report.New(cfg.Name, cfg.Log),
		rand: rand.Float64, closing: make(chan struct{}),
	}
	c.failures.byKey.Max = maxFailures
	c.held = holds(c.codec, c.types.ValueType())
	c.chooseCloning(cfg.CloneByCodec)
	if cfg.Local != nil {
		var err error
		if c.local, err = cfg.Local(c.fences); err != nil {
			return nil, fmt.Errorf("cache: New: %w: %w", errs.ErrInvalidOption, err)
		}
	}
	c.refresher = newRefresher(c)
	c.batcher = newLoadBatcher(c)
	c.flights = flight.New[string, beginning, *result](func(v any, stack []byte) error {
		return &usercode.PanicError{Value: v, Stack: stack} // a panic of this package: those of user code are recovered at the call
	})
	c.flights.NewContext = func(caller context.Context) flight.Context { return newLoadContext(caller) }
	if cfg.Store == nil {
		c.backend = newLocalOnly(c)
		c.startAuditor()
		return c, nil
	}
	if cfg.Values {
		v := newLocalValues(c, &cfg)
		c.backend, c.validity = v, v.remote.coherence
		return c, nil
	}
	r := newRemote(c, &cfg)
	c.backend, c.validity = r, r.coherence
	if err := c.startQueue(r.client, cfg.Prefix); err != nil {
		return nil, err
	}
	c.loader = c.QueueFirst(c.loader)
	c.startAuditor()
	return c, nil
}

// Close closes the cache.
func (c *Cache) Close() {
	c.closed.Store(true)
	c.closeOnce.Do(func() {
		close(c.closing)
		c.auditor.seal()
		c.watchdog.close()
		c.refresher.seal()
		c.flights.Cancel(errs.ErrClosed)
		waitClosing(c.flights)
		c.auditor.close()
		c.refresher.close()
		if c.queue != nil {
			c.queue.Close()
		}
		c.backend.close()
		if c.local != nil {
			c.local.Close()
		}
	})
}

// Name returns the name of the cache, and Prefix what its keys begin with in Redis.
func (c *Cache) Name() string { return c.name }

func (c *Cache) Prefix() string { return c.names.Data }

// Loader returns what the source loads with, nil if it doesn't.
func (c *Cache) Loader() Loader { return c.loader }

// LocalOnly reports whether the cache has no Redis.
func (c *Cache) LocalOnly() bool { return c.validity == nil }

// Closed reports whether Close was called.
func (c *Cache) Closed() bool { return c.closed.Load() }

// RedisKey returns the key in Redis that holds the value of a key, or would hold it.
func (c *Cache) RedisKey(key Key) (string, error) { return c.prefixed(c.names.Data, key) }

// keyOf returns the text by which the engine knows a key: its key in Redis, if there is one, else
// its encoding.
func (c *Cache) keyOf(key Key) (string, error) {
	if text, ok := c.ownText(key); ok {
		return text, nil
	}
	return c.prefixed(c.prefix, key)
}

// ownText returns that text if it is the key itself, which then needs no memory.
func (c *Cache) ownText(key Key) (string, bool) {
	if c.prefix != "" {
		return "", false
	}
	return c.types.Text(key)
}

func (c *Cache) prefixed(prefix string, key Key) (string, error) {
	space := keySpaces.Get().(*[]byte)
	defer keySpaces.Put(space)
	buf, err := c.types.AppendKey(append((*space)[:0], prefix...), key)
	if cap(buf) <= maxKeySpace {
		*space = buf
	}
	return string(buf), err
}

// keySpaces has the memory that keys are encoded in.
var keySpaces = sync.Pool{New: func() any { return new(make([]byte, 0, 128)) }}

// maxKeySpace is the size of the largest one that is kept.
const maxKeySpace = 4 << 10

// encoded returns the part of the text of a key that encodes the key itself.
func (c *Cache) encoded(rk string) string { return rk[len(c.prefix):] }

func since(start int64) time.Duration { return time.Duration(local.Now() - start) }
