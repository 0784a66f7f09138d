package writebehind_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/internal/writebehind"
)

// severable is a store that a process loses sight of: what the process is then is as
// good as dead to the others.
type severable struct {
	store.Queue
	cut atomic.Bool
}

var errCut = errors.New("no connection")

func (s *severable) Append(ctx context.Context, q store.QueueNames, a store.Append) ([]string, error) {
	if s.cut.Load() {
		return nil, errCut
	}
	return s.Queue.Append(ctx, q, a)
}

func (s *severable) Acquire(ctx context.Context, q store.QueueNames, owner string, lease time.Duration, renew bool) (bool, error) {
	if s.cut.Load() {
		return false, errCut
	}
	return s.Queue.Acquire(ctx, q, owner, lease, renew)
}

func (s *severable) Fetch(ctx context.Context, q store.QueueNames, f store.Fetch) (store.Fetched, error) {
	if s.cut.Load() {
		return store.Fetched{}, errCut
	}
	return s.Queue.Fetch(ctx, q, f)
}

func (s *severable) Settle(ctx context.Context, q store.QueueNames, r store.Settle) ([]store.Settled, error) {
	if s.cut.Load() {
		return nil, errCut
	}
	return s.Queue.Settle(ctx, q, r)
}

func (s *severable) Leave(ctx context.Context, q store.QueueNames, owner string) error {
	if s.cut.Load() {
		return errCut
	}
	return s.Queue.Leave(ctx, q, owner)
}

func (s *severable) Join(ctx context.Context, members, member string, d time.Duration) (int, error) {
	if s.cut.Load() {
		return 0, errCut
	}
	return s.Queue.Join(ctx, members, member, d)
}

func (s *severable) Depths(ctx context.Context, qs []store.QueueNames) ([]store.Depth, error) {
	if s.cut.Load() {
		return nil, errCut
	}
	return s.Queue.Depths(ctx, qs)
}

func TestPartitionsOfADeadProcessAreTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		dying := &severable{Queue: m}
		a, b := newSource(), newSource()
		qa := process(t, dying, a)
		time.Sleep(time.Second)
		qb := process(t, m, b)
		time.Sleep(2 * time.Second)
		if x, y := qa.Held(), qb.Held(); len(x) != 4 || len(y) != 4 {
			t.Fatalf("held are %v and %v", x, y)
		}
		start := time.Now()
		for p := range writebehind.Partitions {
			enqueue(t, qa, set(keysOf(p, 1)[0], p))
		}
		dying.cut.Store(true)
		for len(qb.Held()) < writebehind.Partitions {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(start); d > 2600*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		time.Sleep(time.Second)
		if has := b.all(); len(has) != writebehind.Partitions {
			t.Errorf("the survivor has applied %v", has)
		}
		if held := qa.Held(); len(held) > 0 {
			t.Errorf("the dead one believes to hold %v", held)
		}
		dying.cut.Store(false)
		time.Sleep(2 * time.Second)
		if x, y := qa.Held(), qb.Held(); len(x) != 4 || len(y) != 4 {
			t.Errorf("after its return, held are %v and %v", x, y)
		}
	})
}

