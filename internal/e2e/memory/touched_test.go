package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// touchedKinds are the caches in which Touch and a load may meet.
var touchedKinds = map[string][]cache.Option{
	"plain":  nil,
	"sealed": {cache.WithCodec(codec.Encrypted(codec.JSON(), []byte("0123456789abcdef0123456789abcdef")))},
}

// A value that is touched while a load is to replace it is replaced all the same: it is as old as
// before.
func TestALoadReplacesAValueThatIsTouchedMeanwhile(t *testing.T) {
	for codecName, opts := range touchedKinds {
		for _, kind := range []string{"redis", "two tiers", "local only"} {
			for how, load := range map[string]func(context.Context, *cache.Cache[string, string]) error{
				"Refresh": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Refresh(ctx, "k") },
				"MaxAge": func(ctx context.Context, c *cache.Cache[string, string]) error {
					_, err := c.Get(ctx, "k", cache.MaxAge(0))
					return err
				},
				"nothing": func(ctx context.Context, c *cache.Cache[string, string]) error {
					_, err := c.GetOrLoad(ctx, "k", func(ctx context.Context, _ string) (string, error) {
						return "", errors.Join(wait(ctx, time.Second), cache.ErrNotFound)
					}, cache.MaxAge(0))
					if errors.Is(err, cache.ErrNotFound) {
						return nil
					}
					return err
				},
			} {
				t.Run(codecName+" "+kind+" "+how, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ctx, st, src := t.Context(), storetest.NewMemory(), new(source)
						src.will(slowly(time.Second, "new"))
						opts := append(opts[:len(opts):len(opts)], cache.WithStrategy(strategy.TTL(time.Minute), strategy.Jitter(0), strategy.NotFoundTTL(0)))
						c := ofKind(t, kind, st, src.Source(), opts...)
						other := c
						if kind != "local only" {
							other = ofKind(t, kind, st, src.Source(), opts...)
						}
						if err := c.Set(ctx, "k", "old"); err != nil {
							t.Fatal(err)
						}
						time.Sleep(10 * time.Second)
						done := make(chan error)
						go func() { done <- load(ctx, c) }()
						for range 3 {
							time.Sleep(200 * time.Millisecond)
							if err := other.Touch(ctx, "k"); err != nil {
								t.Error(err)
							}
						}
						if err := <-done; err != nil {
							t.Fatal(err)
						}
						synctest.Wait() // others are notified
						want := "new"
						if how == "nothing" {
							want = ""
						}
						for _, node := range []*cache.Cache[string, string]{c, other} {
							if v, err := node.Peek(ctx, "k"); v != want || (err == nil) != (want != "") {
								t.Errorf("%q, %v", v, err)
							}
						}
						if n := c.Metrics().Outdated; n != 0 {
							t.Errorf("%d loads count as outdated", n)
						}
					})
				})
			}
		}
	}
}

// But whatever else has come meanwhile wins, also after a Touch.
func TestALoadDoesNotReplaceWhatCameAfterATouch(t *testing.T) {
	for codecName, opts := range touchedKinds {
		for how, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
			"Set":        func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Set(ctx, "k", "newest") },
			"Delete":     func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "k") },
			"Invalidate": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
			"Update": func(ctx context.Context, c *cache.Cache[string, string]) error {
				_, err := c.Update(ctx, "k", func(string, bool) (string, error) { return "newest", nil })
				return err
			},
		} {
			for _, policy := range []invalidate.Policy{invalidate.Immediate(), invalidate.Delayed(10 * time.Second)} {
				t.Run(codecName+" "+how, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ctx, st, src := t.Context(), storetest.NewMemory(), new(source)
						src.will(slowly(time.Second, "loaded before"))
						opts := append(opts[:len(opts):len(opts)], cache.WithStrategy(strategy.LRU(10), strategy.TTL(time.Minute), strategy.Jitter(0)), cache.WithInvalidator(policy))
						c, other := newCache(t, st, src.Source(), opts...), newCache(t, st, src.Source(), opts...)
						if err := c.Set(ctx, "k", "old"); err != nil {
							t.Fatal(err)
						}
						time.Sleep(10 * time.Second)
						done := make(chan error)
						go func() { _, err := c.Get(ctx, "k", cache.MaxAge(0)); done <- err }()
						time.Sleep(500 * time.Millisecond)
						if err := other.Touch(ctx, "k"); err != nil {
							t.Error(err)
						}
						if err := change(ctx, other); err != nil {
							t.Error(err)
						}
						if err := <-done; err != nil {
							t.Fatal(err)
						}
						for _, node := range []*cache.Cache[string, string]{c, other} {
							if v, err := node.Peek(ctx, "k"); v == "loaded before" {
								t.Errorf("%q, %v", v, err)
							}
						}
					})
				})
			}
		}
	}
}

// An Update that is under way keeps the end that Touch has given the value, and not the one from
// before.
func TestUpdateKeepsTheLifeThatTouchHasGiven(t *testing.T) {
	for codecName, opts := range touchedKinds {
		for _, kind := range []string{"redis", "two tiers", "local only"} {
			t.Run(codecName+" "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, string]{}, append(opts[:len(opts):len(opts)], cache.WithStrategy(strategy.TTL(time.Minute), strategy.Jitter(0)))...)
					if err := c.Set(ctx, "k", "v", cache.TTL(10*time.Second)); err != nil {
						t.Fatal(err)
					}
					calls := 0
					v, err := c.Update(ctx, "k", func(old string, _ bool) (string, error) {
						if calls++; calls == 1 {
							if err := c.Touch(ctx, "k"); err != nil {
								return "", err
							}
						}
						return old + "w", nil
					})
					if v != "vw" || err != nil || calls != 2 {
						t.Fatal(v, err, calls)
					}
					if e, err := c.Inspect(ctx, "k"); err != nil || e.TTL > time.Minute || e.TTL < 59*time.Second || e.Value != "vw" {
						t.Errorf("%+v, %v", e, err)
					}
				})
			})
		}
	}
}

func TestTouchLeavesValuesOfOtherPrograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := t.Context(), storetest.NewMemory()
		c := newCache(t, st, cache.Source[string, string]{}, cache.WithStrategy(strategy.LRU(10), strategy.TTL(time.Hour)),
			cache.WithCodec(codec.Legacy(codec.JSON(), codec.JSON().Unmarshal)))
		st.Do(ctx, []store.Command{{Op: store.Set, Key: c.RedisKey("k"), Frame: []byte(`"theirs"`), TTL: time.Minute}})
		if v, err := c.Get(ctx, "k"); v != "theirs" || err != nil {
			t.Fatal(v, err)
		}
		if err := c.Touch(ctx, "k"); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v", err)
		}
		if raw := st.Do(ctx, []store.Command{{Op: store.Get, Key: c.RedisKey("k")}})[0].Record.Raw; string(raw) != `"theirs"` {
			t.Errorf("it has become %q", raw)
		}
		// Its end can be kept by a value that takes its place.
		time.Sleep(10 * time.Second)
		if err := c.Set(ctx, "k", "ours", cache.KeepTTL()); err != nil {
			t.Fatal(err)
		}
		if e, err := c.Inspect(ctx, "k"); err != nil || e.Value != "ours" || e.TTL != 50*time.Second {
			t.Errorf("%+v, %v", e, err)
		}
	})
}
