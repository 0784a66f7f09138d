package accord

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/ages"
	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/internal/untold"
)

// clocked is a store whose logical clock fails, and is moved, as a test has it.
type clocked struct {
	*remote.Memory
	mu          sync.Mutex
	nodes, away bool
	onMarks     func(known remote.Known) error // before Marks
	asked, nows int
	renewals    int
	looks       int
}

func (c *clocked) OneNode() bool { return !c.nodes }

func (c *clocked) Renew(context.Context) error { c.renewals++; return nil }

func (c *clocked) Lineage(ctx context.Context) (string, error) {
	c.looks++
	return c.Memory.Lineage(ctx)
}

func (c *clocked) Now(ctx context.Context, key string) (int64, error) {
	c.nows++
	if c.away {
		return 0, errLost
	}
	return c.Memory.Now(ctx, key)
}

func (c *clocked) Marks(ctx context.Context, names remote.Names, known remote.Known, tags []string) (remote.Marks, error) {
	c.mu.Lock()
	c.asked++
	f := c.onMarks
	c.mu.Unlock()
	if f != nil {
		if err := f(known); err != nil {
			return remote.Marks{}, err
		}
	}
	return c.Memory.Marks(ctx, names, known, tags)
}

// onClock makes an accord that does nothing in the background.
func onClock(t *testing.T, transport Transport) (*Accord, *clocked, *tier) {
	store := &clocked{Memory: remote.NewMemory()}
	a, l := onTier(t, transport, true, store)
	a.started = true
	return a, store, l
}

func (a *Accord) epoch(t *testing.T) remote.Reply {
	t.Helper()
	rec, err := a.cfg.Guard.Get(t.Context(), a.cfg.Names.Epoch)
	return remote.Reply{Record: rec, Err: err}
}

func (c *clocked) set(a *Accord, epoch string) {
	c.Memory.Do(context.Background(), []remote.Command{{Op: remote.Set, Key: a.cfg.Names.Epoch, Frame: []byte(epoch)}})
}

func text(e remote.Epoch) string {
	return fmt.Sprintf("e1 %d %d %d %d %d %d %d %d 0", e.Era, e.Tick, e.Clock, e.Floor, e.All.Hard, e.All.Soft, e.All.Next, e.All.When)
}

func TestALookLearnsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store, l := onClock(t, None)
		look := a.BeginLook()
		if err := a.EndLook(t.Context(), look, a.epoch(t)); err != nil || store.asked != 1 {
			t.Fatalf("without an epoch: %v, asked %d times", err, store.asked)
		}
		if _, _, ok := a.Ages.Stamp(); !ok || !a.used.Load() || a.learned.Load() != look.at && a.learned.Load() != now() {
			t.Error("it is not learned")
		}
		time.Sleep(time.Second)
		look = a.BeginLook()
		if err := a.EndLook(t.Context(), look, a.epoch(t)); err != nil || store.asked != 1 || a.learned.Load() != look.at {
			t.Errorf("%v, asked %d times, learned at %d, want %d", err, store.asked, a.learned.Load(), look.at)
		}
		// An answer to an older question moves nothing back.
		older := look
		older.at--
		if a.EndLook(t.Context(), older, a.epoch(t)); a.learned.Load() != look.at {
			t.Error("the time of the last look was moved back")
		}
		time.Sleep(clockAge - 1)
		if err := a.EndLook(t.Context(), a.BeginLook(), remote.Reply{Err: errLost}); err != nil {
			t.Errorf("what is known is not old: %v", err)
		}
		time.Sleep(1)
		if err := a.EndLook(t.Context(), a.BeginLook(), remote.Reply{Err: errLost}); !errors.Is(err, errLost) {
			t.Errorf("what is known is too old: %v", err)
		}
		if _, open := a.suspicion.open(); open || l.flushed != 0 {
			t.Error("there is a suspicion")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a, _, _ := onClock(t, None)
		if err := a.EndLook(t.Context(), a.BeginLook(), remote.Reply{Err: errLost}); !errors.Is(err, errLost) {
			t.Errorf("nothing is known: %v", err)
		}
		if err := a.AskMarks(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		a.learned.Store(never)
		if a.fresh(now()) {
			t.Error("what was never learned is fresh")
		}
		// While this process hears, what is known is as it is.
		a.cfg.Transport = Broadcast
		a.trusted.Store(now() + 1)
		if !a.fresh(now()) {
			t.Error("what changes are heard of is not fresh")
		}
	})
}

