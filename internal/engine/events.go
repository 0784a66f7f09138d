package engine

import (
	"slices"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/metrics"
)

// events counts and logs the events of the coordinator.
type events struct{ *remote }

var _ coherence.Events = (*events)(nil)

func (e *events) Received(n int) { e.stats.received.Add(uint64(n)) }

func (e *events) Flushed() { e.stats.flushes.Add(1) }

// ConnectionChanged is called by one session after the other, also each time that a session
// verifies again that it receives notifications.
//
// WARNING: the recorder and the logger are called under the session's lock, or a late
// "up" could come after the "down" of the session's end. The recorder's contract is not
// to block.
func (e *events) ConnectionChanged(hearing bool, err error) {
	if e.stats.connected.Swap(hearing) != hearing {
		state := metrics.Down
		if hearing {
			state = metrics.Up
		}
		e.stats.recorder.StateChange(metrics.StateEvent{Cache: e.name, Part: metrics.Listener, State: state})
	}
	e.reports.Connected(hearing, err)
	if hearing {
		e.outageOver()
	}
	if m := e.client.Misfit(err); m != store.Fits && m != store.Replica {
		e.stats.misfits.Add(1)
		e.reports.Misfit("listen", m, err)
	}
}

func (e *events) Downgraded(err error) { e.reports.Downgraded(err) }

func (e *events) Overflowed() { e.reports.Overflowed() }

func (e *events) Retried(n int) { e.reports.DeliveredLater(n) }

// localInvalidator adapts the local tier to coherence.Local.
type localInvalidator struct {
	Local
	types  Types
	fences *fence.Table
}

var _ coherence.Local = (*localInvalidator)(nil)

// removeTagged removes the entries that have one of the tags. It moves the fences first, for the
// same reason as Tier.Remove does.
func (d *localInvalidator) removeTagged(tags []string) {
	concerns := func(t string) bool { return slices.Contains(tags, t) }
	if len(tags) > 8 {
		set := make(map[string]bool, len(tags))
		for _, t := range tags {
			set[t] = true
		}
		concerns = func(t string) bool { return set[t] }
	}
	d.fences.MoveAll()
	buf := make([]byte, 0, 128)
	d.Range(func(k Key, e Held) bool {
		if e.Meta == nil || !slices.ContainsFunc(e.Meta.Tags, concerns) {
			return true
		}
		if enc, err := d.types.AppendKey(buf[:0], k); err == nil {
			d.Remove(string(enc))
		}
		return true
	})
}

// RemoveMatching implements coherence.Local. It moves the fences first, as removeTagged does.
func (d *localInvalidator) RemoveMatching(match func(encoded string) bool) {
	d.fences.LoseMatching(match)
	buf := make([]byte, 0, 128)
	d.Range(func(k Key, _ Held) bool {
		enc, err := d.types.AppendKey(buf[:0], k)
		if err != nil || match(string(enc)) {
			d.Remove(string(enc))
		}
		return true
	})
}
