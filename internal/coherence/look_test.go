package coherence

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// clocked is a store whose logical clock fails, and is moved, as a test has it.
type clocked struct {
	*storetest.Memory
	mu          sync.Mutex
	nodes, away bool
	onMarks     func(known logicalclock.Known) error // before Marks
	asked, nows int
	renewals    int
	looks       int
}

func (c *clocked) OneNode() bool { return !c.nodes }

func (c *clocked) Renew(context.Context) error { c.renewals++; return nil }

func (c *clocked) ServerID(ctx context.Context) (string, error) {
	c.looks++
	return c.Memory.ServerID(ctx)
}

func (c *clocked) Now(ctx context.Context, key string) (int64, error) {
	c.nows++
	if c.away {
		return 0, errLost
	}
	return c.Memory.Now(ctx, key)
}

func (c *clocked) ReadClock(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	c.mu.Lock()
	c.asked++
	f := c.onMarks
	c.mu.Unlock()
	if f != nil {
		if err := f(known); err != nil {
			return logicalclock.Reading{}, err
		}
	}
	return c.Memory.ReadClock(ctx, names, known, tags)
}

// onClock makes a coordinator that does nothing in the background.
func onClock(t *testing.T, transport Transport) (*Coordinator, *clocked, *tier) {
	store := &clocked{Memory: storetest.NewMemory()}
	a, l := onTier(t, transport, true, store)
	a.started = true
	return a, store, l
}

func (a *Coordinator) epoch(t *testing.T) store.Reply {
	t.Helper()
	rec, err := a.cfg.Client.Get(t.Context(), a.cfg.Names.Epoch)
	return store.Reply{Record: rec, Err: err}
}

func (c *clocked) set(a *Coordinator, epoch string) {
	c.Memory.Do(context.Background(), []store.Command{{Op: store.Set, Key: a.cfg.Names.Epoch, Frame: []byte(epoch)}})
}

func text(e logicalclock.Epoch) string {
	return fmt.Sprintf("e1 %d %d %d %d %d %d %d %d 0", e.ID, e.Tick, e.Clock, e.LowWatermark, e.All.Hard, e.All.Soft, e.All.Next, e.All.When)
}

func TestALookLearnsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, st, l := onClock(t, None)
		look := a.parts[0].BeginEpochRead(now())
		if err := a.parts[0].EndEpochRead(t.Context(), look, a.epoch(t)); err != nil || st.asked != 1 {
			t.Fatalf("without an epoch: %v, asked %d times", err, st.asked)
		}
		if _, _, ok := a.parts[0].Clock.Version(); !ok || !a.parts[0].used.Load() || a.parts[0].learned.Load() != look.at && a.parts[0].learned.Load() != now() {
			t.Error("it is not learned")
		}
		time.Sleep(time.Second)
		look = a.parts[0].BeginEpochRead(now())
		if err := a.parts[0].EndEpochRead(t.Context(), look, a.epoch(t)); err != nil || st.asked != 1 || a.parts[0].learned.Load() != look.at {
			t.Errorf("%v, asked %d times, learned at %d, want %d", err, st.asked, a.parts[0].learned.Load(), look.at)
		}
		// An answer to an older question moves nothing back.
		older := look
		older.at--
		if a.parts[0].EndEpochRead(t.Context(), older, a.epoch(t)); a.parts[0].learned.Load() != look.at {
			t.Error("the time of the last look was moved back")
		}
		time.Sleep(clockAge - 1)
		if err := a.parts[0].EndEpochRead(t.Context(), a.parts[0].BeginEpochRead(now()), store.Reply{Err: errLost}); err != nil {
			t.Errorf("what is known is not old: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if err := a.parts[0].EndEpochRead(t.Context(), a.parts[0].BeginEpochRead(now()), store.Reply{Err: errLost}); !errors.Is(err, errLost) {
			t.Errorf("what is known is too old: %v", err)
		}
		if _, open := a.parts[0].suspicion.open(); open || l.flushed != 0 {
			t.Error("there is a suspicion")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a, _, _ := onClock(t, None)
		if err := a.parts[0].EndEpochRead(t.Context(), a.parts[0].BeginEpochRead(now()), store.Reply{Err: errLost}); !errors.Is(err, errLost) {
			t.Errorf("nothing is known: %v", err)
		}
		if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		a.parts[0].learned.Store(never)
		if a.parts[0].fresh(now()) {
			t.Error("what was never learned is fresh")
		}
		// While this process hears, what is known is as it is.
		a.cfg.Transport = Broadcast
		a.localValid.Store(now() + 1)
		if !a.parts[0].fresh(now()) {
			t.Error("it is not fresh, and changes are received")
		}
	})
}

