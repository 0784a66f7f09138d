package coherence

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// The end of a session takes trust away at once, and all that rests on it.
func TestTheEndOfASessionEndsTrust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		a, _ := onTier(t, Broadcast, true, store)
		begin := time.Now()
		a.Ready(t.Context())
		if d := time.Since(begin); d != 0 || !a.LocalValid(now()) {
			t.Errorf("the first call waited for %v", d)
		}
		w := a.Wait("k")
		defer w.Close()
		store.CutListeners(errLost)
		synctest.Wait()
		if _, _, ok := a.parts[0].Clock.Version(); ok || a.LocalValid(now()) || !woken(w) {
			t.Error("it is as if the session went on")
		}
		a.Close()
	})
}

// Connections to what is no master any more are doubted by a session and by each beat.
func TestDemotionsRaiseASuspicion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store := onRenewing(t, time.Second)
		is := func(f func()) bool {
			before, _ := a.parts[0].suspicion.open()
			f()
			after, _ := a.parts[0].suspicion.open()
			return after > before
		}
		if is(a.unverifyConnections) {
			t.Error("nothing was demoted")
		}
		store.demotions.Add(1)
		if !is(a.unverifyConnections) {
			t.Error("a demotion raises none")
		}
		if err := a.parts[0].Reconcile(t.Context()); err != nil || is(a.unverifyConnections) {
			t.Errorf("the connections were renewed: %v", err)
		}
		store.demotions.Add(1)
		s := &session{p: a.parts[0], subscribed: make(chan struct{})}
		close(s.subscribed)
		if !is(func() { s.prepare(t.Context()) }) {
			t.Error("a session raises none")
		}
		if err := a.parts[0].Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.Ready(t.Context())
		pass(time.Minute)
		if is(func() { pass(2 * tick) }) {
			t.Error("a beat without a demotion raises one")
		}
		store.demotions.Add(1)
		if !is(func() { pass(2 * tick) }) {
			t.Error("a beat raises none")
		}
		a.Close()
	})
}

// A suspicion that comes while a reconciliation is under way is settled by the next one.
func TestALaterSuspicionIsSettledByTheNextReconciliation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store, _ := onClock(t, None)
		hold := make(chan struct{})
		store.onMarks = func(logicalclock.Known) error { <-hold; return nil }
		a.Suspect()
		for range 2 {
			go a.parts[0].Reconcile(t.Context())
			synctest.Wait()
			a.Suspect()
		}
		close(hold)
		if err := a.parts[0].Reconcile(t.Context()); err != nil || store.asked != 2 {
			t.Errorf("%v, asked %d times", err, store.asked)
		}
		synctest.Wait()
	})
}

// Whatever was forgotten while it was asked for is no answer, and evidence.
func TestAClockThatIsForgottenMeanwhile(t *testing.T) {
	a, store, _ := onClock(t, None)
	if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	once := true
	store.onMarks = func(logicalclock.Known) error {
		if once {
			once = false
			a.parts[0].Clock.Reset()
		}
		return nil
	}
	if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, open := a.parts[0].rollbackSeen.open(); !open {
		t.Error("it is no evidence")
	}
	// Nothing was known before: there is nothing to forget.
	b, store, _ := onClock(t, None)
	overtaken := 1
	store.onMarks = func(logicalclock.Known) error {
		if overtaken--; overtaken == 0 {
			b.parts[0].Clock.Reset()
		}
		return nil
	}
	if err := b.parts[0].FetchTombstones(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, open := b.parts[0].rollbackSeen.open(); open {
		t.Error("the first answer is evidence")
	}
}

// Marks that Redis does not believe flush, and are not learned.
func TestMarksThatAreNotBelieved(t *testing.T) {
	a, store, l := onClock(t, Broadcast)
	if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	m, err := store.ReadClock(t.Context(), a.cfg.Names, logicalclock.Known{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Epoch.Tick += 1 << 50
	m.Epoch.Clock = m.Epoch.Tick
	a.parts[0].applyPeerTombstones([]string{"t"}, m)
	if k := a.parts[0].Clock.Known(); k.Clock == m.Epoch.Clock || l.flushed != 1 {
		t.Errorf("%+v is known, %d flushes", k, l.flushed)
	}
}

// Who the servers are is not asked too often, and an end of the caller's time says nothing.
func TestLooksArePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store, _ := onClock(t, None)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if safe := a.look(ended); safe != nothing || !a.serverID.asks(now(), false) {
			t.Errorf("a caller that has left: safe %d", safe)
		}
		store.Fail(errLost)
		a.look(t.Context())
		n := store.looks
		store.Fail(nil)
		if safe := a.look(t.Context()); safe != nothing || store.looks != n {
			t.Errorf("safe %d, %d looks after a failure", safe, store.looks-n)
		}
		pass(lookPause)
		if safe := a.look(t.Context()); safe == nothing || store.looks != n+1 {
			t.Errorf("safe %d, %d looks after a pause", safe, store.looks-n)
		}
	})
}

