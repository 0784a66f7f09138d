package coherence

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// asked is a store that refuses some kinds of sessions, and remembers what was asked for.
type asked struct {
	*storetest.Memory

	mu     sync.Mutex                   // guards what follows, while sessions begin
	refuse map[store.Subscription]error // by Tracking and ByKey
	kinds  []store.Subscription
	mute   bool // what begins from now on receives nothing
}

func (s *asked) Subscribe(ctx context.Context, l store.Subscription, sink store.Subscriber) error {
	s.mu.Lock()
	s.kinds = append(s.kinds, l)
	err, mute := s.refuse[store.Subscription{Tracking: l.Tracking, ByKey: l.ByKey}], s.mute
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if mute {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Memory.Subscribe(ctx, l, sink)
}

// begun is how many sessions have been asked for.
func (s *asked) begun() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kinds)
}

// set changes what becomes of later sessions.
func (s *asked) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Where keys can't be tracked one by one, all are; where they can't be tracked, messages are received.
func TestSessionsByKeyGiveWayToOthers(t *testing.T) {
	byKey, all, none := store.Subscription{Tracking: true, ByKey: true}, store.Subscription{Tracking: true}, store.Subscription{}
	for name, c := range map[string]struct {
		refuse     map[store.Subscription]error
		want       []store.Subscription
		downgraded int
	}{
		"all is well":        {nil, []store.Subscription{byKey}, 0},
		"not one by one":     {map[store.Subscription]error{byKey: store.ErrNoKeyTracking}, []store.Subscription{byKey, all}, 0},
		"not at all":         {map[store.Subscription]error{byKey: store.ErrNoTracking}, []store.Subscription{byKey, none}, 1},
		"neither of the two": {map[store.Subscription]error{byKey: store.ErrNoKeyTracking, all: store.ErrNoTracking}, []store.Subscription{byKey, all, none}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			st := &asked{Memory: storetest.NewMemory(), refuse: c.refuse}
			a, l := onTier(t, TrackingKeys, true, st)
			a.Ready(t.Context())
			pass(time.Second)
			if !a.LocalValid(now()) || l.downgraded != c.downgraded || len(st.kinds) != len(c.want) {
				t.Fatalf("%s: %+v, valid %v, downgraded %d times", name, st.kinds, a.LocalValid(now()), l.downgraded)
			}
			for i, k := range st.kinds {
				if k.Tracking != c.want[i].Tracking || k.ByKey != c.want[i].ByKey {
					t.Errorf("%s: session %d: %+v", name, i, k)
				}
				if main := k.Channel == a.cfg.Names.Channel && k.Waiter != ""; main == k.ByKey {
					t.Errorf("%s: session %d receives %+v", name, i, k)
				}
			}
			a.Close()
		})
	}
}

// A session by key receives what concerns more than the keys that it names, and counts nothing.
func TestMessagesOfASessionByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewMemory()
		a, l := onTier(t, TrackingKeys, true, st)
		a.Ready(t.Context())
		pass(time.Second)
		flushes := l.flushes
		other, _ := onTier(t, Broadcast, true, st)
		ctx := t.Context()
		if _, err := other.invalidator.Pattern(ctx, "k*", func(s string) string { return s }); err != nil {
			t.Fatal(err)
		}
		if _, _, err := other.invalidator.InvalidateTags(ctx, 0, []string{"tag"}); err != nil {
			t.Fatal(err)
		}
		other.Outbox.Next(message.Invalidated) // of a key, on the other channel
		if _, _, err := other.invalidator.InvalidateTags(ctx, 0, []string{"tag"}); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if l.matching == nil || l.received != 3 || l.flushes != flushes {
			t.Errorf("%d were received, a pattern %v, %d flushes", l.received, l.matching != nil, l.flushes-flushes)
		}
		other.Outbox.Lose()
		other.watermark(true)
		pass(time.Second)
		if l.flushes != flushes+1 {
			t.Errorf("%d flushes after messages that were not sent", l.flushes-flushes)
		}
		a.Close()
	})
}

