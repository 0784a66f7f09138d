package coherence

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// A reconciliation looks, renews connections if there is a reason, and tells what may be lost.
func TestWhatAReconciliationDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, st, _ := onClock(t, None)
		if err := a.parts[0].Reconcile(t.Context()); err != nil || st.asked != 0 {
			t.Errorf("without a suspicion: %v, asked %d times", err, st.asked)
		}
		if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		a.firstLook()
		a.firstLook()
		if st.looks != 1 {
			t.Errorf("%d first looks", st.looks)
		}
		time.Sleep(time.Second)
		at := time.Now().UnixMicro()
		a.noted(retryqueue.Item{Key: "n:k", At: at, Token: "new"}, now())
		st.Memory.Do(t.Context(), []store.Command{{Op: store.Set, Key: "n:k", Frame: storedAt(at - 1_000_000).Raw}})
		has := func() bool {
			return st.Memory.Do(t.Context(), []store.Command{{Op: store.Get, Key: "n:k"}})[0].Record.State != store.Missing
		}
		// The same server: nothing was lost.
		a.Suspect()
		if err := a.parts[0].Reconcile(t.Context()); err != nil || !has() || st.renewals != 0 || st.looks != 2 {
			t.Errorf("the same server: %v, there %v, %d renewals, %d looks", err, has(), st.renewals, st.looks)
		}
		// There is evidence: it is not asked who that is.
		a.parts[0].wentBack()
		if err := a.parts[0].Reconcile(t.Context()); err != nil || has() || st.renewals != 1 || st.looks != 2 {
			t.Errorf("evidence: %v, there %v, %d renewals, %d looks", err, has(), st.renewals, st.looks)
		}
		a.Suspect()
		if err := a.parts[0].Reconcile(t.Context()); err != nil || st.renewals != 1 || st.looks != 3 {
			t.Errorf("the evidence is not settled: %v, %d renewals, %d looks", err, st.renewals, st.looks)
		}
		// The clock shows that it went back.
		st.Memory.Do(t.Context(), []store.Command{{Op: store.Delete, Key: a.cfg.Names.Epoch}, {Op: store.Set, Key: "n:k", Frame: storedAt(at - 1_000_000).Raw}})
		a.Suspect()
		if err := a.parts[0].Reconcile(t.Context()); err != nil || has() || st.renewals != 2 {
			t.Errorf("another epoch: %v, there %v, %d renewals", err, has(), st.renewals)
		}
		// What fails stays a suspicion.
		a.Suspect()
		st.Fail(errLost)
		if err := a.parts[0].Reconcile(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("no answer: %v", err)
		}
		st.Fail(nil)
		st.onMarks = func(logicalclock.Known) error { return errLost }
		if err := a.parts[0].Reconcile(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("no marks: %v", err)
		}
		st.onMarks = nil
		if _, open := a.parts[0].suspicion.open(); !open || a.parts[0].Reconcile(t.Context()) != nil {
			t.Error("a failed reconciliation settles")
		}
		// What would take long is left for later.
		for n, left := range map[int]bool{4 * retryBatch: false, 4*retryBatch + 1: true} {
			for i := range n {
				a.addItem(retryqueue.Item{Key: fmt.Sprint("n:", i)})
			}
			a.Suspect()
			if err := a.parts[0].Reconcile(t.Context()); err != nil || (a.queue.Len() > 100) != left {
				t.Errorf("%d keys: %v, %d are left", n, err, a.queue.Len())
			}
			a.notify(t.Context())
		}
	})
}

// All who come meanwhile share one reconciliation, and each leaves with its context.
func TestAReconciliationIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, store, _ := onClock(t, None)
		hold := make(chan struct{})
		first := hold
		store.onMarks = func(logicalclock.Known) error { <-first; return nil }
		a.Suspect()
		var done, left atomic.Int32
		for range 5 {
			go func() {
				if a.parts[0].Reconcile(t.Context()) == nil {
					done.Add(1)
				}
			}()
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				if errors.Is(a.parts[0].Reconcile(ctx), context.DeadlineExceeded) {
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
		store.onMarks = func(logicalclock.Known) error { <-second; return nil }
		store.mu.Unlock()
		a.Suspect()
		begin := time.Now()
		var late *client.TimeoutError
		if err := a.parts[0].Reconcile(t.Context()); !errors.As(err, &late) || time.Since(begin) > reconcileTime {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		go func() {
			time.Sleep(time.Millisecond)
			a.stop()
		}()
		if err := a.parts[0].Reconcile(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Errorf("ended by Close: %v", err)
		}
		close(hold)
	})
}
