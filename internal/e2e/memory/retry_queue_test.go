package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

var errDown = errors.New("down")

// What Redis could not be told is told when it is back, and never over something
// newer.
func TestWhatRedisCouldNotBeToldIsToldLater(t *testing.T) {
	for what, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"set":        func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Set(ctx, "k", "lost") },
		"delete":     func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "k") },
		"invalidate": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		"tags":       func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
		"clear":      func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
		"pattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.InvalidatePattern(ctx, "k*")
			return err
		},
		"many, twice": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return errors.Join(c.Delete(ctx, "a", "b"), c.Delete(ctx, "a", "k"))
		},
	} {
		for _, p := range []invalidate.Policy{invalidate.Immediate(), invalidate.Lazy()} {
			t.Run(what+" "+p.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					store := storetest.NewMemory()
					a := onMemory(t, store, cache.Source[string, string]{}, cache.WithInvalidator(p))
					b := onMemory(t, store, cache.Source[string, string]{})
					if err := a.Set(ctx, "k", "old", cache.Tags("t")); err != nil {
						t.Fatal(err)
					}
					if v, err := b.Get(ctx, "k"); v != "old" || err != nil {
						t.Fatal(v, err)
					}
					store.Fail(errDown)
					if err := change(ctx, a); !errors.Is(err, cache.ErrUnavailable) || !errors.Is(err, errDown) {
						t.Fatalf("the caller is told %v", err)
					}
					short, cancel := context.WithTimeout(ctx, 10*time.Second)
					defer cancel()
					if err := a.Sync(short); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("Sync while Redis is down: %v", err)
					}
					store.Fail(nil)
					if err := a.Sync(ctx); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					for name, c := range map[string]*cache.Cache[string, string]{"writer": a, "other": b} {
						if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
							t.Errorf("%s still reads %q, %v", name, v, err)
						}
					}
				})
			})
		}
	}
}

func TestWhatIsToldLaterRemovesNothingNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		a, b := onMemory(t, store, cache.Source[string, string]{}), onMemory(t, store, cache.Source[string, string]{})
		if err := a.Set(ctx, "k", "old"); err != nil {
			t.Fatal(err)
		}
		c, net := onWire(t, store, cache.Source[string, string]{})
		if _, err := c.Get(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		net.lose()
		if err := c.Set(ctx, "k", "lost"); !errors.Is(err, cache.ErrUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := b.Set(ctx, "k", "newer"); err != nil {
			t.Fatal(err)
		}
		net.heal()
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for name, c := range map[string]*cache.Cache[string, string]{"a": a, "b": b, "c": c} {
			if v, err := c.Get(ctx, "k"); v != "newer" || err != nil {
				t.Errorf("%s: %q, %v", name, v, err)
			}
		}
	})
}

// What another process stores after a call began is not removed by what is told later of the call,
// however long that waited for an answer: nothing of it was sent yet.
func TestWhatIsToldLaterRemovesNothingThatIsNewerThanItsCall(t *testing.T) {
	for name, call := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"Set": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return c.Set(ctx, "k", "lost", cache.KeepTTL())
		},
		"SetMany": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return c.SetMany(ctx, map[string]string{"k": "lost", "l": "lost"}, cache.KeepTTL())
		},
		"Set without a time": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Set(ctx, "k", "lost") },
		"Invalidate":         func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		"Delete":             func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "k") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := storetest.NewMemory()
				a := onMemory(t, store, cache.Source[string, string]{})
				if err := a.Set(ctx, "k", "old"); err != nil {
					t.Fatal(err)
				}
				net := &timeless{wire: wire{Memory: store}}
				net.lose("time")
				c := newCache(t, net, cache.Source[string, string]{}, cache.WithTimeout(time.Minute), cache.WithBreaker(math.MaxInt, time.Hour), cache.WithStrategy(strategy.LRU(100), strategy.Jitter(0)))
				t.Cleanup(net.heal) // before Close
				if _, err := c.Peek(ctx, "other"); !errors.Is(err, cache.ErrMiss) {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				net.set(func(op string) error {
					time.Sleep(time.Second)
					return errRequestLost
				}, nil)
				failed := make(chan error, 1)
				go func() { failed <- call(ctx, c) }()
				time.Sleep(500 * time.Millisecond)
				if err := a.Set(ctx, "k", "newer"); err != nil {
					t.Fatal(err)
				}
				if err := <-failed; !errors.Is(err, cache.ErrUnavailable) {
					t.Fatal(err)
				}
				net.heal()
				if err := c.Sync(ctx); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				for name, c := range map[string]*cache.Cache[string, string]{"a": a, "c": c} {
					if v, err := c.Get(ctx, "k"); v != "newer" || err != nil {
						t.Errorf("%s: %q, %v", name, v, err)
					}
				}
			})
		})
	}
}