// A value that Redis does not have needs messages about keys: the tier is not valid until they are
// received, and flushed before.
func TestReceiveAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &asked{Memory: storetest.NewMemory()}
		a, l := onTier(t, TrackingKeys, true, st)
		a.Ready(t.Context())
		pass(time.Second)
		flushes := l.flushes
		a.ReceiveAll()
		if a.LocalValid(now()) {
			t.Error("the tier is valid, and messages about keys are not received")
		}
		pass(time.Second)
		a.ReceiveAll() // nothing more
		if !a.LocalValid(now()) || l.flushes != flushes+1 {
			t.Errorf("valid %v, %d flushes", a.LocalValid(now()), l.flushes-flushes)
		}
		st.CutListeners(errors.New("cut"))
		pass(time.Minute)
		kinds := make([]bool, len(st.kinds))
		for i := range st.kinds {
			kinds[i] = st.kinds[i].ByKey
		}
		if !slices.Equal(kinds, []bool{true, false, false}) {
			t.Errorf("sessions by key: %v", kinds)
		}
		a.Close()
	})
	// Who waits for it finds the tier valid.
	synctest.Test(t, func(t *testing.T) {
		a, l := onTier(t, TrackingKeys, true, storetest.NewMemory())
		a.Ready(t.Context())
		pass(time.Second)
		flushes := l.flushes
		a.AwaitAll(t.Context())
		if !a.LocalValid(now()) || l.flushes != flushes+1 {
			t.Errorf("valid %v, %d flushes", a.LocalValid(now()), l.flushes-flushes)
		}
		a.AwaitAll(t.Context())
		a.Close()
	})
	// No call waits for a session that can't begin, nor in an outage.
	for _, when := range []string{"after", "before"} {
		synctest.Test(t, func(t *testing.T) {
			st := &asked{Memory: storetest.NewMemory(), refuse: map[store.Subscription]error{}}
			a, _ := onTier(t, TrackingKeys, true, st)
			a.Ready(t.Context())
			pass(time.Second)
			down := errors.New("down")
			st.set(func() { st.refuse[store.Subscription{Tracking: true}] = down })
			if when == "before" {
				st.set(func() { st.refuse[store.Subscription{Tracking: true, ByKey: true}] = down })
				st.CutListeners(down)
				pass(time.Second)
			}
			for range 2 {
				began := time.Now()
				a.AwaitAll(t.Context())
				if took := time.Since(began); took >= a.cfg.StartTimeout {
					t.Errorf("%s the outage: %v", when, took)
				}
			}
			if a.LocalValid(now()) {
				t.Error("the tier is valid")
			}
			a.Close()
		})
	}
	// Who waits in vain does so once.
	synctest.Test(t, func(t *testing.T) {
		st := &asked{Memory: storetest.NewMemory()}
		a, _ := onTier(t, TrackingKeys, true, st)
		a.Ready(t.Context())
		pass(time.Second)
		st.set(func() { st.mute = true })
		for i := range 2 {
			began := time.Now()
			a.AwaitAll(t.Context())
			if took, want := time.Since(began), a.cfg.StartTimeout*time.Duration(1-i); took != want {
				t.Errorf("the %dth time: %v", i, took)
			}
		}
		a.Close()
	})
	// Before the first session, and where there is none, it costs nothing.
	for _, transport := range []Transport{None, Broadcast, Tracking, TrackingKeys} {
		a, _ := onTier(t, transport, true, storetest.NewMemory())
		a.ReceiveAll()
	}
}

// While another server takes over an address, a session finds two, which says nothing about later ones.
func TestSessionsByKeyThatMeetAnotherServer(t *testing.T) {
	for _, all := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			one := store.Subscription{Tracking: true, ByKey: true}
			st := &asked{Memory: storetest.NewMemory(), refuse: map[store.Subscription]error{one: store.ErrOtherServer}}
			a, _ := onTier(t, TrackingKeys, true, st)
			a.Ready(t.Context())
			for st.begun() < othersMost-1 || all && st.begun() < othersMost+1 {
				pass(10 * time.Millisecond)
			}
			st.set(func() { delete(st.refuse, one) })
			pass(time.Minute)
			var last store.Subscription
			st.set(func() { last = st.kinds[len(st.kinds)-1] })
			if !a.LocalValid(now()) || last.ByKey == all {
				t.Errorf("after %d sessions: %+v, valid %v", st.begun(), last, a.LocalValid(now()))
			}
			a.Close()
		})
	}
}
