package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// P12: whatever a caller does to what it was given, or gave, no other caller sees it.
func TestNoCallerChangesWhatOthersRead(t *testing.T) {
	type doc struct{ Words map[string][]string }
	fresh := func() doc { return doc{map[string][]string{"a": {"good"}}} }
	spoil := func(d doc) {
		for _, w := range d.Words {
			w[0] = "bad"
		}
		d.Words["b"] = []string{"bad"}
	}
	bySource := func(d doc) doc {
		out := doc{map[string][]string{}}
		for k, w := range d.Words {
			out.Words[k] = bytesOf(w)
		}
		return out
	}
	key := bytes.Repeat([]byte{7}, 32)
	for name, tt := range map[string]struct {
		clone func(doc) doc
		opts  []cache.Option
	}{
		"Source.Clone": {clone: bySource},
		"JSON":         {opts: []cache.Option{cache.WithCloning()}},
		"Msgpack":      {opts: []cache.Option{cache.WithCloning(), cache.WithCodec(codec.Msgpack())}},
		"Encrypted":    {opts: []cache.Option{cache.WithCloning(), cache.WithCodec(codec.Encrypted(codec.JSON(), key))}},
	} {
		for _, kind := range []string{"two tiers", "local only"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					hold := make(chan struct{})
					src := cache.Source[string, doc]{Clone: tt.clone, Load: func(ctx context.Context, k string) (doc, error) {
						if k == "slow" {
							<-hold
						}
						if old, ok := cache.CurrentLoad[doc](ctx).Stale(); ok {
							spoil(old)
							return doc{}, errors.New("the source fails")
						}
						return fresh(), nil
					}}
					c := ofKind(t, kind, storetest.NewMemory(), src, append([]cache.Option{cache.WithStrategy(strategy.LRU(100), strategy.TTL(time.Minute), strategy.StaleIfError(time.Hour))}, tt.opts...)...)
					reads := map[string]func(string) (doc, error){
						"Get":      func(k string) (doc, error) { return c.Get(ctx, k) },
						"Peek":     func(k string) (doc, error) { return c.Peek(ctx, k) },
						"reported": func(k string) (doc, error) { return c.Get(ctx, k, cache.Report(new(cache.Info))) },
						"GetMany":  func(k string) (doc, error) { m, err := c.GetMany(ctx, []string{k}); return m[k], err },
						"GetOrLoad": func(k string) (doc, error) {
							return c.GetOrLoad(ctx, k, func(context.Context, string) (doc, error) { return doc{}, errors.New("it is there") })
						},
						"Inspect": func(k string) (doc, error) { e, err := c.Inspect(ctx, k); return e.Value, err },
						"Update": func(k string) (doc, error) {
							return c.Update(ctx, k, func(old doc, _ bool) (doc, error) {
								spoil(old)
								return fresh(), nil
							})
						},
					}
					check := func(when, k string) {
						t.Helper()
						for how, read := range reads {
							for range 2 {
								d, err := read(k)
								if err != nil || !reflect.DeepEqual(d, fresh()) {
									t.Fatalf("%s, %s: %v, %v", when, how, d, err)
								}
								spoil(d)
							}
						}
					}
					given := fresh()
					if err := c.Set(ctx, "set", given); err != nil {
						t.Fatal(err)
					}
					spoil(given)
					check("after a Set", "set")
					if d, err := c.Get(ctx, "loaded"); err != nil {
						t.Fatal(err)
					} else {
						spoil(d)
					}
					check("after a load", "loaded")

					var all sync.WaitGroup
					got := make([]doc, 5)
					for i := range got {
						all.Go(func() { got[i], _ = c.Get(ctx, "slow") })
					}
					synctest.Wait()
					close(hold)
					all.Wait()
					for i := range got {
						if !reflect.DeepEqual(got[i], fresh()) {
							t.Errorf("a shared load gives %v", got[i])
						}
						spoil(got[i])
					}
					check("after a shared load", "slow")

					time.Sleep(2 * time.Minute) // stale now, and the loader spoils what it sees
					for range 3 {
						d, err := c.Get(ctx, "loaded")
						if err != nil || !reflect.DeepEqual(d, fresh()) {
							t.Fatalf("a stale value: %v, %v", d, err)
						}
						spoil(d)
					}
				})
			})
		}
	}
}

func bytesOf(w []string) []string { return append([]string(nil), w...) }

// unruly can be encoded once.
type unruly struct {
	N     int
	Slice []int
}

// A value that can't be copied is not kept where it would be shared.
func TestValuesThatCantBeCopied(t *testing.T) {
	broken := false
	c, err := cache.New[string, unruly](nil, "unruly", cache.LocalOnly(), cache.WithCloning(), cache.WithCodec(codec.Func("unruly",
		func(dst []byte, v any) ([]byte, error) {
			if broken {
				return nil, errors.New("not any more")
			}
			return fmt.Appendf(dst, "%d", v.(unruly).N), nil
		},
		func(data []byte, v any) error {
			_, err := fmt.Sscan(string(data), &v.(*unruly).N)
			return err
		})))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	if err := c.Set(ctx, "k", unruly{N: 1}); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Get(ctx, "k"); v.N != 1 || err != nil {
		t.Error(v, err)
	}
	broken = true
	if v, err := c.Get(ctx, "k"); err == nil {
		t.Errorf("a value that can't be copied is handed out: %v", v)
	}
	if err := c.Set(ctx, "l", unruly{N: 2}); err != nil {
		t.Error(err)
	}
	broken = false
	if v, err := c.Get(ctx, "l"); !errors.Is(err, cache.ErrMiss) {
		t.Errorf("a value that could not be copied was kept: %v, %v", v, err)
	}
}
