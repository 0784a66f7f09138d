package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// published records the kinds of the messages that are published, but for watermarks.
type published struct {
	mu    sync.Mutex
	kinds []message.Kind
	tally int
}

func recordPublished(st *storetest.Memory) *published {
	r := new(published)
	st.Intercept(func(d storetest.Delivery) (int, time.Duration) {
		if m, err := message.Parse(d.Text); err == nil && d.Kind == storetest.DeliverMessage {
			r.mu.Lock()
			defer r.mu.Unlock()
			if m.Kind == message.Watermark {
				r.tally++
			} else {
				r.kinds = append(r.kinds, m.Kind)
			}
		}
		return 1, 0
	})
	return r
}

// since returns what was told since the last call.
func (r *published) since() (kinds []message.Kind, watermarks int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kinds, watermarks = r.kinds, r.tally
	r.kinds, r.tally = nil, 0
	return kinds, watermarks
}

// A miss that no other process waits for publishes nothing, neither at its end nor later:
// whatever its outcome, and whichever processes are subscribed.
func TestAMissThatNoProcessWaitsForPublishesNothing(t *testing.T) {
	loads := map[string]cache.LoadFunc[string, string]{
		"a value":    func(context.Context, string) (string, error) { return "v", nil },
		"an absence": func(context.Context, string) (string, error) { return "", cache.ErrNotFound },
		"an error":   func(context.Context, string) (string, error) { return "", errors.New("boom") },
		"no store": func(ctx context.Context, _ string) (string, error) {
			cache.CurrentLoad[string](ctx).NoStore()
			return "v", nil
		},
		"a slow value": func(ctx context.Context, _ string) (string, error) {
			time.Sleep(5 * hook.LeaseLife) // the lease is extended
			return "v", nil
		},
	}
	for name, load := range loads {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := storetest.NewMemory()
				a, b := onMemory(t, st, cache.Source[string, string]{}), onMemory(t, st, cache.Source[string, string]{})
				for _, c := range []*cache.Cache[string, string]{a, b} {
					_, _ = c.Peek(t.Context(), "other")
				}
				time.Sleep(5 * time.Second)
				r := recordPublished(st)
				_, _ = a.GetOrLoad(t.Context(), "k", load)
				_, _ = a.GetOrLoadMany(t.Context(), []string{"l", "m"}, func(ctx context.Context, keys []string) (map[string]string, error) {
					v, err := load(ctx, "l")
					return map[string]string{"l": v}, err
				})
				time.Sleep(5 * time.Second)
				if kinds, watermarks := r.since(); len(kinds) > 0 || watermarks > 0 {
					t.Errorf("published: %v, and %d watermarks", kinds, watermarks)
				}
				if err := a.Set(t.Context(), "k", "w"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if kinds, _ := r.since(); !slices.Contains(kinds, message.Invalidated) {
					t.Errorf("a write published %v", kinds)
				}
			})
		})
	}
}

