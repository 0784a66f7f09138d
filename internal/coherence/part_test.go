package coherence

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
)

var errNodeDown = errors.New("the node is down")

// partlyDown is a cluster of which a node may be down, as far as subscriptions are concerned.
type partlyDown struct{ *parted }

func (s *partlyDown) Subscribe(ctx context.Context, l store.Subscription, sink store.Subscriber) error {
	if s.lacks(l.Slots) {
		return errNodeDown
	}
	return s.Memory.Subscribe(ctx, l, sink)
}

func (s *partlyDown) lacks(r store.SlotRange) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen != "" && s.Endpoint(store.SlotTag(r.First)) == s.frozen
}

// The local tier is valid for each part of the keys by itself: where the node of some is down, they are
// in doubt, and the others as ever. When it is back, the tier is emptied of its keys and of no others.
func TestTheLocalTierIsValidByPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &partlyDown{newParted()}
		a, l := onNames(t, store.NewNames("", "n"), Broadcast, true, st)
		a.Ready(t.Context())
		pass(time.Second)
		keys := keysOf(a)
		for _, p := range a.parts {
			if err := p.Reconcile(t.Context()); err != nil || !a.LocalValid(now()) {
				t.Fatalf("at first: %v", err)
			}
		}
		l.mu.Lock()
		l.heard = nil
		flushes := l.flushes
		l.mu.Unlock()
		st.freeze("low")
		st.CutListenersOf(errNodeDown, st.lacks)
		for _, after := range []time.Duration{100 * time.Millisecond, time.Minute} {
			pass(after)
			if a.LocalValid(now()) || a.Connected(now()) {
				t.Errorf("%v without a node: the tier is valid for all keys", after)
			}
			for i, p := range a.parts {
				rk, want := a.cfg.Names.Data+keys[i], st.Endpoint(p.names.Epoch) == "high"
				_, doubted := p.suspicion.open()
				heard, _ := a.LastHeard(rk)
				if a.LocalValidFor(rk, now()) != want || p.Connected(now()) != want || doubted == want || (a.Since(rk, now()) == never) != want || after > time.Second && now()-heard < int64(HeartbeatTimeout) != want {
					t.Errorf("%v without a node, part %d: valid %v, in doubt %v, heard %v ago; it is to be up: %v", after, i, a.LocalValidFor(rk, now()), doubted, time.Duration(now()-heard), want)
				}
			}
		}
		l.mu.Lock()
		for _, up := range l.heard {
			if up {
				t.Error("the cache counts as connected")
				break
			}
		}
		l.matching = nil
		l.mu.Unlock()
		st.freeze("")
		pass(5 * time.Second)
		if !a.LocalValid(now()) || !l.heard[len(l.heard)-1] {
			t.Error("the node is back, and the tier is not valid")
		}
		if l.flushes != flushes || l.matching == nil {
			t.Fatalf("the tier was emptied %d times, and of some keys: %v", l.flushes-flushes, l.matching != nil)
		}
		emptied := 0
		for i, k := range keys {
			if l.matching(k) {
				emptied++
				if st.Endpoint(a.parts[i].names.Epoch) != "low" {
					t.Errorf("it was emptied of %s", k)
				}
			}
		}
		if emptied != 1 {
			t.Errorf("the last part that is back has cost %d parts their entries", emptied)
		}
	})
}

// The end of the sessions of one node raises no doubt about the keys of others, also if they end at the
// same time.
func TestPartsAreDoubtedByThemselves(t *testing.T) {
	for range 20 {
		a, _ := onNames(t, store.NewNames("", "n"), Broadcast, true, newParted())
		done := make(chan struct{})
		for _, p := range a.parts[:8] {
			go func() {
				p.suspect()
				done <- struct{}{}
			}()
		}
		for range 8 {
			<-done
		}
		for i, p := range a.parts {
			if _, open := p.suspicion.open(); open != (i < 8) {
				t.Fatalf("part %d is in doubt: %v", i, open)
			}
		}
		// A doubt that was there before stays.
		a.parts[9].suspect()
		if _, open := a.parts[0].suspicion.open(); !open {
			t.Fatal("a doubt about one part has settled that about another")
		}
	}
}

// If the keys of one part can't be tracked one by one, those of no part are: a value that Redis does not have
// may be of any.
func TestOnePartGivesUpSessionsByKeyForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &refusing{parted: newParted(), kinds: map[string]store.Subscription{}}
		a, _ := onNames(t, store.NewNames("", "n"), TrackingKeys, true, st)
		a.Ready(t.Context())
		pass(5 * time.Second)
		if !a.LocalValid(now()) {
			t.Error("the tier is not valid")
		}
		for i, p := range a.parts {
			if l := st.kinds[store.SlotTag(p.names.Slots.First)]; l.ByKey || !l.Tracking || p.byKey.Load() {
				t.Errorf("part %d: %+v", i, l)
			}
		}
		began := now()
		a.AwaitAll(t.Context())
		if now() != began {
			t.Error("it waits for what is so")
		}
	})
}

// refusing is a cluster that tracks the keys of its last part by prefix only.
type refusing struct {
	*parted
	kinds map[string]store.Subscription // the last one, by a key of its slots
}

func (s *refusing) Subscribe(ctx context.Context, l store.Subscription, sink store.Subscriber) error {
	s.mu.Lock()
	s.kinds[store.SlotTag(l.Slots.First)] = l
	s.mu.Unlock()
	if l.ByKey && l.Slots.Next == store.Slots {
		time.Sleep(time.Second) // when the others are subscribed
		return store.ErrNoKeyTracking
	}
	return s.Memory.Subscribe(ctx, l, sink)
}

// slowTier is a local tier whose passes take a second.
type slowTier struct {
	*tier
	passes atomic.Int32
	match  func(string) bool
}

func (l *slowTier) RemoveMatching(match func(string) bool) {
	time.Sleep(time.Second)
	l.passes.Add(1)
	l.match = match
}

// What is asked for during a pass over the local tier shares the next one.
func TestSweepsShareAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, l := onNames(t, store.NewNames("", "n"), None, true, newParted())
		slow := &slowTier{tier: l}
		a.cfg.Local = slow
		keys := keysOf(a)
		var wg sync.WaitGroup
		wg.Go(func() { a.sweep(0, allKeys) })
		synctest.Wait()
		began := time.Now()
		for i := range 8 {
			wg.Go(func() {
				a.sweep(uint8(i), "*") // all of them
				if d := time.Since(began); d != 2*time.Second {
					t.Errorf("part %d: after %v", i, d)
				}
			})
			wg.Go(func() { a.sweep(uint8(i+8), keys[8]) }) // a key
		}
		wg.Wait()
		if n := slow.passes.Load(); n != 2 {
			t.Errorf("%d passes", n)
		}
		for i, k := range keys {
			if slow.match(k) != (i <= 8) {
				t.Errorf("the key of part %d is removed: %v", i, slow.match(k))
			}
		}
	})
}