// What is there must not be older than what was known before it was asked for.
func TestALookSeesThatRedisWentBack(t *testing.T) {
	for name, c := range map[string]struct {
		epoch   func(e remote.Epoch) string
		suspect bool
	}{
		"the same":           {text, false},
		"a later tick":       {func(e remote.Epoch) string { e.Tick++; return text(e) }, false},
		"an older tick":      {func(e remote.Epoch) string { e.Tick--; return text(e) }, true},
		"nothing":            {nil, true},
		"nonsense":           {func(remote.Epoch) string { return "nonsense" }, true},
		"a tick far ahead":   {func(e remote.Epoch) string { e.Tick += 1 << 50; return text(e) }, true},
		"a clock far ahead":  {func(e remote.Epoch) string { e.Clock += 1 << 50; return text(e) }, true},
		"ahead of the clock": {func(e remote.Epoch) string { e.Tick += 3600_000_000; return text(e) }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, store, _ := onClock(t, None)
			if err := a.AskMarks(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			e, _ := remote.ParseEpoch(a.epoch(t).Record.Raw)
			if c.epoch != nil {
				store.set(a, c.epoch(e))
			} else {
				store.Do(t.Context(), []remote.Command{{Op: remote.Delete, Key: a.cfg.Names.Epoch}})
			}
			err := a.EndLook(t.Context(), a.BeginLook(), a.epoch(t))
			_, suspect := a.suspicion.open()
			_, evidence := a.evidence.open()
			if (err == ErrSuspect) != c.suspect || suspect != c.suspect || evidence != c.suspect {
				t.Errorf("%s: %v, suspicion %v, evidence %v", name, err, suspect, evidence)
			}
			// A process that knows nothing sees nothing.
			b, _, _ := onClock(t, None)
			b.cfg.Guard = a.cfg.Guard
			if err := b.EndLook(t.Context(), b.BeginLook(), a.epoch(t)); err != nil {
				t.Errorf("%s: by a new process: %v", name, err)
			}
			if _, suspect := b.suspicion.open(); suspect {
				t.Errorf("%s: a new process has a suspicion", name)
			}
		})
	}
}

// Redis's clock is asked for only where an epoch may be ahead of it, or a mark is pending.
func TestWhenRedissClockIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store, _ := onClock(t, None)
		look := func() (nows int, err error) {
			store.nows = 0
			err = a.EndLook(t.Context(), a.BeginLook(), a.epoch(t))
			return store.nows, err
		}
		if err := a.AskMarks(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if n, err := look(); n != 0 || err != nil {
			t.Errorf("asked %d times, %v", n, err)
		}
		a.latest.Store(0)
		if n, err := look(); n != 1 || err != nil {
			t.Errorf("nothing is known of it: asked %d times, %v", n, err)
		}
		if n, err := look(); n != 0 || err != nil {
			t.Errorf("it was measured: asked %d times, %v", n, err)
		}
		for name, c := range map[string]struct {
			mark remote.NewMark
			nows int
		}{
			"a pending mark":   {remote.NewMark{Mode: remote.Delayed, Delay: 60_000_000}, 1},
			"a mark":           {remote.NewMark{}, 0},
			"a mark made late": {remote.NewMark{Before: []int64{time.Now().UnixMicro() - 1_000_000}}, 0},
		} {
			store.Do(t.Context(), []remote.Command{{Op: remote.Delete, Key: a.cfg.Names.Epoch}})
			a.Ages.Reset()
			if _, err := store.Mark(t.Context(), a.cfg.Names, remote.Known{}, c.mark); err != nil {
				t.Fatal(err)
			}
			if n, err := look(); n != c.nows || err != nil {
				t.Errorf("%s: asked %d times, %v", name, n, err)
			}
			store.nows = 0
			l := a.BeginLook()
			if _, _, ok := a.EndLookBeside(t.Context(), l, a.epoch(t)); !ok || store.nows != c.nows {
				t.Errorf("%s: beside a write: asked %d times, %v", name, store.nows, ok)
			}
		}
		store.Do(t.Context(), []remote.Command{{Op: remote.Delete, Key: a.cfg.Names.Epoch}})
		a.Ages.Reset()
		if err := a.AskMarks(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		a.latest.Store(0)
		store.away = true
		if _, err := look(); err != ErrSuspect {
			t.Errorf("an epoch is believed by a clock that is not known: %v", err)
		}
	})
}

func TestALookBesideAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store, _ := onClock(t, None)
		if _, _, ok := a.EndLookBeside(t.Context(), a.BeginLook(), remote.Reply{Err: errLost}); ok {
			t.Error("no answer is a time")
		}
		// The first one is as any look.
		if era, clock, ok := a.EndLookBeside(t.Context(), a.BeginLook(), a.epoch(t)); !ok || era == 0 || clock == 0 || a.learned.Load() == never {
			t.Errorf("the first: %d, %d, %v", era, clock, ok)
		}
		learned := a.learned.Load()
		time.Sleep(time.Second)
		store.Mark(t.Context(), a.cfg.Names, remote.Known{}, remote.NewMark{})
		e, _ := remote.ParseEpoch(a.epoch(t).Record.Raw)
		if era, clock, ok := a.EndLookBeside(t.Context(), a.BeginLook(), a.epoch(t)); !ok || era != e.Era || clock != e.Clock || a.learned.Load() != learned {
			t.Errorf("%d, %d, %v, want %d, %d; learned at %d, want %d", era, clock, ok, e.Era, e.Clock, a.learned.Load(), learned)
		}
		// The same tick is not older.
		if _, _, ok := a.EndLookBeside(t.Context(), a.BeginLook(), a.epoch(t)); !ok || a.learned.Load() != learned {
			t.Error("the same epoch once more is taken for another one")
		}
		before := e
		before.Tick--
		store.set(a, text(before))
		if _, _, ok := a.EndLookBeside(t.Context(), a.BeginLook(), a.epoch(t)); ok {
			t.Error("an older epoch gives a time")
		}
		if _, open := a.evidence.open(); !open {
			t.Error("an older epoch is no evidence")
		}
		other := e
		other.Era++
		other.Tick++
		store.set(a, text(other))
		if era, _, ok := a.EndLookBeside(t.Context(), a.BeginLook(), a.epoch(t)); ok && era != other.Era {
			t.Errorf("another era gives a time of era %d", era)
		}
		store.Do(t.Context(), []remote.Command{{Op: remote.Delete, Key: a.cfg.Names.Epoch}})
		if _, _, ok := a.EndLookBeside(t.Context(), a.BeginLook(), a.epoch(t)); ok {
			t.Error("no epoch gives a time")
		}
	})
}

