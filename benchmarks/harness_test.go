package benchmarks

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

var (
	full  = flag.Bool("full", false, "every size, number of callers and distribution of keys")
	trace = flag.String("trace", "", "a trace for HitRatio, or a folder of them: in ARC's format (.arc, .lis) or a key a line, and .gz of both")
)

// small has every benchmark do as little as it can: a test runs them all.
var small bool

var ctx = context.Background()

const life = time.Hour

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	os.Exit(m.Run())
}

// failures is what went wrong where the testing package would not say so.
var failures struct {
	sync.Mutex
	list []string
}

// must ends the benchmark if there is an error.
func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		failures.Lock()
		failures.list = append(failures.list, fmt.Sprintf("%s: %v", b.Name(), err))
		failures.Unlock()
		b.Fatal(err)
	}
}

// which is the one of several values that a run without -full measures, or all.
func which[T any](all []T, short ...T) []T {
	if *full {
		return all
	}
	return short
}

// keyCount is how many keys there are for values of a size.
func keyCount(size int) int {
	switch {
	case small:
		return 128
	case size > 4096:
		return 2048
	}
	return 16_384
}

func makeKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%08d", i)
	}
	return keys
}

func makeValue(size int) []byte {
	v := make([]byte, size)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range v {
		v[i] = byte(rnd.Uint32())
	}
	return v
}

// sequenceLen is a power of two.
const sequenceLen = 1 << 16

// sequence says which key is asked for when.
func sequence(keys []string, dist string) []string {
	rnd := rand.New(rand.NewPCG(3, 4))
	next := func() uint64 { return rnd.Uint64N(uint64(len(keys))) }
	if dist == "zipf" {
		next = rand.NewZipf(rnd, 1.01, 1, uint64(len(keys)-1)).Uint64
	}
	s := make([]string, sequenceLen)
	for i := range s {
		s[i] = keys[next()]
	}
	return s
}

// share divides b.N operations among callers and measures them. work carries out
// operations from up to but without to.
func share(b *testing.B, callers int, work func(from, to int) error) {
	b.Helper()
	b.ReportAllocs()
	var wg sync.WaitGroup
	errs := make([]error, callers)
	b.ResetTimer()
	cpu := cpuTime()
	for i := range callers {
		from, to := b.N*i/callers, b.N*(i+1)/callers
		if callers == 1 {
			errs[i] = work(from, to)
			break
		}
		wg.Go(func() { errs[i] = work(from, to) })
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
	for _, err := range errs {
		must(b, err)
	}
}

// server is a Redis of the benchmark's own.
func server(b *testing.B) *redistest.Server {
	b.Helper()
	return redistest.Start(b)
}

// connections is how many a client of go-redis has from the start: to open them is no
// part of what is measured.
const connections = 20

// client is a go-redis client as it comes, but for its pool, and for what would look up
// names.
func client(b *testing.B, s *redistest.Server, change ...func(*redis.Options)) *redis.Client {
	b.Helper()
	o := &redis.Options{
		Addr: s.Addr(), ContextTimeoutEnabled: true, PoolSize: connections, MinIdleConns: connections,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	for _, f := range change {
		f(o)
	}
	c := redis.NewClient(o)
	b.Cleanup(func() { c.Close() })
	must(b, c.Ping(ctx).Err())
	for end := time.Now().Add(10 * time.Second); c.PoolStats().IdleConns < connections; {
		if time.Now().After(end) {
			must(b, fmt.Errorf("%d connections of %d", c.PoolStats().IdleConns, connections))
		}
		time.Sleep(time.Millisecond)
	}
	return c
}

// fill stores every key by plain SETs.
func fill(b *testing.B, rdb *redis.Client, prefix string, keys []string, val []byte) {
	b.Helper()
	for i := 0; i < len(keys); i += 500 {
		pipe := rdb.Pipeline()
		for _, k := range keys[i:min(i+500, len(keys))] {
			pipe.Set(ctx, prefix+k, val, life)
		}
		_, err := pipe.Exec(ctx)
		must(b, err)
	}
}

func param(name string, v any) string { return name + "=" + fmt.Sprint(v) }

// fresh returns keys that were not used before.
type fresh struct {
	mu   sync.Mutex
	next int
}

// take reserves n keys.
func (f *fresh) take(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next += n
	return f.next - n
}

func freshKey(i int) string { return "fresh-" + strconv.Itoa(i) }
