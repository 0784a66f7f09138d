package writebehind_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/internal/writebehind"
)

// distant is a queue that answers after a while.
type distant struct {
	store.Queue
	trip time.Duration // at most
}

func (d distant) wait() { time.Sleep(time.Duration(rand.Int64N(int64(d.trip)))) }

func (d distant) Acquire(ctx context.Context, q store.QueueNames, owner string, lease time.Duration, renew bool) (bool, error) {
	ok, err := d.Queue.Acquire(ctx, q, owner, lease, renew)
	d.wait()
	return ok, err
}

func (d distant) Fetch(ctx context.Context, q store.QueueNames, f store.Fetch) (store.Fetched, error) {
	got, err := d.Queue.Fetch(ctx, q, f)
	d.wait()
	return got, err
}

// A process that may hold one more partition asks for each in turn, one after the other. So
// the one that is free is found after one look at each, however far Redis is: it does not
// depend on which consumer happens to look when there is a place.
func TestAFreePartitionIsFoundAfterOneLookAtEach(t *testing.T) {
	const poll = 500 * time.Millisecond
	for i := range 300 {
		trip := time.Duration(3*i+1) * time.Millisecond
		synctest.Test(t, func(t *testing.T) {
			var qs []*writebehind.Queue
			store := storetest.NewMemory()
			start := func() { qs = append(qs, process(t, distant{store, trip}, newSource())) }
			spread := func(counts ...int) {
				t.Helper()
				began := time.Now()
				for !isHeld(qs, counts...) {
					if time.Sleep(10 * time.Millisecond); time.Since(began) > 4*poll+writebehind.Partitions*trip/2 {
						t.Fatalf("with answers after up to %v partitions are without a consumer after %v", trip, time.Since(began))
					}
				}
			}
			start()
			spread(8)
			start()
			spread(4, 4)
			start()
			spread(2, 3, 3)
			qs[1].Close()
			qs = slices.Delete(qs, 1, 2)
			spread(4, 4)
		})
	}
}

// forgetful is a queue whose first answer for each partition is lost.
type forgetful struct {
	store.Queue
	mu   sync.Mutex
	lost map[string]bool
}

func (f *forgetful) Acquire(ctx context.Context, q store.QueueNames, owner string, lease time.Duration, renew bool) (bool, error) {
	ok, err := f.Queue.Acquire(ctx, q, owner, lease, renew)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.lost[q.Log] {
		f.lost[q.Log] = true
		return false, context.DeadlineExceeded
	}
	return ok, err
}

// A lease that Redis has given, though the answer was lost, does not keep the process out that
// has asked for it.
func TestALeaseWhoseAnswerWasLostIsTakenByTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := process(t, &forgetful{Queue: storetest.NewMemory(), lost: map[string]bool{}}, newSource())
		time.Sleep(time.Second) // two attempts; a lease lasts for two seconds
		synctest.Wait()
		if n := len(q.Held()); n != writebehind.Partitions {
			t.Errorf("%d partitions are held", n)
		}
	})
}