// A write that was given up may be carried out later: the local tier is not asked for
// its key until Redis has been told.
func TestAKeyOfUnknownStateIsReadFromRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		c, net := onWire(t, store, cache.Source[string, string]{})
		if err := c.Set(ctx, "k", "old"); err != nil {
			t.Fatal(err)
		}
		net.set(nil, losing(errRequestLost, nil))
		if err := c.Set(ctx, "k", "new"); !errors.Is(err, cache.ErrUnavailable) {
			t.Fatal(err)
		}
		net.heal()
		var info cache.Info
		if v, err := c.Get(ctx, "k", cache.Report(&info)); v == "old" || err == nil && info.Tier.String() == "local" {
			t.Errorf("%q, %v, from %v", v, err, info.Tier)
		}
	})
}

func TestMoreThanFitsIsToldAsOneInvalidationOfEverything(t *testing.T) {
	redistest.Thorough(t)
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		a := onMemory(t, store, cache.Source[int, string]{})
		for i := range 5 {
			if err := a.Set(ctx, i, "old"); err != nil {
				t.Fatal(err)
			}
		}
		store.Fail(errDown)
		for i := range 1<<19 + 100 {
			hook.Of(a).Coherence.EndWrite(retryqueue.Item{Key: a.RedisKey(i)}, 0, context.Canceled)
		}
		store.Fail(nil)
		if err := a.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		b := onMemory(t, store, cache.Source[int, string]{})
		for i := range 5 {
			if v, err := b.Get(ctx, i); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("%d: %q, %v", i, v, err)
			}
		}
	})
}

func TestCloseTellsWhatItStillCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		a, b := onMemory(t, store, cache.Source[string, string]{}), onMemory(t, store, cache.Source[string, string]{})
		if err := a.Set(ctx, "k", "old"); err != nil {
			t.Fatal(err)
		}
		store.Fail(errDown)
		if err := a.Delete(ctx, "k"); !errors.Is(err, cache.ErrUnavailable) {
			t.Fatal(err)
		}
		store.Fail(nil)
		a.Close()
		if v, err := b.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("%q, %v", v, err)
		}
	})
}

// Until Redis has been told, a key is not taken into the local tier: the write that was
// given up may still be carried out, unnoticed.
func TestAKeyOfUnknownStateStaysOutOfTheLocalTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		c, net := onWire(t, storetest.NewMemory(), cache.Source[string, string]{})
		if err := c.Set(ctx, "k", "v"); err != nil {
			t.Fatal(err)
		}
		net.lose("set", "get_header", "compare_and_delete")
		if err := c.Set(ctx, "k", "lost"); !errors.Is(err, cache.ErrUnavailable) {
			t.Fatal(err)
		}
		for range 3 {
			// Nor is what Redis has believed: it may be older than what was lost.
			if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) || !errors.Is(err, cache.ErrUnavailable) {
				t.Errorf("%q, %v", v, err)
			}
		}
		net.heal()
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
			t.Error(err)
		}
	})
}

// Without a lease, what is loaded is kept nowhere: another client may have written in between,
// and its notice have come before the load ended.
func TestWhatWasLoadedWithoutALeaseIsNotKeptLocally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loads := 0
		c, net := onWire(t, storetest.NewMemory(), cache.SourceFunc(func(context.Context, string) (string, error) { loads++; return "v", nil }))
		_, _ = c.Peek(t.Context(), "k")
		net.lose("set_nx")
		for range 3 {
			if v, err := c.Get(t.Context(), "k"); v != "v" || err != nil {
				t.Error(v, err)
			}
		}
		if loads != 3 {
			t.Errorf("%d loads", loads)
		}
	})
}

// Whose session ends will not hear of the fill: it looks at once, and then again and again.
func TestWhoWaitsLooksWhenNothingCanBeHeardAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		a, b := onMemory(t, store, cache.Source[string, string]{}), onMemory(t, store, cache.Source[string, string]{})
		g := newGate()
		first := get(a, "k", g.load)
		<-g.began
		second := get(b, "k", g.load)
		synctest.Wait()
		before := b.Metrics().Remote.Count
		store.CutListeners(errDown)
		synctest.Wait()
		if b.Metrics().Remote.Count == before {
			t.Error("it goes on waiting")
		}
		g.end <- "v"
		for _, w := range []chan string{first, second} {
			if v := <-w; v != "v" {
				t.Error(v)
			}
		}
	})
}

