package coherence

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// touched is a store that counts how often the logical clock is touched.
type touched struct {
	*storetest.Memory
	n     atomic.Int32
	fails atomic.Bool
	blind bool // it does not watch
}

func (s *touched) ReadClock(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	s.n.Add(1)
	if s.fails.Load() {
		return logicalclock.Reading{}, errLost
	}
	return s.Memory.ReadClock(ctx, names, known, tags)
}

func (s *touched) Subscribe(ctx context.Context, l store.Subscription, sink store.Subscriber) error {
	if s.blind {
		sink = struct{ store.Subscriber }{sink}
	}
	return s.Memory.Subscribe(ctx, l, sink)
}

// clockOf returns the record of a's clock.
func clockOf(t *testing.T, a *Coordinator, st store.Store) []byte {
	t.Helper()
	r := st.Do(t.Context(), []store.Command{{Op: store.Get, Key: a.cfg.Names.Epoch}})[0]
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r.Record.Raw
}

// putClock replaces the record of a's clock; nil: it is removed.
func putClock(t *testing.T, a *Coordinator, st store.Store, raw []byte) {
	t.Helper()
	c := store.Command{Op: store.Set, Key: a.cfg.Names.Epoch, Frame: raw, TTL: time.Hour}
	if raw == nil {
		c = store.Command{Op: store.Delete, Key: a.cfg.Names.Epoch}
	}
	if err := st.Do(t.Context(), []store.Command{c})[0].Err; err != nil {
		t.Fatal(err)
	}
}

// While nothing happens to a cache its clock is not touched; whatever Redis could lose has it
// touched within a second, once.
func TestAClockRestsWhileNothingHappens(t *testing.T) {
	for _, transport := range []Transport{Broadcast, Tracking} {
		synctest.Test(t, func(t *testing.T) {
			st := &touched{Memory: storetest.NewMemory()}
			a, _ := onTier(t, transport, true, st)
			a.Ready(t.Context())
			time.Sleep(renewLifeFirst + 20*time.Second)
			tell := func(n message.Message) {
				n.Sender = 100
				if err := st.Publish(t.Context(), store.Notify{Channel: a.cfg.Names.Channel, Message: string(n.Append(nil))}); err != nil {
					t.Fatal(err)
				}
			}
			watched := watchLapse / 3
			events := map[string]struct {
				do   func()
				soon time.Duration
				n    int32
			}{
				"nothing":             {func() {}, 0, 0},
				"a watermark":         {func() { tell(message.Message{Kind: message.Watermark}) }, 0, 0},
				"the end of a load":   {func() { tell(message.Message{Kind: message.Loaded, Keys: []string{"k"}}) }, 0, 0},
				"a read":              {func() { a.parts[0].BeginEpochRead(now()) }, time.Second, 1},
				"a load":              {func() { _, _, _ = a.parts[0].Version(t.Context()) }, time.Second, 1},
				"a write":             {func() { a.noted(retryqueue.Item{Key: "n:k"}, now()) }, time.Second, 1},
				"a pattern":           {func() { a.notedPattern("*", now()) }, time.Second, 1},
				"a write elsewhere":   {func() { tell(message.Message{Number: 1, Kind: message.Invalidated, Keys: []string{"k"}}) }, time.Second, 1},
				"a pattern elsewhere": {func() { tell(message.Message{Number: 2, Base: 1, Kind: message.Pattern, Pattern: "*"}) }, time.Second, 1},
				"the clock is gone":   {func() { putClock(t, a, st, nil) }, time.Second + time.Duration(watched), 1},
				"it is another":       {func() { putClock(t, a, st, []byte("e1 7 1 1 1 0 0 0 0 0")) }, time.Second + time.Duration(watched), 1},
				"it is no clock":      {func() { putClock(t, a, st, []byte("x")) }, time.Second + time.Duration(watched), 1},
			}
			if transport == Tracking {
				events["a change"] = struct {
					do   func()
					soon time.Duration
					n    int32
				}{func() {
					st.Do(t.Context(), []store.Command{{Op: store.Set, Key: "n:k", Frame: []byte("x")}})
				}, time.Second, 1}
			}
			for name, e := range events {
				st.n.Store(0)
				e.do()
				time.Sleep(e.soon)
				if synctest.Wait(); st.n.Load() != e.n {
					t.Errorf("%s: touched %d times after %v", name, st.n.Load(), e.soon)
				}
				time.Sleep(2 * time.Minute)
				if synctest.Wait(); st.n.Load() != e.n {
					t.Errorf("%s: touched %d times", name, st.n.Load())
				}
				if !a.LocalValid(now()) {
					t.Errorf("%s: the local tier is not valid", name)
				}
			}
			// An attempt that fails is repeated.
			st.n.Store(0)
			st.fails.Store(true)
			a.parts[0].BeginEpochRead(now())
			time.Sleep(10 * time.Second)
			if n := st.n.Load(); n < 9 {
				t.Errorf("%d attempts", n)
			}
			st.fails.Store(false)
			time.Sleep(10 * time.Second)
			st.n.Store(0)
			time.Sleep(time.Minute)
			if n := st.n.Load(); n > 0 {
				t.Errorf("touched %d times after it succeeded", n)
			}
			a.Close()
		})
	}
}