// What is there must not be older than what was known before it was asked for.
func TestALookSeesThatRedisWentBack(t *testing.T) {
	for name, c := range map[string]struct {
		epoch   func(e logicalclock.Epoch) string
		suspect bool
	}{
		"the same":           {text, false},
		"a later tick":       {func(e logicalclock.Epoch) string { e.Tick++; return text(e) }, false},
		"an older tick":      {func(e logicalclock.Epoch) string { e.Tick--; return text(e) }, true},
		"nothing":            {nil, true},
		"nonsense":           {func(logicalclock.Epoch) string { return "nonsense" }, true},
		"a tick far ahead":   {func(e logicalclock.Epoch) string { e.Tick += 1 << 50; return text(e) }, true},
		"a clock far ahead":  {func(e logicalclock.Epoch) string { e.Clock += 1 << 50; return text(e) }, true},
		"ahead of the clock": {func(e logicalclock.Epoch) string { e.Tick += 3600_000_000; return text(e) }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, st, _ := onClock(t, None)
			if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			e, _ := logicalclock.ParseEpoch(a.epoch(t).Record.Raw)
			if c.epoch != nil {
				st.set(a, c.epoch(e))
			} else {
				st.Do(t.Context(), []store.Command{{Op: store.Delete, Key: a.cfg.Names.Epoch}})
			}
			err := a.parts[0].EndEpochRead(t.Context(), a.parts[0].BeginEpochRead(now()), a.epoch(t))
			_, suspect := a.parts[0].suspicion.open()
			_, evidence := a.parts[0].rollbackSeen.open()
			if (err == ErrSuspect) != c.suspect || suspect != c.suspect || evidence != c.suspect {
				t.Errorf("%s: %v, suspicion %v, evidence %v", name, err, suspect, evidence)
			}
			// A process that knows nothing sees nothing.
			b, _, _ := onClock(t, None)
			b.cfg.Client = a.cfg.Client
			if err := b.parts[0].EndEpochRead(t.Context(), b.parts[0].BeginEpochRead(now()), a.epoch(t)); err != nil {
				t.Errorf("%s: by a new process: %v", name, err)
			}
			if _, suspect := b.parts[0].suspicion.open(); suspect {
				t.Errorf("%s: a new process has a suspicion", name)
			}
		})
	}
}