// What is known may be the reason why Redis gives no answer: then it is forgotten.
func TestWhatCanNotBeReadIsAskedForWithoutWhatIsKnown(t *testing.T) {
	a, store, _ := onClock(t, None)
	if err := a.AskMarks(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	store.onMarks = func(known remote.Known) error {
		if known.Era != 0 {
			return remote.ErrNoClock
		}
		return nil
	}
	if err := a.AskMarks(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, open := a.evidence.open(); !open {
		t.Error("it is no evidence")
	}
	if _, _, err := a.JudgeNow(t.Context(), 1, 1, 0, nil); !errors.Is(err, remote.ErrNoClock) || a.Ages.Known().Era != 0 {
		t.Errorf("%v, and %+v is known", err, a.Ages.Known())
	}
	store.asked = 0
	store.onMarks = func(remote.Known) error { return remote.ErrNoClock }
	if err := a.AskMarks(t.Context(), nil); !errors.Is(err, remote.ErrNoClock) || store.asked != 1 {
		t.Errorf("%v, asked %d times", err, store.asked)
	}
	store.asked = 0
	store.onMarks = func(remote.Known) error { return errLost }
	if err := a.AskMarks(t.Context(), nil); !errors.Is(err, errLost) || store.asked != 1 {
		t.Errorf("%v, asked %d times", err, store.asked)
	}
	store.onMarks = nil
	if err := a.AskMarks(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	era, clock, _ := a.Ages.Stamp()
	if v, _, err := a.JudgeNow(t.Context(), era, clock, 0, nil); err != nil || v == ages.Unknown {
		t.Errorf("%v, %v", v, err)
	}
}

// Answers that are overtaken are asked for again, for a while.
func TestAnswersThatAreOvertaken(t *testing.T) {
	a, store, l := onClock(t, None)
	overtaken := 0
	store.onMarks = func(remote.Known) error {
		if overtaken > 0 {
			overtaken--
			a.Ages.Armed()
		}
		return nil
	}
	overtaken = askAgain - 1
	if err := a.AskMarks(t.Context(), nil); err != nil || store.asked != askAgain {
		t.Errorf("%v, asked %d times", err, store.asked)
	}
	overtaken = 1000
	if err := a.AskMarks(t.Context(), nil); err != errOvertaken {
		t.Errorf("%v", err)
	}
	overtaken = 0
	if l.flushed != 0 {
		t.Error("the same era flushes")
	}
	// Another era is another cache.
	store.Do(t.Context(), []remote.Command{{Op: remote.Delete, Key: a.cfg.Names.Epoch}})
	if err := a.AskMarks(t.Context(), nil); err != nil || l.flushed != 1 {
		t.Errorf("%v, %d flushes", err, l.flushed)
	}
}

// A stamp costs a question only where nothing is heard, once a second, and finds out whether
// Redis went back.
func TestWhatAStampCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store, l := onClock(t, None)
		stamp := func() (asked int, era uint64) {
			t.Helper()
			store.asked = 0
			era, clock, err := a.Stamp(t.Context())
			if err != nil || era == 0 || clock == 0 {
				t.Fatalf("%d, %d, %v", era, clock, err)
			}
			return store.asked, era
		}
		asked, era := stamp()
		again, _ := stamp()
		time.Sleep(clockAge)
		later, _ := stamp()
		if asked != 1 || again != 0 || later != 1 {
			t.Errorf("asked %d, %d and %d times", asked, again, later)
		}
		time.Sleep(clockAge)
		store.Do(t.Context(), []remote.Command{{Op: remote.Delete, Key: a.cfg.Names.Epoch}})
		if _, after := stamp(); after == era || l.flushed == 0 {
			t.Error("the era that was lost goes on")
		}
		if _, open := a.evidence.open(); !open {
			t.Error("a stamp does not see that Redis went back")
		}
		time.Sleep(clockAge)
		store.Fail(errLost)
		if _, _, err := a.Stamp(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("a stamp without an answer: %v", err)
		}
	})
}

