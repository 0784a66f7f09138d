package memory_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

// overdue is a store whose estimate of Redis's time is due to be measured again.
type overdue struct {
	*storetest.Memory
	measured atomic.Int64
}

func (o *overdue) Now(ctx context.Context, key string) (int64, error) {
	o.measured.Add(1)
	return o.Memory.Now(ctx, key)
}

func (o *overdue) EstimateAt(string, time.Time) (int64, bool) { return 1, false }

// Reads date what they find by an estimate, and have the clock measured when it is due: a process may
// do nothing but read.
func TestReadsHaveTheClockMeasuredAgain(t *testing.T) {
	st := &overdue{Memory: storetest.NewMemory()}
	c := newCache(t, st, cache.Source[string, int]{}, cache.WithTransport(invalidate.Broadcast()))
	for _, k := range []string{"a", "b"} {
		if err := c.Set(t.Context(), k, 1); err != nil {
			t.Fatal(err)
		}
	}
	for name, read := range map[string]func() error{
		"one key":  func() error { _, err := c.Get(t.Context(), "a"); return err },
		"two keys": func() error { _, err := c.GetMany(t.Context(), []string{"a", "b"}); return err },
	} {
		before := st.measured.Load()
		if err := read(); err != nil || st.measured.Load() == before {
			t.Errorf("%s: read without a measurement, %v", name, err)
		}
	}
}

// A process without notifications polls another one's lease near the time that its own loads have
// taken.
func TestALeaseIsPolledNearTheTimeThatLoadsTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes, late = 100 * time.Millisecond, 4 * time.Millisecond // by growing pauses alone it would be 7
		st := storetest.NewMemory()
		src := cache.SourceFunc(func(ctx context.Context, _ string) (int, error) { return 1, wait(ctx, takes) })
		other, c := newCache(t, st, src, cache.WithTransport(invalidate.NoTransport())), newCache(t, st, src, cache.WithTransport(invalidate.NoTransport()))
		for i := range 4 {
			if _, err := c.Get(t.Context(), fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := other.Get(t.Context(), "k"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait() // it has the lease
		_, err := c.Get(t.Context(), "k")
		if took := time.Since(began); err != nil || took < takes || took > takes+late {
			t.Errorf("another process's load of %v was noticed after %v, %v", takes, took, err)
		}
		wg.Wait()
		if n := c.Metrics().Loads; n != 4 {
			t.Errorf("%d loads", n)
		}
	})
}
