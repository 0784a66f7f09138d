package memory_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// generations is a source of which each load is held up until it is let go, and returns its
// number.
type generations struct {
	began chan int
	end   []chan struct{}
	tags  []string
}

func newGenerations(n int, tags ...string) *generations {
	g := &generations{began: make(chan int, n), tags: tags}
	for range n {
		g.end = append(g.end, make(chan struct{}))
	}
	return g
}

func (g *generations) source() cache.Source[string, int] {
	next := make(chan int, len(g.end))
	for i := range g.end {
		next <- i
	}
	return cache.Source[string, int]{Load: func(ctx context.Context, _ string) (int, error) {
		i := <-next
		g.began <- i
		<-g.end[i]
		cache.CurrentLoad[int](ctx).AddTags(g.tags...)
		return i, nil
	}}
}

// begins waits for a load to begin.
func (g *generations) begins(t *testing.T) {
	t.Helper()
	select {
	case <-g.began:
	case <-time.After(time.Minute):
		t.Fatal("no load has begun")
	}
}

// invalidations are those of which it is not known, before a value is loaded, whether they
// concern it.
var invalidations = map[string]func(context.Context, *cache.Cache[string, int]) error{
	"tag":   func(ctx context.Context, c *cache.Cache[string, int]) error { return c.InvalidateTags(ctx, "t") },
	"clear": func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Clear(ctx) },
}

// Who comes after an invalidation, of this process or of another, does not wait for a load
// that began before it: it loads anew, or waits for one that does. What the older load brings
// is never taken for newer than that.
func TestALaterReaderDoesNotWaitForAnObsoleteLoad(t *testing.T) {
	type reader = func(context.Context, *cache.Cache[string, int]) (int, error)
	for name, read := range map[string]reader{
		"Get": func(ctx context.Context, c *cache.Cache[string, int]) (int, error) { return c.Get(ctx, "k") },
		"GetMany": func(ctx context.Context, c *cache.Cache[string, int]) (int, error) {
			m, err := c.GetMany(ctx, []string{"k"})
			return m["k"], err
		},
		"Update": func(ctx context.Context, c *cache.Cache[string, int]) (int, error) {
			return c.Update(ctx, "k", func(old int, _ bool) (int, error) { return old, nil })
		},
	} {
		for what, change := range invalidations {
			t.Run(name+" after "+what, func(t *testing.T) {
				anyTiers(t, func(t *testing.T, build func(cache.Source[string, int], ...strategy.Strategy) *cache.Cache[string, int]) {
					const processes = 2
					for loader := range processes {
						for changer := range processes {
							ctx := t.Context()
							g := newGenerations(3, "t")
							src := g.source()
							all := []*cache.Cache[string, int]{build(src)}
							if hook.Of(all[0]).Remote() {
								all = append(all, build(src))
							} else if loader+changer > 0 {
								continue // there is one process
							}
							for _, c := range all {
								_ = c.Set(ctx, "other", 1)
							}
							time.Sleep(2 * time.Second)
							first := make(chan struct{})
							go func() { defer close(first); _, _ = all[loader].Get(ctx, "k") }()
							g.begins(t)
							if err := change(ctx, all[changer]); err != nil {
								t.Fatal(err)
							}
							synctest.Wait()
							got := make(chan string, 1)
							go func() {
								v, err := read(ctx, all[0])
								got <- fmt.Sprint(v, err)
							}()
							time.Sleep(2 * time.Second)
							select {
							case <-g.began:
							default:
								t.Fatalf("loader %d, changer %d: waits for the load of before", loader, changer)
							}
							close(g.end[1])
							if v := <-got; v != "1 <nil>" {
								t.Errorf("loader %d, changer %d: %s", loader, changer, v)
							}
							close(g.end[0]) // which is late, and stores nothing
							<-first
							synctest.Wait()
							close(g.end[2])
							for i, c := range all {
								if v, err := c.Get(ctx, "k"); v != 1 || err != nil {
									t.Errorf("loader %d, changer %d, process %d: %d, %v", loader, changer, i, v, err)
								}
							}
							_ = all[0].Clear(ctx)
						}
					}
				})
			})
		}
	}
}