// A caller who has left before he could say so has changed the source all the same.
func TestAnInvalidationWhoseContextHasEndedIsTold(t *testing.T) {
	for what, invalidate := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"key":   func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		"tag":   func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
		"clear": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			store := storetest.NewMemory()
			a, b := onMemory(t, store, cache.Source[string, string]{}), onMemory(t, store, cache.Source[string, string]{})
			if err := a.Set(ctx, "k", "old", cache.Tags("t")); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Get(ctx, "k"); err != nil {
				t.Fatal(err)
			}
			ended, cancel := context.WithCancel(ctx)
			cancel()
			if err := invalidate(ended, a); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if err := a.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			for _, c := range []*cache.Cache[string, string]{a, b} {
				if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
					t.Errorf("%s: %q, %v", what, v, err)
				}
			}
		})
	}
}

// mute is a store that may lose the messages that many keys have in common.
type mute struct {
	*storetest.Memory
	on    atomic.Bool
	posts atomic.Int32
}

func (m *mute) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	replies := make([]store.Reply, 0, len(cmds))
	for len(cmds) > 0 {
		some := slices.Clone(cmds[:1+cmds[0].With])
		cmds = cmds[len(some):]
		lost := some[0].With > 0 && m.on.Load()
		if some[0].With > 0 {
			m.posts.Add(1)
		}
		if lost {
			some[0].Notify, some[0].With = store.Notify{}, 0
		}
		got := m.Memory.Do(ctx, some)
		if lost {
			for i := range got {
				got[i] = store.Reply{Err: errDown}
			}
		}
		replies = append(replies, got...)
	}
	return replies
}

// The notifications of many keys share few messages. If one of these is lost, a notification of
// each of its keys is sent later, and the caller gets an error.
func TestManyKeysShareMessages(t *testing.T) {
	const n = 150 // more than fit into two messages
	keys := make([]string, n)
	before, after := map[string]string{}, map[string]string{}
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
		before[keys[i]], after[keys[i]] = "old", "new"
	}
	for what, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"set":        func(ctx context.Context, c *cache.Cache[string, string]) error { return c.SetMany(ctx, after) },
		"delete":     func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, keys...) },
		"invalidate": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, keys...) },
	} {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprint(what, ", lost ", lost), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					st := &mute{Memory: storetest.NewMemory()}
					a := newCache(t, st, cache.Source[string, string]{}, cache.WithStrategy(strategy.LRU(1000), strategy.Jitter(0)))
					b := onMemory(t, st.Memory, cache.Source[string, string]{}, cache.WithStrategy(strategy.LRU(1000)))
					if err := a.SetMany(ctx, before); err != nil {
						t.Fatal(err)
					}
					if vals, err := b.GetMany(ctx, keys); len(vals) != n || err != nil {
						t.Fatal(len(vals), err)
					}
					synctest.Wait()
					st.posts.Store(0)
					st.on.Store(lost)
					err := change(ctx, a)
					if posts := st.posts.Load(); posts != 3 {
						t.Errorf("%d messages, want 3", posts)
					}
					var batch *cache.BatchError[string]
					switch {
					case !lost && err != nil:
						t.Fatal(err)
					case lost && !errors.Is(err, cache.ErrUnavailable):
						t.Fatalf("the caller is told %v", err)
					case lost && errors.As(err, &batch) && len(batch.Errs) != n:
						t.Errorf("of %d keys", len(batch.Errs))
					}
					st.on.Store(false)
					if err := a.Sync(ctx); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					for _, k := range keys {
						if v, err := b.Peek(ctx, k); v == "old" || !lost && what == "set" && (v != "new" || err != nil) {
							t.Errorf("%s is %q, %v", k, v, err)
						}
						if info := (cache.Info{}); !lost {
							b.Peek(ctx, k, cache.Report(&info))
							if info.Tier == metrics.Local {
								t.Errorf("%s is in the local tier", k)
							}
						}
					}
					// Nothing is open any more: others learn that they have missed nothing.
					if tally, _ := hook.Of(a).Coherence.Outbox.Watermark(false); tally.Number < 3 {
						t.Errorf("the tally is %+v", tally)
					}
					if got := b.Metrics().Flushes; got > 1 { // that of its session
						t.Errorf("the other process has flushed %d times", got)
					}
				})
			})
		}
	}
}

// Many keys have a message in common, and go with it: it is published when they have taken
// effect.
func TestOthersAreToldTogetherWithTheCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store := expecting(t, cache.SourceFunc(of))
		for want, change := range map[string]func() error{
			"[set+2 set set]":   func() error { return c.SetMany(t.Context(), map[string]string{"a": "1", "b": "2", "c": "3"}) },
			"[delete+1 delete]": func() error { return c.Delete(t.Context(), "a", "b") },
			"[delete+2 delete delete]": func() error {
				return c.Invalidate(t.Context(), "a", "b", "c")
			},
		} {
			if err := change(); err != nil {
				t.Fatal(err)
			}
			// The look at the logical clock, where there is one, goes before everything.
			if did := strings.Replace(store.take(), "[get ", "[", 1); did != want {
				t.Errorf("it did %s, want %s", did, want)
			}
		}
	})
}