// While the clock rests, what others have made of it is learned.
func TestAClockThatRestsIsLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &touched{Memory: storetest.NewMemory()}
		a, _ := onTier(t, Broadcast, true, st)
		a.Ready(t.Context())
		time.Sleep(renewLifeFirst + 20*time.Second)
		known := a.parts[0].Clock.Known()
		st.n.Store(0)
		if _, err := st.Memory.ReadClock(t.Context(), a.cfg.Names, known, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if k := a.parts[0].Clock.Known(); k.Epoch != known.Epoch || k.Tick-known.Tick < 10_000_000 || st.n.Load() > 0 {
			t.Errorf("%+v, was %+v; touched %d times", k, known, st.n.Load())
		}
		a.Close()
	})
}

// A clock that the session does not watch is touched each second.
func TestAClockThatIsNotWatchedDoesNotRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &touched{Memory: storetest.NewMemory(), blind: true}
		a, _ := onTier(t, Broadcast, true, st)
		a.Ready(t.Context())
		time.Sleep(2 * time.Minute)
		st.n.Store(0)
		time.Sleep(time.Minute)
		if n := st.n.Load(); n < 58 {
			t.Errorf("touched %d times in a minute", n)
		}
		a.Close()
	})
}

// A failover that loses the end of a rest keeps the epoch; one that loses more ends it.
func TestAFailoverAfterARestLosesTheEpochIfMoreIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		after   time.Duration // from the end of the rest to the failover
		earlier bool          // to a state from before the rest
		kept    bool
	}{
		"at the end of the rest":    {2 * time.Second, false, true},
		"later":                     {30 * time.Second, false, false},
		"what was before the rest":  {2 * time.Second, true, false},
		"what was before it, later": {30 * time.Second, true, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			st := storetest.NewMemory()
			a, _ := onTier(t, Broadcast, true, st)
			a.Ready(t.Context())
			use := func(d time.Duration) {
				for range d / (500 * time.Millisecond) {
					a.parts[0].BeginEpochRead(now())
					time.Sleep(500 * time.Millisecond)
				}
			}
			use(5 * time.Second)
			early := clockOf(t, a, st)
			use(30 * time.Second)
			time.Sleep(15 * time.Minute)
			late := clockOf(t, a, st)
			use(c.after)
			was := a.parts[0].Clock.Known()
			lost := late
			if c.earlier {
				lost = early
			}
			if e, _ := logicalclock.ParseEpoch(lost); e.ID != was.Epoch || was.Tick-e.Tick < 10*logicalclock.LostFor {
				t.Fatalf("the clock did not rest: %+v, %+v", e, was)
			}
			putClock(t, a, st, lost)
			st.CutListeners(errLost)
			time.Sleep(5 * time.Second)
			if e, ok := logicalclock.ParseEpoch(clockOf(t, a, st)); !ok || (e.ID == was.Epoch) != c.kept || e.Tick < was.Tick {
				t.Errorf("%s: %+v, was %+v", name, e, was)
			}
			a.Close()
		})
	}
}

