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

// frozen is a cluster of which one node does not answer: so nobody learns the identity of all.
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

// A reconciliation that waits for another one's look obeys its own time.
func TestALookThatIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := onFrozen(t)
		<-a.looking // somebody looks
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		if safe := a.lookFor(ctx, 1); safe != nothing || time.Since(begin) != time.Minute {
			t.Errorf("%d after %v", safe, time.Since(begin))
		}
		a.looking <- struct{}{}
		a.Close()
	})
}
