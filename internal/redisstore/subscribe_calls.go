package redisstore

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// The calls of a subscriber's sink are made on a goroutine of the subscriber, which exists while
// there are any. A sink may call functions of the program: to encode the keys of a whole tier, for a
// pattern. One that blocks must not hold up what the session passes on to others:
//
//  1. the goroutine that reads the connection is inside the sink of one subscriber
//  2. no heartbeat comes back any more, for any of them
//  3. the session ends, and the next one too
//
// Instead its own subscription ends, and with that the validity of its local tier.

// call is one call for a subscriber: of f, with the subscriber's lock held; or else of KeysChanged,
// if there are keys; or else of Message.
type call struct {
	f       func()
	keys    []string
	payload string
}

// calls are those of one subscriber that are to be made.
type calls struct {
	idle chan struct{} // closed when none are made any more

	mu      sync.Mutex // guards what follows; the last lock to be taken
	waiting []call
	spare   []call        // empty, to be used again
	room    chan struct{} // closed when there is room again; nil: it is not waited for
	running bool          // the goroutine exists
	stopped bool          // no more are made, and added
	done    uint64        // how many were made

	seen   uint64    // done, as standing saw it last
	seenAt time.Time // and since when
}

const (
	// callsMost is how many calls wait at most. What arrives then waits, as it would for a slow
	// reader, for half the time of a heartbeat at most.
	callsMost = 4096
	// callsKept is how much space for calls is kept.
	callsKept = 256
)

var (
	errStands = errors.New("redisstore: the subscriber does not return")
	errSlow   = errors.New("redisstore: the subscriber is too slow")
)

// call has a call made after those before.
func (m *subscriber) call(c call) {
	q := &m.calls
	q.mu.Lock()
	if len(q.waiting) >= callsMost && !q.stopped {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		t := time.NewTimer(m.l.HeartbeatTimeout / 2)
		defer t.Stop()
		select {
		case <-room:
		case <-t.C:
			m.finish(fmt.Errorf("%w: %d calls wait", errSlow, callsMost))
			return
		}
		q.mu.Lock()
	}
	defer q.mu.Unlock()
	if q.stopped {
		return
	}
	q.waiting = append(q.waiting, c)
	if !q.running {
		q.running = true
		go m.makeCalls()
	}
}

// makeCalls makes the calls until none waits.
func (m *subscriber) makeCalls() {
	q := &m.calls
	for {
		q.mu.Lock()
		if q.stopped || len(q.waiting) == 0 {
			q.running = false
			if q.stopped {
				close(q.idle)
			}
			q.mu.Unlock()
			return
		}
		batch := q.waiting
		q.waiting, q.spare = q.spare, nil
		q.makeRoomLocked()
		q.mu.Unlock()
		for i := range batch {
			m.make(&batch[i])
			q.mu.Lock()
			q.done++
			q.mu.Unlock()
		}
		clear(batch)
		if cap(batch) <= callsKept {
			q.mu.Lock()
			q.spare = batch[:0]
			q.mu.Unlock()
		}
	}
}

func (m *subscriber) make(c *call) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return
	}
	select {
	case <-m.ended:
		return
	default:
	}
	switch {
	case c.f != nil:
		c.f()
	case !m.on:
	case c.keys != nil:
		m.sink.KeysChanged(c.keys)
	default:
		m.sink.Message(c.payload)
	}
}

func (q *calls) makeRoomLocked() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// stopCalls has no more calls made. It does not wait for the one that is in progress.
func (m *subscriber) stopCalls() {
	q := &m.calls
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return
	}
	q.stopped, q.waiting = true, nil
	q.makeRoomLocked()
	if !q.running {
		close(q.idle)
	}
}

// standing reports whether one call has been in progress for longer than a time. It is called
// repeatedly.
func (q *calls) standing(longest time.Duration) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.running || q.done != q.seen || q.seenAt.IsZero() {
		q.seen, q.seenAt = q.done, time.Now()
		return false
	}
	return time.Since(q.seenAt) > longest
}

// endStanding ends the subscriptions whose sinks do not return.
func (s *session) endStanding() {
	for _, m := range s.all() {
		if m.calls.standing(s.key.timeout) {
			m.finish(fmt.Errorf("%w: for %v", errStands, s.key.timeout))
		}
	}
}

// watch returns the keys that the subscriber watches, on a channel that gets no answer if none of
// its calls are made any more.
func (m *subscriber) watch() <-chan []string {
	keys := make(chan []string, 1)
	w, ok := m.sink.(store.WatchingSubscriber)
	if !ok {
		keys <- nil
		return keys
	}
	m.call(call{f: func() {
		if m.on {
			keys <- w.Watch()
		} else {
			keys <- nil
		}
	}})
	return keys
}

// watched passes on the answers about the keys that the subscriber watches.
func (m *subscriber) watched(replies []store.Reply) {
	recs := make([]store.Record, len(replies))
	for i := range replies {
		if replies[i].Err != nil {
			return
		}
		recs[i] = replies[i].Record
	}
	m.call(call{f: func() {
		if m.on {
			m.sink.(store.WatchingSubscriber).Watched(recs)
		}
	}})
}
