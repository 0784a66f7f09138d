package writebehind_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/internal/writebehind"
)

func TestSyncWaitsForWhatWasQueuedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := newSource()
		s.before = func(context.Context, []writebehind.Entry) { time.Sleep(time.Second) }
		// BatchDelay delays no caller that is waited for.
		long := func(c *writebehind.Config) { c.BatchDelay = time.Hour }
		q := process(t, m, s, long)
		if err := q.Sync(t.Context()); err != nil || time.Since(s.start) > 0 {
			t.Errorf("with nothing to wait for: %v after %v", err, time.Since(s.start))
		}
		var ks []string
		for p := range writebehind.Partitions {
			ks = append(ks, keysOf(p, 3)...)
		}
		for _, k := range ks {
			enqueue(t, q, set(k, 1))
		}
		time.Sleep(time.Minute)
		if n := len(s.all()); n != 0 {
			t.Errorf("%d were applied", n)
		}
		begin := time.Now()
		if err := q.Sync(t.Context()); err != nil || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if n := len(s.all()); n != len(ks) {
			t.Errorf("%d were applied", n)
		}
		// Until ctx ends, with what Redis said.
		enqueue(t, q, set(ks[0], 2))
		m.Fail(errCut)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := q.Sync(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), errCut.Error()) {
			t.Error(err)
		}
		m.Fail(nil)
		if err := q.Sync(t.Context()); err != nil || s.value(ks[0]) != "2" {
			t.Errorf("%v, the source has %q", err, s.value(ks[0]))
		}
	})
}

func TestSyncWaitsForADeadLetterToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.refuses = refusing("1")
		q := process(t, storetest.NewMemory(), s, func(c *writebehind.Config) { c.MaxAttempts, c.BatchDelay = 3, 0 })
		enqueue(t, q, set("k", 1))
		if err := q.Sync(t.Context()); err != nil || time.Since(s.start) != 200*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(s.start))
		}
	})
}

func TestABatchIsFullOrOldEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		q := process(t, storetest.NewMemory(), s, func(c *writebehind.Config) { c.BatchSize, c.BatchDelay = 3, time.Minute })
		ks := keysOf(5, 7)
		time.Sleep(10 * time.Second)
		for i, k := range ks {
			enqueue(t, q, set(k, i))
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Minute)
		diff(t, s.log(), []string{
			fmt.Sprintf("12s: [%s=0 %s=1 %s=2]", ks[0], ks[1], ks[2]), fmt.Sprintf("15s: [%s=3 %s=4 %s=5]", ks[3], ks[4], ks[5]), fmt.Sprintf("1m16s: [%s=6]", ks[6]),
		})
	})
}

// One that is written all the time has its turn, with the newest of its values.
func TestAKeyThatIsWrittenAllTheTimeIsAppliedAndNeedsNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.before = func(context.Context, []writebehind.Entry) { time.Sleep(100 * time.Millisecond) }
		q := process(t, storetest.NewMemory(), s, func(c *writebehind.Config) { c.BatchSize, c.BatchDelay = 10, 0 })
		ks := keysOf(1, 200)
		for _, k := range ks {
			enqueue(t, q, set(k, "x"))
		}
		for i := range 5000 {
			enqueue(t, q, set(ks[150], i))
			time.Sleep(time.Millisecond)
			if st, err := q.Stats(t.Context()); err != nil || st.Depth > 201 {
				t.Fatalf("%+v, %v", st, err)
			}
		}
		time.Sleep(time.Second)
		applied := 0
		for _, line := range s.log() {
			applied += strings.Count(line, ks[150]+"=")
		}
		if applied < 10 || s.value(ks[150]) != "4999" || len(s.all()) != len(ks) {
			t.Errorf("it was applied %d times, and is %q", applied, s.value(ks[150]))
		}
	})
}

func TestTheBacklogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := newSource()
		hold := make(chan struct{})
		s.before = func(context.Context, []writebehind.Entry) { <-hold }
		q := process(t, m, s)
		most := writebehind.PartitionBacklog
		ks := keysOf(3, most+2)
		var writes []writebehind.Write
		for _, k := range ks {
			writes = append(writes, set(k, 1))
		}
		full := 0
		for i, err := range q.Enqueue(t.Context(), writes) {
			if err != nil && (!errors.Is(err, writebehind.ErrFull) || i < most) {
				t.Fatal(i, err)
			}
			if err != nil {
				full++
			}
		}
		if st, err := q.Stats(t.Context()); full != 2 || err != nil || st.Depth != most {
			t.Errorf("%d were refused; %+v, %v", full, st, err)
		}
		if newest, err := q.Newest(t.Context(), ks[most:]); err != nil || len(newest) != 0 {
			t.Errorf("what was refused is there: %v, %v", newest, err)
		}
		// Other partitions are not concerned.
		enqueue(t, q, set(keysOf(4, 1)[0], 1))
		close(hold)
		if err := q.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		enqueue(t, q, set(ks[most], 1))
	})
}

func TestCloseDrainsWhatItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := newSource()
		s.before = func(context.Context, []writebehind.Entry) { time.Sleep(50 * time.Millisecond) }
		s.refuses = refusing("bad")
		q := process(t, m, s, func(c *writebehind.Config) { c.BatchSize, c.BatchDelay = 10, time.Hour })
		ks := keysOf(0, 55)
		for _, k := range ks {
			enqueue(t, q, set(k, 1))
		}
		enqueue(t, q, set("other", "bad"))
		begin := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(q.Close)
		}
		wg.Wait()
		if d := time.Since(begin); len(s.all()) != len(ks) || d > time.Second {
			t.Errorf("%d were applied in %v", len(s.all()), d)
		}
		if err := q.Enqueue(t.Context(), []writebehind.Write{set("k", 1)})[0]; err != writebehind.ErrClosed {
			t.Error(err)
		}
		_, err1 := q.Newest(t.Context(), ks)
		_, err2 := q.Stats(t.Context())
		_, err3 := q.DeadLetters(t.Context(), 1)
		_, err4 := q.Replay(t.Context())
		for _, err := range []error{err1, err2, err3, err4} {
			if err != writebehind.ErrClosed {
				t.Error(err)
			}
		}
		// Others have the partitions at once, and what has failed.
		s.refuse(nil)
		next := process(t, m, s)
		time.Sleep(time.Second)
		if len(next.Held()) != writebehind.Partitions || s.value("other") != "bad" {
			t.Errorf("held are %v; the source has %q", next.Held(), s.value("other"))
		}
	})
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := newSource()
		s.before = func(ctx context.Context, _ []writebehind.Entry) { <-ctx.Done() }
		s.refuses = func(writebehind.Entry) error { return errNo }
		q := process(t, m, s)
		enqueue(t, q, set("k", 1))
		time.Sleep(time.Minute)
		begin := time.Now()
		q.Close()
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("it took %v", d)
		}
		s.refuse(nil)
		s.before = nil
		next := process(t, m, s)
		if newest, err := next.Newest(t.Context(), []string{"k"}); err != nil || newest["k"].Attempts != 0 {
			t.Errorf("%+v, %v", newest, err)
		}
		time.Sleep(time.Second)
		if s.value("k") != "1" {
			t.Errorf("the source has %q", s.value("k"))
		}
	})
}

// Redis is away for a while: nothing is taken meanwhile, nothing is lost.
func TestRedisMayGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory()
		s := newSource()
		q := process(t, m, s)
		enqueue(t, q, set("k", 1))
		time.Sleep(50 * time.Millisecond)
		m.Fail(errCut)
		if err := q.Enqueue(t.Context(), []writebehind.Write{set("k", 2)})[0]; !errors.Is(err, errCut) {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if n := len(s.all()); n != 0 {
			t.Errorf("%d were applied", n)
		}
		m.Fail(nil)
		time.Sleep(time.Second)
		if s.value("k") != "1" {
			t.Errorf("the source has %q", s.value("k"))
		}
	})
}

// What was applied and could not be settled is applied again, and not counted.
func TestWhatCouldNotBeSettledIsAppliedAgain(t *testing.T) {
	for _, away := range []time.Duration{time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			m := storetest.NewMemory()
			s := newSource()
			once := sync.OnceFunc(func() {
				m.Fail(errCut)
				time.AfterFunc(away, func() { m.Fail(nil) })
			})
			s.before = func(context.Context, []writebehind.Entry) { once() }
			q := process(t, m, s)
			enqueue(t, q, set("k", 1))
			time.Sleep(2 * time.Minute)
			want := 1 // within the lease, it is told until it is heard
			if away > 2*time.Second {
				want = 2
			}
			if log := s.log(); len(log) != want {
				t.Errorf("%v: %q", away, log)
			}
			if st, err := q.Stats(t.Context()); err != nil || st != (writebehind.Stats{}) {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
}

func TestABadConfigIsRefused(t *testing.T) {
	good := writebehind.Config{Queue: storetest.NewMemory(), Name: "n", Apply: newSource().apply, BatchSize: 1, MaxAttempts: 1}
	for i, change := range []func(*writebehind.Config){
		func(c *writebehind.Config) { c.Queue = nil }, func(c *writebehind.Config) { c.Name = "" }, func(c *writebehind.Config) { c.Apply = nil },
		func(c *writebehind.Config) { c.BatchSize = 0 }, func(c *writebehind.Config) { c.BatchDelay = -1 },
		func(c *writebehind.Config) { c.MaxAttempts = 0 }, func(c *writebehind.Config) { c.Timeout = -1 },
	} {
		c := good
		change(&c)
		if q, err := writebehind.New(c); err == nil {
			q.Close()
			t.Errorf("%d: %+v", i, c)
		}
	}
	q, err := writebehind.New(good)
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
}