// Where there are several nodes, a write goes on with the time that was known last.
func TestAWriteWithoutTheNodeOfTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store, _ := onClock(t, None)
		store.nodes = true
		store.onMarks = func(remote.Known) error { return errLost }
		if _, _, err := a.StampWrite(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("nothing is known: %v", err)
		}
		store.onMarks = nil
		era, clock, err := a.StampWrite(t.Context())
		if err != nil || era == 0 || clock == 0 {
			t.Fatal(era, clock, err)
		}
		time.Sleep(clockAge)
		store.onMarks = func(remote.Known) error { return errLost }
		if e, c, err := a.StampWrite(t.Context()); err != nil || e != era || c != clock {
			t.Errorf("%d, %d, %v, want %d, %d", e, c, err, era, clock)
		}
		time.Sleep(clockAge)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := a.StampWrite(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("the caller has left: %v", err)
		}
		store.nodes = false
		time.Sleep(clockAge)
		if _, _, err := a.StampWrite(t.Context()); !errors.Is(err, errLost) {
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
		mark := func() (remote.Marks, Look) {
			t.Helper()
			look := a.BeginLook()
			m, err := a.cfg.Guard.Mark(t.Context(), a.cfg.Names, a.Ages.Known(), remote.NewMark{Tags: tags})
			if err != nil {
				t.Fatal(err)
			}
			return m, look
		}
		if tags != nil {
			a.UntoldMarks(tags, a.failedNumber(), now()-1)
			l.flushes = 0
		}
		m, look := mark()
		moved := a.moved("k", func() {
			if err := a.OwnMarks(t.Context(), tags, m, look); err != nil {
				t.Error(err)
			}
		})
		if tags == nil && l.flushes != 1 || tags != nil && (l.flushes != 0 || !moved) || a.learned.Load() != look.at {
			t.Errorf("%q: %d flushes, fence moved %v", tags, l.flushes, moved)
		}
		if a.AnyDistrusted() || a.isOpen() {
			t.Errorf("%q: an earlier attempt is pending", tags)
		}
		// The answer is overtaken: it is asked for again.
		m, look = mark()
		a.Ages.Armed()
		if store.asked = 0; a.OwnMarks(t.Context(), tags, m, look) != nil || store.asked != 1 {
			t.Errorf("%q: asked %d times", tags, store.asked)
		}
		m, look = mark()
		a.Ages.Armed()
		store.onMarks = func(remote.Known) error { return errLost }
		err := a.OwnMarks(t.Context(), tags, m, look)
		if _, _, ok := a.Ages.Stamp(); !errors.Is(err, errLost) || ok || !a.AnyDistrusted() || a.queue.All() != (tags == nil) {
			t.Errorf("%q: %v, the clock is known: %v", tags, err, ok)
		}
	}
}

