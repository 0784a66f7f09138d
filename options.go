package cache

import (
	"log/slog"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// Option configures a cache. The last one of a kind wins; strategies of
// different kinds add up. Invalid options are errors of [New], all of them joined.
type Option interface {
	apply(*config)
}

type option func(*config)

func (f option) apply(c *config) { f(c) }

// WithPrefix puts a prefix before the name in every Redis key: prefix + name +
// ":" + key. The default is none.
func WithPrefix(prefix string) Option {
	return option(func(c *config) { c.prefix = prefix })
}

// WithCodec sets how values become bytes. The default is codec.JSON, and
// codec.Raw for strings and []byte.
func WithCodec(cd codec.Codec) Option {
	return option(func(c *config) {
		if usercode.IsNil(cd) {
			c.mistake("WithCodec(nil): leave the option out for the default")
		}
		c.codec = cd
	})
}

// WithStrategy adds strategies. The defaults are in the documentation of package
// strategy.
func WithStrategy(s ...strategy.Strategy) Option {
	return option(func(c *config) { c.strategies = append(c.strategies, s...) })
}

// WithInvalidator sets what happens to an invalidated entry. The default is
// invalidate.Immediate.
func WithInvalidator(p invalidate.Policy) Option {
	return option(func(c *config) { c.invalidator = p })
}

// WithTransport sets how this process is notified of the writes and invalidations of other
// processes. The default is invalidate.Broadcast for a cache with a local tier, and
// invalidate.NoTransport for one without. Every process publishes, whatever transport it
// receives by, so that a fleet can change from one transport to another process by process.
//
// If the server does not support invalidate.Tracking or invalidate.TrackingKeys, or the user may
// not use it, the cache receives by invalidate.Broadcast instead, and logs that.
func WithTransport(t invalidate.Transport) Option {
	return option(func(c *config) { c.transport = &t })
}

// WithRecorder reports every remote operation and load to r as well. The default
// is no recorder.
func WithRecorder(r metrics.Recorder) Option {
	return option(func(c *config) {
		if usercode.IsNil(r) {
			c.mistake("WithRecorder(nil): leave the option out for none")
		}
		c.recorder = r
	})
}

// WithLogger sets the logger. Only changes of state are logged: no line is written for a
// request, and a recurring condition is reported once a minute at most;
// docs/observability.md lists the messages. Level Info is for a recovery, Warn for a
// condition that the cache copes with and an operator should know of, Error for one that
// needs action: writes that the source has rejected for good, for example. Every line has
// the attribute "cache" with the name; none contains a key or a value, unless in an error
// of the source. The default is slog.Default(). Lines about notifications are written
// apart from the calls of the program, in their order: a handler that blocks delays them, and up
// to a second of Close.
func WithLogger(l *slog.Logger) Option {
	return option(func(c *config) {
		if l == nil {
			c.mistake("WithLogger(nil): use slog.New(slog.DiscardHandler) for no log")
		}
		c.log = l
	})
}

// WithTimeout bounds each operation on Redis, however slow the client's own
// timeouts are. A call for many keys is several operations: it goes out in pieces, bounded
// by keys and bytes. The default is 250 ms.
func WithTimeout(d time.Duration) Option {
	return option(func(c *config) {
		if d <= 0 {
			c.mistake("WithTimeout(%v) must be positive", d)
		}
		c.timeout = d
	})
}

// WithBreaker configures the circuit breaker. The circuit to an endpoint of Redis (the
// server, or a master of a cluster) opens after that many consecutive operations without
// an answer, the cache's own background operations included. While it is open nothing is
// sent there: reads go from the local tier, while that is valid, to the source at once,
// and writes fail at once, with their invalidations pending. After the time open, and again
// each time it has passed, the cache sends a probe of its own; the first answer closes the
// circuit. Error replies, misses, and callers whose context has ended have no influence.
//
// The default is 5 failures and 1 s. For no breaker give math.MaxInt failures. A change is
// logged, reported to the recorder, and visible in metrics.Snapshot.Breaker.
func WithBreaker(failures int, open time.Duration) Option {
	return option(func(c *config) {
		if failures < 1 || open <= 0 {
			c.mistake("WithBreaker(%d, %v): both must be positive; math.MaxInt failures are for no breaker", failures, open)
		}
		c.breaker = breakerConfig{failures, open}
	})
}

// WithLoadLimit bounds the number of concurrent calls of loaders in this process to n; one
// call of GetMany for many keys counts as one. Further loads queue, for as long as their
// callers wait and strategy.HardTimeout allows. When 16 × n are queued already, others fail
// with [ErrOverload], unless they may be answered with a stale value
// (strategy.StaleIfError); a background refresh does not queue at all. A loader
// that reads the same cache takes a second slot while it holds its own.
//
// The default is 256.
func WithLoadLimit(n int) Option {
	return option(func(c *config) {
		if n < 1 || n > maxLoads {
			c.mistake("WithLoadLimit(%d) must be between 1 and %d", n, maxLoads)
		}
		c.loadLimit = n
	})
}

// maxLoads is more than the number of goroutines that a process can have.
const maxLoads = 1 << 30

// WithCloning makes the cache copy values, so that no caller can modify a value that others
// read from the local tier: a copy is stored, and each reader gets a copy of its own, as
// does each caller that shared a load. [Source].Clone copies, or if there is none the codec,
// which encodes and decodes: a local hit then costs as much as a value from Redis, less the
// round trip. If V holds nothing that can be modified (no pointers, slices, maps or
// interfaces) nothing is copied. Source.Clone takes effect without this option too. By
// default values are shared.
func WithCloning() Option {
	return option(func(c *config) { c.cloning = true })
}

// WithVersion sets the version of V's encoding: a cache reads the records of its
// own version only. A newer program replaces the records of an older one; an older
// program does not replace a newer one's by loading: it keeps loaded values in its
// own local tier. The default is 0.
func WithVersion(v uint32) Option {
	return option(func(c *config) { c.version = v })
}

// WithMaxValueSize bounds an encoded value, in bytes. A larger one is refused
// with [ErrTooLarge] by a write, and not kept by a load. The default is 8 MiB.
func WithMaxValueSize(n int) Option {
	return option(func(c *config) {
		if n <= 0 || n > maxMaxValue {
			c.mistake("WithMaxValueSize(%d) must be between 1 and %d (Redis holds no larger string)", n, maxMaxValue)
		}
		c.maxValue = n
	})
}

// maxMaxValue leaves room for the rest of a record in Redis's 512 MiB.
const maxMaxValue = 500 << 20

// WithOptions groups options, for defaults that several caches share.
func WithOptions(opts ...Option) Option {
	return option(func(c *config) { c.applyAll(opts) })
}

// LocalOnly makes a cache without Redis: the client given to [New] must be nil.
// It implies strategy.TinyLFU(10_000). All methods do the same as on Redis; WithCodec is used
// to copy values only, and WithMaxValueSize, WithTimeout, WithBreaker, WithVersion and
// WithPrefix have no effect.
func LocalOnly() Option {
	return option(func(c *config) { c.localOnly = true })
}
