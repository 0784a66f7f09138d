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

	all   *waiters
	at    []waiting  // one for each key
	first [1]waiting // the memory of at, for one key
}

// waiting is a Waiter among those of one key.
type waiting struct {
	key            string
	of             *Waiter
	next, previous *waiting // guarded by waiters.mu
}

// SignsLease reports whether a reader that waits for the lease in a key has to sign it, so that
// its end is published to it, if the lease has this sign already; see store.AwaitLease. With Tracking
// the server notifies the session of each change of the data. Without a session the reader polls.
//
// The own channel of this process is subscribed from before the session is valid until it ends,
// and a reader that waits then looks again: so a sign of an earlier session counts as well.
func (a *Coordinator) SignsLease(redisKey string, sign []byte) bool {
	if store.Tells(sign, a.waiter) {
		return false
	}
	p := a.Of(redisKey)
	return p.Connected(now()) && !(p.tracking.Load() && strings.HasPrefix(redisKey, a.cfg.Names.Data))
}

// SignLease returns the command that signs a lease for this process.
func (a *Coordinator) SignLease(redisKey string, rec store.Record) store.Command {
	return store.Command{Op: store.AwaitLease, Key: redisKey, Seen: rec.CASToken(), Frame: []byte(a.waiter)}
}

type waiters struct {
	mu    sync.Mutex
	byKey map[string]*waiting // the first of each key
}

func (w *waiters) init() { w.byKey = map[string]*waiting{} }

// Wait returns a Waiter for keys, given by their encodings. It must be closed.
func (a *Coordinator) Wait(encoded ...string) *Waiter {
	w := &Waiter{C: make(chan struct{}, 1), all: &a.wait}
	if w.at = w.first[:]; len(encoded) != 1 {
		w.at = make([]waiting, len(encoded))
	}
	a.wait.mu.Lock()
	defer a.wait.mu.Unlock()
	for i, k := range encoded {
		one := &w.at[i]
		one.key, one.of = k, w
		if one.next = a.wait.byKey[k]; one.next != nil {
			one.next.previous = one
		}
		a.wait.byKey[k] = one
	}
	return w
}

// Wake wakes the waiters for a key: a load or a lock of this process has ended, for which the
// session receives no message.
func (a *Coordinator) Wake(encoded string) { a.wait.wake(encoded) }

// Close stops waiting. It may be called more than once.
func (w *Waiter) Close() {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	for i := range w.at {
		w.all.removeLocked(&w.at[i])
	}
	w.at = nil
}

func (w *waiters) removeLocked(one *waiting) {
	if one.next != nil {
		one.next.previous = one.previous
	}
	switch {
	case one.previous != nil:
		one.previous.next = one.next
	case one.next != nil:
		w.byKey[one.key] = one.next
	default:
		delete(w.byKey, one.key)
	}
}

func (w *waiters) wake(encoded string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := w.byKey[encoded]; one != nil; one = one.next {
		one.of.wake()
	}
}

func (w *waiters) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.byKey {
		for ; one != nil; one = one.next {
			one.of.wake()
		}
	}
}

func (w *Waiter) wake() {
	select {
	case w.C <- struct{}{}:
	default:
	}
}
