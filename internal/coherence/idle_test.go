package coherence

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// What Redis did not acknowledge is sent without a further call, and at once.
func TestPendingInvalidationsNeedNoFurtherCall(t *testing.T) {
	for name, add := range map[string]func(a *Coordinator){
		"a key":     func(a *Coordinator) { a.scheduleRetry(retryqueue.Item{Key: "n:k"}) },
		"a tag":     func(a *Coordinator) { a.parts[0].scheduleTombstones([]string{"t"}, nil, now()) },
		"a pattern": func(a *Coordinator) { a.schedulePattern("p*", nil, now()) },
	} {
		synctest.Test(t, func(t *testing.T) {
			a, _ := onTier(t, None, true, storetest.NewMemory())
			add(a)
			if synctest.Wait(); a.AnyPending() {
				t.Errorf("%s: it is not sent", name)
			}
			add(a)
			if synctest.Wait(); a.AnyPending() {
				t.Errorf("%s: it is not sent the second time", name)
			}
			a.Close()
		})
	}
}

// Sync says why, whatever it is that fails, and an acknowledged pattern needs no more.
func TestWhyAPatternIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &wire{Memory: storetest.NewMemory(), scan: errLost}
		a, _ := onTier(t, None, true, store)
		a.started = true
		a.schedulePattern("p*", a.failedNumber(), now())
		a.notify(t.Context())
		if f := a.failure.Load(); f == nil || !errors.Is(*f, errLost) {
			t.Error("it is not said why")
		}
		time.Sleep(time.Second)
		if a.notedPattern("p*", now()); a.AnyPending() || a.isOpen() {
			t.Error("it is pending, and a later one was acknowledged")
		}
		if a.notify(t.Context()); a.failure.Load() != nil {
			t.Error("it is said why nothing fails")
		}
	})
}

// stuck is a store whose first look at a record waits, and fails then.
type stuck struct {
	*storetest.Memory
	looks atomic.Int32
	gate  chan struct{}
}

func (s *stuck) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	if cmds[0].Op == store.GetHeader && s.looks.Add(1) == 1 {
		<-s.gate
		return []store.Reply{{Err: errLost}}
	}
	return s.Memory.Do(ctx, cmds)
}

// Close waits for an attempt in progress, and tries again what that does not get through.
func TestCloseDeliversWhatIsBeingSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &stuck{Memory: storetest.NewMemory(), gate: make(chan struct{})}
		st.Do(t.Context(), []store.Command{{Op: store.Set, Key: "n:k", Frame: []byte("old")}})
		a, _ := onTier(t, None, true, st)
		a.scheduleRetry(retryqueue.Item{Key: "n:k"})
		synctest.Wait()
		if st.looks.Load() != 1 {
			t.Fatal("nothing is being sent")
		}
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			a.Close()
		}()
		synctest.Wait()
		close(st.gate)
		<-closed
		if rec := st.Do(t.Context(), []store.Command{{Op: store.Get, Key: "n:k"}})[0].Record; rec.State != store.Missing {
			t.Errorf("the old value is still there after Close: %q", rec.Raw)
		}
	})
}
