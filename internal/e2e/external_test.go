package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

var (
	trackingKeys = cache.WithOptions(transports["keys"]...)
	tracking     = cache.WithOptions(transports["tracking"]...)
	broadcast    = cache.WithOptions(transports["broadcast"]...)

	slowly = cache.WithTimeout(10 * time.Second) // for servers that are well, on a busy machine
)

// changesByHand are what people do to a key with redis-cli. The entry is gone after each.
var changesByHand = map[string]func(ctx context.Context, rdb redis.UniversalClient, key string) error{
	"SET": func(ctx context.Context, rdb redis.UniversalClient, key string) error {
		return rdb.Set(ctx, key, "text", 0).Err()
	},
	"DEL": func(ctx context.Context, rdb redis.UniversalClient, key string) error { return rdb.Del(ctx, key).Err() },
	"EXPIRE": func(ctx context.Context, rdb redis.UniversalClient, key string) error {
		return rdb.Expire(ctx, key, 0).Err()
	},
	"PEXPIRE": func(ctx context.Context, rdb redis.UniversalClient, key string) error {
		return rdb.PExpire(ctx, key, 20*time.Millisecond).Err()
	},
	"RENAME": func(ctx context.Context, rdb redis.UniversalClient, key string) error {
		return rdb.Rename(ctx, key, "{"+key+"}2").Err()
	},
	"HSET": func(ctx context.Context, rdb redis.UniversalClient, key string) error {
		return errors.Join(rdb.Del(ctx, key).Err(), rdb.HSet(ctx, key, "f", "v").Err())
	},
	"FLUSHALL": flush("flushall"),
	"FLUSHDB":  flush("flushdb"),
}

func flush(how string) func(context.Context, redis.UniversalClient, string) error {
	return func(ctx context.Context, rdb redis.UniversalClient, _ string) error {
		if c, ok := rdb.(*redis.ClusterClient); ok {
			return c.ForEachMaster(ctx, func(ctx context.Context, rdb *redis.Client) error { return rdb.Do(ctx, how).Err() })
		}
		return rdb.Do(ctx, how).Err()
	}
}

// With Tracking, what is done to a key by hand is seen as soon as the server tells of
// it; with Broadcast when the local entry ends at the latest.
func TestChangesByHand(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	sideBySide(t, []string{"server", "cluster"}, func(t *testing.T, kind string) {
		var connect func() redis.UniversalClient
		if kind == "server" {
			s := redistest.Start(t)
			connect = func() redis.UniversalClient { return s.Client(t) }
		} else {
			c := redistest.StartCluster(t, 3)
			connect = func() redis.UniversalClient { return c.Client(t) }
		}
		hand := connect()
		const localTTL = 300 * time.Millisecond
		w := newWorld(t)
		nodes := map[string]*cache.Cache[string, int64]{
			"tracking":      w.node(connect(), tracking, slowly),
			"tracking keys": w.node(connect(), trackingKeys, slowly),
			"broadcast":     w.node(connect(), broadcast, slowly, cache.WithStrategy(strategy.LocalTTL(localTTL))),
		}
		other := w.node(connect(), broadcast, slowly)
		for transport, c := range nodes {
			for name, change := range changesByHand {
				for _, owner := range []string{"own", "another's"} {
					t.Run(transport+"/"+name+"/"+owner, func(t *testing.T) {
						ctx := t.Context()
						key := transport + name + owner
						loader := c
						if owner != "own" {
							loader = other
						}
						if _, err := loader.Get(ctx, key); err != nil {
							t.Fatal(err)
						}
						becomesLocal(t, c, key, 0)
						w.count(key)
						if err := change(ctx, hand, c.RedisKey(key)); err != nil {
							t.Fatal(err)
						}
						changed := time.Now()
						awaits(t, "the change to be seen", func() error {
							began := time.Now()
							v, err := c.Get(ctx, key)
							if err != nil {
								t.Fatal(err)
							}
							if age := began.Sub(changed); v == 0 && transport == "broadcast" && age > localTTL {
								// PEXPIRE takes its time in Redis itself.
								if name != "PEXPIRE" || age > localTTL+time.Second {
									t.Fatalf("seen %v after the change", age)
								}
							}
							if v == 0 {
								return errors.New("it is the old value")
							}
							return nil
						})
					})
				}
			}
		}
	})
}

// becomesLocal reads a key until its value comes from the local tier.
func becomesLocal(t *testing.T, c *cache.Cache[string, int64], key string, want int64) {
	t.Helper()
	awaits(t, key+" in the local tier", func() error {
		var info cache.Info
		v, err := c.Get(context.Background(), key, cache.Report(&info))
		if err != nil || v != want || info.Tier != metrics.Local {
			return fmt.Errorf("%d, %v from %v, and not %d", v, err, info.Tier, want)
		}
		return nil
	})
}

// A change by hand is not taken for this process's own, however alike they look.
func TestADeleteByHandAfterAnOwnOne(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t)
	w := newWorld(t)
	a, b := w.node(s.Client(t), tracking, slowly), w.node(s.Client(t), tracking, slowly)
	for name, remove := range map[string]func(key string) error{
		"Delete":     func(key string) error { return a.Delete(ctx, key) },
		"a TTL of 0": func(key string) error { return a.Set(ctx, key, 9, cache.TTL(0)) },
		"Invalidate": func(key string) error { return a.Invalidate(ctx, key) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := errors.Join(remove(name), b.Set(ctx, name, 0)); err != nil {
				t.Fatal(err)
			}
			becomesLocal(t, a, name, 0)
			w.count(name)
			if err := s.Client(t).Del(ctx, a.RedisKey(name)).Err(); err != nil {
				t.Fatal(err)
			}
			awaits(t, "the change to be seen", func() error {
				if v, err := a.Get(ctx, name); err != nil || v != 1 {
					return fmt.Errorf("%d, %v", v, err)
				}
				return nil
			})
		})
	}
}

