package redistest

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
)

// Backend is a Redis that a test runs on. The real ones are shared by all tests of a binary,
// which may run in parallel. A test therefore keeps to its Prefix, leaves the server's settings
// as they are, flushes nothing (FLUSHALL, FLUSHDB, SCRIPT FLUSH), and uses [Start] or
// [StartCluster] for a server that it wants to break.
type Backend struct {
	Name     string // "miniredis", "redis" or "cluster"
	Client   redis.UniversalClient
	Mini     *miniredis.Miniredis // nil unless Name is "miniredis"
	Prefix   string               // of the keys of this test; unique to the test
	RealTime bool                 // keys expire by the clock, not by Advance

	connect func() redis.UniversalClient
}

// NewClient returns another client of the same Redis, such as another process
// would have. It is closed at the end of the test.
func (b *Backend) NewClient(tb testing.TB) redis.UniversalClient {
	return closeAfter(tb, b.connect())
}

// Advance makes the lifetimes of all keys in miniredis pass by d. Where keys expire in real
// time it does nothing; see RealTime.
func (b *Backend) Advance(d time.Duration) {
	if b.Mini != nil {
		b.Mini.FastForward(d)
	}
}

var (
	prefixes atomic.Uint64

	shared struct {
		mu      sync.Mutex
		server  *Server
		cluster *Cluster
	}
)

// Each runs f as the subtests "miniredis", "redis" and "cluster". f may call
// t.Parallel. Without a redis-server the last two are skipped, or fail; see
// [Require]. The TestMain of the package must be [Main].
func Each(t *testing.T, f func(t *testing.T, b *Backend)) {
	t.Helper()
	for _, kind := range []struct {
		name    string
		backend func(*testing.T) *Backend
	}{
		{"miniredis", newMini},
		{"redis", onSharedServer},
		{"cluster", onSharedCluster},
	} {
		t.Run(kind.name, func(t *testing.T) {
			b := kind.backend(t)
			b.Name, b.RealTime = kind.name, b.Mini == nil
			b.Prefix = "t" + strconv.FormatUint(prefixes.Add(1), 10) + ":"
			b.Client = b.NewClient(t)
			f(t, b)
		})
	}
}

func newMini(t *testing.T) *Backend {
	m := miniredis.RunT(t)
	return &Backend{Mini: m, connect: func() redis.UniversalClient { return redis.NewClient(baseOptions(m.Addr())) }}
}

func onSharedServer(t *testing.T) *Backend {
	t.Helper()
	Require(t)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil {
		s, err := newServer(newConfig(nil), false, redisArgs)
		if err != nil {
			t.Fatal(err)
		}
		shared.server = s
	}
	s := shared.server
	return &Backend{connect: func() redis.UniversalClient { return redis.NewClient(s.Options()) }}
}

func onSharedCluster(t *testing.T) *Backend {
	t.Helper()
	Require(t)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster == nil {
		c, err := newCluster(defaultMasters, newConfig(nil))
		if err != nil {
			t.Fatal(err)
		}
		shared.cluster = c
	}
	c := shared.cluster
	return &Backend{connect: func() redis.UniversalClient { return redis.NewClusterClient(c.Options()) }}
}

// atOnce is how many tests run in parallel at least, unless -parallel says otherwise: they wait
// for servers most of the time. With [Long] they are busy as well, and Redis would not answer
// within the timeouts of the caches.
const atOnce = 4

// lingering is how long goroutines may take to end after the tests: a go-redis client that could
// not reach its server takes some seconds after Close.
var lingering = 5 * time.Second

// Main runs the tests of a package, then the functions in atExit, stops the shared
// servers and looks for goroutines that were left behind: those fail the run. It
// does not return. It drops what go-redis prints of connections that fail: tests break many.
//
//	func TestMain(m *testing.M) { redistest.Main(m) }
func Main(m *testing.M, atExit ...func()) {
	logging.Disable()
	if runtime.GOMAXPROCS(0) < atOnce && os.Getenv("CACHE_TEST_LONG") == "" {
		if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	for _, f := range atExit {
		f()
	}
	stopShared(code != 0)
	if code == 0 {
		err := goleak.Find()
		for end := time.Now().Add(lingering); err != nil && time.Now().Before(end); {
			err = goleak.Find()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "goroutines were left behind:\n%v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

// stopShared ends the shared servers. If tests failed, it shows the logs of those that had
// ended before.
func stopShared(failed bool) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var servers []*Server
	if shared.server != nil {
		servers = append(servers, shared.server)
	}
	if shared.cluster != nil {
		servers = append(servers, shared.cluster.Nodes...)
	}
	for _, s := range servers {
		if failed && !s.Running() {
			fmt.Fprintf(os.Stderr, "the shared redis on %s is down; its log:\n%s\n", s.Addr(), s.Log())
		}
		s.close()
	}
	shared.server, shared.cluster = nil, nil
}