// Redis's clock is asked for only where an epoch may be ahead of it, or a tombstone is pending.
func TestWhenRedissClockIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, st, _ := onClock(t, None)
		look := func() (nows int, err error) {
			st.nows = 0
			err = a.parts[0].EndEpochRead(t.Context(), a.parts[0].BeginEpochRead(now()), a.epoch(t))
			return st.nows, err
		}
		if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if n, err := look(); n != 0 || err != nil {
			t.Errorf("asked %d times, %v", n, err)
		}
		a.parts[0].latest.Store(0)
		if n, err := look(); n != 1 || err != nil {
			t.Errorf("nothing is known of it: asked %d times, %v", n, err)
		}
		if n, err := look(); n != 0 || err != nil {
			t.Errorf("it was measured: asked %d times, %v", n, err)
		}
		for name, c := range map[string]struct {
			mark logicalclock.NewTombstone
			nows int
		}{
			"a pending mark":   {logicalclock.NewTombstone{Mode: logicalclock.Delayed, Delay: 60_000_000}, 1},
			"a mark":           {logicalclock.NewTombstone{}, 0},
			"a mark made late": {logicalclock.NewTombstone{Before: []int64{time.Now().UnixMicro() - 1_000_000}}, 0},
		} {
			st.Do(t.Context(), []store.Command{{Op: store.Delete, Key: a.cfg.Names.Epoch}})
			a.parts[0].Clock.Reset()
			if _, err := st.AddTombstones(t.Context(), a.cfg.Names, logicalclock.Known{}, c.mark); err != nil {
				t.Fatal(err)
			}
			if n, err := look(); n != c.nows || err != nil {
				t.Errorf("%s: asked %d times, %v", name, n, err)
			}
			st.nows = 0
			l := a.parts[0].BeginEpochRead(now())
			if _, _, ok := a.parts[0].EndEpochReadBeside(t.Context(), l, a.epoch(t)); !ok || st.nows != c.nows {
				t.Errorf("%s: beside a write: asked %d times, %v", name, st.nows, ok)
			}
		}
		st.Do(t.Context(), []store.Command{{Op: store.Delete, Key: a.cfg.Names.Epoch}})
		a.parts[0].Clock.Reset()
		if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		a.parts[0].latest.Store(0)
		st.away = true
		if _, err := look(); err != ErrSuspect {
			t.Errorf("an epoch is believed by a clock that is not known: %v", err)
		}
	})
}

func TestALookBesideAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, st, _ := onClock(t, None)
		if _, _, ok := a.parts[0].EndEpochReadBeside(t.Context(), a.parts[0].BeginEpochRead(now()), store.Reply{Err: errLost}); ok {
			t.Error("no answer is a time")
		}
		// There was no clock when the write took effect: one that is made now may be later than
		// the tombstone of a newer value.
		if epoch, clock, ok := a.parts[0].EndEpochReadBeside(t.Context(), a.parts[0].BeginEpochRead(now()), a.epoch(t)); ok || a.parts[0].learned.Load() == never {
			t.Errorf("the first: %d, %d, %v", epoch, clock, ok)
		}
		learned := a.parts[0].learned.Load()
		time.Sleep(time.Second)
		st.AddTombstones(t.Context(), a.cfg.Names, logicalclock.Known{}, logicalclock.NewTombstone{})
		e, _ := logicalclock.ParseEpoch(a.epoch(t).Record.Raw)
		if epoch, clock, ok := a.parts[0].EndEpochReadBeside(t.Context(), a.parts[0].BeginEpochRead(now()), a.epoch(t)); !ok || epoch != e.ID || clock != e.Clock || a.parts[0].learned.Load() != learned {
			t.Errorf("%d, %d, %v, want %d, %d; learned at %d, want %d", epoch, clock, ok, e.ID, e.Clock, a.parts[0].learned.Load(), learned)
		}
		// The same tick is not older.
		if _, _, ok := a.parts[0].EndEpochReadBeside(t.Context(), a.parts[0].BeginEpochRead(now()), a.epoch(t)); !ok || a.parts[0].learned.Load() != learned {
			t.Error("the same epoch once more is taken for another one")
		}
		before := e
		before.Tick--
		st.set(a, text(before))
		if _, _, ok := a.parts[0].EndEpochReadBeside(t.Context(), a.parts[0].BeginEpochRead(now()), a.epoch(t)); ok {
			t.Error("an older epoch gives a time")
		}
		if _, open := a.parts[0].rollbackSeen.open(); !open {
			t.Error("an older epoch is no evidence")
		}
		other := e
		other.ID++
		other.Tick++
		st.set(a, text(other))
		if epoch, _, ok := a.parts[0].EndEpochReadBeside(t.Context(), a.parts[0].BeginEpochRead(now()), a.epoch(t)); ok && epoch != other.ID {
			t.Errorf("another epoch gives a time of epoch %d", epoch)
		}
		st.Do(t.Context(), []store.Command{{Op: store.Delete, Key: a.cfg.Names.Epoch}})
		if _, _, ok := a.parts[0].EndEpochReadBeside(t.Context(), a.parts[0].BeginEpochRead(now()), a.epoch(t)); ok {
			t.Error("no epoch gives a time")
		}
	})
}

