package local

import (
	"sync"
	"time"
)

// Reason is why an entry has left the tier.
type Reason uint8

const (
	Evicted     Reason = iota // for want of room, or because the tier was closed
	Expired                   // its deadline had passed
	Invalidated               // Remove, Flush, or a write whose order is not known
	Replaced                  // another entry has taken its place
	Deleted                   // Delete, or a CompareAndSwap by nothing
)

// departures tells a function of the program which entries have left. Entries are queued under
// the locks of their shards, so that those of one key are in order, and passed to the function
// on a goroutine that runs for as long as there are any. A nil departures does nothing.
type departures[K comparable, V any] struct {
	f       func(k K, e *Entry[V], why Reason)
	invalid func(e *Head) bool

	mu      sync.Mutex // guards what follows; taken under a shard's lock
	queue   []leaver[K, V]
	running chan struct{} // closed when the goroutine has ended; nil: there is none
}

type leaver[K comparable, V any] struct {
	node *node[K, V]
	why  Reason
}

// OnLeave has f called for each value that leaves the tier from now on, but not where an entry of
// the same value takes its place. The calls are made one after the other and without a lock, and
// those of a key are in order. f must not panic.
//
// invalid reports whether an entry that has to make way was invalidated before, which the tier
// itself does not know. It is called under a shard's lock, and must not use the tier. OnLeave is
// called before the tier is used.
func (t *Tier[K, V]) OnLeave(f func(k K, e *Entry[V], why Reason), invalid func(e *Head) bool) {
	t.left = &departures[K, V]{f: f, invalid: invalid}
}

// leave notes that a node has left.
func (t *Tier[K, V]) leave(n *node[K, V], why Reason) {
	if t.left != nil {
		t.left.add(n, why)
	}
}

// add is leave. An entry that was invalidated before, or whose time was over,
// has left by that, whatever removes it in the end, unless that is the program. That is asked now
// and not when f is called: it may be invalidated in between, as the one that has replaced it is.
func (d *departures[K, V]) add(n *node[K, V], why Reason) {
	m := n.entry.Meta
	if m != nil && m.Absent {
		return
	}
	if why == Evicted || why == Replaced {
		over := Now() >= n.entry.Deadline
		switch {
		case over && m != nil && m.Ends, d.invalid(&n.entry.Head):
			why = Invalidated
		case over:
			why = Expired
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = append(d.queue, leaver[K, V]{n, why})
	if d.running == nil {
		d.running = make(chan struct{})
		go d.run(d.running)
	}
}

// run calls the function. If that ends the goroutine, another one goes on.
func (d *departures[K, V]) run(ended chan struct{}) {
	done := false
	defer func() {
		if !done {
			go d.run(ended)
		}
	}()
	for {
		d.mu.Lock()
		if len(d.queue) == 0 {
			d.queue, d.running = nil, nil
			done = true
			close(ended)
			d.mu.Unlock()
			return
		}
		next := d.queue[0]
		d.queue[0] = leaver[K, V]{}
		d.queue = d.queue[1:]
		d.mu.Unlock()
		d.f(next.node.key, &next.node.entry, next.why)
	}
}

// wait waits until the function was called for all that has left, for at most so long.
func (d *departures[K, V]) wait(most time.Duration) {
	if d == nil {
		return
	}
	d.mu.Lock()
	running := d.running
	d.mu.Unlock()
	if running == nil {
		return
	}
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-running:
	case <-t.C:
	}
}
