package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
)

// markers are the ways in which another process makes many values invalid at once.
func markers(ctx context.Context) map[string]func(c *cache.Cache[string, int]) error {
	return map[string]func(c *cache.Cache[string, int]) error{
		"clear": func(c *cache.Cache[string, int]) error { return c.Clear(ctx) },
		"tag":   func(c *cache.Cache[string, int]) error { return c.InvalidateTags(ctx, "t") },
	}
}

// A value that is written after a Clear, or an invalidation by tag, of another process
// stays, however soon it comes, and whether or not the writer has heard.
func TestAWriteAfterAnInvalidationOfAllStays(t *testing.T) {
	redistest.Thorough(t)
	t.Parallel()
	hearing(t, func(t *testing.T, b *redistest.Backend, hears cache.Option) {
		ctx := t.Context()
		stored := cache.Source[string, int]{Store: func(context.Context, string, int) error { return nil }}
		tagged := cache.Tags("t")
		writers := map[string]func(c *cache.Cache[string, int], key string, v int) error{
			"Set": func(c *cache.Cache[string, int], key string, v int) error { return c.Set(ctx, key, v, tagged) },
			"SetMany": func(c *cache.Cache[string, int], key string, v int) error {
				return c.SetMany(ctx, map[string]int{key: v, key + "2": v, key + "3": v}, tagged)
			},
			"SetIfAbsent": func(c *cache.Cache[string, int], key string, v int) error {
				ok, err := c.SetIfAbsent(ctx, key, v, tagged)
				if err == nil && !ok {
					return fmt.Errorf("%q is there", key)
				}
				return err
			},
		}
		for _, policy := range []invalidate.Policy{invalidate.Immediate(), invalidate.Delayed(time.Millisecond), invalidate.Lazy()} {
			other := process(t, b, "c", cache.Source[string, int]{}, hears, cache.WithInvalidator(policy))
			reader := process(t, b, "c", cache.Source[string, int]{}, hears)
			writer := process(t, b, "c", cache.Source[string, int]{}, hears)
			through := process(t, b, "c", stored, hears)
			n := 0
			for what, mark := range markers(ctx) {
				for how, write := range writers {
					for _, w := range []*cache.Cache[string, int]{writer, through} {
						for range redistest.Times(5, 5) {
							n++
							key := fmt.Sprintf("%s %s %v %d", what, how, policy, n)
							if err := w.Set(ctx, "before", 1); err != nil { // it knows the time
								t.Fatal(err)
							}
							if err := mark(other); err != nil {
								t.Fatal(err)
							}
							if err := write(w, key, n); err != nil {
								t.Fatal(err)
							}
							for range 3 {
								for name, c := range map[string]*cache.Cache[string, int]{"writer": w, "reader": reader, "other": other} {
									if v, err := c.Get(ctx, key); v != n || err != nil {
										t.Fatalf("%s: %s has %d, %v", key, name, v, err)
									}
								}
							}
						}
					}
				}
			}
		}
	})
}

// A load that began before the invalidation does not outlive it, though a write of the
// same process that came after it does.
func TestALoadFromBeforeAnInvalidationOfAllIsGone(t *testing.T) {
	hearing(t, func(t *testing.T, b *redistest.Backend, hears cache.Option) {
		ctx := t.Context()
		other := process(t, b, "c", cache.Source[string, int]{}, hears)
		for what, mark := range markers(ctx) {
			loader := process(t, b, "c", cache.Source[string, int]{}, hears)
			v, err := loader.GetOrLoad(ctx, what, func(ctx context.Context, _ string) (int, error) {
				if err := mark(other); err != nil {
					return 0, err
				}
				if err := loader.Set(ctx, what+" set", 2, cache.Tags("t")); err != nil {
					return 0, err
				}
				cache.CurrentLoad[int](ctx).AddTags("t")
				return 1, nil
			})
			if v != 1 || err != nil {
				t.Fatal(v, err)
			}
			eventually(t, what+": the load from before is gone", func() bool { _, err := loader.Get(ctx, what); return err != nil })
			if v, err := other.Get(ctx, what); err == nil {
				t.Errorf("%s: a load from before outlives it: %d", what, v)
			}
			if v, err := other.Get(ctx, what+" set"); v != 2 || err != nil {
				t.Errorf("%s: what was set after it: %d, %v", what, v, err)
			}
		}
	})
}
