package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// gate is a loader that says when it began and waits until it may end.
type gate struct {
	began chan struct{}
	end   chan string
	loads atomic.Int32
}

func newGate() *gate {
	return &gate{began: make(chan struct{}, 100), end: make(chan string, 100)}
}

func (g *gate) load(ctx context.Context, _ string) (string, error) {
	g.loads.Add(1)
	g.began <- struct{}{}
	select {
	case v := <-g.end:
		return v, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// get runs a read beside the test.
func get[K comparable](c *cache.Cache[K, string], key K, load cache.LoadFunc[K, string]) chan string {
	out := make(chan string, 1)
	go func() {
		v, err := c.GetOrLoad(context.Background(), key, load)
		if err != nil {
			v = "error: " + err.Error()
		}
		out <- v
	}()
	return out
}

func TestALoadNeverOverwritesANewerWriteOfAnotherProcess(t *testing.T) {
	writes := map[string]func(ctx context.Context, c *cache.Cache[string, string]) error{
		"set":    func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Set(ctx, "k", "new") },
		"delete": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "k") },
		"set and delete": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return errors.Join(c.Set(ctx, "k", "x"), c.Delete(ctx, "k"))
		},
		"set many": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return c.SetMany(ctx, map[string]string{"k": "new", "l": "other"})
		},
		"set if absent": func(ctx context.Context, c *cache.Cache[string, string]) error {
			ok, err := c.SetIfAbsent(ctx, "k", "new")
			if err == nil && !ok {
				err = errors.New("a lease was taken for a value")
			}
			return err
		},
		"update": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.Update(ctx, "k", func(old string, ok bool) (string, error) {
				if ok {
					return "", errors.New("a lease was taken for a value")
				}
				return "new", nil
			})
			return err
		},
	}
	for name, write := range writes {
		for _, same := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/same process %v", name, same), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := context.Background()
					store := storetest.NewMemory()
					a := onMemory(t, store, cache.Source[string, string]{})
					b := a
					if !same {
						b = onMemory(t, store, cache.Source[string, string]{})
					}
					g := newGate()
					got := get(a, "k", g.load)
					<-g.began
					if err := write(ctx, b); err != nil {
						t.Fatal(err)
					}
					want, wantErr := b.Peek(ctx, "k")
					g.end <- "old"
					if v := <-got; v != "old" {
						t.Errorf("the caller of the load got %q", v)
					}
					for name, c := range map[string]*cache.Cache[string, string]{"loader": a, "writer": b} {
						v, err := c.Get(ctx, "k", cache.SkipLocal())
						if v != want || !errors.Is(err, wantErr) && err != wantErr {
							if !(errors.Is(err, cache.ErrMiss) && errors.Is(wantErr, cache.ErrMiss)) {
								t.Errorf("%s: Redis has %q, %v after the load; the write left %q, %v", name, v, err, want, wantErr)
							}
						}
						if v, _ := c.Peek(ctx, "k"); v == "old" {
							t.Errorf("%s: the local tier has what the load brought", name)
						}
					}
				})
			})
		}
	}
}

func TestAReadAfterAWriteDoesNotJoinAnOlderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		c := onMemory(t, storetest.NewMemory(), cache.Source[string, string]{})
		g := newGate()
		first := get(c, "k", g.load)
		<-g.began
		if err := c.Delete(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		second := get(c, "k", g.load)
		<-g.began // a load of its own
		g.end <- "before"
		g.end <- "after"
		<-first
		<-second
		if n := g.loads.Load(); n != 2 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestOneLoadForAllCallersOfTwoProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		var loads atomic.Int32
		load := func(ctx context.Context, _ string) (string, error) {
			loads.Add(1)
			time.Sleep(5 * time.Second) // longer than a lease: it must be renewed
			return "v", nil
		}
		var wg sync.WaitGroup
		for range 2 {
			c := onMemory(t, store, cache.Source[string, string]{})
			for range 50 {
				wg.Go(func() {
					if v, err := c.GetOrLoad(t.Context(), "k", load); v != "v" || err != nil {
						t.Errorf("got %q, %v", v, err)
					}
				})
			}
		}
		wg.Wait()
		if n := loads.Load(); n != 1 {
			t.Errorf("%d loads for 100 callers in two processes", n)
		}
	})
}

func TestALoadIsAbandonedOnlyWhenAllHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		c := onMemory(t, store, cache.Source[string, string]{})
		g := newGate()
		leaderCtx, leave := context.WithCancel(t.Context())
		leader := make(chan error, 1)
		go func() {
			_, err := c.GetOrLoad(leaderCtx, "k", g.load)
			leader <- err
		}()
		<-g.began
		follower := get(c, "k", g.load)
		synctest.Wait()
		leave()
		if err := <-leader; !errors.Is(err, context.Canceled) {
			t.Errorf("the leader got %v", err)
		}
		g.end <- "v"
		if v := <-follower; v != "v" {
			t.Errorf("the follower got %q", v)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.GetOrLoad(ctx, "other", g.load, cache.SkipLocal())
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, hook.ErrHardTimeout) {
			t.Errorf("alone: %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err = c.GetOrLoad(ctx, "other", g.load, cache.SkipLocal()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("alone: %v", err)
		}
		synctest.Wait()
		if ttl := store.TTL(c.RedisKey("other")); ttl != -2*time.Millisecond {
			t.Errorf("the abandoned load left its lease, for %v", ttl)
		}
	})
}

func TestTheHardTimeoutEndsALoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := onMemory(t, storetest.NewMemory(), cache.Source[string, string]{}, cache.WithStrategy(strategy.HardTimeout(3*time.Second)))
		start := time.Now()
		_, err := c.GetOrLoad(t.Context(), "k", newGate().load)
		if !errors.Is(err, hook.ErrHardTimeout) || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestWithoutALeaseNothingIsFilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		c := onMemory(t, store, cache.Source[string, string]{})
		store.Fail(errors.New("OOM command not allowed"))
		loads := 0
		for range 3 {
			v, err := c.GetOrLoad(t.Context(), "k", func(context.Context, string) (string, error) { loads++; return "v", nil })
			if v != "v" || err != nil {
				t.Fatal(v, err)
			}
		}
		if loads != 3 {
			t.Errorf("%d loads: something was kept that no invalidation would reach", loads)
		}
		store.Fail(nil)
		if _, err := c.Peek(t.Context(), "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("filled: %v", err)
		}
	})
}

func TestAnOlderProgramLeavesANewerOnesRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		loads := 0
		old := onMemory(t, store, cache.SourceFunc(func(context.Context, string) (string, error) { loads++; return "v1", nil }), cache.WithVersion(1))
		young := onMemory(t, store, cache.SourceFunc(func(context.Context, string) (string, error) { return "v2", nil }), cache.WithVersion(2))
		if v, err := old.Get(ctx, "k"); v != "v1" || err != nil {
			t.Fatal(v, err)
		}
		if v, err := young.Get(ctx, "k"); v != "v2" || err != nil { // replaces the older one
			t.Fatal(v, err)
		}
		synctest.Wait()
		for range 3 {
			if v, err := old.Get(ctx, "k", cache.SkipLocal()); v != "v1" || err != nil {
				t.Fatal(v, err)
			}
		}
		synctest.Wait() // what the younger one has published is heard
		if v, err := young.Peek(ctx, "k", cache.SkipLocal()); v != "v2" || err != nil {
			t.Errorf("the newer record is gone: %q, %v", v, err)
		}
		before := loads
		if v, err := old.Get(ctx, "k"); v != "v1" || err != nil || loads != before {
			t.Errorf("the older program does not keep its value locally: %q, %v, %d loads", v, err, loads-before)
		}
	})
}

func TestWallClocksDoNotMatter(t *testing.T) {
	for _, skew := range []time.Duration{-time.Hour, time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := storetest.NewMemory()
				store.SetSkew(skew)
				a := onMemory(t, store, cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(10*time.Second), strategy.LocalTTL(time.Hour)))
				b := onMemory(t, store, cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(10*time.Second), strategy.LocalTTL(time.Hour)))
				if err := a.Set(ctx, "k", "v"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(4 * time.Second)
				var info cache.Info
				if v, err := b.Get(ctx, "k", cache.Report(&info)); v != "v" || err != nil {
					t.Fatal(v, err)
				}
				if info.Tier != metrics.Remote || info.Age != 4*time.Second || info.TTL != 6*time.Second {
					t.Errorf("%+v", info)
				}
				time.Sleep(6*time.Second - time.Millisecond)
				for _, c := range []*cache.Cache[string, string]{a, b} {
					if v, err := c.Peek(ctx, "k", cache.Report(&info)); v != "v" || err != nil || info.Tier != metrics.Local {
						t.Errorf("just before its end: %q, %v, %+v", v, err, info)
					}
				}
				time.Sleep(time.Millisecond)
				for _, c := range []*cache.Cache[string, string]{a, b} {
					if v, err := c.Peek(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
						t.Errorf("at its end: %q, %v", v, err)
					}
				}
			})
		})
	}
}

func TestCloseCancelsLoadsAndLeavesNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		c := onMemory(t, store, cache.Source[string, string]{})
		g := newGate()
		errc := make(chan error, 1)
		go func() {
			_, err := c.GetOrLoad(t.Context(), "k", g.load)
			errc <- err
		}()
		<-g.began
		c.Close()
		c.Close()
		if err := <-errc; !errors.Is(err, cache.ErrClosed) {
			t.Errorf("the caller got %v", err)
		}
		if ttl := store.TTL(c.RedisKey("k")); ttl != -2*time.Millisecond {
			t.Errorf("the lease is still there, for %v", ttl)
		}
		if _, err := c.Get(t.Context(), "k"); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("Get after Close: %v", err)
		}
		if err := c.Set(t.Context(), "k", "v"); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("Set after Close: %v", err)
		}
	})
}

