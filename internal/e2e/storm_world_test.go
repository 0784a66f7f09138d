package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
	"github.com/redis/go-redis/v9"
)

// site is a Redis, and the part of it that trouble comes over.
type site struct {
	proxies   []*redistest.Proxy  // of the connections that have trouble
	servers   []*redistest.Server // that are killed and frozen
	near, far func() redis.UniversalClient
}

// routed returns a dialer that goes through proxies where there is one for an address.
func routed(proxies map[string]*redistest.Proxy) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if p := proxies[addr]; p != nil {
			addr = p.Addr()
		}
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
}

// behindProxies puts a proxy before each of some servers.
func behindProxies(t *testing.T, servers ...*redistest.Server) (*site, map[string]*redistest.Proxy) {
	s, byAddr := &site{servers: servers}, map[string]*redistest.Proxy{}
	for _, server := range servers {
		p := redistest.NewProxy(t, server.Addr())
		s.proxies, byAddr[server.Addr()] = append(s.proxies, p), p
	}
	return s, byAddr
}

// sites are where storms rage. Nobody fails over: that is tested by itself.
var sites = map[string]func(t *testing.T) *site{
	"single": func(t *testing.T) *site {
		server := redistest.Start(t)
		s, proxies := behindProxies(t, server)
		s.near = func() redis.UniversalClient { return server.Client(t) }
		s.far = func() redis.UniversalClient {
			o := server.Options()
			o.Dialer = routed(proxies)
			return closing(t, redis.NewClient(o))
		}
		return s
	},
	"sentinel": func(t *testing.T) *site {
		st := redistest.StartSentinel(t)
		for _, w := range st.Watchers {
			if err := w.Client(t).Do(t.Context(), "sentinel", "set", redistest.MasterName, "down-after-milliseconds", "3600000").Err(); err != nil {
				t.Fatal(err)
			}
		}
		s, proxies := behindProxies(t, st.Master)
		s.near = func() redis.UniversalClient { return st.Client(t) }
		s.far = func() redis.UniversalClient {
			o := st.Options()
			o.Dialer = routed(proxies)
			return closing(t, redis.NewFailoverClient(o))
		}
		return s
	},
	"cluster, one master":  func(t *testing.T) *site { return clusterSite(t, 1) },
	"cluster, all masters": func(t *testing.T) *site { return clusterSite(t, 3) },
}

func clusterSite(t *testing.T, troubled int) *site {
	c := redistest.StartCluster(t, 3, redistest.Args("--cluster-node-timeout", "60000"))
	s, proxies := behindProxies(t, c.Nodes[:troubled]...)
	s.near = func() redis.UniversalClient { return c.Client(t) }
	s.far = func() redis.UniversalClient {
		o := c.Options()
		o.Dialer = routed(proxies)
		return closing(t, redis.NewClusterClient(o))
	}
	return s
}

