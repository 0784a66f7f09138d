package coherence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// The local tier is used from the first call on if it can be, and not for longer than
// without a sign of life.
func TestTrustBeginsAndEnds(t *testing.T) {
	for name, transport := range map[string]Transport{"broadcast": Broadcast, "tracking": Tracking} {
		synctest.Test(t, func(t *testing.T) {
			store := storetest.NewMemory()
			a, l := onTier(t, transport, true, store)
			if a.LocalValid(now()) || !a.Subscribes() {
				t.Errorf("%s: trusted before a session", name)
			}
			a.Ready(t.Context())
			heard, flushed := l.heardOnce(true)
			if !a.LocalValid(now()) || !a.Connected(now()) || !heard || !flushed || a.Since("", now()) != never {
				t.Errorf("%s: not trusted after the first call: heard %v, flushed %v", name, heard, flushed)
			}
			if _, _, ok := a.parts[0].Clock.Version(); !ok {
				t.Errorf("%s: the logical clock is not known", name)
			}
			until := a.localValid.Load()
			if a.LocalValid(until) || !a.LocalValid(until-1) {
				t.Errorf("%s: trust does not end at its time", name)
			}
			pass(10 * time.Second)
			if !a.LocalValid(now()) {
				t.Errorf("%s: not trusted after 10 s", name)
			}
			// Without heartbeats.
			var mute atomic.Bool
			mute.Store(true)
			store.Intercept(func(storetest.Delivery) (int, time.Duration) { return map[bool]int{false: 1}[mute.Load()], 0 })
			w := a.Wait("k")
			defer w.Close()
			pass(HeartbeatTimeout + HeartbeatInterval)
			if a.LocalValid(now()) || a.Since("", now()) != now()-int64(HeartbeatTimeout) {
				t.Errorf("%s: trusted without a sign of life", name)
			}
			pass(HeartbeatTimeout)
			if ended, _ := l.heardOnce(false); !woken(w) || !ended {
				t.Errorf("%s: the end of the session wakes no waiter", name)
			}
			mute.Store(false)
			pass(2*retryMost + HeartbeatTimeout)
			if !a.LocalValid(now()) {
				t.Errorf("%s: not trusted again", name)
			}
			a.Close()
			if a.LocalValid(now()) {
				t.Errorf("%s: trusted after Close", name)
			}
		})
	}
}

func TestWithoutATransportAllIsTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := onTier(t, None, true, storetest.NewMemory())
		begin := time.Now()
		a.Ready(t.Context())
		if !a.LocalValid(math.MaxInt64-1) || a.Subscribes() || a.Connected(now()) || a.Since("", now()) != now()-int64(HeartbeatTimeout) || time.Since(begin) != 0 {
			t.Error("it is not as without a transport")
		}
		a.Close()
		if a.LocalValid(now()) {
			t.Error("trusted after Close")
		}
	})
}

// deaf is a store that is never heard.
type deaf struct {
	*storetest.Memory
	err   error
	tries []time.Time
	modes []bool
}

func (d *deaf) Subscribe(ctx context.Context, l store.Subscription, s store.Subscriber) error {
	d.tries, d.modes = append(d.tries, time.Now()), append(d.modes, l.Tracking)
	if d.err == nil || !l.Tracking && errors.Is(d.err, store.ErrNoTracking) {
		<-ctx.Done()
		return ctx.Err()
	}
	return d.err
}

// The first call waits for its patience, for its context, or for the first failure.
func TestTheFirstCallWaits(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		within time.Duration
		waited time.Duration
		second time.Duration
	}{
		"its patience":      {nil, time.Hour, time.Second, 0},
		"its context":       {nil, 100 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond},
		"the first failure": {errLost, time.Hour, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, _ := onTier(t, Broadcast, true, &deaf{Memory: storetest.NewMemory(), err: c.err})
			for i, want := range []time.Duration{c.waited, c.second} {
				ctx, cancel := context.WithTimeout(t.Context(), c.within)
				begin := time.Now()
				a.Ready(ctx)
				if d := time.Since(begin); d != want {
					t.Errorf("%s: call %d waited for %v, want %v", name, i, d, want)
				}
				cancel()
			}
			a.Close()
		})
	}
	synctest.Test(t, func(t *testing.T) {
		a, _ := onTier(t, Broadcast, true, &deaf{Memory: storetest.NewMemory()})
		go func() {
			time.Sleep(time.Millisecond)
			a.Close()
		}()
		begin := time.Now()
		if a.Ready(t.Context()); time.Since(begin) != time.Millisecond {
			t.Errorf("Close ends a first call after %v", time.Since(begin))
		}
		if a.Ready(t.Context()); time.Since(begin) != time.Millisecond {
			t.Error("a call after Close waits")
		}
	})
}

