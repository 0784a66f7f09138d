package engine

import (
	"slices"
	"sync"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/metrics"
)

// events counts the events of the coordinator, and has the program's logger and recorder told of
// them by a queue. The coordinator's locks are held here, and what it does in time must not wait for
// the program.
type events struct {
	*remote

	mu      sync.Mutex // guards what follows
	changes []metrics.State
	telling bool // tell is in the queue, or runs
}

var _ coherence.Events = (*events)(nil)

// changesMost is how many changes wait at most for a recorder that blocks.
const changesMost = 64

func (e *events) Received(n int) { e.stats.received.Add(uint64(n)) }

func (e *events) Flushed() { e.stats.flushes.Add(1) }

// ConnectionChanged is called also each time that a session verifies again that it receives
// notifications. On a cluster the sessions of several parts may call it at once.
func (e *events) ConnectionChanged(hearing bool, err error) {
	e.change(hearing)
	e.reports.Connected(hearing, err)
	if hearing {
		e.outageOver()
	}
	if m := e.client.Misfit(err); m != store.Fits && m != store.Replica {
		e.stats.misfits.Add(1)
		e.reports.Misfit("listen", m, err)
	}
}

// change has the recorder told of the listener's state, if it is another one. If too many changes
// wait, the last of them and this one, which are opposites, are left out.
func (e *events) change(hearing bool) {
	if e.stats.connected.Load() == hearing {
		return
	}
	if !e.stats.recorded() {
		e.stats.connected.Store(hearing)
		return
	}
	state := metrics.Down
	if hearing {
		state = metrics.Up
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stats.connected.Swap(hearing) == hearing {
		return
	}
	if len(e.changes) >= changesMost {
		e.changes = e.changes[:len(e.changes)-1]
		return
	}
	e.changes = append(e.changes, state)
	if !e.telling {
		e.telling = true
		e.reports.Aside.Add(e.tell)
	}
}

func (e *events) tell() {
	for {
		e.mu.Lock()
		if len(e.changes) == 0 {
			e.telling = false
			e.mu.Unlock()
			return
		}
		state := e.changes[0]
		e.changes = e.changes[1:]
		e.mu.Unlock()
		e.stats.recorder.StateChange(metrics.StateEvent{Cache: e.name, Part: metrics.Listener, State: state})
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
