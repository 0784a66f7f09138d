package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

var fleetTransports = map[string]invalidate.Transport{"broadcast": invalidate.Broadcast(), "tracking": invalidate.Tracking(), "tracking keys": invalidate.TrackingKeys()}

// listening returns the number of connections that have subscribed to something.
func listening(t *testing.T, c redis.UniversalClient) int {
	t.Helper()
	list, err := c.Do(t.Context(), "client", "list", "type", "pubsub").Text()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(list, "id=")
}

// A process has one subscription for all of its caches, which are coherent all the same; it ends
// with the last one.
func TestTheCachesOfAProcessShareASubscription(t *testing.T) {
	t.Parallel()
	for name, transport := range fleetTransports {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			admin := server.Client(t)
			var processes [2][]*cache.Cache[string, int]
			for p := range processes {
				rdb := redis.NewClient(server.Options())
				t.Cleanup(func() { rdb.Close() })
				for i := range 50 {
					c, err := cache.New[string, int](rdb, fmt.Sprint("c", i), cache.WithTransport(transport), cache.WithTimeout(10*time.Second),
						cache.WithStrategy(strategy.LRU(100), strategy.Jitter(0)))
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { c.Close() })
					processes[p] = append(processes[p], c)
				}
			}
			a, b := processes[0], processes[1]
			for i := range a {
				if err := a[i].Set(t.Context(), "k", i); err != nil {
					t.Fatal(err)
				}
				awaits(t, "a local hit", func() error {
					if v, err := b[i].Get(t.Context(), "k"); err != nil || v != i {
						t.Fatalf("cache %d: %d, %v", i, v, err)
					}
					if b[i].Metrics().LocalHits == 0 {
						return errors.New("none yet")
					}
					return nil
				})
			}
			if n := listening(t, admin); n != 2 {
				t.Errorf("%d connections listen", n)
			}
			for i := range a {
				if err := a[i].Set(t.Context(), "k", 1000+i); err != nil {
					t.Fatal(err)
				}
			}
			for i := range b {
				awaits(t, "the write to be seen", func() error {
					if v, err := b[i].Get(t.Context(), "k"); err != nil || v != 1000+i {
						return fmt.Errorf("%d, %v", v, err)
					}
					return nil
				})
				if n := b[i].Metrics().Flushes; n > 0 {
					t.Errorf("cache %d was flushed %d times", i, n)
				}
			}
			for i := range b {
				if err := b[i].Close(); err != nil {
					t.Error(err)
				}
				if n := listening(t, admin); i < len(b)-1 && n != 2 {
					t.Errorf("%d connections listen after %d caches were closed", n, i+1)
				}
			}
			awaits(t, "the subscription to end", func() error {
				if n := listening(t, admin); n != 1 {
					return fmt.Errorf("%d connections listen", n)
				}
				return nil
			})
		})
	}
}