// A consumer that can't renew its lease has its context ended before the lease ends.
// What it did with the batch is no failed attempt, and what it says of it too late is
// not heard.
func TestAZombieStopsBeforeItsLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		dying := &severable{Queue: m}
		s := newSource()
		var stopped atomic.Int64
		var cause atomic.Value
		var attempts atomic.Int64
		zombie := process(t, dying, s, func(c *writebehind.Config) {
			c.BatchDelay = 0
			c.Apply = func(ctx context.Context, batch []writebehind.Entry) []error {
				dying.cut.Store(true)
				<-ctx.Done()
				cause.Store(context.Cause(ctx))
				stopped.Store(int64(time.Since(s.start)))
				// It does not obey, and comes back as if nothing had happened.
				time.Sleep(5 * time.Second)
				dying.cut.Store(false)
				return nil
			}
		})
		time.Sleep(100 * time.Millisecond)
		k := keysOf(0, 1)[0]
		enqueue(t, zombie, set(k, 1))
		time.Sleep(100 * time.Millisecond)
		other := process(t, m, s, func(c *writebehind.Config) {
			c.BatchDelay = 0
			s.before = func(_ context.Context, batch []writebehind.Entry) {
				attempts.Add(int64(batch[0].Attempts))
				if string(batch[0].Value) == "1" {
					time.Sleep(4500 * time.Millisecond) // the zombie is back in between
				}
			}
		})
		time.Sleep(3 * time.Second)
		enqueue(t, other, set(k, 2))
		time.Sleep(10 * time.Second)
		// The lease that was renewed when the batch was fetched, at 100 ms, ends at 2.1 s.
		if d := time.Duration(stopped.Load()); d != 1900*time.Millisecond {
			t.Errorf("it stopped at %v, because of %v", d, cause.Load())
		}
		diff(t, s.log(), []string{"6.7s: [" + k + "=1]", "6.7s: [" + k + "=2]"})
		if n := attempts.Load(); n != 0 {
			t.Errorf("%d attempts were counted", n)
		}
		if st, err := other.Stats(t.Context()); err != nil || st != (writebehind.Stats{}) {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// As long as the lease can be renewed, a call may take its time.
func TestASlowSourceKeepsItsPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := newSource()
		s.before = func(ctx context.Context, _ []writebehind.Entry) {
			select {
			case <-ctx.Done():
				t.Error(context.Cause(ctx))
			case <-time.After(time.Minute):
			}
		}
		qa := process(t, m, s)
		synctest.Wait() // it has every partition: they don't begin to share them in the middle of it
		qb := process(t, m, s)
		synctest.Wait()
		k := keysOf(0, 1)[0]
		enqueue(t, qa, set(k, 1))
		time.Sleep(30 * time.Second)
		enqueue(t, qb, set(k, 2))
		if err := qb.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		diff(t, s.log(), []string{"1m0.1s: [" + k + "=1]", "2m0.1s: [" + k + "=2]"})
	})
}

func TestAHangingCallIsEndedAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		var reports []writebehind.Report
		q := process(t, storetest.NewMemory(), s, func(c *writebehind.Config) {
			c.Timeout, c.MaxAttempts = time.Second, 2
			c.Apply = func(ctx context.Context, batch []writebehind.Entry) []error {
				<-ctx.Done()
				return []error{ctx.Err()}
			}
			c.Report = func(r writebehind.Report) { reports = append(reports, r) }
		})
		enqueue(t, q, set("k", 1))
		if err := q.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(s.start); d < 2*time.Second || d > 3*time.Second {
			t.Errorf("after %v", d)
		}
		q.Close()
		want := []writebehind.Report{{Failed: 1, Err: context.DeadlineExceeded, Took: time.Second}, {Dead: 1, Err: context.DeadlineExceeded, Took: time.Second}}
		if !slices.Equal(reports, want) {
			t.Errorf("%+v", reports)
		}
	})
}

func TestAPanicIsAFailedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := process(t, storetest.NewMemory(), newSource(), func(c *writebehind.Config) {
			c.MaxAttempts = 2
			c.Apply = func(context.Context, []writebehind.Entry) []error { panic("oh") }
		})
		enqueue(t, q, set("k", 1))
		time.Sleep(time.Second)
		letters, err := q.DeadLetters(t.Context(), 1)
		if err != nil || len(letters) != 1 || letters[0].Error != "cache: a function panicked: oh" {
			t.Errorf("%+v, %v", letters, err)
		}
	})
}

func TestAWrongNumberOfErrorsIsAFailedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := process(t, storetest.NewMemory(), newSource(), func(c *writebehind.Config) {
			c.MaxAttempts = 1
			c.Apply = func(context.Context, []writebehind.Entry) []error { return make([]error, 3) }
		})
		enqueue(t, q, set("k", 1))
		time.Sleep(time.Second)
		if st, err := q.Stats(t.Context()); err != nil || st.Dead != 1 {
			t.Errorf("%+v, %v", st, err)
		}
	})
}
