package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

// However often something has been told while a read was under way, the read does not
// believe an answer from before its own key was.
//
//  1. a key is invalidated; Redis does not acknowledge
//  2. a read asks Redis, which answers what it had before
//  3. Redis is told, so that the key is none of those any more that are not believed
//  4. the answer of 2 arrives
func TestAnAnswerFromBeforeAKeyWasToldIsNotBelieved(t *testing.T) {
	for _, concerned := range []bool{true, false} {
		for last := 1; last <= hook.AskAgain; last++ {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				st := storetest.NewMemory()
				c, net := onWireWith(t, st, cache.Source[string, string]{}, cache.WithTransport(invalidate.NoTransport()))
				if err := errors.Join(c.Set(ctx, "k", "old"), c.Set(ctx, "else", "old")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Second) // nothing is recent
				net.lose()
				if err := c.Invalidate(ctx, "k"); !errors.Is(err, cache.ErrUnavailable) {
					t.Fatal(err)
				}
				net.lose("get_header")
				key := c.RedisKey("k")
				if !concerned {
					key = c.RedisKey("else")
				}
				gets := 0
				net.watch(nil, func(cmds []store.Command) {
					if cmds[0].Op != store.Get || cmds[0].Key != key {
						return
					}
					if gets++; gets < last {
						// Something else is told.
						hook.Of(c).Coherence.EndPattern("other*", nil, local.Now(), context.Canceled)
						hook.Of(c).Coherence.EndPattern("other*", nil, local.Now(), nil)
					} else if gets == last {
						net.heal()
						if err := c.Sync(ctx); err != nil {
							t.Error(err)
						}
					}
				})
				if concerned {
					if v, err := c.Get(ctx, "k"); err == nil || !errors.Is(err, cache.ErrMiss) {
						t.Errorf("told after %d answers: %q, %v", last, v, err)
					}
				} else if v, err := c.Get(ctx, "else"); v != "old" || err != nil {
					t.Errorf("told after %d answers: a key that is not concerned: %q, %v", last, v, err)
				}
			})
		}
	}
}

// An answer from before its key was told is no miss, either: the read asks again.
//
//  1. a key is invalidated; Redis does not acknowledge
//  2. a read asks Redis, which answers what it had before
//  3. Redis is told, and another process stores a value
//  4. the answer of 2 arrives
func TestAReadThatWasOvertakenAsksAgain(t *testing.T) {
	for last := 1; last < hook.AskAgain; last++ {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			st := storetest.NewMemory()
			c, net := onWireWith(t, st, cache.Source[string, string]{}, cache.WithTransport(invalidate.NoTransport()))
			other := onMemory(t, st, cache.Source[string, string]{})
			if err := c.Set(ctx, "k", "old"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Second) // nothing is recent
			net.lose()
			if err := c.Invalidate(ctx, "k"); !errors.Is(err, cache.ErrUnavailable) {
				t.Fatal(err)
			}
			net.lose("get_header")
			key, gets := c.RedisKey("k"), 0
			net.watch(nil, func(cmds []store.Command) {
				if cmds[0].Op != store.Get || cmds[0].Key != key {
					return
				}
				if gets++; gets < last {
					// Something else is told.
					hook.Of(c).Coherence.EndPattern("other*", nil, local.Now(), context.Canceled)
					hook.Of(c).Coherence.EndPattern("other*", nil, local.Now(), nil)
				} else if gets == last {
					net.heal()
					if err := errors.Join(c.Sync(ctx), other.Set(ctx, "k", "new")); err != nil {
						t.Error(err)
					}
				}
			})
			if v, err := c.Get(ctx, "k"); v != "new" || err != nil || gets != last+1 {
				t.Errorf("told after %d answers: %q, %v after %d", last, v, err, gets)
			}
		})
	}
}

// hooked is JSON that calls a function before it decodes.
type hooked struct {
	codec.Codec
	decodes func()
}