// A session that ends while the answer is on its way does not change what the answer says; what is
// learned from others meanwhile is later than the write.
func TestALookBesideAWriteInAChangingSession(t *testing.T) {
	for name, meanwhile := range map[string]func(t *testing.T, a *Coordinator, st *clocked){
		"the session ends":   func(_ *testing.T, a *Coordinator, _ *clocked) { a.parts[0].Clock.Forget() },
		"a session begins":   func(_ *testing.T, a *Coordinator, _ *clocked) { a.parts[0].Clock.Subscribed() },
		"the table is reset": func(_ *testing.T, a *Coordinator, _ *clocked) { a.parts[0].Clock.Reset() },
		"another looks later": func(t *testing.T, a *Coordinator, _ *clocked) {
			a.parts[0].Clock.Forget()
			_ = a.parts[0].FetchTombstones(t.Context(), nil)
		},
		"a later tombstone": func(t *testing.T, a *Coordinator, st *clocked) {
			m, err := st.AddTombstones(t.Context(), a.cfg.Names, logicalclock.Known{}, logicalclock.NewTombstone{})
			if err != nil || !a.parts[0].Clock.ApplyPeer(nil, &m, now()) {
				t.Error("the tombstone is not learned", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, st, _ := onClock(t, None)
				if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				st.AddTombstones(t.Context(), a.cfg.Names, logicalclock.Known{}, logicalclock.NewTombstone{})
				e, _ := logicalclock.ParseEpoch(a.epoch(t).Record.Raw)
				l := a.parts[0].BeginEpochRead(now())
				reply := a.epoch(t)
				time.Sleep(time.Second)
				meanwhile(t, a, st)
				if epoch, clock, ok := a.parts[0].EndEpochReadBeside(t.Context(), l, reply); !ok || epoch != e.ID || clock != e.Clock {
					t.Errorf("%d, %d, %v, want %d, %d", epoch, clock, ok, e.ID, e.Clock)
				}
			})
		})
	}
}

// What is known may be the reason why Redis gives no answer: then it is forgotten.
func TestWhatCanNotBeReadIsAskedForWithoutWhatIsKnown(t *testing.T) {
	a, store, _ := onClock(t, None)
	if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	store.onMarks = func(known logicalclock.Known) error {
		if known.Epoch != 0 {
			return logicalclock.ErrNoClock
		}
		return nil
	}
	if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, open := a.parts[0].rollbackSeen.open(); !open {
		t.Error("it is no evidence")
	}
	if _, _, err := a.parts[0].ValidateNow(t.Context(), 1, 1, 0, nil); !errors.Is(err, logicalclock.ErrNoClock) || a.parts[0].Clock.Known().Epoch != 0 {
		t.Errorf("%v, and %+v is known", err, a.parts[0].Clock.Known())
	}
	store.asked = 0
	store.onMarks = func(logicalclock.Known) error { return logicalclock.ErrNoClock }
	if err := a.parts[0].FetchTombstones(t.Context(), nil); !errors.Is(err, logicalclock.ErrNoClock) || store.asked != 1 {
		t.Errorf("%v, asked %d times", err, store.asked)
	}
	store.asked = 0
	store.onMarks = func(logicalclock.Known) error { return errLost }
	if err := a.parts[0].FetchTombstones(t.Context(), nil); !errors.Is(err, errLost) || store.asked != 1 {
		t.Errorf("%v, asked %d times", err, store.asked)
	}
	store.onMarks = nil
	if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	epoch, clock, _ := a.parts[0].Clock.Version()
	if v, _, err := a.parts[0].ValidateNow(t.Context(), epoch, clock, 0, nil); err != nil || v == logicalclock.Unknown {
		t.Errorf("%v, %v", v, err)
	}
}