// After a flush, tags, Clear and Set work as before, and nothing from before the flush
// is a hit, even if it comes back.
func TestAfterAFlushByHand(t *testing.T) {
	redistest.Require(t)
	sideBySide(t, []string{"broadcast", "tracking", "keys"}, func(t *testing.T, transport string) {
		s := redistest.Start(t)
		hand := s.Client(t)
		w := newWorld(t)
		opts := cache.WithOptions(append([]cache.Option{slowly}, transports[transport]...)...)
		a, b := w.node(s.Client(t), opts), w.node(s.Client(t), opts)
		for _, key := range usual {
			t.Run(key, func(t *testing.T) {
				ctx := t.Context()
				before, err := a.Get(ctx, key)
				if err != nil {
					t.Fatal(err)
				}
				becomesLocal(t, a, key, before)
				becomesLocal(t, b, key, before)
				raw, err := hand.Get(ctx, a.RedisKey(key)).Result()
				if err != nil {
					t.Fatal(err)
				}
				if err := hand.FlushAll(ctx).Err(); err != nil {
					t.Fatal(err)
				}
				n, err := w.write(ctx, a, key)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(key, "tag") || key == "clear" {
					// It is of an epoch that has ended.
					if err := hand.SetNX(ctx, a.RedisKey(key), raw, 0).Err(); err != nil {
						t.Fatal(err)
					}
				}
				if v, err := a.Get(ctx, key); err != nil || v != n {
					t.Errorf("who wrote %d reads %d, %v", n, v, err)
				}
				becomesLocal(t, b, key, n)
			})
		}
	})
}

// Losing what belongs to the logical clock costs misses, never truth.
func TestTheClockIsLost(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		sideBySide(t, []string{"epoch", "tags"}, func(t *testing.T, lost string) {
			s := redistest.Start(t)
			hand := s.Client(t)
			w := newWorld(t)
			opts := cache.WithOptions(append([]cache.Option{slowly, cache.WithPrefix("p")}, transports[transport]...)...)
			a, b := w.node(s.Client(t), opts), w.node(s.Client(t), opts)
			for range 3 {
				for _, key := range usual {
					ctx := t.Context()
					if _, err := b.Get(ctx, key); err != nil {
						t.Fatal(err)
					}
					n, err := w.write(ctx, a, key)
					if err != nil {
						t.Fatal(err)
					}
					if err := hand.Del(ctx, "p:{c:n}:"+lost).Err(); err != nil {
						t.Fatal(err)
					}
					if v, err := a.Get(ctx, key); err != nil || v != n {
						t.Errorf("%s: who wrote %d reads %d, %v", key, n, v, err)
					}
					awaits(t, "the other to see it", func() error {
						if v, err := b.Get(ctx, key); err != nil || v != n {
							return fmt.Errorf("%s: %d, %v, and not %d", key, v, err, n)
						}
						return nil
					})
				}
			}
		})
	})
}

// Everything can be evicted, the clock included.
func TestEviction(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		ctx := t.Context()
		s := redistest.Start(t, redistest.MaxMemory("3mb", "allkeys-random"))
		w := newWorld(t)
		opts := cache.WithOptions(append([]cache.Option{slowly}, transports[transport]...)...)
		a, b := w.node(s.Client(t), opts), w.node(s.Client(t), opts)
		stop := w.live(a, map[string]*cache.Cache[string, int64]{"b": b}, nil)
		defer stop()
		hand := s.Client(t)
		for i := 0; i < 20_000; i += 200 {
			pipe := hand.Pipeline()
			for j := range 200 {
				pipe.Set(ctx, fmt.Sprint("filler", i+j), make([]byte, 500), 0)
			}
			if _, err := pipe.Exec(ctx); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		w.settle(a, b)
		info, err := hand.InfoMap(ctx, "stats").Result()
		if evicted := info["Stats"]["evicted_keys"]; err != nil || evicted == "0" {
			t.Errorf("%s keys were evicted, %v", evicted, err)
		}
	})
}

// A server that takes no writes costs nothing but loads.
func TestOutOfMemory(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		ctx := t.Context()
		s := redistest.Start(t)
		hand := s.Client(t)
		w := newWorld(t)
		c := w.node(s.Client(t), append([]cache.Option{slowly}, transports[transport]...)...)
		if err := hand.ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for _, key := range usual {
				var info cache.Info
				if _, err := c.Get(ctx, key, cache.Report(&info)); err != nil || info.Tier != metrics.Source {
					t.Errorf("%s: %v, from %v", key, err, info.Tier)
				}
				if n, err := hand.Exists(ctx, c.RedisKey(key)).Result(); n != 0 || err != nil {
					t.Errorf("%s: %d records, %v", key, n, err)
				}
			}
		}
		if err := c.Set(ctx, "set 1", 0); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("Set: %v", err)
		}
		if err := hand.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
			t.Fatal(err)
		}
		w.settle(c)
		for _, key := range usual {
			var info cache.Info
			if _, err := c.Get(ctx, key, cache.SkipLocal(), cache.Report(&info)); err != nil || info.Tier != metrics.Remote {
				t.Errorf("afterwards, %s: %v, from %v", key, err, info.Tier)
			}
		}
	})
}