// A session that fails is tried again later and later, and at once where Tracking is not to
// be had.
func TestSessionsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &deaf{Memory: storetest.NewMemory(), err: errLost}
		a, l := onTier(t, Broadcast, true, store)
		a.Ready(t.Context())
		pass(time.Minute)
		a.stop()
		synctest.Wait()
		pause := retryFirst
		for i := 1; i < len(store.tries); i++ {
			if d := store.tries[i].Sub(store.tries[i-1]); d < pause/2 || d > pause/2+pause {
				t.Errorf("try %d after %v, want %v to %v", i, d, pause/2, pause/2+pause)
			}
			pause = min(2*pause, retryMost)
		}
		if len(store.tries) < 20 || len(l.heard) < len(store.tries)-1 || slices.Contains(l.heard, true) {
			t.Errorf("%d tries, heard %v", len(store.tries), l.heard)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		st := &deaf{Memory: storetest.NewMemory(), err: store.ErrNoTracking}
		a, l := onTier(t, Tracking, true, st)
		a.Ready(t.Context())
		pass(time.Minute)
		a.stop()
		synctest.Wait()
		if !slices.Equal(st.modes, []bool{true, false}) || st.tries[1] != st.tries[0] || l.downgraded != 1 || len(l.heard) != 0 {
			t.Errorf("sessions by Tracking: %v, %+v", st.modes, l)
		}
	})
	// One that was good begins anew.
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		a, _ := onTier(t, Broadcast, true, store)
		a.Ready(t.Context())
		for range 12 {
			pass(time.Second)
			store.CutListeners(errLost)
			pass(2 * retryFirst)
			if !a.LocalValid(now()) {
				t.Fatal("a session is not tried again at once after a good one")
			}
		}
		a.Close()
	})
}

// Only a heartbeat that was sent later moves trust on, and only if the clock was learned.
func TestTrustIsThatOfTheLatestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, l := onTier(t, Broadcast, true, storetest.NewMemory())
		s := &session{p: a.parts[0], subscribed: make(chan struct{})}
		pass(time.Minute)
		sent := time.Now()
		at := now()
		pass(100 * time.Millisecond)
		s.Heartbeat(sent)
		if a.LocalValid(now()) || len(l.heard) != 0 {
			t.Error("trusted before the clock was learned")
		}
		s.mu.Lock()
		s.known.Store(true)
		s.extendLocked()
		s.mu.Unlock()
		if want := at + int64(HeartbeatTimeout); a.localValid.Load() != want || len(l.heard) != 1 {
			t.Errorf("trusted until %d, want %d", a.localValid.Load(), want)
		}
		s.Heartbeat(sent.Add(-time.Second))
		if want := at + int64(HeartbeatTimeout); a.localValid.Load() != want {
			t.Errorf("trusted until %d by an older pulse, want %d", a.localValid.Load(), want)
		}
		s.Heartbeat(sent.Add(50 * time.Millisecond))
		if want := at + int64(HeartbeatTimeout+50*time.Millisecond); a.localValid.Load() != want {
			t.Errorf("trusted until %d, want %d", a.localValid.Load(), want)
		}
		// One that comes too late makes nothing valid.
		pass(time.Hour)
		l.heard = nil
		if s.Heartbeat(sent.Add(time.Second)); a.LocalValid(now()) || len(l.heard) != 0 {
			t.Error("trusted by a pulse from an hour ago")
		}
	})
}

// What is armed begins with nothing: the local tier, own changes, what was heard.
func TestASessionBeginsWithNothing(t *testing.T) {
	a, l := onTier(t, Tracking, true, storetest.NewMemory())
	if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	set := &store.Command{Op: store.Set, Key: "n:k", Frame: make([]byte, 40)}
	a.ownBegin(set)
	a.ownEnd(set, &store.Reply{OK: true})
	gap := message.Message{Sender: 7, Number: 9, Kind: message.Invalidated}
	a.inbox.Receive(&gap, now())
	s := &session{p: a.parts[0], subscribed: make(chan struct{})}
	s.Subscribed()
	select {
	case <-s.subscribed:
	default:
		t.Error("nothing is prepared")
	}
	if _, _, ok := a.parts[0].Clock.Version(); ok || a.selfWrites.maybeOwn("n:k") || a.inbox.Tick(now()+int64(time.Hour)) {
		t.Errorf("the clock is known: %v, %+v", ok, l)
	}
	s.prepare(t.Context())
	s.Heartbeat(time.Now())
	if l.flushes != 1 || !a.LocalValid(now()) {
		t.Errorf("the local tier is valid: %v, %+v", a.LocalValid(now()), l)
	}
}

