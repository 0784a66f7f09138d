package benchmarks

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	rediscache "github.com/go-redis/cache/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// redisOnly is this library without a local tier, as it comes, or with what changes it.
func redisOnly(b *testing.B, rdb redis.UniversalClient, opts ...cache.Option) *cache.Cache[string, []byte] {
	b.Helper()
	c, err := cache.New[string, []byte](rdb, "bench", append([]cache.Option{
		cache.WithStrategy(strategy.TTL(life)), cache.WithTimeout(5 * time.Second)}, opts...)...)
	must(b, err)
	b.Cleanup(func() { c.Close() })
	return c
}

// shared is what every library needs to read, write and load one key.
type shared struct {
	get  func(k string) ([]byte, error)
	set  func(k string, v []byte) error
	load func(k string, load func() ([]byte, error)) ([]byte, error) // nil: it can't
}

var remoteNames = []string{"cache", "cache-listening", "go-redis", "go-redis-autopipeline", "go-redis-cache", "rueidis"}

// openShared opens every library. Their keys differ, so that each may have its own
// format; the names are of one length.
func openShared(b *testing.B, s *redistest.Server) map[string]shared {
	b.Helper()
	rdb := client(b, s)
	auto, err := client(b, s).AutoPipeline()
	must(b, err)
	rc := rueidisClient(b, s)
	foreign := rediscache.New(&rediscache.Options{Redis: client(b, s)})
	return map[string]shared{
		"cache":                 oursShared(redisOnly(b, client(b, s))),
		"cache-listening":       oursShared(redisOnly(b, client(b, s), cache.WithTransport(invalidate.Broadcast()))),
		"go-redis":              byHand(rdb, rdb),
		"go-redis-autopipeline": byHand(rdb, auto),
		"go-redis-cache": {
			get: func(k string) (v []byte, err error) { err = foreign.Get(ctx, "other:"+k, &v); return v, err },
			set: func(k string, v []byte) error {
				return foreign.Set(&rediscache.Item{Ctx: ctx, Key: "other:" + k, Value: v, TTL: life})
			},
			load: func(k string, load func() ([]byte, error)) (v []byte, err error) {
				err = foreign.Once(&rediscache.Item{Ctx: ctx, Key: "other:" + k, Value: &v, TTL: life,
					Do: func(*rediscache.Item) (any, error) { return load() }})
				return v, err
			},
		},
		"rueidis": {
			get: func(k string) ([]byte, error) { return rc.Do(ctx, rc.B().Get().Key("plain:"+k).Build()).AsBytes() },
			set: func(k string, v []byte) error {
				return rc.Do(ctx, rc.B().Set().Key("plain:"+k).Value(rueidis.BinaryString(v)).Px(life).Build()).Error()
			},
			load: func(k string, load func() ([]byte, error)) ([]byte, error) {
				v, err := rc.Do(ctx, rc.B().Get().Key("plain:"+k).Build()).AsBytes()
				if !rueidis.IsRedisNil(err) {
					return v, err
				}
				if v, err = load(); err != nil {
					return nil, err
				}
				return v, rc.Do(ctx, rc.B().Set().Key("plain:"+k).Value(rueidis.BinaryString(v)).Px(life).Build()).Error()
			},
		},
	}
}

func oursShared(c *cache.Cache[string, []byte]) shared {
	return shared{
		get: func(k string) ([]byte, error) { return c.Get(ctx, k) },
		set: func(k string, v []byte) error { return c.Set(ctx, k, v) },
		load: func(k string, load func() ([]byte, error)) ([]byte, error) {
			return c.GetOrLoad(ctx, k, func(context.Context, string) ([]byte, error) { return load() })
		},
	}
}

// byHand is what a program does without a cache library.
func byHand(writer *redis.Client, reader redis.Cmdable) shared {
	return shared{
		get: func(k string) ([]byte, error) { return reader.Get(ctx, "plain:"+k).Bytes() },
		set: func(k string, v []byte) error { return reader.Set(ctx, "plain:"+k, v, life).Err() },
		load: func(k string, load func() ([]byte, error)) ([]byte, error) {
			v, err := reader.Get(ctx, "plain:"+k).Bytes()
			if err != redis.Nil {
				return v, err
			}
			if v, err = load(); err != nil {
				return nil, err
			}
			return v, reader.Set(ctx, "plain:"+k, v, life).Err()
		},
	}
}