func TestWhatIsOfNoUseIsLoadedOnceOverAllProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewMemory()
		var loads atomic.Int32
		load := func(ctx context.Context, _ string) (string, error) {
			loads.Add(1)
			time.Sleep(3 * time.Second)
			return "v", nil
		}
		old := onMemory(t, st, cache.Source[string, int]{})
		if err := old.Set(t.Context(), "another type", 1); err != nil {
			t.Fatal(err)
		}
		st.Do(t.Context(), []store.Command{{Op: store.Set, Key: old.RedisKey("foreign"), Frame: []byte("OK")}})
		st.PutOther(old.RedisKey("a list"))
		keys := []string{"another type", "foreign", "a list", "nothing"}
		var wg sync.WaitGroup
		for range 3 {
			c := onMemory(t, st, cache.Source[string, string]{})
			for _, k := range keys {
				wg.Go(func() {
					if v, err := c.GetOrLoad(t.Context(), k, load); v != "v" || err != nil {
						t.Errorf("%s: %q, %v", k, v, err)
					}
				})
			}
		}
		wg.Wait()
		if n := loads.Load(); int(n) != len(keys) {
			t.Errorf("%d loads of %d keys", n, len(keys))
		}
	})
}

func TestAFailedRefreshTakesNoValueAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		c := onMemory(t, storetest.NewMemory(), cache.Source[string, string]{})
		if err := c.Set(ctx, "k", "v"); err != nil {
			t.Fatal(err)
		}
		boom := errors.New("boom")
		if _, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "", boom }, cache.MaxAge(0)); err != boom {
			t.Error(err)
		}
		if v, err := c.Get(ctx, "k", cache.SkipLocal()); v != "v" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		// That there is nothing any more is no failure.
		if _, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "", cache.ErrNotFound }, cache.MaxAge(0)); !errors.Is(err, cache.ErrNotFound) {
			t.Error(err)
		}
		if _, err := c.Get(ctx, "k", cache.SkipLocal()); !errors.Is(err, cache.ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestMaxAgeTakesOnlyWhatIsYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		for _, opts := range [][]cache.Option{nil, {cache.WithStrategy(strategy.LocalTTL(time.Millisecond))}} { // from the local tier, and from Redis
			c := onMemory(t, store, cache.Source[string, string]{}, opts...)
			if err := c.Set(ctx, "k", "v"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			if v, err := c.Get(ctx, "k", cache.MaxAge(10*time.Second)); v != "v" || err != nil {
				t.Errorf("%q, %v", v, err)
			}
			if _, err := c.Get(ctx, "k", cache.MaxAge(10*time.Second-time.Millisecond)); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("%v", err)
			}
		}
	})
}

// What Redis answered before a write must not get into the local tier after it:
// the interleavings of package fence.
func TestALateReplyDoesNotBringTheOldValueBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		c, net := onWire(t, st, cache.Source[string, string]{})
		// The first read after the first write is repeated, since the server is made sure of.
		if err := c.Set(ctx, "k", "first"); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(ctx, "k", cache.SkipLocal()); v != "first" || err != nil {
			t.Fatal(v, err)
		}
		peekLocal := func(want string) {
			t.Helper()
			if e, ok := localOf(c).Get("k", local.Now()); ok && e.Value != want {
				t.Errorf("the local tier has %q, and the newest value is %q", e.Value, want)
			}
		}

		other := onMemory(t, st, cache.Source[string, string]{})
		for _, write := range []func() error{
			func() error { return c.Set(ctx, "k", "new") },
			func() error { return c.Delete(ctx, "k") },
			func() error {
				_, err := c.Update(ctx, "k", func(string, bool) (string, error) { return "new", nil })
				return err
			},
		} {
			// A read is answered "old"; then the write is carried out.
			if err := other.Set(ctx, "k", "old"); err != nil {
				t.Fatal(err)
			}
			localOf(c).Remove("k")
			h := net.hold(store.Get, false)
			got := make(chan string)
			go func() {
				v, _ := c.Get(ctx, "k")
				got <- v
			}()
			<-h.reached
			if err := write(); err != nil {
				t.Fatal(err)
			}
			close(h.release)
			if v := <-got; v != "old" {
				t.Errorf("the read began before the write and got %q", v)
			}
			peekLocal("new")
		}

		// A read begins while the write is on its way, and is answered before it.
		if err := other.Set(ctx, "k", "old"); err != nil {
			t.Fatal(err)
		}
		localOf(c).Remove("k")
		wrote, done := make(chan error), make(chan error)
		going := net.hold(store.Set, true)
		go func() { wrote <- c.Set(ctx, "k", "new") }()
		<-going.reached
		read := net.hold(store.Get, false)
		go func() {
			_, err := c.Get(ctx, "k")
			done <- err
		}()
		<-read.reached
		close(going.release)
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		close(read.release)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		peekLocal("new")

		// A write is carried out; before its acknowledgement arrives, someone else
		// writes and this process hears of it.
		write := net.hold(store.Set, false)
		go func() { done <- c.Set(ctx, "k", "mine") }()
		<-write.reached
		if err := other.Set(ctx, "k", "theirs"); err != nil {
			t.Fatal(err)
		}
		localOf(c).Remove("k")
		close(write.release)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		peekLocal("theirs")
		if v, err := c.Get(ctx, "k"); v != "theirs" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
}