// Close tells what is pending, says its last word, and wakes who waits.
func TestCloseTellsAndWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &wire{Memory: storetest.NewMemory()}
		a, _ := onTier(t, None, true, store)
		a.Ready(t.Context())
		synctest.Wait()
		a.publishedNumber()
		a.addItem(retryqueue.Item{Key: "n:k"})
		w := a.Wait("other")
		a.Close()
		if a.AnyPending() || !woken(w) {
			t.Error("something is pending, or no waiter was woken")
		}
		if n := len(store.told); n != 2 || store.told[0].Kind != message.Invalidated || store.told[1].Kind != message.Watermark || !store.told[1].Last {
			t.Errorf("%+v", store.told)
		}
		a.Close()
		if a.start(); len(store.told) != 2 {
			t.Error("a second Close tells again, or it starts again")
		}
		if err := func() error { a.Suspect(); return a.parts[0].Reconcile(t.Context()) }(); !errors.Is(err, client.ErrClosed) {
			t.Errorf("a reconciliation after Close: %v", err)
		}
	})
}

// What can't be told is tried again later and later; something new, and an answer, earlier.
func TestWhenPendingInvalidationsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &wire{Memory: storetest.NewMemory()}
		a, _ := onTier(t, None, true, st)
		a.Ready(t.Context())
		pass(time.Minute)
		var all []time.Duration
		begin := time.Now()
		st.set(func() {
			st.fail = func(op store.Op, key string) error {
				if key != "n:k" {
					return nil
				}
				all = append(all, time.Since(begin))
				return errLost
			}
		})
		soFar := func() (tries []time.Duration) {
			st.set(func() { tries = slices.Clone(all) })
			return tries
		}
		a.scheduleRetry(retryqueue.Item{Key: "n:k"})
		pass(30 * time.Second)
		tries := soFar()
		if tries[0] != 0 {
			t.Errorf("the first try after %v", tries[0])
		}
		pause := notifyFirst
		for i := 1; i < len(tries); i++ {
			// The beat may come a moment before the pause is over.
			if d := tries[i] - tries[i-1]; d < pause || d > pause+tick {
				t.Errorf("try %d after %v, want %v", i, d, pause)
			}
			pause = min(2*pause, notifyMost)
		}
		if len(tries) < 8 {
			t.Errorf("%d tries in 30 s", len(tries))
		}
		pass(notifyMost)
		synctest.Wait()
		tries = soFar()
		n := len(tries)
		last := tries[n-1]
		a.scheduleRetry(retryqueue.Item{Key: "n:other"})
		pass(notifySoon)
		tries = soFar()
		if a.Pending("n:other") || len(tries) == n || tries[n]-last < notifySoon {
			t.Errorf("something new waits for what is older: tries at %v", tries[n-1:])
		}
		pass(notifyMost)
		synctest.Wait()
		tries = soFar()
		n = len(tries)
		a.RedisUp()
		synctest.Wait()
		if len(soFar()) == n {
			t.Error("an answer of Redis is not taken for a reason to try")
		}
		st.set(func() { st.fail = nil })
		a.RedisUp()
		synctest.Wait()
		if a.AnyPending() {
			t.Error("it is not told")
		}
		a.Close()
	})
}

// Each beat says what is out, messages gaps, and has the clock looked at.
func TestEachBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &wire{Memory: storetest.NewMemory()}
		a, l := onTier(t, Broadcast, true, store)
		a.Ready(t.Context())
		pass(time.Minute)
		store.set(func() { store.told = nil })
		a.publishedNumber()
		store.set(func() { store.post = errLost })
		pass(4 * tick)
		store.set(func() { store.post = nil })
		store.set(func() { store.told = nil })
		pass(10 * tick)
		if n := len(store.told); n != 3 || store.told[0].Kind != message.Watermark || store.told[0].Number != 1 {
			t.Errorf("tallies: %+v", store.told)
		}
		first := message.Message{Sender: 7, Number: 1, Kind: message.Invalidated}
		a.inbox.Receive(&first, now())
		tally := message.Message{Sender: 7, Number: 2, Kind: message.Watermark}
		a.inbox.Receive(&tally, now())
		l.mu.Lock()
		l.flushes = 0
		l.mu.Unlock()
		pass(2 * tick)
		if l.flushes != 1 {
			t.Errorf("%d flushes for a gap", l.flushes)
		}
		store.set(func() { store.asked = 0 })
		for range 10 {
			a.parts[0].BeginEpochRead(now()) // the clock does not rest
			pass(tick)
		}
		if store.asked != 5 {
			t.Errorf("%d looks in ten beats", store.asked)
		}
		a.Close()
	})
	// A process that does not hear looks only if something was read.
	synctest.Test(t, func(t *testing.T) {
		store := &wire{Memory: storetest.NewMemory()}
		a, _ := onTier(t, None, true, store)
		a.Ready(t.Context())
		if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			a.parts[0].BeginEpochRead(now())
			pass(2 * tick)
			store.set(func() { store.asked = 0 })
			if pass(10 * tick); store.asked != 0 {
				t.Errorf("%d looks without a read", store.asked)
			}
			a.parts[0].BeginEpochRead(now())
			if pass(2 * tick); store.asked != 1 {
				t.Errorf("%d looks after a read", store.asked)
			}
		}
		a.Close()
	})
}

