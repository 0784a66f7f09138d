package e2e_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/invalidate"
	"github.com/redis/go-redis/v9"
)

// clocksOf returns the names of the logical clocks of a cache, by part of its keys.
func clocksOf(b *redistest.Backend, name string) []store.Names {
	_, cluster := b.Client.(*redis.ClusterClient)
	return store.NewNames(b.Prefix, name).Parted(cluster)
}

// clockOf returns the names of the logical clock of a key in Redis.
func clockOf(b *redistest.Backend, name, redisKey string) store.Names {
	clocks := clocksOf(b, name)
	if len(clocks) == 1 {
		return clocks[0]
	}
	return clocks[store.PartOf(redisKey)]
}

// poisonsOf are poisons of several clocks, each of which stands in all of them.
func poisonsOf(clocks []store.Names) map[string]func(ctx context.Context, hand redis.UniversalClient) error {
	out := map[string]func(context.Context, redis.UniversalClient) error{}
	for _, names := range clocks {
		for what, one := range poisons(names.Epoch, names.Tags) {
			before := out[what]
			out[what] = func(ctx context.Context, hand redis.UniversalClient) error {
				if before != nil {
					if err := before(ctx, hand); err != nil {
						return err
					}
				}
				return one(ctx, hand)
			}
		}
	}
	return out
}

// poisons are what may come to stand in the keys of a logical clock, by name.
func poisons(epoch, tags string) map[string]func(ctx context.Context, hand redis.UniversalClient) error {
	out := map[string]func(context.Context, redis.UniversalClient) error{}
	put := func(name string, f func(fields []string) string) {
		out[name] = func(ctx context.Context, hand redis.UniversalClient) error {
			text, err := hand.Get(ctx, epoch).Result()
			if err != nil && err != redis.Nil {
				return err
			}
			fields := strings.Fields(text)
			if len(fields) != 10 {
				fields = strings.Fields("e1 1 2 3 0 0 0 0 0 0")
			}
			return hand.Set(ctx, epoch, f(fields), 0).Err()
		}
	}
	for i, name := range []string{"head", "epoch", "tick", "clock", "floor", "hard", "soft", "next", "when", "flag"} {
		for _, val := range []string{
			"9007199254740991", "9007199254740990", "9007199254740992", "18446744073709551615", "-1", "0", "1", "1.5", "1e300", "NaN", "inf", "0x7f", "x", "",
			strings.Repeat("9", 1000), "\x00",
		} {
			put(name+"="+val[:min(len(val), 20)], func(fields []string) string {
				fields = slices.Clone(fields)
				fields[i] = val
				return strings.Join(fields, " ")
			})
		}
	}
	put("all at their end", func([]string) string { return "e1" + strings.Repeat(" 9007199254740991", 8) + " 1" })
	put("an hour ahead", func(fields []string) string {
		at := fmt.Sprint(time.Now().Add(time.Hour).UnixMicro())
		fields[2], fields[3], fields[4], fields[5] = at, at, at, at
		return strings.Join(fields, " ")
	})
	put("huge", func([]string) string { return strings.Repeat("e1 1 ", 1_000_000) })
	for name, other := range map[string]func(ctx context.Context, tx redis.Pipeliner, key string){
		"removed":  func(context.Context, redis.Pipeliner, string) {},
		"a list":   func(ctx context.Context, tx redis.Pipeliner, key string) { tx.RPush(ctx, key, "x") },
		"a hash":   func(ctx context.Context, tx redis.Pipeliner, key string) { tx.HSet(ctx, key, "", "1") },
		"a string": func(ctx context.Context, tx redis.Pipeliner, key string) { tx.Set(ctx, key, "x", 0) },
	} {
		for what, key := range map[string]string{"the epoch": epoch, "the tags": tags} {
			out[what+" "+name] = func(ctx context.Context, hand redis.UniversalClient) error {
				// In one step: the cache may make the key again at any time.
				_, err := hand.TxPipelined(ctx, func(tx redis.Pipeliner) error {
					tx.Del(ctx, key)
					other(ctx, tx, key)
					return nil
				})
				return err
			}
		}
	}
	for _, field := range []string{"", "t:t", "t:u", "foreign"} {
		for _, val := range []string{
			"m1 9007199254740991 0 0 0", "m1 0 9007199254740991 0 0", "m1 0 0 9007199254740991 1", "m1 0 0 0 9007199254740991", "m1 -1 0 0 0", "m1 1e9 0 0 0",
			"9007199254740991", "", "x", strings.Repeat("m1 1 ", 100_000), fmt.Sprint("m1 ", time.Now().Add(time.Hour).UnixMicro(), " 0 0 0"),
		} {
			out[fmt.Sprintf("field %q=%.40s", field, val)] = func(ctx context.Context, hand redis.UniversalClient) error {
				return hand.HSet(ctx, tags, field, val).Err()
			}
		}
	}
	return out
}

