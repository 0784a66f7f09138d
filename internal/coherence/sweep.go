package coherence

import (
	"sync"

	"github.com/delqhi/cache/internal/glob"
	"github.com/delqhi/cache/internal/store"
)

// What is removed from the local tier because of a part of the keys takes a pass over the whole tier. The
// parts of a node come back together, and a pattern has a message for each part, so what is asked for during
// a pass shares the next one.
type sweeper struct {
	mu      sync.Mutex // guards what follows
	running bool
	next    *sweep // to be begun; nil: none
}

// sweep is one pass.
type sweep struct {
	of    map[string]partSet // by pattern; "*": all keys
	begin chan struct{}      // has a value when one of those who wait for it is to carry it out
	done  chan struct{}      // closed at its end
}

// allKeys is the pattern of all keys.
const allKeys = "*"

// sweep removes from the local tier the keys of a part that match a pattern, and moves their fences. It
// returns when that is done, by a pass that has begun after the call. The next pass, if one is asked for
// meanwhile, is carried out by one of those who wait for it.
func (a *Coordinator) sweep(part uint8, pattern string) {
	w := &a.sweeper
	w.mu.Lock()
	if w.next == nil {
		w.next = &sweep{map[string]partSet{}, make(chan struct{}, 1), make(chan struct{})}
	}
	s := w.next
	s.of[pattern] = s.of[pattern].with(part)
	if w.running {
		w.mu.Unlock()
		select {
		case <-s.begin:
		case <-s.done:
			return
		}
	} else {
		w.running, w.next = true, nil
		w.mu.Unlock()
	}
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.running = w.next != nil; w.running {
			w.next.begin <- struct{}{}
			w.next = nil
		}
	}()
	a.pass(s)
}

// pass carries out a sweep.
func (a *Coordinator) pass(s *sweep) {
	defer close(s.done)
	data := a.cfg.Names.Data
	buf := []byte(data)
	matches := make(map[string]func(string) bool, len(s.of))
	for pattern := range s.of {
		matches[pattern] = glob.Compile(pattern).Match
	}
	a.cfg.Local.RemoveMatching(func(encoded string) bool {
		buf = append(buf[:len(data)], encoded...)
		part := store.PartOf(buf)
		for pattern, parts := range s.of {
			if parts.has(part) && (pattern == allKeys || matches[pattern](encoded)) {
				return true
			}
		}
		return false
	})
	a.changedAny()
	a.wakeAll()
}