// What is told again after Redis was another one may have been lost.
func TestWhatAnotherServerMayHaveLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, another := range map[string]bool{"the same": false, "another": true} {
			a, store, _ := onClock(t, None)
			a.look(t.Context())
			a.noted(retryqueue.Item{Key: "n:k", At: 5}, now())
			if another {
				store.Succeed()
			}
			a.look(t.Context())
			a.parts[0].replayRecent(t.Context(), nothing, 0)
			if it, ok := a.queue.Find("n:k"); !ok || it.Acked == another {
				t.Errorf("%s: %+v, %v", name, it, ok)
			}
		}
	})
	m := &logicalclock.Reading{Epoch: logicalclock.Epoch{ID: 7}}
	if u := noted(m, logicalclock.Tombstone{Hard: 1, Soft: 2, Next: 10, When: 5}); u != (retryqueue.Tombstone{Epoch: 7, Hard: 1, Soft: 2, Next: 10, Before: 5}) {
		t.Errorf("made late: %+v", u)
	}
	if u := noted(m, logicalclock.Tombstone{Hard: 1, Soft: 2, Next: 5, When: 10}); u != (retryqueue.Tombstone{Epoch: 7, Hard: 1, Soft: 2, Next: 5}) {
		t.Errorf("pending: %+v", u)
	}
}

// A record that ends when the policy has it is not removed to make sure of a pattern that was
// acknowledged; after one that was not, it is.
func TestAPatternToldAgainSparesWhatEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct{ acked, another, spared bool }{
			"acknowledged":                   {acked: true, spared: true},
			"acknowledged by another server": {another: true, spared: true},
			"not acknowledged":               {},
		} {
			store := &wire{Memory: storetest.NewMemory()}
			a, _ := onTier(t, None, true, store)
			a.started = true
			a.cfg.Policy = invalidation.Policy{Mode: invalidation.Lazy}
			a.look(t.Context())
			if c.another {
				store.Succeed()
				a.look(t.Context())
			}
			at := time.Now().UnixMicro()
			store.put("n:p1", recordOf(frame.Header{Kind: frame.Value, Limit: 0, Stored: at - 60_000_000}))
			store.put("n:p2", recordOf(frame.Header{Kind: frame.Value, Limit: 1, Stored: at - 60_000_000}))
			a.addTombstones([]string{aPattern + "p*"}, nil, retryqueue.Past{Since: now(), Acked: c.acked})
			if !a.notify(t.Context()) || store.has("n:p1") != c.spared || store.has("n:p2") {
				t.Errorf("%s: there are %v, %v", name, store.has("n:p1"), store.has("n:p2"))
			}
		}
	})
}

// The slack of clocks, which spares what was stored right before an acknowledged invalidation, is not
// given where another server may lack it.
func TestAnotherServerGetsAPatternWithoutSlack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, another := range map[string]bool{"the same": false, "another": true} {
			store := &wire{Memory: storetest.NewMemory()}
			a, _ := onTier(t, None, true, store)
			a.started = true
			a.look(t.Context())
			store.put("n:p1", storedAt(time.Now().Add(-clockSlack/2*time.Microsecond).UnixMicro()))
			a.notedPattern("p*", now())
			if another {
				store.Succeed()
			}
			a.look(t.Context())
			a.parts[0].replayRecent(t.Context(), nothing, 0)
			if !a.notify(t.Context()) || store.has("n:p1") == another {
				t.Errorf("%s: the record is there: %v", name, !another)
			}
		}
	})
}

