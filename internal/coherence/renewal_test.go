package coherence

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// renewing is a store whose connections are renewed as the test has it.
type renewing struct {
	*storetest.Memory
	n         atomic.Int64
	flushes   atomic.Int64 // of the local tier
	demotions atomic.Uint64
	unknown   atomic.Bool // who the servers are
	renew     func(ctx context.Context) error
}

func (r *renewing) Renew(ctx context.Context) error {
	r.n.Add(1)
	if r.renew != nil {
		return r.renew(ctx)
	}
	return nil
}

func (r *renewing) Demotions() uint64 { return r.demotions.Load() }

func (r *renewing) ServerID(ctx context.Context) (string, error) {
	if r.unknown.Load() {
		return "", nil
	}
	return r.Memory.ServerID(ctx)
}

// onRenewing makes a coordinator, which runs nothing in the background.
func onRenewing(t *testing.T, timeout time.Duration) (*Coordinator, *renewing) {
	t.Helper()
	st := &renewing{Memory: storetest.NewMemory()}
	guard := client.New(st, timeout)
	t.Cleanup(guard.Close)
	a := New(Config{
		Client: guard, Names: store.Names{Data: "n:", Channel: ":{c:n}:events", Epoch: ":{c:n}:epoch", Tags: ":{c:n}:tags"},
		Fences: fence.NewTable(), Events: quiet{}, Transport: Broadcast, Local: flushHook(func() { st.flushes.Add(1) }),
	})
	t.Cleanup(a.Close)
	return a, st
}

// A client may stay on a replica: what is read meanwhile makes few attempts, and none waits.
func TestAFailedRenewalIsNotTriedAgainByEachRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store := onRenewing(t, time.Second)
		failure := errors.New("a replica")
		store.renew = func(context.Context) error { return failure }
		store.demotions.Add(1)
		a.Suspect()
		for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
			if err := a.parts[0].Reconcile(t.Context()); !errors.Is(err, failure) {
				t.Fatal(err)
			}
		}
		if n := store.n.Load(); n < 5 || n > 10 {
			t.Errorf("%d attempts in 10 seconds", n)
		}
		store.renew = nil
		time.Sleep(renewMost)
		n := store.n.Load()
		for range 10 {
			if err := a.parts[0].Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			a.Suspect()
		}
		if more := store.n.Load() - n; more != 1 {
			t.Errorf("%d attempts for one demotion", more)
		}
	})
}

// Whatever look finds that the server is another one, and whatever became of the first
// attempts, the connections are renewed, and what was read by them is dropped.
func TestAChangeOfTheServerHasConnectionsRenewed(t *testing.T) {
	for name, look := range map[string]func(a *Coordinator, store *renewing){
		"a reconciliation": func(a *Coordinator, _ *renewing) { a.Suspect() },
		"a session":        func(a *Coordinator, _ *renewing) { a.look(a.ctx); a.unverifyConnections() },
		"one that fails": func(a *Coordinator, store *renewing) {
			store.renew = func(context.Context) error { return errors.New("no answer") }
			a.Suspect()
			if a.parts[0].Reconcile(a.ctx) == nil {
				panic("the renewal did not fail")
			}
			store.renew = nil
			store.n.Store(0)
			time.Sleep(renewFirst)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, store := onRenewing(t, time.Second)
				a.look(t.Context())
				store.Succeed()
				store.flushes.Store(0)
				look(a, store)
				for range 3 {
					if err := a.parts[0].Reconcile(t.Context()); err != nil {
						t.Fatal(err)
					}
					a.Suspect()
				}
				if n := store.n.Load(); n != 1 {
					t.Errorf("connections were renewed %d times", n)
				}
				if store.flushes.Load() == 0 {
					t.Error("what was read from the one before is in the local tier")
				}
			})
		})
	}
}

// That it can't be known who the servers are is no reason.
func TestAnUnknownServerHasNoConnectionsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store := onRenewing(t, time.Second)
		store.unknown.Store(true)
		for range 3 {
			a.Suspect()
			if err := a.parts[0].Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(lookPause)
		}
		if n := store.n.Load(); n != 0 {
			t.Errorf("connections were renewed %d times", n)
		}
	})
}

// A renewal that is stuck in the client is left behind, and costs its callers nothing
// that looks like their own deadline.
func TestAStuckRenewalIsLeftBehind(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"short": 100 * time.Millisecond, "long": time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, store := onRenewing(t, timeout)
				store.renew = func(context.Context) error {
					time.Sleep(12 * time.Second)
					return nil
				}
				store.demotions.Add(1)
				a.Suspect()
				begin := time.Now()
				err := a.parts[0].Reconcile(t.Context())
				var late *client.TimeoutError
				if !errors.As(err, &late) || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v", err)
				}
				if d := time.Since(begin); d > reconcileTime {
					t.Errorf("a read waited for %v", d)
				}
			})
		})
	}
}