func closing(t *testing.T, rdb redis.UniversalClient) redis.UniversalClient {
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func (s *site) each(f func(p *redistest.Proxy)) {
	for _, p := range s.proxies {
		f(p)
	}
}

func (s *site) heal() { s.each((*redistest.Proxy).Heal) }

// trouble is what comes over a site until ctx ends. The proxies are healed afterwards.
type trouble struct {
	silent bool // nothing is answered
	come   func(ctx context.Context, rnd *rand.Rand, s *site) error
}

func switched(f func(p *redistest.Proxy)) func(context.Context, *rand.Rand, *site) error {
	return func(ctx context.Context, _ *rand.Rand, s *site) error {
		s.each(f)
		<-ctx.Done()
		return nil
	}
}

// again calls f again and again.
func again(every time.Duration, f func(rnd *rand.Rand, p *redistest.Proxy)) func(context.Context, *rand.Rand, *site) error {
	return func(ctx context.Context, rnd *rand.Rand, s *site) error {
		for ctx.Err() == nil {
			s.each(func(p *redistest.Proxy) { f(rnd, p) })
			pause(ctx, every)
		}
		return nil
	}
}

var troubles = map[string]trouble{
	"latency":     {come: switched(func(p *redistest.Proxy) { p.Delay(50 * time.Millisecond) })},
	"too slow":    {come: switched(func(p *redistest.Proxy) { p.Delay(400 * time.Millisecond) })},
	"black hole":  {silent: true, come: switched(func(p *redistest.Proxy) { p.Blackhole() })},
	"resets":      {come: again(20*time.Millisecond, func(_ *rand.Rand, p *redistest.Proxy) { p.Reset() })},
	"cut replies": {come: again(50*time.Millisecond, func(rnd *rand.Rand, p *redistest.Proxy) { p.CutReplies(rnd.IntN(1500)) })},
	"slices":      {come: switched(func(p *redistest.Proxy) { p.Slice(3) })},
	"bandwidth":   {come: switched(func(p *redistest.Proxy) { p.Limit(3000) })},
	"killed": {come: func(ctx context.Context, _ *rand.Rand, s *site) error {
		for _, server := range s.servers {
			server.Kill()
		}
		pause(ctx, 300*time.Millisecond)
		var errs []error
		for _, server := range s.servers {
			errs = append(errs, server.Restart()) // with nothing
		}
		return errors.Join(errs...)
	}},
	"frozen": {silent: true, come: func(ctx context.Context, _ *rand.Rand, s *site) error {
		var errs []error
		for _, server := range s.servers {
			errs = append(errs, server.Freeze())
		}
		<-ctx.Done()
		for _, server := range s.servers {
			errs = append(errs, server.Thaw())
		}
		return errors.Join(errs...)
	}},
}

// storm is a world whose processes have trouble with a site. One node has none, and
// writes; the others are behind the proxies and read, and one of them writes as well.
type storm struct {
	*world
	site  *site
	near  *cache.Cache[string, int64]
	far   map[string]*cache.Cache[string, int64]
	keys  []string
	ids   map[string]int64
	label pprof.LabelSet
	name  string
}

const (
	stormCallers = 6 // of each cache
	stormStill   = 8 // keys that nobody writes

	stormTimeout = 250 * time.Millisecond // the default
)

func newStorm(t *testing.T, name string, opts ...cache.Option) *storm {
	s := &storm{world: newWorld(t), site: sites[name](t), ids: map[string]int64{}, name: t.Name()}
	s.label = pprof.Labels("storm", s.name)
	s.keys = append(s.keys, usual...)
	for _, k := range []string{"set", "invalidate", "tag"} {
		s.keys = append(s.keys, "far "+k)
	}
	for i := range stormStill {
		s.keys = append(s.keys, fmt.Sprint("still ", i))
	}
	// A number says which key it is of.
	for i, k := range s.keys {
		s.ids[k] = int64(i + 1)
		s.latest[k] = s.ids[k] << 32
	}
	s.far = map[string]*cache.Cache[string, int64]{}
	pprof.Do(t.Context(), s.label, func(context.Context) {
		s.near = s.node(s.site.near(), append(opts, transports["broadcast"]...)...)
		for _, transport := range names(transports) {
			s.far[transport] = s.node(s.site.far(), append(opts, transports[transport]...)...)
		}
	})
	t.Cleanup(s.site.heal) // before Close: what waits for an answer gets it
	return s
}

// rage has all caches used until it is told to stop.
func (s *storm) rage() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	pprof.Do(ctx, s.label, func(context.Context) {
		all.Go(func() { s.writes(ctx, s.near, usual) })
		all.Go(func() { s.writes(ctx, s.far["broadcast"], []string{"far set", "far invalidate", "far tag"}) })
		for transport, c := range s.far {
			for i := range stormCallers {
				all.Go(func() { s.reads(ctx, transport, c, i%2 == 0) })
			}
		}
	})
	return func() {
		cancel()
		all.Wait()
	}
}