func setAll(b *testing.B, s shared, keys []string, val []byte) {
	b.Helper()
	share(b, 16, func(from, to int) error { return nil }) // resets what was measured
	errs := make(chan error, 16)
	for w := range 16 {
		go func() {
			for i := w; i < len(keys); i += 16 {
				if err := s.set(keys[i], val); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 16 {
		must(b, <-errs)
	}
}

// BenchmarkRemoteHit reads what is in Redis, and in no process. "cache" is the library
// as it comes, which looks at its logical clock with each read; "cache-listening" hears
// of its changes instead. The limit is redis-benchmark on one connection that has as
// many commands under way as there are callers.
func BenchmarkRemoteHit(b *testing.B) {
	s := server(b)
	libs := openShared(b, s)
	for _, size := range which([]int{64, 1024, 16384}, 64, 1024) {
		keys, val := makeKeys(keyCount(size)), makeValue(size)
		for _, name := range []string{"cache", "go-redis", "go-redis-cache"} { // the others share these keys
			setAll(b, libs[name], keys, val)
		}
		for _, dist := range which([]string{"uniform", "zipf"}, "zipf") {
			seq := sequence(keys, dist)
			for _, callers := range which([]int{1, 8, 64, 256}, 1, 8, 64, 256) {
				run := func(lib string, f func(b *testing.B)) {
					b.Run(param("size", size)+"/"+param("keys", dist)+"/"+param("callers", callers)+"/"+param("lib", lib), f)
				}
				for _, lib := range remoteNames {
					get := libs[lib].get
					run(lib, func(b *testing.B) {
						share(b, callers, func(from, to int) error {
							for i := from; i < to; i++ {
								v, err := get(seq[i&(sequenceLen-1)])
								if err != nil {
									return err
								}
								if len(v) != size {
									return fmt.Errorf("%d bytes", len(v))
								}
							}
							return nil
						})
					})
				}
				run("redis-benchmark", func(b *testing.B) { redisBenchmark(b, s, callers, size) })
			}
		}
	}
}

// redisBenchmark is the physical limit, as Redis's own tool sees it.
func redisBenchmark(b *testing.B, s *redistest.Server, pipelined, size int) {
	_, port, _ := strings.Cut(s.Addr(), ":")
	n := max(b.N/pipelined*pipelined, pipelined)
	var out bytes.Buffer
	cmd := exec.Command("redis-benchmark", "-p", port, "-c", "1", "-P", strconv.Itoa(pipelined), "-n", strconv.Itoa(n), "--csv", "get", "plain:key-00000000")
	cmd.Stdout = &out
	must(b, cmd.Run())
	rows, err := csv.NewReader(&out).ReadAll()
	must(b, err)
	if len(rows) != 2 {
		must(b, fmt.Errorf("redis-benchmark printed %q", rows))
	}
	rate, err := strconv.ParseFloat(rows[1][1], 64)
	must(b, err)
	b.ReportMetric(1e9/rate, "ns/op")
}

// BenchmarkSet writes. A write of "cache" tells the other processes in the same step;
// "go-redis-publish" does so by hand, in a pipeline.
func BenchmarkSet(b *testing.B) {
	s := server(b)
	libs := openShared(b, s)
	delete(libs, "cache-listening") // the same
	rdb := client(b, s)
	libs["go-redis-publish"] = shared{set: func(k string, v []byte) error {
		pipe := rdb.Pipeline()
		pipe.Set(ctx, "plain:"+k, v, life)
		pipe.Publish(ctx, "news", k)
		_, err := pipe.Exec(ctx)
		return err
	}}
	names := append([]string{"go-redis-publish"}, remoteNames...)
	for _, size := range which([]int{64, 1024, 16384}, 1024) {
		keys, val := makeKeys(keyCount(size)), makeValue(size)
		seq := sequence(keys, "uniform")
		for _, callers := range which([]int{1, 8, 64, 256}, 1, 64) {
			for _, lib := range names {
				set := libs[lib].set
				if set == nil {
					continue
				}
				b.Run(param("size", size)+"/"+param("callers", callers)+"/"+param("lib", lib), func(b *testing.B) {
					share(b, callers, func(from, to int) error {
						for i := from; i < to; i++ {
							if err := set(seq[i&(sequenceLen-1)], val); err != nil {
								return err
							}
						}
						return nil
					})
				})
			}
		}
	}
}

// BenchmarkMiss reads what is nowhere, loads it at no cost, and stores it. "go-redis"
// and "rueidis" do it by hand, GET and SET, which loads as often as there are callers.
func BenchmarkMiss(b *testing.B) {
	s := server(b)
	libs := openShared(b, s)
	keys := new(fresh)
	for _, size := range which([]int{64, 1024, 16384}, 1024) {
		val := makeValue(size)
		load := func() ([]byte, error) { return val, nil }
		for _, callers := range which([]int{1, 8, 64, 256}, 1, 64) {
			for _, lib := range remoteNames {
				get := libs[lib].load
				b.Run(param("size", size)+"/"+param("callers", callers)+"/"+param("lib", lib), func(b *testing.B) {
					first := keys.take(b.N)
					share(b, callers, func(from, to int) error {
						for i := from; i < to; i++ {
							if _, err := get(freshKey(first+i), load); err != nil {
								return err
							}
						}
						return nil
					})
					b.StopTimer()
					must(b, client(b, s).FlushDB(ctx).Err())
				})
			}
		}
	}
}

// BenchmarkGetMany reads 100 keys at once.
func BenchmarkGetMany(b *testing.B) {
	const batch = 100
	s := server(b)
	rdb, rc := client(b, s), rueidisClient(b, s)
	c, hears := redisOnly(b, client(b, s)), redisOnly(b, client(b, s), cache.WithTransport(invalidate.Broadcast()))
	oursMany := func(c *cache.Cache[string, []byte]) func([]string) (int, error) {
		return func(keys []string) (int, error) {
			m, err := c.GetMany(ctx, keys)
			return len(m), err
		}
	}
	for _, size := range which([]int{64, 1024, 16384}, 64, 1024) {
		keys, val := makeKeys(keyCount(size)), makeValue(size)
		setAll(b, oursShared(c), keys, val)
		fill(b, rdb, "", keys, val)
		gets := []struct {
			lib string
			get func([]string) (int, error)
		}{
			{"cache", oursMany(c)},
			{"cache-listening", oursMany(hears)},
			{"go-redis-mget", func(keys []string) (int, error) {
				vals, err := rdb.MGet(ctx, keys...).Result()
				m := make(map[string][]byte, len(keys))
				for i, v := range vals {
					if s, ok := v.(string); ok {
						m[keys[i]] = []byte(s)
					}
				}
				return len(m), err
			}},
			{"go-redis-pipeline", func(keys []string) (int, error) {
				pipe := rdb.Pipeline()
				cmds := make([]*redis.StringCmd, len(keys))
				for i, k := range keys {
					cmds[i] = pipe.Get(ctx, k)
				}
				_, err := pipe.Exec(ctx)
				m := make(map[string][]byte, len(keys))
				for i, cmd := range cmds {
					if v, err := cmd.Bytes(); err == nil {
						m[keys[i]] = v
					}
				}
				return len(m), err
			}},
			{"rueidis-mget", func(keys []string) (int, error) {
				msgs, err := rueidis.MGet(rc, ctx, keys)
				m := make(map[string][]byte, len(keys))
				for k, msg := range msgs {
					if v, err := msg.AsBytes(); err == nil {
						m[k] = v
					}
				}
				return len(m), err
			}},
		}
		for _, callers := range which([]int{1, 8, 64}, 1, 8) {
			for _, g := range gets {
				b.Run(param("size", size)+"/"+param("callers", callers)+"/"+param("lib", g.lib), func(b *testing.B) {
					share(b, callers, func(from, to int) error {
						for i := from; i < to; i++ {
							at := i * batch % (len(keys) - batch)
							n, err := g.get(keys[at : at+batch])
							if err != nil {
								return err
							}
							if n != batch {
								return fmt.Errorf("%d of %d", n, batch)
							}
						}
						return nil
					})
				})
			}
		}
	}
}

// BenchmarkSetMany writes 100 keys at once.
func BenchmarkSetMany(b *testing.B) {
	const batch = 100
	s := server(b)
	rdb, rc := client(b, s), rueidisClient(b, s)
	c := redisOnly(b, client(b, s))
	for _, size := range which([]int{64, 1024, 16384}, 1024) {
		keys, val := makeKeys(batch), makeValue(size)
		all := make(map[string][]byte, batch)
		for _, k := range keys {
			all[k] = val
		}
		for _, set := range []struct {
			lib string
			set func() error
		}{
			{"cache", func() error { return c.SetMany(ctx, all) }},
			{"go-redis-pipeline", func() error {
				pipe := rdb.Pipeline()
				for k, v := range all {
					pipe.Set(ctx, "plain:"+k, v, life)
				}
				_, err := pipe.Exec(ctx)
				return err
			}},
			{"go-redis-pipeline-publish", func() error {
				pipe := rdb.Pipeline()
				for k, v := range all {
					pipe.Set(ctx, "plain:"+k, v, life)
					pipe.Publish(ctx, "news", k)
				}
				_, err := pipe.Exec(ctx)
				return err
			}},
			{"rueidis-domulti", func() error {
				cmds := make(rueidis.Commands, 0, batch)
				for k, v := range all {
					cmds = append(cmds, rc.B().Set().Key("plain:"+k).Value(rueidis.BinaryString(v)).Px(life).Build())
				}
				for _, r := range rc.DoMulti(ctx, cmds...) {
					if err := r.Error(); err != nil {
						return err
					}
				}
				return nil
			}},
		} {
			b.Run(param("size", size)+"/"+param("lib", set.lib), func(b *testing.B) {
				share(b, 1, func(from, to int) error {
					for range to - from {
						if err := set.set(); err != nil {
							return err
						}
					}
					return nil
				})
			})
		}
	}
}