func (h *hooked) Unmarshal(data []byte, v any) error {
	h.decodes()
	return h.Codec.Unmarshal(data, v)
}

// Between the arrival of a record and its use, the codec runs. An invalidation that is
// delivered in that time counts:
//
//  1. a key is invalidated; Redis does not acknowledge
//  2. a read gets the old record
//  3. the invalidation is delivered, so that nothing is pending for the key
//  4. the read uses the record
func TestADeliveryBetweenTheAnswerAndItsUseCounts(t *testing.T) {
	for name, read := range map[string]struct {
		do    func(context.Context, *cache.Cache[string, string]) (string, error)
		later bool // the old record appears when the load asks for a lease
		want  string
	}{
		"peek": {do: func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
			v, err := c.Peek(ctx, "k")
			if errors.Is(err, cache.ErrMiss) {
				return "miss", nil
			}
			return v, err
		}, want: "miss"},
		"get":   {do: func(ctx context.Context, c *cache.Cache[string, string]) (string, error) { return c.Get(ctx, "k") }, want: "loaded"},
		"lease": {do: func(ctx context.Context, c *cache.Cache[string, string]) (string, error) { return c.Get(ctx, "k") }, later: true, want: "loaded"},
		"get many": {do: func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
			got, err := c.GetMany(ctx, []string{"else", "k"})
			return got["k"], err
		}, want: "loaded"},
		"inspect": {do: func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
			i, err := c.InspectEncoded(ctx, "k")
			if errors.Is(err, cache.ErrMiss) {
				return "miss", nil
			}
			return i.Value.(string), err
		}, want: "miss"},
		"update": {do: func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
			return c.Update(ctx, "k", func(old string, ok bool) (string, error) { return "from " + old, nil })
		}, want: "from loaded"},
		"set if absent": {do: func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
			ok, err := c.SetIfAbsent(ctx, "k", "new")
			return fmt.Sprint(ok), err
		}, want: "true"},
	} {
		for by, fails := range map[string]func(context.Context, *cache.Cache[string, string]) error{
			"key": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
			"tag": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
			"pattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
				_, err := c.InvalidatePattern(ctx, "k*")
				return err
			},
		} {
			t.Run(name+"/"+by, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					st := storetest.NewMemory()
					h := &hooked{Codec: codec.JSON(), decodes: func() {}}
					src := cache.Source[string, string]{Load: func(context.Context, string) (string, error) { return "loaded", nil }}
					c, net := onWireWith(t, st, src, cache.WithTransport(invalidate.NoTransport()), cache.WithCodec(h))
					if err := c.Set(ctx, "k", "old", cache.Tags("t")); err != nil {
						t.Fatal(err)
					}
					key := c.RedisKey("k")
					old := st.Do(ctx, []store.Command{{Op: store.Get, Key: key}})[0].Record.Raw
					time.Sleep(20 * time.Second) // nothing is recent
					net.lose()
					if err := fails(ctx, c); !errors.Is(err, cache.ErrUnavailable) {
						t.Fatal(err)
					}
					net.lose("get_header", "add_tombstones", "publish")
					if read.later {
						st.Do(ctx, []store.Command{{Op: store.Delete, Key: key}})
						net.watch(func(cmds []store.Command) {
							if cmds[0].Op == store.SetNX && cmds[0].Key == key && old != nil {
								st.Do(ctx, []store.Command{{Op: store.Set, Key: key, Frame: old}})
								old = nil
							}
						}, nil)
					}
					delivered := false
					h.decodes = func() {
						if delivered {
							return
						}
						delivered = true
						net.heal()
						if err := c.Sync(ctx); err != nil {
							t.Error(err)
						}
					}
					if v, err := read.do(ctx, c); v != read.want || err != nil || !delivered {
						t.Errorf("%q, %v, want %q; delivered meanwhile: %v", v, err, read.want, delivered)
					}
				})
			})
		}
	}
}
