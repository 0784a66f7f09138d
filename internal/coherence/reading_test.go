package coherence

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// What a failover has brought back, and a reconciliation removes while a read is in flight, the
// read does not use: neither if the suspicion is settled before Redis's answer is there, nor if
// it is settled between the answer and its use.
func TestAReadNoticesWhatASuspicionHasRemoved(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*testing.T, *Coordinator)
		suspect bool // what EndRead says if it happens before, and Outdated if it happens after
	}{
		"nothing":     {func(*testing.T, *Coordinator) {}, false},
		"a suspicion": {func(_ *testing.T, a *Coordinator) { a.Suspect() }, false}, // as if the read had ended before
		"a reconciliation": {func(t *testing.T, a *Coordinator) {
			a.Suspect()
			if err := a.parts[0].Reconcile(t.Context()); err != nil {
				t.Error(err)
			}
		}, true},
		"a delivery of something else": {func(t *testing.T, a *Coordinator) {
			a.addItem(retryqueue.Item{Key: "n:other"}) // without waking what would also reconcile
			a.notify(t.Context())
		}, false},
	} {
		for _, early := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				st := &wire{Memory: storetest.NewMemory()}
				a, _ := onTier(t, Broadcast, true, st)
				defer a.Close()
				if err := a.parts[0].Reconcile(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				at := time.Now().UnixMicro()
				old := storedAt(at - 5_000_000)
				a.noted(retryqueue.Item{Key: "n:k", At: at, Token: storedAt(at).CASToken().Token}, now())
				st.put("n:k", old) // a failover has lost the write
				r, err := a.BeginRead(t.Context(), now(), 1, func(int) string { return "n:k" })
				if err != nil || r.pending != nil {
					t.Fatal(err, r)
				}
				if early {
					c.happens(t, a)
				}
				suspect := a.EndRead(&r)
				if want := early && c.suspect; suspect != want {
					t.Errorf("%s, early %v: the answer is suspect: %v, want %v", name, early, suspect, want)
				}
				if !early {
					c.happens(t, a)
				}
				if got, want := a.Outdated(context.Background(), &r, "n:k", old, nil), !early && c.suspect; got != want {
					t.Errorf("%s, early %v: the record is outdated: %v, want %v", name, early, got, want)
				}
			})
		}
	}
}

// readsOf returns a coordinator of keys in several parts, or in one, and one of its keys.
func readsOf(t *testing.T, st *parted, several bool) (a *Coordinator, key string) {
	t.Helper()
	if several {
		a = onParts(t, st)
	} else {
		a, _ = onTier(t, Broadcast, true, st.Memory)
		a.started = true
	}
	return a, a.cfg.Names.Data + "k"
}

// A suspicion may be settled while another goroutine is about to remove what it concerns. If that
// happens between the answer to a read and its use, the read does not use the answer.
func TestAReadNoticesWhatIsRemovedAfterItsSuspicionIsSettled(t *testing.T) {
	for _, parted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			st := newParted()
			a, key := readsOf(t, st, parted)
			defer a.Close()
			p := a.Of(key)
			if err := p.Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			at := time.Now().UnixMicro()
			old := storedAt(at - 5_000_000)
			a.noted(retryqueue.Item{Key: key, At: at, Token: storedAt(at).CASToken().Token}, now())
			put := store.Command{Op: store.Set, Key: key, Frame: old.Raw, TTL: time.Hour}
			st.Memory.Do(t.Context(), []store.Command{put}) // a failover has lost the write
			r, err := a.BeginRead(t.Context(), now(), 1, func(int) string { return key })
			if err != nil || r.pending != nil {
				t.Fatal(err, r)
			}
			a.Suspect()
			p.replayRecent(t.Context(), nothing, a.suspicions.Load())
			b := a.queue.Take(retryBatch)
			if len(b.Items) != 1 {
				t.Fatalf("%+v is taken", b)
			}
			if err := p.Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			if a.EndRead(&r) {
				t.Error("the answer is suspect though nothing was removed")
			}
			told := 0
			if f := a.notifyBatch(t.Context(), &b, &told); !f.Empty() || told != 1 || a.AnyPending() {
				t.Errorf("%d told, left: %+v", told, f)
			}
			if !a.Outdated(t.Context(), &r, key, old, nil) {
				t.Errorf("parted %v: the read uses a record that this process has replaced", parted)
			}
		})
	}
}

// A read that had to wait begins when the wait is over: whether notifications are received, and which
// writes are recent, is known as of then.
func TestAReadThatHasWaitedBeginsLater(t *testing.T) {
	for _, parted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a, key := readsOf(t, newParted(), parted)
			defer a.Close()
			time.Sleep(time.Minute)
			if err := a.Of(key).Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			earlier := now() - int64(time.Second)
			for _, waits := range []bool{false, true} {
				want := earlier
				if waits {
					a.noted(retryqueue.Item{Key: key, At: time.Now().UnixMicro()}, now())
					a.Suspect()
					want = now()
				}
				r, err := a.BeginRead(t.Context(), earlier, 1, func(int) string { return key })
				if err != nil || r.At < want || !waits && r.At != want {
					t.Errorf("parted %v, waits %v: it begins %v after the call, %v", parted, waits, time.Duration(r.At-earlier), err)
				}
			}
		})
	}
}