// A replay that removes a record is a change of Redis like any other, which the next failover may undo.
func TestWhatAReplayRemovesIsNotedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, noted := range map[string]func(a *Coordinator){
			"a key":     func(a *Coordinator) { a.noted(retryqueue.Item{Key: "n:p1", At: time.Now().UnixMicro()}, now()) },
			"a pattern": func(a *Coordinator) { a.notedPattern("p*", now()) },
		} {
			store := &wire{Memory: storetest.NewMemory()}
			a, _ := onTier(t, None, true, store)
			a.started = true
			old := storedAt(time.Now().Add(-time.Minute).UnixMicro())
			noted(a)
			for range 3 {
				time.Sleep(8 * time.Second)
				store.put("n:p1", old)
				a.parts[0].replayRecent(t.Context(), nothing, 0)
				if !a.notify(t.Context()) || store.has("n:p1") {
					t.Errorf("%s: the old record has come back", name)
				}
			}
		}
	})
}

// What is replayed again and again, since one suspicion follows the other, is not noted anew each time.
func TestReplaysEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := onTier(t, None, true, &wire{Memory: storetest.NewMemory()})
		a.started = true
		a.look(t.Context())
		a.noted(retryqueue.Item{Key: "n:k", At: time.Now().UnixMicro()}, now())
		a.notedPattern("p*", now())
		for range 15 {
			a.parts[0].replayRecent(t.Context(), nothing, 0)
			if !a.notify(t.Context()) {
				t.Fatal("it is not delivered")
			}
			time.Sleep(time.Second)
		}
		if a.recent.Any(now()) {
			t.Errorf("noted for ever: %+v", a.recent.Since(now(), nothing))
		}
	})
}

// A later call for the same counts, and everything stays pending until it is told.
func TestTheLatestCallIsPending(t *testing.T) {
	store := &wire{Memory: storetest.NewMemory()}
	a, l := onTier(t, None, true, store)
	a.started = true
	for _, at := range []int64{10, 5, 12} {
		a.addTombstones([]string{aTag + "t", aPattern + "p"}, nil, retryqueue.Past{Since: at})
	}
	if tag, pattern := a.pendingSince("n:x", []string{"t"}), a.pendingSince("n:p", nil); tag != 12 || pattern != 12 {
		t.Errorf("a tag since %d, a pattern since %d", tag, pattern)
	}
	a.parts[0].scheduleTombstones(nil, nil, now())
	store.mark = func(logicalclock.NewTombstone) error { return errLost }
	if a.notify(t.Context()) || a.pendingSince("n:x", nil) == never {
		t.Error("everything is not pending, and was not told")
	}
	store.mark = nil
	if l.flushes = 0; !a.notify(t.Context()) || l.flushes != 1 || a.pendingSince("n:x", nil) != never {
		t.Errorf("%d flushes when everything is told", l.flushes)
	}
}

// The echo of a message that may not have been published is acted on.
func TestAFailedNoticeIsHeard(t *testing.T) {
	st := &wire{Memory: storetest.NewMemory()}
	a, _ := onTier(t, None, true, st)
	a.started = true
	st.put("n:k", storedAt(1))
	st.fail = func(op store.Op, _ string) error { return map[bool]error{true: errLost}[op == store.CompareAndDelete] }
	a.addItem(retryqueue.Item{Key: "n:k", At: 5})
	if a.notify(t.Context()) || len(st.told) != 1 || a.Outbox.IsOwnEcho(st.told[0].Number) {
		t.Errorf("%+v, skipped", st.told)
	}
}

// Changes of this process are looked into where it hears by Tracking, and nothing begins
// after Close.
func TestWhatRunsInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewMemory()
		a, l := onTier(t, Tracking, true, st)
		a.Ready(t.Context())
		set := store.Command{Op: store.Set, Key: "n:k", Frame: storedAt(1).Raw}
		a.ownBegin(&set)
		a.ownEnd(&set, &a.cfg.Client.Do(t.Context(), []store.Command{set})[0])
		st.Do(t.Context(), []store.Command{{Op: store.Set, Key: "n:k", Frame: storedAt(2).Raw}})
		pass(tick)
		if !slices.Contains(l.removed, "k") {
			t.Errorf("removed %q", l.removed)
		}
		a.Close()
		b, _ := onTier(t, Broadcast, true, st)
		b.Close()
		if b.scheduleRetry(retryqueue.Item{Key: "n:k"}); b.begun.Load() {
			t.Error("something begins after Close")
		}
	})
}