// A refresh of a value that an invalidation has made stale is not waited for either.
func TestALaterReaderDoesNotWaitForAnObsoleteRefresh(t *testing.T) {
	for what, change := range invalidations {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := storetest.NewMemory()
				g := newGenerations(3, "t")
				src := g.source()
				opts := []cache.Option{cache.WithStrategy(strategy.TTL(10*time.Second), strategy.StaleIfError(time.Hour)), cache.WithInvalidator(invalidate.Lazy())}
				a, b := onMemory(t, store, src, opts...), onMemory(t, store, src, opts...)
				close(g.end[0])
				if _, err := a.Get(ctx, "k"); err != nil {
					t.Fatal(err)
				}
				g.begins(t)
				time.Sleep(11 * time.Second)
				go func() { _, _ = b.Get(ctx, "k") }() // has the lock, and the stale value as a cover
				g.begins(t)
				if err := change(ctx, b); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				got := make(chan int)
				go func() { v, _ := a.Get(ctx, "k"); got <- v }()
				g.begins(t)
				close(g.end[2])
				if v := <-got; v != 2 {
					t.Errorf("%d", v)
				}
				close(g.end[1])
				synctest.Wait()
			})
		})
	}
}

// However many unrelated tags are invalidated, a slow load is done twice at a time at most,
// and its value is stored.
func TestUnrelatedTagsLetALoadComeToItsEnd(t *testing.T) {
	for _, transport := range []cache.Option{cache.WithTransport(invalidate.NoTransport()), cache.WithTransport(invalidate.Broadcast())} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			store := storetest.NewMemory()
			var mu sync.Mutex // guards what follows
			loads, running, most := 0, 0, 0
			src := cache.Source[string, string]{Load: func(context.Context, string) (string, error) {
				mu.Lock()
				loads++
				running++
				most = max(most, running)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				running--
				mu.Unlock()
				return "v", nil
			}}
			c := onMemory(t, store, src, transport)
			other := onMemory(t, store, cache.Source[string, string]{}, transport)
			answers := make(chan error, 100)
			for i := range cap(answers) {
				if err := other.InvalidateTags(ctx, fmt.Sprint("tag", i)); err != nil {
					t.Fatal(err)
				}
				go func() { _, err := c.Get(ctx, "k"); answers <- err }()
				time.Sleep(30 * time.Millisecond)
				synctest.Wait()
			}
			for range cap(answers) {
				if err := <-answers; err != nil {
					t.Error(err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if loads > 2 || most > 2 {
				t.Errorf("%d loads, %d at a time", loads, most)
			}
		})
	}
}

// asked is a store that calls a function once, before it carries out a command that asks for a lease or a
// lock.
type asked struct {
	*storetest.Memory
	before atomic.Pointer[func()]
}

func (s *asked) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	if slices.ContainsFunc(cmds, func(c store.Command) bool { return c.Op == store.SetNX }) {
		if f := s.before.Swap(nil); f != nil {
			(*f)()
		}
	}
	return s.Memory.Do(ctx, cmds)
}

// A load that takes over an obsolete one is not obsolete, though its reader began before the
// invalidation: those who come later wait for it, and no third load begins.
func TestALoadThatTakesOverAnObsoleteOneIsWaitedFor(t *testing.T) {
	for name, lock := range map[string]bool{"a lease": false, "a lock": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				st := &asked{Memory: storetest.NewMemory()}
				g := newGenerations(4)
				src := g.source()
				opts := []cache.Option{cache.WithStrategy(strategy.TTL(10*time.Second), strategy.StaleIfError(time.Hour)), cache.WithInvalidator(invalidate.Lazy())}
				a, b := onMemory(t, st, src, opts...), onMemory(t, st, src, opts...)
				for _, c := range []*cache.Cache[string, int]{a, b} {
					if err := c.Set(ctx, "other", 1); err != nil {
						t.Fatal(err)
					}
				}
				first := 0
				if lock {
					close(g.end[0])
					if _, err := a.Get(ctx, "k"); err != nil {
						t.Fatal(err)
					}
					g.begins(t)
					first = 1
				}
				time.Sleep(11 * time.Second)
				go func() { _, _ = a.Get(ctx, "k") }()
				g.begins(t)
				clear := func() {
					if err := a.Clear(ctx); err != nil {
						t.Error(err)
					}
					time.Sleep(10 * time.Millisecond) // b is notified
				}
				st.before.Store(&clear)
				got := make(chan string, 3)
				read := func(c *cache.Cache[string, int]) {
					v, err := c.Get(ctx, "k")
					got <- fmt.Sprint(v, err)
				}
				go read(b)
				g.begins(t)
				go read(b)
				go read(a)
				time.Sleep(2 * time.Second)
				select {
				case <-g.began:
					t.Error("a third load has begun")
				default:
				}
				close(g.end[first+1])
				for range cap(got) {
					if v := <-got; v != fmt.Sprint(first+1, nil) {
						t.Errorf("read %s", v)
					}
				}
				for _, end := range g.end {
					select {
					case <-end:
					default:
						close(end)
					}
				}
				synctest.Wait()
			})
		})
	}
}
