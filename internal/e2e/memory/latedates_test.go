package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

// What is sent later is as of its own time, whatever else is sent with it.
func TestWhatIsSentLaterHasADateOfItsOwn(t *testing.T) {
	ways := map[string]func(context.Context, *cache.Cache[string, string]) error{
		"a key":   func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "another") },
		"a write": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Set(ctx, "another", "v") },
		"many keys": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return c.Delete(ctx, "another", "one more")
		},
		"another tag": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return c.InvalidateTags(ctx, "unrelated")
		},
		"another pattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.InvalidatePattern(ctx, "an*")
			return err
		},
		"an ended context": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return invalidateEnded(ctx, c, "another")
		},
	}
	for first, early := range wide {
		for second, later := range ways {
			t.Run(first+", "+second, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					store := storetest.NewMemory()
					a, net := onWire(t, store, cache.Source[string, string]{})
					b := onMemory(t, store, cache.Source[string, string]{})
					if err := errors.Join(a.Set(ctx, "another", "v"), b.Set(ctx, "old", "v", cache.Tags("t", "u"))); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					net.lose()
					if err := early(ctx, a); !errors.Is(err, cache.ErrUnavailable) {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					if err := b.Set(ctx, "old or new", "v", cache.Tags("t", "u")); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					if err := later(ctx, a); !errors.Is(err, cache.ErrUnavailable) {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					net.heal()
					if err := a.Sync(ctx); err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Second)
					for name, c := range map[string]*cache.Cache[string, string]{"the one": a, "the other": b} {
						if v, err := c.Get(ctx, "old or new"); v != "v" || err != nil {
							t.Errorf("%s: %q, %v", name, v, err)
						}
						for _, k := range []string{"old", "another"} {
							if v, err := c.Get(ctx, k); k == "another" && second == "another tag" && first != "Clear" {
								break
							} else if !errors.Is(err, cache.ErrMiss) || errors.Is(err, cache.ErrUnavailable) {
								t.Errorf("%s: %s is %q, %v", name, k, v, err)
							}
						}
					}
				})
			})
		}
	}
}

func invalidateEnded(ctx context.Context, c *cache.Cache[string, string], key string) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Invalidate(ctx, key); !errors.Is(err, context.Canceled) {
		return err
	}
	return cache.ErrUnavailable
}

// An invalidation that was acknowledged is made sure of as of its own time, too, when a session
// ends while other things are to be told.
func TestWhatIsMadeSureOfHasADateOfItsOwn(t *testing.T) {
	for way, change := range wide {
		if way == "with a context that has ended" {
			continue
		}
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := storetest.NewMemory()
				a, net := onWire(t, store, cache.Source[string, string]{}, cache.WithInvalidator(invalidate.Lazy()))
				b := onMemory(t, store, cache.Source[string, string]{})
				if err := errors.Join(change(ctx, a), a.Set(ctx, "another", "v")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if err := b.Set(ctx, "old or new", "v", cache.Tags("t", "u")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				net.lose()
				if err := a.Set(ctx, "another", "lost"); !errors.Is(err, cache.ErrUnavailable) {
					t.Fatal(err)
				}
				net.lose("get_header", "compare_and_delete", "publish", "add_tombstones")
				store.CutListeners(errDown)
				time.Sleep(5 * time.Second)
				// The pending invalidation of another value is kept.
				if v, err := a.Get(ctx, "another", cache.SkipLocal()); !errors.Is(err, cache.ErrMiss) {
					t.Errorf("%q, %v", v, err)
				}
				net.heal()
				time.Sleep(5 * time.Second)
				if err := a.Sync(ctx); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				for name, c := range map[string]*cache.Cache[string, string]{"the one": a, "the other": b} {
					if v, err := c.Get(ctx, "old or new"); v != "v" || err != nil {
						t.Errorf("%s: %q, %v", name, v, err)
					}
				}
			})
		})
	}
}

// A process that has never reached Redis does not know Redis's time; it does know its own.
func TestAWriteOfBeforeTheFirstAnswerRemovesNothingNewer(t *testing.T) {
	for name, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"set":        func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Set(ctx, "k", "lost") },
		"delete":     func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "k", "another") },
		"invalidate": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		"ended":      func(ctx context.Context, c *cache.Cache[string, string]) error { return invalidateEnded(ctx, c, "k") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := storetest.NewMemory()
				b := onMemory(t, store, cache.Source[string, string]{})
				net := &timeless{wire: wire{Memory: store}}
				net.lose()
				a := onMemory(t, net, cache.Source[string, string]{})
				if err := change(ctx, a); !errors.Is(err, cache.ErrUnavailable) {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if err := b.Set(ctx, "k", "newer"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				net.heal()
				if err := a.Sync(ctx); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				for name, c := range map[string]*cache.Cache[string, string]{"the one": a, "the other": b} {
					if v, err := c.Get(ctx, "k"); v != "newer" || err != nil {
						t.Errorf("%s: %q, %v", name, v, err)
					}
				}
			})
		})
	}
}

// timeless is a wire over which Redis's time is asked for, too.
type timeless struct{ wire }

func (w *timeless) Now(ctx context.Context, key string) (at int64, err error) {
	if lost := w.through("time", func() { at, err = w.Memory.Now(ctx, key) }); lost != nil {
		return 0, lost
	}
	return at, err
}

// A failover loses a Clear, and a write after it that has replaced another process's: the write
// is made sure of as well.
func TestAWriteAfterALostClearIsMadeSureOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		a, net := onWire(t, st, cache.Source[string, string]{}, cache.WithTransport(invalidate.NoTransport()))
		b := onMemory(t, st, cache.Source[string, string]{})
		if err := errors.Join(a.Set(ctx, "other", "v"), b.Set(ctx, "other", "v")); err != nil {
			t.Fatal(err)
		}
		clock := store.NewNames("", "test").Epoch
		raw := func(key string) []byte {
			return st.Do(ctx, []store.Command{{Op: store.Get, Key: key}})[0].Record.Raw
		}
		before := raw(clock)
		if err := a.Clear(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := b.Set(ctx, "k", "v1"); err != nil {
			t.Fatal(err)
		}
		v1 := raw(a.RedisKey("k"))
		time.Sleep(time.Second)
		if err := a.Set(ctx, "k", "v2"); err != nil {
			t.Fatal(err)
		}
		st.Do(ctx, []store.Command{{Op: store.Set, Key: clock, Frame: before}, {Op: store.Set, Key: a.RedisKey("k"), Frame: v1}})
		st.Succeed()
		net.redial()
		for range 2 {
			if v, err := a.Get(ctx, "k", cache.SkipLocal()); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("%q, %v", v, err)
			}
		}
	})
}