// What is claimed to be known leaves out rests that have ended just now, in the session.
func TestWhatIsClaimed(t *testing.T) {
	const second = int64(time.Second)
	known := func(epoch uint64, tick int64) logicalclock.Known {
		return logicalclock.Known{Epoch: epoch, Tick: tick * 1_000_000, Clock: 5}
	}
	var r rest
	r.init(1)
	r.begin(false)
	for i, c := range []struct {
		k    logicalclock.Known
		at   int64
		want int64
	}{
		{known(1, 100), 0, 100},
		{known(1, 105), 5, 105},
		{known(1, 111), 6, 111}, // less than 105 + 10
		{known(1, 113), 7, 113},
		{known(1, 1000), 100, 123},
		{known(1, 1001), 101, 123},
		{known(2, 1001), 101, 1001}, // another epoch
		{known(1, 1007), 107, 123},
		{known(1, 1008), 108, 1008},
		{known(1, 1010), 110, 1010},
	} {
		if got := r.claim(c.k, c.at*second); got.Tick != c.want*1_000_000 || got.Epoch != c.k.Epoch || got.Clock != 5 {
			t.Errorf("%d: %+v", i, got)
		}
	}
	r.end(known(1, 2000), 200*second) // the session has heard that it rested
	if got := r.claim(known(1, 2000), 201*second); got.Tick != 1020*1_000_000 {
		t.Errorf("%+v", got)
	}
	// What was in between sessions is not known.
	if got := r.claim(known(1, 3000), 300*second); got.Tick != 3000*1_000_000 {
		t.Errorf("%+v", got)
	}
	r.begin(false)
	if got := r.claim(known(1, 4000), 400*second); got.Tick != 4000*1_000_000 {
		t.Errorf("%+v", got)
	}
}

// A rest counts for no longer than the writes that have ended it are replayed.
func TestARestCountsWhileWritesAreReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := onTier(t, Broadcast, true, storetest.NewMemory())
		a.Ready(t.Context())
		time.Sleep(renewLifeFirst + 20*time.Second)
		for after := range 10 {
			time.Sleep(2*time.Minute + 100*time.Millisecond) // at all times between two touches
			was := a.parts[0].Clock.Known()
			a.noted(retryqueue.Item{Key: "n:k"}, now())
			reduced := false
			for a.recent.Any(now()) {
				time.Sleep(50 * time.Millisecond)
				reduced = reduced || a.Claim(0) != a.parts[0].Clock.Known()
			}
			if k := a.parts[0].Clock.Known(); a.Claim(0) != k || k.Tick == was.Tick || !reduced {
				t.Errorf("%d: %+v is claimed of %+v, was %+v; less was claimed: %v", after, a.Claim(0), k, was, reduced)
			}
		}
		a.Close()
	})
}

// A process that hears nothing of the keys that others write counts a rest no longer than they replay what
// has ended it.
func TestARestInASessionByKeyCountsWhileWritesOfOthersAreReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewMemory()
		a, _ := onTier(t, TrackingKeys, true, st)
		a.Ready(t.Context())
		other, _ := onTier(t, Broadcast, true, st)
		other.Ready(t.Context())
		time.Sleep(renewLifeFirst + 20*time.Second)
		if !a.parts[0].byKey.Load() || !a.LocalValid(now()) || !other.LocalValid(now()) {
			t.Fatal("there is no session by key")
		}
		reduced := 0
		for after := range 30 {
			time.Sleep(2*time.Minute + 230*time.Millisecond) // at all times between two looks of the session
			was := a.parts[0].Clock.Known()
			other.noted(retryqueue.Item{Key: "n:k"}, now())
			for other.recent.Any(now()) {
				time.Sleep(10 * time.Millisecond)
				if a.Claim(0) != a.parts[0].Clock.Known() {
					reduced++
				}
			}
			if k := a.parts[0].Clock.Known(); a.Claim(0) != k || k.Tick-was.Tick < restMin {
				t.Errorf("%d: %+v is claimed of %+v, was %+v", after, a.Claim(0), k, was)
			}
		}
		if reduced == 0 {
			t.Error("no rest counts")
		}
		a.Close()
		other.Close()
	})
}
