package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/circuit"
	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/metrics"
	"github.com/redis/go-redis/v9"
)

// logEvery keeps a condition that comes and goes from filling the log.
const logEvery = time.Minute

// condition is something that an operator must know of, once: not at each
// request that it affects.
type condition struct {
	on   atomic.Bool
	mu   sync.Mutex
	last time.Time // of the last message that it began
}

// begins reports whether the condition is new and was not reported lately.
func (c *condition) begins() bool {
	if c.on.Swap(true) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last.IsZero() && time.Since(c.last) < logEvery {
		return false
	}
	c.last = time.Now()
	return true
}

// ends reports whether the condition was on.
func (c *condition) ends() bool { return c.on.Load() && c.on.Swap(false) }

// observe is told of every remote operation.
func (c *Cache[K, V]) observe(ctx context.Context, op string, keys int, d time.Duration, err error) {
	if !remote.IsBackground(ctx) {
		c.stats.remoteOp(ctx, c.name, op, keys, d, err)
	} else if err != nil && !errors.Is(err, remote.ErrGuardClosed) && !errors.Is(err, remote.ErrOpen) && !endedByCaller(ctx) {
		c.stats.remoteErrors.Add(1)
	}
	switch {
	case errors.Is(err, remote.ErrGuardClosed):
	case errors.Is(err, remote.ErrOpen): // nobody was asked
	case err != nil:
		if c.accord != nil && !isReply(err) {
			c.accord.Suspect()
		}
		if c.stats.down.begins() {
			c.log.Warn("cache: Redis is unavailable: reads load from the source, writes fail",
				"cache", c.name, "operation", op, "error", err)
		}
	default:
		if c.stats.down.ends() {
			c.log.Info("cache: Redis is available again", "cache", c.name)
		}
	}
}

// circuitChanged is told when the circuit to an endpoint of Redis changes.
func (c *Cache[K, V]) circuitChanged(ch circuit.Change) {
	state := breakerStates[ch.Worst]
	if c.stats.breaker.Swap(uint32(state)) != uint32(state) {
		c.stats.recorder.StateChange(metrics.StateEvent{Cache: c.name, Part: metrics.Breaker, State: state})
	}
	attrs := []any{"cache", c.name}
	if ch.Endpoint != "" {
		attrs = append(attrs, "endpoint", ch.Endpoint)
	}
	switch {
	case ch.State == circuit.Open && c.stats.opened.begins():
		c.log.Warn("cache: Redis does not answer and is left alone, but for a probe from time to time", attrs...)
	case ch.Worst == circuit.Closed:
		if c.stats.opened.ends() {
			c.log.Info("cache: Redis answers again", attrs...)
		}
		c.accord.Answers()
	}
}

var breakerStates = [...]metrics.State{circuit.Closed: metrics.Closed, circuit.HalfOpen: metrics.HalfOpen, circuit.Open: metrics.Open}

// isReply reports whether an error is what a server has answered, which then is the one
// that it was. While a server that takes over answers so, it is not yet.
func isReply(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	for _, state := range []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"} {
		if redis.HasErrorPrefix(err, state) {
			return false
		}
	}
	return true
}

// unavailable is the error of a remote operation that failed, other than by the
// end of the caller's context.
func (c *Cache[K, V]) unavailable(err error) error {
	if errors.Is(err, remote.ErrGuardClosed) {
		return ErrClosed
	}
	return &unavailableError{err}
}

// notKept tells of a loaded value that is good but could not be kept.
func (c *Cache[K, V]) notKept(err error) {
	if errors.Is(err, ErrUnavailable) {
		return // told already
	}
	c.stats.notKept.Add(1)
	if c.stats.unkept.begins() {
		c.log.Warn("cache: a loaded value can't be kept: every read of it will load", "cache", c.name, "error", err)
	}
	c.stats.unkept.on.Store(false) // each case is a new one, reported once in a while
}