// Answers that are overtaken are asked for again, for a while.
func TestAnswersThatAreOvertaken(t *testing.T) {
	a, st, l := onClock(t, None)
	overtaken := 0
	st.onMarks = func(logicalclock.Known) error {
		if overtaken > 0 {
			overtaken--
			a.parts[0].Clock.Subscribed()
		}
		return nil
	}
	overtaken = askAgain - 1
	if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil || st.asked != askAgain {
		t.Errorf("%v, asked %d times", err, st.asked)
	}
	overtaken = 1000
	if err := a.parts[0].FetchTombstones(t.Context(), nil); err != errOvertaken {
		t.Errorf("%v", err)
	}
	overtaken = 0
	if l.flushed != 0 {
		t.Error("the same epoch flushes")
	}
	// Another epoch is another cache.
	st.Do(t.Context(), []store.Command{{Op: store.Delete, Key: a.cfg.Names.Epoch}})
	if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil || l.flushed != 1 {
		t.Errorf("%v, %d flushes", err, l.flushed)
	}
}

// A stamp costs a question only where nothing is heard, once a second, and finds out whether
// Redis went back.
func TestWhatAStampCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, st, l := onClock(t, None)
		stamp := func() (asked int, epoch uint64) {
			t.Helper()
			st.asked = 0
			epoch, clock, err := a.parts[0].Version(t.Context())
			if err != nil || epoch == 0 || clock == 0 {
				t.Fatalf("%d, %d, %v", epoch, clock, err)
			}
			return st.asked, epoch
		}
		asked, epoch := stamp()
		again, _ := stamp()
		time.Sleep(clockAge)
		later, _ := stamp()
		if asked != 1 || again != 0 || later != 1 {
			t.Errorf("asked %d, %d and %d times", asked, again, later)
		}
		time.Sleep(clockAge)
		st.Do(t.Context(), []store.Command{{Op: store.Delete, Key: a.cfg.Names.Epoch}})
		if _, after := stamp(); after == epoch || l.flushed == 0 {
			t.Error("the epoch that was lost goes on")
		}
		if _, open := a.parts[0].rollbackSeen.open(); !open {
			t.Error("a stamp does not see that Redis went back")
		}
		time.Sleep(clockAge)
		st.Fail(errLost)
		if _, _, err := a.parts[0].Version(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("a stamp without an answer: %v", err)
		}
	})
}

// Where there are several nodes, a write goes on with the time that was known last.
func TestAWriteWithoutTheNodeOfTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store, _ := onClock(t, None)
		store.nodes = true
		store.onMarks = func(logicalclock.Known) error { return errLost }
		if _, _, err := a.parts[0].WriteVersion(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("nothing is known: %v", err)
		}
		store.onMarks = nil
		epoch, clock, err := a.parts[0].WriteVersion(t.Context())
		if err != nil || epoch == 0 || clock == 0 {
			t.Fatal(epoch, clock, err)
		}
		time.Sleep(clockAge)
		store.onMarks = func(logicalclock.Known) error { return errLost }
		if e, c, err := a.parts[0].WriteVersion(t.Context()); err != nil || e != epoch || c != clock {
			t.Errorf("%d, %d, %v, want %d, %d", e, c, err, epoch, clock)
		}
		time.Sleep(clockAge)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := a.parts[0].WriteVersion(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("the caller has left: %v", err)
		}
		store.nodes = false
		time.Sleep(clockAge)
		if _, _, err := a.parts[0].WriteVersion(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("one node: %v", err)
		}
		if d := a.renewLives(t.Context()); d != renewLifeFirst {
			t.Errorf("lives that were not renewed are renewed after %v", d)
		}
		store.onMarks = nil
		if d := a.renewLives(t.Context()); d != renewLifeEvery {
			t.Errorf("lives that were renewed are renewed after %v", d)
		}
	})
}

