package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/redistest"
)

func TestCachesOfOneNameNeverSeeEachOthersValues(t *testing.T) {
	type money struct{ A, B int }
	type point struct{ A, B int }
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		a := on(t, b, "same", cache.Source[string, money]{})
		if err := a.Set(ctx, "k", money{1, 2}); err != nil {
			t.Fatal(err)
		}
		for name, get := range map[string]func() (any, error){
			"another type": func() (any, error) { return on(t, b, "same", cache.Source[string, point]{}).Get(ctx, "k") },
			"a string":     func() (any, error) { return on(t, b, "same", cache.Source[string, string]{}).Get(ctx, "k") },
			"bytes":        func() (any, error) { return on(t, b, "same", cache.Source[string, []byte]{}).Get(ctx, "k") },
			"another codec": func() (any, error) {
				return on(t, b, "same", cache.Source[string, money]{}, cache.WithCodec(codec.Msgpack())).Get(ctx, "k")
			},
			"a newer version": func() (any, error) {
				return on(t, b, "same", cache.Source[string, money]{}, cache.WithVersion(1)).Get(ctx, "k")
			},
			"a pointer to it":      func() (any, error) { return on(t, b, "same", cache.Source[string, *money]{}).Get(ctx, "k") },
			"a map that JSON fits": func() (any, error) { return on(t, b, "same", cache.Source[string, map[string]int]{}).Get(ctx, "k") },
		} {
			if v, err := get(); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("%s: %v, %v", name, v, err)
			}
		}
		if v, err := on(t, b, "same", cache.Source[string, money]{}).Get(ctx, "k"); v != (money{1, 2}) || err != nil {
			t.Errorf("the same type: %v, %v", v, err)
		}
	})
}

// A list in the place of a value is replaced, however the key is written.
func TestWritesOverAnotherType(t *testing.T) {
	for kind, src := range map[string]cache.Source[string, string]{
		"without a loader": {},
		"with a loader":    cache.SourceFunc(func(_ context.Context, key string) (string, error) { return "loaded", nil }),
	} {
		t.Run(kind, func(t *testing.T) {
			each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				c := on(t, b, "n", src, tiers)
				for name, write := range map[string]func(key string) error{
					"set": func(key string) error { return c.Set(ctx, key, "new") },
					"if absent": func(key string) error {
						ok, err := c.SetIfAbsent(ctx, key, "new")
						if !ok && err == nil {
							err = errors.New("it is not absent")
						}
						return err
					},
					"update": func(key string) error {
						_, err := c.Update(ctx, key, func(old string, ok bool) (string, error) {
							if ok != (src.Load != nil) {
								return "", fmt.Errorf("the old value is %q, %v", old, ok)
							}
							return "new", nil
						})
						return err
					},
				} {
					if err := b.Client.RPush(ctx, c.RedisKey(name), "a", "list").Err(); err != nil {
						t.Fatal(err)
					}
					if err := write(name); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					if v, err := c.Peek(ctx, name, cache.SkipLocal()); v != "new" || err != nil {
						t.Errorf("%s: %q, %v", name, v, err)
					}
				}
			})
		})
	}
}

func TestForeignBytesAreMissesThatALoadReplaces(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		c := on(t, b, "n", cache.SourceFunc(func(_ context.Context, key string) (string, error) { return "loaded", nil }), tiers)
		if err := c.Set(ctx, "source", "a value of ours"); err != nil {
			t.Fatal(err)
		}
		ours, err := b.Client.Get(ctx, c.RedisKey("source")).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(ours)
		flipped[len(flipped)-12] ^= 1
		for name, raw := range map[string]any{
			"empty": "", "one byte": "x", "json": `{"a":1}`, "a number": 42, "long": strings.Repeat("x", 10_000),
			"a damaged record": flipped, "a cut record": ours[:len(ours)-1], "a record of another key": ours,
		} {
			if err := b.Client.Set(ctx, c.RedisKey(name), raw, 0).Err(); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Peek(ctx, name); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("%s: Peek: %v", name, err)
			}
			if v, err := c.Get(ctx, name); v != "loaded" || err != nil {
				t.Errorf("%s: %q, %v", name, v, err)
			}
			if v, err := c.Peek(ctx, name, cache.SkipLocal()); v != "loaded" || err != nil {
				t.Errorf("%s was not replaced: %q, %v", name, v, err)
			}
		}
		if err := b.Client.LPush(ctx, c.RedisKey("a list"), "x").Err(); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(ctx, "a list"); v != "loaded" || err != nil {
			t.Errorf("a list: %q, %v", v, err)
		}
		if v, err := c.Peek(ctx, "a list", cache.SkipLocal()); v != "loaded" || err != nil {
			t.Errorf("the list was not replaced: %q, %v", v, err)
		}
		m := c.Metrics()
		if m.MissForeign == 0 || m.MissUndecodable == 0 || m.Undecodable == 0 {
			t.Errorf("not counted: %d foreign, %d undecodable", m.MissForeign, m.MissUndecodable)
		}
	})
}

func TestTooLargeIsRefusedBeforeAnythingIsSent(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		c := on(t, b, "n", cache.Source[string, string]{}, withLocal, cache.WithMaxValueSize(100))
		if err := c.Set(ctx, "k", "small"); err != nil {
			t.Fatal(err)
		}
		before := c.Metrics().Remote.Count
		if err := c.Set(ctx, "k", strings.Repeat("x", 101)); !errors.Is(err, cache.ErrTooLarge) {
			t.Errorf("Set: %v", err)
		}
		if after := c.Metrics().Remote.Count; after != before {
			t.Errorf("%d operations were sent", after-before)
		}
		if v, err := c.Get(ctx, "k"); v != "small" || err != nil {
			t.Errorf("the old value is gone: %q, %v", v, err)
		}
		err := c.SetMany(ctx, map[string]string{"a": "fits", "b": strings.Repeat("x", 101)})
		var be *cache.BatchError[string]
		if !errors.As(err, &be) || be.For("a") != nil || !errors.Is(be.For("b"), cache.ErrTooLarge) {
			t.Errorf("SetMany: %v", err)
		}
		if v, err := c.Get(ctx, "a"); v != "fits" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		big := func(context.Context, string) (string, error) { return strings.Repeat("x", 101), nil }
		for range 2 {
			if v, err := c.GetOrLoad(ctx, "big", big); len(v) != 101 || err != nil {
				t.Errorf("a load: %d bytes, %v", len(v), err)
			}
		}
		if n := c.Metrics().Loads; n != 2 {
			t.Errorf("%d loads: it was kept", n)
		}
	})
}