// A miss that no other process waits for sends no message, and one that another process waits for
// wakes it.
func TestAMissIsToldToThoseWhoWait(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		var all []*cache.Cache[string, string]
		for range 3 {
			c, err := cache.New[string, string](b.NewClient(t), "n", cache.WithPrefix(b.Prefix), cache.WithTimeout(10*time.Second), cache.WithStrategy(strategy.LRU(1000)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			all = append(all, c)
			awaits(t, "it to listen", func() error {
				if err := c.Set(t.Context(), "other", "v"); err != nil {
					return err
				}
				if _, err := c.Get(t.Context(), "other"); err != nil || c.Metrics().LocalHits == 0 {
					return fmt.Errorf("no local hit: %v", err)
				}
				return nil
			})
		}
		// Nodes of a cluster may lose what they forward: there it is not known when all has come.
		_, cluster := b.Client.(*redis.ClusterClient)
		events := b.Prefix + ":{c:n}:events"
		sub, waiters := b.NewClient(t).Subscribe(t.Context(), events), b.NewClient(t).PSubscribe(t.Context(), events+":w:*")
		for _, sub := range []*redis.PubSub{sub, waiters} {
			defer sub.Close()
			if _, err := sub.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 100 {
			if _, err := all[i%3].GetOrLoad(t.Context(), fmt.Sprint("k", i), func(context.Context, string) (string, error) { return "v", nil }); err != nil {
				t.Fatal(err)
			}
		}
		if err := all[0].Set(t.Context(), "end", "v"); err != nil {
			t.Fatal(err)
		}
		for !cluster {
			m, err := sub.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(m.Payload, "end") {
				break
			}
			if strings.Contains(m.Payload, "\x02k") || strings.Contains(m.Payload, "\x03k") {
				t.Errorf("a miss was published: %q", m.Payload)
			}
		}
		began, end := make(chan struct{}), make(chan struct{})
		begins, loads := sync.OnceFunc(func() { close(began) }), new(atomic.Int32)
		got := make(chan error, 3)
		for i, c := range all {
			go func() {
				v, err := c.GetOrLoad(t.Context(), "awaited", func(context.Context, string) (string, error) {
					loads.Add(1)
					begins()
					<-end
					return "v", nil
				})
				if err == nil && v != "v" {
					err = fmt.Errorf("%q", v)
				}
				got <- err
			}()
			if i == 0 {
				<-began
			}
		}
		awaits(t, "a sign on the lease", func() error {
			raw, err := b.Client.Get(t.Context(), all[0].RedisKey("awaited")).Result()
			if err == nil && len(raw) != 36+2*8 {
				err = fmt.Errorf("it has %d bytes", len(raw)-36)
			}
			return err
		})
		close(end)
		for range all {
			if err := <-got; err != nil {
				t.Error(err)
			}
		}
		// A process that is not run for a second loses its lease, and another one loads: then what the
		// first has loaded is refused.
		var refused uint64
		for _, c := range all {
			refused += c.Totals().Outdated
		}
		if n := uint64(loads.Load()); n > 1+refused {
			t.Errorf("%d loads, of which %d had lost their leases", n, refused)
		}
		if err := all[0].Set(t.Context(), "end", "w"); err != nil {
			t.Fatal(err)
		}
		for !cluster {
			m, err := sub.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(m.Payload, "awaited") {
				t.Errorf("all were told of the end of a load: %q", m.Payload)
			}
			if strings.Contains(m.Payload, "end") {
				break
			}
		}
		told := map[string]bool{}
		for !cluster && len(told) < 2 {
			m, err := waiters.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if told[m.Channel] || !strings.Contains(m.Payload, "awaited") {
				t.Errorf("%q to %q", m.Payload, m.Channel)
			}
			told[m.Channel] = true
		}
	})
}

// severalLanes has the cache c0 of a client use several tracked connections at once.
func severalLanes(t *testing.T, admin, rdb *redis.Client) {
	t.Helper()
	c, err := cache.New[string, int](rdb, "c0", cache.WithTransport(invalidate.TrackingKeys()), cache.WithTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	awaits(t, "several tracked connections", func() error {
		if err := admin.ClientPause(t.Context(), 50*time.Millisecond).Err(); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if _, err := c.Peek(t.Context(), fmt.Sprint("burst", i)); !errors.Is(err, cache.ErrMiss) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		list, err := admin.ClientList(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		tracked := 0
		for line := range strings.Lines(list) {
			if !strings.Contains(line, " redir=-1 ") && !strings.Contains(line, " redir=0 ") {
				tracked++
			}
		}
		if tracked < 3 {
			return fmt.Errorf("there are %d", tracked)
		}
		return nil
	})
}

// What an idle process costs Redis does not grow with its caches: it is at most 5 commands a
// second, on one server, with one cache and with 50, and with TrackingKeys however many
// connections it has used at once before.
func TestAnIdleProcessCostsLittle(t *testing.T) {
	t.Parallel()
	for name, transport := range fleetTransports {
		for _, caches := range []int{1, 50} {
			t.Run(fmt.Sprint(name, caches), func(t *testing.T) {
				t.Parallel()
				server := redistest.Start(t)
				admin := server.Client(t)
				rdb := redis.NewClient(server.Options())
				t.Cleanup(func() { rdb.Close() })
				for i := range caches {
					c, err := cache.New[string, int](rdb, fmt.Sprint("c", i), cache.WithTransport(transport), cache.WithTimeout(10*time.Second),
						cache.WithStrategy(strategy.LRU(100), strategy.Jitter(0)))
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { c.Close() })
					if err := c.Set(t.Context(), "k", i); err != nil {
						t.Fatal(err)
					}
				}
				if name == "tracking keys" {
					severalLanes(t, admin, rdb)
				}
				commands := func() (n int) {
					stats, err := admin.Info(t.Context(), "stats").Result()
					if err != nil {
						t.Fatal(err)
					}
					_, rest, _ := strings.Cut(stats, "total_commands_processed:")
					if _, err := fmt.Sscan(rest, &n); err != nil {
						t.Fatal(err)
					}
					return n
				}
				const span = 6 * time.Second // a look at the clocks at least
				const most = 5
				for start := time.Now(); ; {
					began, before := time.Now(), commands()
					time.Sleep(span)
					n, d := commands()-before-1, time.Since(began) // without its own
					t.Logf("%d commands in %v", n, d)
					if float64(n) <= most*d.Seconds()+3 { // a round of heartbeats more or less
						break
					}
					if time.Since(start) > 2*time.Minute {
						t.Fatalf("%d commands in %v", n, d)
					}
				}
			})
		}
	}
}

// A process that is idle needs two connections: its subscription, and one for commands. With many
// caches a caller may have come at the moment of a heartbeat. A connection more is opened, too, where
// the machine has no time for what is to be done; so a process has several attempts.
func TestAnIdleProcessNeedsFewConnections(t *testing.T) {
	t.Parallel()
	for name, transport := range fleetTransports {
		for _, caches := range []int{1, 50} {
			t.Run(fmt.Sprint(name, caches), func(t *testing.T) {
				t.Parallel()
				server := redistest.Start(t)
				least, want := 100, 2
				if caches > 1 || name != "broadcast" {
					want = 4
				}
				for attempt := 0; least > want; attempt++ {
					if attempt == 20 {
						t.Fatalf("there are %d at least", least)
					}
					rdb := redis.NewClient(server.Options())
					var all []*cache.Cache[string, int]
					for i := range caches {
						c, err := cache.New[string, int](rdb, fmt.Sprint("c", i), cache.WithTransport(transport), cache.WithTimeout(10*time.Second),
							cache.WithStrategy(strategy.LRU(100), strategy.Jitter(0)))
						if err != nil {
							t.Fatal(err)
						}
						all = append(all, c)
						if _, err := c.GetOrLoad(t.Context(), fmt.Sprint("k", attempt), func(context.Context, string) (int, error) { return i, nil }); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(3 * time.Second) // heartbeats, and touches of the clocks
					stats := rdb.PoolStats()
					n := int(stats.TotalConns) + 1 // that of the subscription is not of the pool
					if stats.PipelineStats != nil {
						n += int(stats.PipelineStats.TotalConns)
					}
					least = min(least, n)
					for _, c := range all {
						if err := c.Close(); err != nil {
							t.Error(err)
						}
					}
					if err := rdb.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}
