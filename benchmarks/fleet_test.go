package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// BenchmarkFleet measures what a fleet costs Redis: idle, for a write, and for a miss that no
// other process waits for. A process is a cache, or several, with a client of its own. One of
// the processes writes and loads; one other has the written keys in its local tier.
//
// Processor time and bytes are those of Redis, of all its nodes, and what the fleet costs when
// idle is subtracted from them.
func BenchmarkFleet(b *testing.B) {
	transports := []struct {
		name string
		is   invalidate.Transport
	}{{"broadcast", invalidate.Broadcast()}, {"tracking", invalidate.Tracking()}, {"tracking-keys", invalidate.TrackingKeys()}, {"none", invalidate.NoTransport()}}
	sizes := which([]int{1, 20, 100, 400}, 1, 20)
	if small {
		sizes = []int{2}
	}
	for _, on := range []string{"server", "cluster"} {
		b.Run(param("on", on), func(b *testing.B) {
			open := fleetOn[on](b)
			for _, t := range transports {
				for _, n := range sizes {
					b.Run(param("transport", t.name)+"/"+param("caches", 1)+"/"+param("processes", n), func(b *testing.B) {
						newFleet(b, open, t.is, n, 1).measure(b)
					})
				}
				b.Run(param("transport", t.name)+"/"+param("caches", 50)+"/"+param("processes", 1), func(b *testing.B) {
					f := newFleet(b, open, t.is, 1, 50)
					b.Run("op=idle", f.reportIdle)
				})
			}
		})
	}
}

