package cache

import (
	"log/slog"

	"github.com/delqhi/cache/internal/accord"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/metrics"
)

// events counts and logs what happens between this process, Redis and the others.
type events struct {
	cache string
	stats *stats
	log   *slog.Logger
}

var _ accord.Events = (*events)(nil)

func (e *events) Received(n int) { e.stats.received.Add(uint64(n)) }

func (e *events) Flushed() { e.stats.flushes.Add(1) }

// Heard is called by one session after the other, also each time that one proves again
// that it hears.
//
// WARNING: the recorder and the logger are called under the session's lock, or a late
// "up" could come after the "down" of the session's end. The recorder's contract is not
// to block.
func (e *events) Heard(hearing bool, err error) {
	if e.stats.hearing.Swap(hearing) != hearing {
		state := metrics.Down
		if hearing {
			state = metrics.Up
		}
		e.stats.recorder.StateChange(metrics.StateEvent{Cache: e.cache, Part: metrics.Listener, State: state})
	}
	switch {
	case hearing:
		if e.stats.deaf.ends() {
			e.log.Info("cache: notifications are heard again", "cache", e.cache)
		}
	case e.stats.deaf.begins():
		e.log.Warn("cache: notifications can't be heard: the local tier is not used meanwhile", "cache", e.cache, "error", err)
	}
}

func (e *events) Downgraded(err error) {
	e.log.Warn("cache: the server can't track keys for this user: notifications are heard by Broadcast instead, without changes by other programs",
		"cache", e.cache, "error", err)
}

func (e *events) Overflowed() {
	e.log.Warn("cache: too many writes could not be told to Redis: all entries will be invalidated instead", "cache", e.cache)
}

func (e *events) Redone(n int) {
	e.log.Info("cache: Redis was told what it could not be told at the time", "cache", e.cache, "keys", n)
}

// dropper is the local tier as an accord sees it.
type dropper[K comparable, V any] struct {
	*local.Tier[K, V]
	keys   *keys.Encoding[K]
	fences *fence.Table
}

var _ accord.Local = (*dropper[string, int])(nil)

// RemoveMatching implements accord.Local. It moves the fences first, for the same
// reason as Tier.Remove does.
func (d *dropper[K, V]) RemoveMatching(match func(encoded string) bool) {
	d.fences.MoveAll()
	buf := make([]byte, 0, 128)
	d.Range(func(k K, _ *local.Entry[V]) bool {
		enc, err := d.keys.Append(buf[:0], k)
		if err != nil || match(string(enc)) {
			d.Remove(string(enc))
		}
		return true
	})
}