func (s *storm) writes(ctx context.Context, c *cache.Cache[string, int64], keys []string) {
	for i := 0; ctx.Err() == nil; i++ {
		key := keys[i%len(keys)]
		n, err := s.write(context.Background(), c, key)
		if err == nil {
			began := time.Now()
			got, err := c.Get(context.Background(), key)
			s.see("a writer", key, got, err, began)
			if got < n {
				s.fail("a writer: %s is %d after it wrote %d", key, got, n)
			}
			s.acknowledge(key, n)
		}
		pause(ctx, 2*time.Millisecond)
	}
}

func (s *storm) reads(ctx context.Context, who string, c *cache.Cache[string, int64], local bool) {
	var opts []cache.ReadOption
	if !local {
		opts = append(opts, cache.SkipLocal())
	}
	for ctx.Err() == nil {
		for _, key := range s.keys {
			began := time.Now()
			got, err := c.Get(context.Background(), key, opts...)
			s.see(who, key, got, err, began)
		}
		pause(ctx, 500*time.Microsecond)
	}
}

func (s *storm) see(who, key string, got int64, err error, began time.Time) {
	s.check(who, key, got, err, began)
	if err == nil && got>>32 != s.ids[key] {
		s.fail("%s: the value of %s is %d, which is another key's", who, key, got)
	}
}

func (s *storm) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(format, args...)
}

// acknowledge notes a write, and forgets those that later ones stand for.
func (s *storm) acknowledge(key string, n int64) {
	s.note(key, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := s.acked[key]; len(a) > 1 && time.Since(a[1].at) > 2*patience; a = s.acked[key] {
		s.acked[key] = a[1:]
	}
}

// recover waits until every cache answers from Redis again and sees the latest of
// everything.
func (s *storm) recover() {
	s.t.Helper()
	ctx := context.Background()
	for who, c := range s.far {
		for i := range stormStill {
			key := fmt.Sprint("still ", i)
			awaits(s.t, who+": an answer from Redis", func() error {
				var info cache.Info
				got, err := c.Get(ctx, key, cache.SkipLocal(), cache.Report(&info))
				s.see(who, key, got, err, time.Now())
				if info.Tier != metrics.Remote {
					return fmt.Errorf("%s is from %v", key, info.Tier)
				}
				if b := c.Metrics().Breaker; b != metrics.Closed {
					return fmt.Errorf("the circuit is %v", b)
				}
				return nil
			})
		}
	}
}

// calm waits until everybody has told everything and sees the latest, while nobody
// writes.
func (s *storm) calm() {
	s.t.Helper()
	caches := []*cache.Cache[string, int64]{s.near}
	for _, c := range s.far {
		caches = append(caches, c)
	}
	s.settle(caches...)
	for _, c := range caches {
		for _, key := range s.keys {
			want, _ := s.load(context.Background(), key)
			awaits(s.t, "the latest of "+key, func() error { return sees(c, key, want) })
		}
	}
}

// goroutines returns how many there are of the caches, their clients and callers.
func (s *storm) goroutines() (n int, all string) {
	var text bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&text, 1); err != nil {
		s.t.Fatal(err)
	}
	for _, g := range strings.Split(text.String(), "\n\n") {
		if m := sameStacks.FindStringSubmatch(g); m != nil && strings.Contains(g, strconv.Quote(s.name)) {
			k, _ := strconv.Atoi(m[1])
			n += k
			all += g + "\n\n"
		}
	}
	return n, all
}

// sameStacks finds how many goroutines a profile has of a stack.
var sameStacks = regexp.MustCompile(`(?m)^(\d+) @ 0x`)

// flat waits until there are no more goroutines than before.
func (s *storm) flat(before int) {
	s.t.Helper()
	var last string
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Log(last)
		}
	})
	awaits(s.t, "goroutines to end", func() error {
		n, all := s.goroutines()
		if n > before {
			last = all
			return fmt.Errorf("%d, and not %d", n, before)
		}
		last = ""
		return nil
	})
}