// fleetOn starts servers, and returns them with a function that makes a client of them.
var fleetOn = map[string]func(b *testing.B) fleetServers{
	"server": func(b *testing.B) fleetServers {
		s := redistest.Start(b, redistest.Args("--maxclients", "20000"))
		return fleetServers{
			nodes: []*redis.Client{s.Client(b)},
			dial: func() redis.UniversalClient {
				return redis.NewClient(&redis.Options{Addr: s.Addr(), ContextTimeoutEnabled: true,
					MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
			},
		}
	},
	"cluster": func(b *testing.B) fleetServers {
		c := redistest.StartCluster(b, 3, redistest.Args("--maxclients", "20000"))
		f := fleetServers{dial: func() redis.UniversalClient { return redis.NewClusterClient(c.Options()) }}
		for _, s := range c.Nodes {
			f.nodes = append(f.nodes, s.Client(b))
		}
		return f
	},
}

type fleetServers struct {
	nodes []*redis.Client
	dial  func() redis.UniversalClient
}

// fleetCost is what servers have spent so far.
type fleetCost struct {
	cpu      time.Duration
	out      float64 // bytes sent to clients
	commands float64
	bus      float64 // messages that nodes of a cluster forwarded to each other
	clients  float64 // connections at this time
}

func (s fleetServers) cost(b *testing.B) (c fleetCost) {
	b.Helper()
	for _, node := range s.nodes {
		text, err := node.Info(ctx, "cpu", "stats", "clients").Result()
		must(b, err)
		if s := node.ClusterInfo(ctx); s.Err() == nil {
			text += s.Val()
		}
		for line := range strings.Lines(text) {
			name, val, _ := strings.Cut(strings.TrimSpace(line), ":")
			n, _ := strconv.ParseFloat(val, 64)
			switch name {
			case "used_cpu_sys", "used_cpu_user":
				c.cpu += time.Duration(n * 1e9)
			case "total_net_output_bytes":
				c.out += n
			case "total_commands_processed":
				c.commands += n
			case "cluster_stats_messages_publish_sent":
				c.bus += n
			case "connected_clients":
				c.clients += n
			}
		}
		c.clients-- // of the one who asks
	}
	return c
}

func (c fleetCost) since(before fleetCost) fleetCost {
	return fleetCost{c.cpu - before.cpu, c.out - before.out, c.commands - before.commands, c.bus - before.bus, c.clients}
}

type fleet struct {
	fleetServers
	caches []*cache.Cache[string, []byte] // one of each process
	keys   fresh
	idle   fleetCost     // in the time span
	span   time.Duration // 0: not measured yet
}

var fleets atomic.Int64

// newFleet starts processes, and waits until all of them listen.
func newFleet(b *testing.B, on fleetServers, t invalidate.Transport, processes, caches int) *fleet {
	f := &fleet{fleetServers: on}
	number := fleets.Add(1) // a fleet finds nothing that an earlier one has left
	for range processes {
		rdb := on.dial()
		b.Cleanup(func() { rdb.Close() })
		for i := range caches {
			c, err := cache.New[string, []byte](rdb, fmt.Sprintf("fleet-%d-%d", number, i), cache.WithTransport(t), cache.WithTimeout(10*time.Second),
				cache.WithLogger(slog.New(slog.DiscardHandler)), cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(life)))
			must(b, err)
			b.Cleanup(func() { c.Close() })
			_, err = c.GetOrLoad(ctx, "warm", func(context.Context, string) ([]byte, error) { return []byte("v"), nil })
			must(b, err)
			if i == 0 {
				f.caches = append(f.caches, c)
			}
		}
	}
	end := time.Now().Add(time.Minute)
	for _, c := range f.caches {
		for c.Metrics().Listener == metrics.Down {
			if time.Now().After(end) {
				must(b, errors.New("a process does not listen"))
			}
			time.Sleep(time.Millisecond)
		}
	}
	return f
}

// measureIdle measures for some seconds what is spent although nothing is read or written.
func (f *fleet) measureIdle(b *testing.B) {
	b.Helper()
	if f.span > 0 {
		return
	}
	settle, span := 12*time.Second, 10*time.Second
	if small {
		settle, span = 0, 50*time.Millisecond
	}
	time.Sleep(settle) // what was done last has its consequences, until the clocks rest
	before, began := f.cost(b), time.Now()
	time.Sleep(span)
	f.idle = f.cost(b).since(before)
	f.span = time.Since(began)
}

func (f *fleet) reportIdle(b *testing.B) {
	f.measureIdle(b)
	n := float64(len(f.caches)) * f.span.Seconds()
	b.ReportMetric(f.idle.commands/n, "commands/s")
	b.ReportMetric(f.idle.clients/float64(len(f.caches)*len(f.nodes)), "connections")
	b.ReportMetric(float64(f.idle.cpu.Microseconds())/n, "redis-µs/s")
}

func (f *fleet) measure(b *testing.B) {
	b.Run("op=idle", f.reportIdle)
	b.Run("op=set", func(b *testing.B) {
		n := min(b.N, 512)
		from := f.keys.take(n)
		holder := f.caches[len(f.caches)-1]
		for i := range n {
			must(b, holder.Set(ctx, freshKey(from+i), []byte("old")))
			_, err := holder.Get(ctx, freshKey(from+i))
			must(b, err)
		}
		f.each(b, func(i int) error { return f.caches[0].Set(ctx, freshKey(from+i%n), []byte("new")) })
	})
	b.Run("op=miss", func(b *testing.B) {
		from := f.keys.take(b.N)
		f.each(b, func(i int) error {
			_, err := f.caches[0].GetOrLoad(ctx, freshKey(from+i), func(context.Context, string) ([]byte, error) { return []byte("v"), nil })
			return err
		})
	})
	b.Run("op=awaited-miss", func(b *testing.B) {
		from := f.keys.take(b.N)
		f.each(b, func(i int) error { return f.loadTogether(freshKey(from + i)) })
	})
}

// loadTogether has two processes, the first and the last, ask for a key that takes a while to load.
func (f *fleet) loadTogether(key string) error {
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, c := range []*cache.Cache[string, []byte]{f.caches[0], f.caches[len(f.caches)-1]} {
		wg.Go(func() {
			_, errs[i] = c.GetOrLoad(ctx, key, func(context.Context, string) ([]byte, error) {
				time.Sleep(2 * time.Millisecond)
				return []byte("v"), nil
			})
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// each does something b.N times, one after the other, and reports what that cost Redis each
// time, with the messages that follow within some seconds.
func (f *fleet) each(b *testing.B, do func(i int) error) {
	f.measureIdle(b)
	time.Sleep(f.after())
	before, began := f.cost(b), time.Now()
	b.ResetTimer()
	for i := range b.N {
		if err := do(i); err != nil {
			must(b, fmt.Errorf("operation %d: %w", i, err))
		}
	}
	b.StopTimer()
	time.Sleep(f.after())
	c, idle := f.cost(b).since(before), time.Since(began).Seconds()/f.span.Seconds()
	n := float64(b.N)
	b.ReportMetric((float64(c.cpu.Nanoseconds())-idle*float64(f.idle.cpu.Nanoseconds()))/1000/n, "redis-µs/op")
	b.ReportMetric((c.out-idle*f.idle.out)/n, "out-B/op")
	b.ReportMetric((c.commands-idle*f.idle.commands)/n, "commands/op")
	if len(f.nodes) > 1 {
		b.ReportMetric((c.bus-idle*f.idle.bus)/n, "bus/op")
	}
}

// after is how long watermarks may follow a message.
func (f *fleet) after() time.Duration {
	if small {
		return 0
	}
	return 2 * time.Second
}