// asOther is what a lineage knows after an answer.
func TestWhatALineageConcludes(t *testing.T) {
	const start = int64(time.Hour)
	l := serverID{}
	l.init()
	if !l.asks(start, true) || !l.asks(-start, false) || l.known() || l.changed(-start) {
		t.Error("at the beginning")
	}
	if safe := l.learn("", errLost, start); safe != nothing || l.known() || l.refused {
		t.Error("no answer")
	}
	late := serverID{}
	late.init()
	late.learn("", fmt.Errorf("of a request: %w", context.DeadlineExceeded), start)
	if soon := start + int64(lookSoon); late.asks(soon-1, true) || !late.asks(soon, true) {
		t.Error("after a late answer it is not asked again soon")
	}
	late.learn("S", nil, start)
	late.learn("", context.DeadlineExceeded, start)
	if pause := start + int64(lookPause); late.asks(pause-1, false) || !late.asks(pause, false) {
		t.Error("a known identity is asked for again soon after a late answer")
	}
	until := start + int64(lookPause)
	if l.asks(until-1, false) || l.asks(until-1, true) || !l.asks(until, false) || !l.asks(until, true) {
		t.Error("it is asked again at once after no answer")
	}
	if safe := l.learn("", nil, until); safe != nothing || l.known() || !l.refused {
		t.Error("an answer that says nothing")
	}
	later := until + int64(lookPause)
	if l.asks(later-1, false) || !l.asks(later, false) || l.asks(later, true) {
		t.Error("it is asked at once after an answer that said nothing")
	}
	if safe := l.learn("S", nil, later); safe != later || !l.known() || l.changes() != 0 || l.changed(later) || l.asks(later, true) {
		t.Errorf("the first answer: safe %d", safe)
	}
	if safe := l.learn("S", nil, later+5); safe != later || l.changes() != 0 {
		t.Errorf("the same answer: safe %d", safe)
	}
	if safe := l.learn("T", nil, later+10); safe != later+10+int64(failoverGrace) || l.changes() != 1 || !l.changed(later+10) || !l.changed(safe-1) || l.changed(safe) {
		t.Errorf("another answer: safe %d", safe)
	}
	l.learn("", nil, later+20)
	if l.known() {
		t.Error("known after an answer that says nothing")
	}
	if safe := l.learn("T", nil, later+30); safe != later+10+int64(failoverGrace) || !l.known() {
		t.Errorf("the same answer once more: safe %d", safe)
	}
}

// dialing is a store that counts connections.
type dialing struct {
	*storetest.Memory
	n       uint32
	unknown bool
}

func (d *dialing) Connections() uint32 { return d.n }

func (d *dialing) ServerID(ctx context.Context) (string, error) {
	if d.unknown {
		return "", nil
	}
	return d.Memory.ServerID(ctx)
}

// New connections raise a suspicion where there is something to lose.
func TestConnectionsRaiseASuspicion(t *testing.T) {
	for name, unknown := range map[string]bool{"known": false, "unknown": true} {
		store := &dialing{Memory: storetest.NewMemory(), n: 1, unknown: unknown}
		a, _ := onTier(t, Broadcast, true, store)
		a.started = true
		a.look(t.Context())
		redialed := func(before uint32) bool {
			a.cfg.Client.Get(t.Context(), "n:x") // ends an operation: connections are counted anew
			raised, _ := a.parts[0].suspicion.open()
			is := a.reconnected(before, now())
			if after, _ := a.parts[0].suspicion.open(); (after > raised) != is {
				t.Errorf("%s: suspicion: %v, want %v", name, after > raised, is)
			}
			return is
		}
		if store.n = 2; redialed(1) || a.connections(now()) != 0 {
			t.Errorf("%s: nothing was written", name)
		}
		a.noted(retryqueue.Item{Key: "n:k", At: 1}, now())
		a.cfg.Client.Get(t.Context(), "n:x")
		if got, want := a.connections(now()), map[bool]uint32{true: 2}[unknown]; got != want {
			t.Errorf("%s: %d connections, want %d", name, got, want)
		}
		if !redialed(1) {
			t.Errorf("%s: a new connection since the read began raises none", name)
		}
		if redialed(0) || redialed(2) {
			t.Errorf("%s: the same connection raises another", name)
		}
		store.n = 3
		if got := redialed(0); got == unknown {
			t.Errorf("%s: a new connection raises one: %v", name, got)
		}
		if got := redialed(3); got {
			t.Errorf("%s: the same connection raises another", name)
		}
	}
}