// However many processes wait, and whatever they wait for, each wakes at once, by a message that the
// others do not receive, unless too many wait.
func TestThoseWhoWaitAreToldOnce(t *testing.T) {
	for name, transport := range map[string]invalidate.Transport{"broadcast": invalidate.Broadcast(), "tracking": invalidate.Tracking()} {
		for _, stale := range []bool{false, true} {
			for _, fails := range []bool{false, true} {
				for _, waiting := range []int{1, 4, store.WaitersMax, store.WaitersMax + 2} {
					t.Run(fmt.Sprint(name, waiting), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							st := storetest.NewMemory()
							var all []*cache.Cache[string, string]
							for range 1 + waiting + 3 {
								c := onMemory(t, st, cache.Source[string, string]{}, cache.WithTransport(transport),
									cache.WithStrategy(strategy.TTL(time.Minute), strategy.StaleIfError(time.Hour), strategy.ErrorTTL(time.Second)))
								_, _ = c.Peek(t.Context(), "other")
								all = append(all, c)
							}
							if stale { // then a lock says that the load is in flight
								if err := all[0].Set(t.Context(), "k", "old"); err != nil {
									t.Fatal(err)
								}
								time.Sleep(2 * time.Minute)
							}
							time.Sleep(5 * time.Second)
							r := recordPublished(st)
							g := newGate()
							load := func(ctx context.Context, k string) (string, error) {
								v, err := g.load(ctx, k)
								if fails {
									return "", errors.New("boom")
								}
								return v, err
							}
							listeners := len(all)
							all = all[:1+waiting] // the others do not care
							got := make(chan string, len(all))
							for _, c := range all {
								go func() {
									v, err := c.GetOrLoad(t.Context(), "k", load)
									if fails && !stale == (err == nil) {
										t.Errorf("%q, %v", v, err)
									}
									got <- v
								}()
								if c == all[0] {
									<-g.began
								}
								synctest.Wait()
							}
							time.Sleep(hook.LeasePoll / 2)
							start := time.Now()
							g.end <- "v"
							for range all {
								if v := <-got; !fails && v != "v" || fails && stale && v != "old" {
									t.Errorf("%q", v)
								}
							}
							if d := time.Since(start); d > 0 {
								t.Errorf("it took %v", d)
							}
							kinds, _ := r.since()
							loaded := len(kinds) - len(slices.DeleteFunc(slices.Clone(kinds), func(k message.Kind) bool { return k == message.Loaded }))
							want := waiting
							if waiting > store.WaitersMax {
								want = store.WaitersMax + listeners
							}
							if transport == invalidate.Tracking() && !stale {
								want = 0 // the change itself is reported
							}
							if loaded != want {
								t.Errorf("%d waited, %d listened, and were told %v", waiting, listeners, kinds)
							}
						})
					})
				}
			}
		}
	}
}

// racing is a store whose first two compare-and-sets come at the same time.
type racing struct {
	*storetest.Memory
	mu    sync.Mutex
	swaps int
	both  chan struct{}
}

func (s *racing) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	if slices.ContainsFunc(cmds, func(c store.Command) bool { return c.Op == store.CompareAndSet }) {
		s.mu.Lock()
		if s.swaps++; s.swaps == 2 {
			close(s.both)
		}
		s.mu.Unlock()
		<-s.both
	}
	return s.Memory.Do(ctx, cmds)
}

// A load that wants to put its lease, or its lock, in the place of what is of no use, and loses
// against another one, signs that one's at once.
func TestALoadThatLosesItsSwapLearnsOfTheOther(t *testing.T) {
	for _, stale := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			st := &racing{Memory: storetest.NewMemory(), both: make(chan struct{})}
			var all []*cache.Cache[string, string]
			for range 2 {
				c := onMemory(t, st, cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(time.Minute), strategy.StaleIfError(time.Hour)))
				_, _ = c.Peek(t.Context(), "other")
				all = append(all, c)
			}
			key := all[0].RedisKey("k")
			if stale { // a lock says that its load is in flight
				if err := all[0].Set(t.Context(), "k", "old"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
				key = hook.Of(all[0]).Names.Lock + "k"
			}
			if err := st.Do(t.Context(), []store.Command{{Op: store.Set, Key: key, Frame: []byte("of no use"), TTL: time.Hour}})[0].Err; err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			g := newGate()
			got := make(chan string, len(all))
			for _, c := range all {
				go func() {
					v, err := c.GetOrLoad(t.Context(), "k", g.load)
					if err != nil {
						t.Error(err)
					}
					got <- v
				}()
			}
			<-g.began
			synctest.Wait()
			if st.swaps != 2 {
				t.Fatalf("%d swaps", st.swaps)
			}
			time.Sleep(hook.LeasePoll / 2)
			start := time.Now()
			g.end <- "v"
			for range all {
				if v := <-got; v != "v" {
					t.Errorf("%q", v)
				}
			}
			if d := time.Since(start); d > 0 {
				t.Errorf("stale: %v: it took %v", stale, d)
			}
		})
	}
}
