package memory_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

func TestAFailedLoadFreesTheLeaseAtOnce(t *testing.T) {
	boom := errors.New("boom")
	for name, fail := range map[string]cache.LoadFunc[string, string]{
		"error": func(context.Context, string) (string, error) { return "", boom },
		"panic": func(context.Context, string) (string, error) { panic(boom) },
		"no store": func(ctx context.Context, _ string) (string, error) {
			cache.CurrentLoad[string](ctx).NoStore()
			return "v", nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := storetest.NewMemory()
				c := onMemory(t, st, cache.Source[string, string]{})
				v, err := c.GetOrLoad(t.Context(), "k", fail)
				if name == "no store" {
					if v != "v" || err != nil {
						t.Error(v, err)
					}
				} else if !errors.Is(err, boom) {
					t.Errorf("error %v", err)
				}
				var pe *cache.PanicError
				if isPanic := errors.As(err, &pe); isPanic != (name == "panic") {
					t.Errorf("PanicError: %v", isPanic)
				}
				// A failure leaves word of itself for those who wait in other processes;
				// a newcomer loads at once.
				rec := st.Do(t.Context(), []store.Command{{Op: store.Get, Key: c.RedisKey("k")}})[0].Record
				if f, _ := frame.Parse(c.RedisKey("k"), rec.Raw); f.Kind == frame.Lease || name == "no store" && rec.State != store.Missing {
					t.Errorf("the key holds a frame of kind %v", f.Kind)
				}
				start := time.Now()
				for range 2 {
					v, err := onMemory(t, st, cache.Source[string, string]{}).GetOrLoad(t.Context(), "k", func(context.Context, string) (string, error) { return "new", nil })
					if v != "new" || err != nil || time.Since(start) != 0 {
						t.Errorf("the next load: %q, %v after %v", v, err, time.Since(start))
					}
				}
			})
		})
	}
}

func TestAFailureGoesOnceToEveryoneWhoWaits(t *testing.T) {
	for _, transport := range []invalidate.Transport{invalidate.Broadcast(), invalidate.Tracking(), invalidate.NoTransport()} {
		t.Run(transport.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := storetest.NewMemory()
				g := newGate()
				fail := func(ctx context.Context, k string) (string, error) {
					_, _ = g.load(ctx, k)
					return "", errors.New("the source says no")
				}
				var waiting []chan string
				for range 3 {
					c := onMemory(t, store, cache.Source[string, string]{}, cache.WithTransport(transport))
					for range 20 {
						waiting = append(waiting, get(c, "k", fail))
					}
				}
				synctest.Wait()
				start := time.Now()
				g.end <- ""
				for _, w := range waiting {
					if v := <-w; !strings.HasPrefix(v, "error: ") || !strings.HasSuffix(v, "the source says no") {
						t.Error(v)
					}
				}
				if n := g.loads.Load(); n != 1 {
					t.Errorf("%d loads for 60 callers in three processes", n)
				}
				if d := time.Since(start); transport != invalidate.NoTransport() && d != 0 || d > hook.PollMost {
					t.Errorf("they were notified after %v", d)
				}
				// Those who come later ask the source themselves.
				later := onMemory(t, store, cache.Source[string, string]{}, cache.WithTransport(transport))
				g.end <- ""
				if v := <-get(later, "k", fail); v != "error: the source says no" || g.loads.Load() != 2 {
					t.Errorf("%s after %d loads", v, g.loads.Load())
				}
			})
		})
	}
}

func TestWhoWaitsIsWokenByTheFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		a, b := onMemory(t, store, cache.Source[string, string]{}), onMemory(t, store, cache.Source[string, string]{})
		g := newGate()
		first := get(a, "k", g.load)
		<-g.began
		second := get(b, "k", g.load)
		synctest.Wait()
		before := b.Metrics().Remote.Count
		time.Sleep(hook.LeasePoll - 2*time.Millisecond)
		start := time.Now()
		g.end <- "v"
		if v := <-first; v != "v" {
			t.Error(v)
		}
		if v := <-second; v != "v" || time.Since(start) != 0 {
			t.Errorf("%q after %v", v, time.Since(start))
		}
		if n := b.Metrics().Remote.Count - before; n != 1 {
			t.Errorf("%d looks at Redis while it waited", n)
		}
	})
}