// Before an own invalidation returns, nothing that it hits is served; what is not known of it
// is told again.
func TestOwnMarks(t *testing.T) {
	for _, tags := range [][]string{nil, {"t"}} {
		a, store, l := onClock(t, Broadcast)
		mark := func() (logicalclock.Reading, EpochRead) {
			t.Helper()
			look := a.parts[0].BeginEpochRead(now())
			m, err := a.cfg.Client.AddTombstones(t.Context(), a.cfg.Names, a.parts[0].Clock.Known(), logicalclock.NewTombstone{Tags: tags})
			if err != nil {
				t.Fatal(err)
			}
			return m, look
		}
		if tags != nil {
			a.parts[0].scheduleTombstones(tags, a.failedNumber(), now()-1)
			l.flushes = 0
		}
		m, look := mark()
		moved := a.moved("k", func() {
			if err := a.parts[0].ownTombstones(t.Context(), tags, nil, m, look); err != nil {
				t.Error(err)
			}
		})
		if tags == nil && l.flushes != 1 || tags != nil && (l.flushes != 0 || !moved) || a.parts[0].learned.Load() != look.at {
			t.Errorf("%q: %d flushes, fence moved %v", tags, l.flushes, moved)
		}
		if a.AnyPending() || a.isOpen() {
			t.Errorf("%q: an earlier attempt is pending", tags)
		}
		// The answer is overtaken: it is asked for again.
		m, look = mark()
		a.parts[0].Clock.Subscribed()
		if store.asked = 0; a.parts[0].ownTombstones(t.Context(), tags, nil, m, look) != nil || store.asked != 1 {
			t.Errorf("%q: asked %d times", tags, store.asked)
		}
		m, look = mark()
		a.parts[0].Clock.Subscribed()
		store.onMarks = func(logicalclock.Known) error { return errLost }
		err := a.parts[0].ownTombstones(t.Context(), tags, nil, m, look)
		if _, _, ok := a.parts[0].Clock.Version(); !errors.Is(err, errLost) || ok || !a.AnyPending() || a.queue.All() != (tags == nil) {
			t.Errorf("%q: %v, the clock is known: %v", tags, err, ok)
		}
	}
}

// Tombstones of an epoch that is not known may be of anything.
func TestMarksOfAnUnknownEra(t *testing.T) {
	a, store, l := onClock(t, Broadcast)
	m, err := store.ReadClock(t.Context(), a.cfg.Names, logicalclock.Known{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.parts[0].applyPeerTombstones(nil, m); l.flushed != 1 || len(a.woken) != 1 {
		t.Errorf("%+v, %d nudges", l, len(a.woken))
	}
}

// A script that touches the clock repairs one that has gone back a little: its answer is all that
// shows it.
func TestAScriptThatRepairsTheClockShowsIt(t *testing.T) {
	for name, ask := range map[string]func(ctx context.Context, p *Part) error{
		"a touch": func(ctx context.Context, p *Part) error { return p.FetchTombstones(ctx, nil) },
		"of tags": func(ctx context.Context, p *Part) error { return p.FetchTombstones(ctx, []string{"a"}) },
		"what a replay asks": func(ctx context.Context, p *Part) error {
			p.a.withoutTombstoned(ctx, &retryqueue.Replay{All: true})
			return nil
		},
		"validation": func(ctx context.Context, p *Part) error { _, _, err := p.ValidateNow(ctx, 1, 1, 0, nil); return err },
		"an invalidation": func(ctx context.Context, p *Part) error {
			l := p.BeginEpochRead(now())
			m, numbers, err := p.a.invalidator.InvalidateTags(ctx, p.of, []string{"a"})
			return p.a.EndTombstones(ctx, []string{"a"}, m, numbers, l, err)
		},
	} {
		for _, back := range []time.Duration{0, time.Microsecond, time.Second} {
			t.Run(name+" "+back.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a, st, _ := onClock(t, None)
					p := a.parts[0]
					if err := p.FetchTombstones(t.Context(), nil); err != nil {
						t.Fatal(err)
					}
					e, ok := logicalclock.ParseEpoch(a.epoch(t).Record.Raw)
					if !ok {
						t.Fatal("no epoch")
					}
					time.Sleep(5 * time.Second)
					e.Tick -= back.Microseconds()
					st.set(a, text(e))
					if err := ask(t.Context(), p); err != nil {
						t.Fatal(err)
					}
					if _, open := p.rollbackSeen.open(); open != (back > 0) {
						t.Errorf("noticed: %v", open)
					}
				})
			})
		}
	}
}