// Whatever stands in the keys of the logical clock: what is written afterwards is kept, what
// is invalidated is gone, and nothing fails, in a process that has been there all the time,
// and in a new one. Without CACHE_TEST_LONG each of what may stand there is tried in some of the
// processes.
func TestNothingInTheLogicalClockPoisonsACache(t *testing.T) {
	redistest.Thorough(t)
	t.Parallel()
	turn, turns := 0, redistest.Times(3, 1)
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for name, hears := range map[string]cache.Option{
			"two tiers": cache.WithOptions(withLocal, slowly), "one tier": cache.WithOptions(cache.WithTransport(invalidate.NoTransport()), slowly),
		} {
			t.Run(name, func(t *testing.T) {
				own := *b
				own.Prefix += strings.ReplaceAll(name, " ", "") + ":"
				ctx, clocks := t.Context(), clocksOf(&own, "n")
				c := process(t, &own, "n", cache.Source[string, int]{}, hears)
				n := 0
				works := func(t *testing.T, c *cache.Cache[string, int]) {
					t.Helper()
					key := func(kind string) string { return fmt.Sprint(kind, n) }
					kept := func(key string, want int) {
						t.Helper()
						for range 2 {
							v, err := c.GetOrLoad(ctx, key, func(context.Context, string) (int, error) { return -1, nil }, cache.SkipLocal())
							if v != want || err != nil {
								t.Fatalf("%s is %d instead of %d, %v", key, v, want, err)
							}
						}
					}
					gone := func(key string) {
						t.Helper()
						if v, err := c.Get(ctx, key); err == nil {
							t.Fatalf("%s is %d after an invalidation", key, v)
						}
					}
					must := func(err error) {
						t.Helper()
						if err != nil {
							t.Fatal(err)
						}
					}
					n++
					must(c.Set(ctx, key("plain"), n))
					must(c.Set(ctx, key("tagged"), n, cache.Tags("t")))
					kept(key("plain"), n)
					kept(key("tagged"), n)
					if v, err := c.GetOrLoad(ctx, key("loaded"), func(context.Context, string) (int, error) { return n, nil }); v != n || err != nil {
						t.Fatal(v, err)
					}
					kept(key("loaded"), n)
					must(c.InvalidateTags(ctx, "u"))
					kept(key("tagged"), n)
					must(c.InvalidateTags(ctx, "t"))
					gone(key("tagged"))
					must(c.Set(ctx, key("tagged"), n, cache.Tags("t")))
					kept(key("tagged"), n)
					kept(key("plain"), n)
					must(c.Clear(ctx))
					gone(key("plain"))
					gone(key("tagged"))
				}
				// What was there may be gone, once: what is written before it is noticed included. The
				// read that follows has the last Clear sent again, which may hit what is stored within
				// a round trip of it.
				overcome := func(what string) {
					t.Helper()
					probe := func() error {
						_, err := c.GetOrLoad(ctx, "probe", func(context.Context, string) (int, error) { return 1, nil }, cache.SkipLocal())
						return err
					}
					eventually(t, what+" is overcome", func() bool {
						return probe() == nil && c.InvalidateTags(ctx, "t", "u") == nil && probe() == nil && c.Sync(ctx) == nil
					})
				}
				works(t, c)
				all := poisonsOf(clocks)
				// Last: while the logical clock is more than a second ahead of Redis's clock, what is
				// sent again hits everything from before.
				ahead := func(what string) int { return strings.Index(what, "an hour ahead") }
				turn++
				for i, what := range slices.SortedFunc(maps.Keys(all), func(a, b string) int {
					return cmp.Or(cmp.Compare(ahead(a), ahead(b)), cmp.Compare(a, b))
				}) {
					if (i+turn)%turns != 0 {
						continue
					}
					if err := all[what](ctx, own.Client); err != nil {
						t.Fatal(err)
					}
					overcome(what)
					t.Run(fmt.Sprintf("%.60q", what), func(t *testing.T) { works(t, c) })
				}
				works(t, process(t, &own, "n", cache.Source[string, int]{}, hears))
				for _, names := range clocks {
					for _, key := range []string{names.Epoch, names.Tags} {
						if err := own.Client.Del(ctx, key).Err(); err != nil {
							t.Fatal(err)
						}
					}
				}
				overcome("a loss of both")
				works(t, c)
			})
		}
	})
}

// A clock that others have pushed ahead by an hour is a clock like any other.
func TestAClockAnHourAheadLosesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		writer := process(t, b, "n", cache.Source[string, int]{}, slowly)
		epoch := clockOf(b, "n", writer.RedisKey("k")).Epoch
		if err := writer.Set(ctx, "k", 1); err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(b.Client.Get(ctx, epoch).Val())
		at := fmt.Sprint(time.Now().Add(time.Hour).UnixMicro())
		fields[2], fields[3] = at, at
		if err := b.Client.Set(ctx, epoch, strings.Join(fields, " "), 0).Err(); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*cache.Cache[string, int]{writer, process(t, b, "n", cache.Source[string, int]{}, slowly)} {
			if v, err := c.Get(ctx, "k"); v != 1 || err != nil {
				t.Error(v, err)
			}
		}
		if now := strings.Fields(b.Client.Get(ctx, epoch).Val()); now[1] != fields[1] {
			t.Errorf("another epoch: %v after %v", now, fields)
		}
	})
}
