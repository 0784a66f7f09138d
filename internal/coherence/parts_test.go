package coherence

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// frozen is a cluster of which one node does not answer: so the identity of all is not known.
type frozen struct {
	*storetest.Memory
	looks atomic.Int32
}

func (*frozen) Clustered() bool { return true }

func (f *frozen) ServerID(ctx context.Context) (string, error) {
	f.looks.Add(1)
	<-ctx.Done()
	return "", ctx.Err()
}

// onFrozen makes a coordinator that does nothing in the background.
func onFrozen(t *testing.T) (*Coordinator, *frozen) {
	st := &frozen{Memory: storetest.NewMemory()}
	guard := client.New(st, time.Second)
	t.Cleanup(guard.Close)
	l := &tier{}
	a := New(Config{Client: guard, Names: store.NewNames("", "n"), Fences: fence.NewTable(), Local: l, Events: l, Transport: None})
	t.Cleanup(a.Close)
	a.started = true
	return a, st
}

// What the reconciliations of several parts wait for, they wait for once; and what has not come is
// not waited for at each suspicion.
func TestPartsWaitForTheServerIdentityOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, st := onFrozen(t)
		reconcile := func() time.Duration {
			a.Suspect()
			begin := time.Now()
			errs := make(chan error, len(a.parts))
			for _, p := range a.parts {
				go func() { errs <- p.Reconcile(t.Context()) }()
			}
			for range a.parts {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			return time.Since(begin)
		}
		if len(a.parts) < 2 {
			t.Fatalf("%d parts", len(a.parts))
		}
		for range 2 {
			if d := reconcile(); d == 0 || d > lookTime || st.looks.Swap(0) != 1 {
				t.Errorf("the first one took %v", d)
			}
			for range 3 {
				if d := reconcile(); d != 0 || st.looks.Load() != 0 {
					t.Errorf("a later one took %v", d)
				}
			}
			time.Sleep(lookPause)
		}
		a.Close()
	})
}

// Once an operation has failed, the identity of a node that does not answer is waited for only as long as
// the others may take to answer; and what comes later is still learned.
func TestPartsHardlyWaitForAServerIdentityAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, st := onFrozen(t)
		wait := func(reasons uint64, took time.Duration) time.Duration {
			begin := time.Now()
			if safe := a.lookFor(t.Context(), reasons, took); safe != nothing {
				t.Errorf("%d is safe", safe)
			}
			return time.Since(begin)
		}
		a.OperationFailed()
		if d := wait(1, time.Millisecond); d != lookLeast || st.looks.Load() != 1 {
			t.Errorf("it waited for %v, and looked %d times", d, st.looks.Load())
		}
		if d := wait(2, 10*time.Millisecond); d != lookTimes*10*time.Millisecond || st.looks.Load() != 1 {
			t.Errorf("it waited for %v, and looked %d times", d, st.looks.Load())
		}
		if d := wait(2, time.Second); d > lookTime || st.looks.Load() != 1 {
			t.Errorf("it waited for %v, and looked %d times", d, st.looks.Load())
		}
		if d := wait(3, time.Millisecond); d != 0 || st.looks.Load() != 1 {
			t.Errorf("there was no answer in time: it waited for %v, and looked %d times", d, st.looks.Load())
		}
		time.Sleep(lookPause)
		if d := wait(4, time.Millisecond); d != lookTime || st.looks.Load() != 2 {
			t.Errorf("nothing has failed lately: it waited for %v, and looked %d times", d, st.looks.Load())
		}
		a.Close()
	})
}

// A look that had begun before a suspicion was raised says nothing about it.
func TestALookServesTheSuspicionsBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &clocked{Memory: storetest.NewMemory(), nodes: true}
		a, _ := onNames(t, store.NewNames("", "n"), None, true, partedClock{st})
		a.started = true
		for i, c := range []struct {
			reasons uint64
			looks   int
		}{{1, 1}, {1, 1}, {3, 2}, {2, 2}, {3, 2}, {4, 3}} {
			time.Sleep(time.Second)
			if a.lookFor(t.Context(), c.reasons, 0); st.looks != c.looks {
				t.Errorf("%d: looked %d times", i, st.looks)
			}
		}
		// One in progress is waited for, and then another one made.
		in, out := make(chan struct{}), make(chan struct{})
		a.mu.Lock()
		a.lookedUp = &lookup{reasons: 5, done: in}
		a.mu.Unlock()
		go func() {
			defer close(out)
			a.lookFor(t.Context(), 6, 0)
		}()
		if synctest.Wait(); st.looks != 3 {
			t.Error("it looks beside another one")
		}
		close(in)
		if <-out; st.looks != 4 {
			t.Errorf("looked %d times", st.looks)
		}
		a.Close()
	})
}

// partedClock is a cluster.
type partedClock struct{ *clocked }

func (partedClock) Clustered() bool { return true }

// A reconciliation that waits for another one's look obeys its own time.
func TestALookThatIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := onFrozen(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		begin := time.Now()
		if safe := a.lookFor(ctx, 1, 0); safe != nothing || time.Since(begin) != time.Millisecond {
			t.Errorf("%d after %v", safe, time.Since(begin))
		}
		a.Close()
	})
}