// Marks of an era that is not known may be of anything.
func TestMarksOfAnUnknownEra(t *testing.T) {
	a, store, l := onClock(t, Broadcast)
	m, err := store.Marks(t.Context(), a.cfg.Names, remote.Known{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.heardMarks(nil, m); l.flushed != 1 || len(a.nudged) != 1 {
		t.Errorf("%+v, %d nudges", l, len(a.nudged))
	}
}

// A reconciliation looks, renews connections if there is a reason, and tells what may be lost.
func TestWhatAReconciliationDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store, _ := onClock(t, None)
		if err := a.Reconcile(t.Context()); err != nil || store.asked != 0 {
			t.Errorf("without a suspicion: %v, asked %d times", err, store.asked)
		}
		if err := a.AskMarks(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		a.firstLook()
		a.firstLook()
		if store.looks != 1 {
			t.Errorf("%d first looks", store.looks)
		}
		time.Sleep(time.Second)
		at := time.Now().UnixMicro()
		a.Noted(untold.Item{Key: "n:k", At: at, Token: "new"}, now())
		store.Memory.Do(t.Context(), []remote.Command{{Op: remote.Set, Key: "n:k", Frame: storedAt(at - 1_000_000).Raw}})
		has := func() bool {
			return store.Memory.Do(t.Context(), []remote.Command{{Op: remote.Get, Key: "n:k"}})[0].Record.State != remote.Missing
		}
		// The same server: nothing was lost.
		a.Suspect()
		if err := a.Reconcile(t.Context()); err != nil || !has() || store.renewals != 0 || store.looks != 2 {
			t.Errorf("the same server: %v, there %v, %d renewals, %d looks", err, has(), store.renewals, store.looks)
		}
		// There is evidence: it is not asked who that is.
		a.wentBack()
		if err := a.Reconcile(t.Context()); err != nil || has() || store.renewals != 1 || store.looks != 2 {
			t.Errorf("evidence: %v, there %v, %d renewals, %d looks", err, has(), store.renewals, store.looks)
		}
		a.Suspect()
		if err := a.Reconcile(t.Context()); err != nil || store.renewals != 1 || store.looks != 3 {
			t.Errorf("the evidence is not settled: %v, %d renewals, %d looks", err, store.renewals, store.looks)
		}
		// The clock shows that it went back.
		store.Memory.Do(t.Context(), []remote.Command{{Op: remote.Delete, Key: a.cfg.Names.Epoch}, {Op: remote.Set, Key: "n:k", Frame: storedAt(at - 1_000_000).Raw}})
		a.Suspect()
		if err := a.Reconcile(t.Context()); err != nil || has() || store.renewals != 2 {
			t.Errorf("another era: %v, there %v, %d renewals", err, has(), store.renewals)
		}
		// What fails stays a suspicion.
		a.Suspect()
		store.Fail(errLost)
		if err := a.Reconcile(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("no answer: %v", err)
		}
		store.Fail(nil)
		store.onMarks = func(remote.Known) error { return errLost }
		if err := a.Reconcile(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("no marks: %v", err)
		}
		store.onMarks = nil
		if _, open := a.suspicion.open(); !open || a.Reconcile(t.Context()) != nil {
			t.Error("a failed reconciliation settles")
		}
		// What would take long is left for later.
		for n, left := range map[int]bool{4 * toldAtOnce: false, 4*toldAtOnce + 1: true} {
			for i := range n {
				a.addItem(untold.Item{Key: fmt.Sprint("n:", i)})
			}
			a.Suspect()
			if err := a.Reconcile(t.Context()); err != nil || (a.queue.Len() > 100) != left {
				t.Errorf("%d keys: %v, %d are left", n, err, a.queue.Len())
			}
			a.tell(t.Context())
		}
	})
}

// All who come meanwhile share one reconciliation, and each leaves with its context.
func TestAReconciliationIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store, _ := onClock(t, None)
		hold := make(chan struct{})
		first := hold
		store.onMarks = func(remote.Known) error { <-first; return nil }
		a.Suspect()
		var done, left atomic.Int32
		for range 5 {
			go func() {
				if a.Reconcile(t.Context()) == nil {
					done.Add(1)
				}
			}()
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				if errors.Is(a.Reconcile(ctx), context.DeadlineExceeded) {
					left.Add(1)
				}
			}()
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if left.Load() != 5 || done.Load() != 0 {
			t.Errorf("%d have left, %d are done", left.Load(), done.Load())
		}
		close(hold)
		synctest.Wait()
		if done.Load() != 5 || store.asked != 1 {
			t.Errorf("%d are done, asked %d times", done.Load(), store.asked)
		}
		synctest.Wait()
		// One that Close ends says so, and one that takes too long.
		hold = make(chan struct{})
		second := hold
		store.mu.Lock()
		store.onMarks = func(remote.Known) error { <-second; return nil }
		store.mu.Unlock()
		a.Suspect()
		begin := time.Now()
		var late *remote.TimeoutError
		if err := a.Reconcile(t.Context()); !errors.As(err, &late) || time.Since(begin) > reconcileTime {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		go func() {
			time.Sleep(time.Millisecond)
			a.stop()
		}()
		if err := a.Reconcile(t.Context()); !errors.Is(err, remote.ErrGuardClosed) {
			t.Errorf("ended by Close: %v", err)
		}
		close(hold)
	})
}
