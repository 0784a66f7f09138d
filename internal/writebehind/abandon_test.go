package writebehind_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/internal/writebehind"
)

// Close waits for a source that ends with its context, and leaves one alone that does
// not. Others apply again what is not known to have been applied, and not before the
// lease has run out.
func TestCloseLeavesASourceAloneThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := newSource()
		release := make(chan struct{})
		s.before = func(context.Context, []writebehind.Entry) { <-release }
		var reports []writebehind.Report
		q := process(t, m, s, func(c *writebehind.Config) {
			c.Report = func(r writebehind.Report) { reports = append(reports, r) }
		})
		enqueue(t, q, set("k", 1))
		time.Sleep(time.Second)
		begin := time.Now()
		q.Close()
		if d := time.Since(begin); d != 5500*time.Millisecond {
			t.Errorf("Close took %v", d)
		}
		if len(reports) != 1 || reports[0].Failed != 1 || !errors.Is(reports[0].Err, writebehind.ErrAbandoned) {
			t.Errorf("%+v", reports)
		}
		other := newSource()
		next := process(t, m, other)
		time.Sleep(time.Second)
		if n := len(other.all()); n != 0 {
			t.Errorf("another process has applied %d writes while the lease was good", n)
		}
		time.Sleep(2 * time.Second)
		if other.value("k") != "1" || len(next.Held()) != writebehind.Partitions {
			t.Errorf("another process has applied %v, and holds %v", other.all(), next.Held())
		}
		// What the source says late is of no concern.
		enqueue(t, next, set("k", 2))
		close(release)
		time.Sleep(time.Second)
		if other.value("k") != "2" {
			t.Errorf("the newer write: %v", other.all())
		}
	})
}

func TestCloseWaitsForASourceThatEndsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := newSource()
		s.before = func(ctx context.Context, _ []writebehind.Entry) {
			<-ctx.Done()
			time.Sleep(400 * time.Millisecond) // it has to tell a database
		}
		q := process(t, m, s)
		enqueue(t, q, set("k", 1))
		time.Sleep(time.Second)
		begin := time.Now()
		q.Close()
		if d := time.Since(begin); d != 5400*time.Millisecond || s.value("k") != "1" {
			t.Errorf("Close took %v; the source has %v", d, s.all())
		}
		if d, err := m.Depths(t.Context(), []store.QueueNames{store.NewQueueNames("p", "users", writebehind.Partition("k"))}); err != nil || d[0].Log != 0 {
			t.Errorf("%+v, %v", d, err)
		}
	})
}

// Apply may end its goroutine: that is a failure, and the partition goes on.
func TestASourceThatEndsItsGoroutineHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.before = func(_ context.Context, batch []writebehind.Entry) {
			if batch[0].Attempts < 2 {
				runtime.Goexit()
			}
		}
		q := process(t, storetest.NewMemory(), s)
		for p := range writebehind.Partitions {
			enqueue(t, q, set(keysOf(p, 1)[0], 1))
		}
		if err := q.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		if st, err := q.Stats(t.Context()); err != nil || st.Dead != 0 || len(s.all()) != writebehind.Partitions {
			t.Errorf("%+v, %v; applied are %v", st, err, s.all())
		}
	})
}
