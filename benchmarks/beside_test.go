package benchmarks

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/redis/go-redis/v9"
)

// network is a link that all connections to a server share: what they receive passes it one
// piece after the other, so that what is small finds its way between the pieces of what is large.
type network struct {
	bytesPerSecond float64

	mu   sync.Mutex
	free time.Time // when what has been taken has passed
}

func (n *network) pass(bytes int) {
	n.mu.Lock()
	if now := time.Now(); n.free.Before(now) {
		n.free = now
	}
	n.free = n.free.Add(time.Duration(float64(bytes) / n.bytesPerSecond * float64(time.Second)))
	wait := time.Until(n.free)
	n.mu.Unlock()
	if wait > time.Millisecond/2 { // less is not worth a timer: it adds up
		time.Sleep(wait)
	}
}

// networkConn is a connection whose replies pass a network.
type networkConn struct {
	net.Conn
	network *network
}

// packet is the most that passes a network at a time.
const packet = 32 << 10

func (c networkConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), packet)])
	c.network.pass(n)
	return n, err
}

// BenchmarkLargeBesideSmall reads small values while 4 others read values of 8 MiB, over a link of
// 125 MB/s: how long the small reads take at the 50th, 90th and 99th of 100, and how many fail,
// small and large. Every read has the time that this library gives it by default, 250 ms, and with
// go-redis the context has. It pauses between its reads, as callers do.
func BenchmarkLargeBesideSmall(b *testing.B) {
	const large, readers, smallReaders, smalls = 8<<20 - 200, 4, 32, 1000
	s := server(b)
	link := &network{bytesPerSecond: 125e6}
	over := func(o *redis.Options) {
		o.PoolSize, o.MaxRetries, o.ReadTimeout = 64, -1, time.Second
		o.Dialer = func(ctx context.Context, kind, addr string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, kind, addr)
			return networkConn{conn, link}, err
		}
	}
	writer, err := cache.New[string, []byte](client(b, s), "beside", cache.WithTimeout(time.Minute))
	must(b, err)
	b.Cleanup(func() { writer.Close() })
	size, many := large, smalls
	if small {
		size, many = 1<<20, smallReaders
	}
	for i := range readers {
		must(b, writer.Set(ctx, fmt.Sprint("large", i), make([]byte, size)))
	}
	for i := range many {
		must(b, writer.Set(ctx, fmt.Sprint("small", i), make([]byte, 200)))
	}
	c, err := cache.New[string, []byte](client(b, s, over), "beside", cache.WithLogger(slog.New(slog.DiscardHandler)))
	must(b, err)
	b.Cleanup(func() { c.Close() })
	plain := client(b, s, over)
	for _, lib := range []struct {
		name string
		get  func(key string) error
	}{
		{"cache", func(key string) error { _, err := c.Get(ctx, key); return err }},
		{"go-redis", func(key string) error {
			ctx, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
			defer cancel()
			return plain.Get(ctx, "beside:"+key).Err()
		}},
	} {
		b.Run(param("lib", lib.name), func(b *testing.B) {
			var stop atomic.Bool
			var loud sync.WaitGroup
			var larges, failedLarge, failed atomic.Int64
			for r := range readers {
				loud.Go(func() {
					for !stop.Load() {
						larges.Add(1)
						if lib.get(fmt.Sprint("large", r)) != nil {
							failedLarge.Add(1)
						}
						time.Sleep(5 * time.Millisecond)
					}
				})
			}
			took := make([]time.Duration, b.N)
			var next atomic.Int64
			var calm sync.WaitGroup
			b.ResetTimer()
			for range min(smallReaders, b.N) {
				calm.Go(func() {
					for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
						began := time.Now()
						if lib.get(fmt.Sprint("small", i%int64(many))) != nil {
							failed.Add(1)
						}
						took[i] = time.Since(began)
						time.Sleep(time.Millisecond)
					}
				})
			}
			calm.Wait()
			b.StopTimer()
			stop.Store(true)
			loud.Wait()
			slices.Sort(took)
			for _, p := range []int{50, 90, 99} {
				b.ReportMetric(float64(took[(len(took)-1)*p/100]), fmt.Sprintf("p%d-ns", p))
			}
			b.ReportMetric(100*float64(failed.Load())/float64(b.N), "failed-%")
			b.ReportMetric(100*float64(failedLarge.Load())/float64(larges.Load()), "failed-large-%")
		})
	}
}
