package coherence

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// onStore makes a coordinator on a store of its own. It runs nothing in the background until it
// is asked for something.
func onStore(t *testing.T) (*Coordinator, *storetest.Memory) {
	t.Helper()
	st := storetest.NewMemory()
	guard := client.New(st, time.Second)
	t.Cleanup(guard.Close)
	a := New(Config{
		Client: guard, Names: store.Names{Data: "n:", Channel: ":{c:n}:events", Epoch: ":{c:n}:epoch", Tags: ":{c:n}:tags"},
		Fences: fence.NewTable(), Events: quiet{}, Transport: Broadcast, Local: flushHook(func() {}),
	})
	t.Cleanup(a.Close)
	return a, st
}

// A session that has ended makes nothing valid any more.
//
//  1. a heartbeat is on its way
//  2. the session ends
//  3. the heartbeat arrives late
func TestALateHeartbeatOfAnEndedSessionCountsForNothing(t *testing.T) {
	a, _ := onStore(t)
	s := &session{p: a.parts[0], subscribed: make(chan struct{})}
	s.known.Store(true)
	s.Heartbeat(time.Now())
	if !a.LocalValid(now()) {
		t.Fatal("the local tier is not valid after a heartbeat")
	}
	s.end()
	if a.LocalValid(now()) {
		t.Error("the local tier is valid after the session's end")
	}
	s.Heartbeat(time.Now())
	if a.LocalValid(now()) {
		t.Error("the local tier is valid again by a late heartbeat")
	}
}

// A session that is subscribed does not empty the local tier before a heartbeat has come back: with
// one node of a cluster down, each is subscribed at the others, and none lasts. Then the tier is
// emptied once, before it is valid and before more is known to have been received.
func TestTheLocalTierIsFlushedWhenASessionBecomesValid(t *testing.T) {
	a, _ := onStore(t)
	flushes := 0
	a.cfg.Local = flushHook(func() {
		flushes++
		if _, ok := a.LastHeard(""); ok || a.LocalValid(now()) {
			t.Error("the local tier is flushed when it is valid already")
		}
	})
	for range 2 {
		s := &session{p: a.parts[0], subscribed: make(chan struct{})}
		s.Subscribed()
		s.prepare(t.Context())
		s.end()
	}
	if flushes != 0 {
		t.Errorf("%d flushes by sessions of which no heartbeat came back", flushes)
	}
	s := &session{p: a.parts[0], subscribed: make(chan struct{})}
	s.Subscribed()
	s.prepare(t.Context())
	s.Heartbeat(time.Now())
	s.Heartbeat(time.Now())
	if flushes != 1 || !a.LocalValid(now()) {
		t.Errorf("%d flushes by a session that is valid: %v", flushes, a.LocalValid(now()))
	}
}

// The end of a session may be that of a server whose successor lacks what was acknowledged.
func TestTheEndOfASessionRaisesASuspicion(t *testing.T) {
	a, _ := onStore(t)
	s := &session{p: a.parts[0], subscribed: make(chan struct{})}
	if _, open := a.parts[0].suspicion.open(); open {
		t.Fatal("there is a suspicion before")
	}
	s.end()
	if _, open := a.parts[0].suspicion.open(); !open {
		t.Error("there is none after the session's end")
	}
}

// A session begins with telling Redis again what this process has written lately: a
// replica that has taken over may lack it, and other processes must not wait for this one's
// next operation.
//
//  1. a write is acknowledged
//  2. Redis fails over to a server that has the old value
//  3. a session begins: the old value goes
func TestASessionBeginsWithRecentWrites(t *testing.T) {
	a, st := onStore(t)
	ctx := context.Background()
	if _, _, err := a.parts[0].Version(ctx); err != nil { // the server is known
		t.Fatal(err)
	}
	at, err := st.Now(ctx, "n:k")
	if err != nil {
		t.Fatal(err)
	}
	a.noted(retryqueue.Item{Key: "n:k", At: at, Token: "the new one"}, now())
	st.Do(ctx, []store.Command{{Op: store.Set, Key: "n:k", Frame: []byte("the old one")}})
	st.Succeed()
	s := &session{p: a.parts[0], subscribed: make(chan struct{})}
	s.Subscribed()
	s.prepare(ctx)
	if !a.queue.Has("n:k") {
		if r := st.Do(ctx, []store.Command{{Op: store.Get, Key: "n:k"}})[0]; r.Record.State != store.Missing {
			t.Error("the old value is there, and nothing is pending")
		}
	}
}

// An invalidation by tag is one of the recent changes that are told again.
func TestOwnInvalidationsByTagAreRecent(t *testing.T) {
	a, _ := onStore(t)
	ctx := context.Background()
	l := a.parts[0].BeginEpochRead(now())
	m, err := a.cfg.Client.AddTombstones(ctx, a.cfg.Names, a.parts[0].Clock.Known(), logicalclock.NewTombstone{Tags: []string{"t"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.parts[0].ownTombstones(ctx, []string{"t"}, nil, m, l); err != nil {
		t.Fatal(err)
	}
	if tags := a.recent.Since(now(), nothing).Tags; !slices.Contains(tags, aTag+"t") {
		t.Errorf("recent tags: %q", tags)
	}
}
