package coherence

import (
	"strings"
	"sync"

	"github.com/delqhi/cache/internal/store"
)

// Waiter waits for an event on keys: a load of another process ends, another process writes or
// invalidates one of them, or messages may have been lost.
//
// It is created before its owner reads from Redis, or this could happen:
//
//  1. the owner reads, and finds another process's lease
//  2. that process fills; its message arrives, and there is no waiter for it
//  3. the owner waits
type Waiter struct {
	// C receives a value when an event has occurred since the last receive.
	C chan struct{}

	all  *waiters
	keys []string
}

// SignsLease reports whether a reader that waits for the lease in a key has to sign it, to hear of
// its end, if the lease has a sign already; see store.AwaitLease. A session of Tracking is told of
// each change of the data. Without a session the reader polls.
//
// The own channel of this process is subscribed from before the session is valid until it ends,
// and whoever waits then looks again: so a sign of an earlier session counts as well.
func (a *Coordinator) SignsLease(redisKey string, sign []byte) bool {
	return !store.Tells(sign, a.waiter) && a.Connected(now()) && !(a.tracking.Load() && strings.HasPrefix(redisKey, a.cfg.Names.Data))
}

// SignLease returns the command that signs a lease for this process.
func (a *Coordinator) SignLease(redisKey string, rec store.Record) store.Command {
	return store.Command{Op: store.AwaitLease, Key: redisKey, Seen: rec.CASToken(), Frame: []byte(a.waiter)}
}

type waiters struct {
	mu    sync.Mutex
	byKey map[string]map[*Waiter]struct{}
}

func (w *waiters) init() { w.byKey = map[string]map[*Waiter]struct{}{} }

// Wait returns a Waiter for keys, given by their encodings. It must be closed.
func (a *Coordinator) Wait(encoded ...string) *Waiter {
	w := &Waiter{C: make(chan struct{}, 1), all: &a.wait, keys: encoded}
	a.wait.mu.Lock()
	defer a.wait.mu.Unlock()
	for _, k := range encoded {
		m := a.wait.byKey[k]
		if m == nil {
			m = map[*Waiter]struct{}{}
			a.wait.byKey[k] = m
		}
		m[w] = struct{}{}
	}
	return w
}

// Wake wakes those that wait for a key: a load or a lock of this process has ended, of which a
// session does not tell it.
func (a *Coordinator) Wake(encoded string) { a.wait.wake(encoded) }

// Close stops waiting. It may be called more than once.
func (w *Waiter) Close() {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	for _, k := range w.keys {
		if m := w.all.byKey[k]; m != nil {
			if delete(m, w); len(m) == 0 {
				delete(w.all.byKey, k)
			}
		}
	}
	w.keys = nil
}

func (w *waiters) wake(encoded string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.byKey[encoded] {
		one.wake()
	}
}

func (w *waiters) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.byKey {
		for one := range m {
			one.wake()
		}
	}
}

func (w *Waiter) wake() {
	select {
	case w.C <- struct{}{}:
	default:
	}
}
