package e2e_test

import (
	"context"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// site is a Redis, and the part of it that faults come over.
type site struct {
	proxies   []*redistest.Proxy  // of the connections that have faults
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

// sites are where chaos comes. There are no failovers: those are tested by themselves.
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

func clusterSite(t *testing.T, faulty int) *site {
	c := redistest.StartCluster(t, 3, redistest.Args("--cluster-node-timeout", "60000"))
	s, proxies := behindProxies(t, c.Nodes[:faulty]...)
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

// suffers has a fault come over the site until end is called, which heals it.
func (s *site) suffers(t *testing.T, name string, rnd *rand.Rand) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- faults[name].come(ctx, rnd, s) }()
	return func() {
		cancel()
		err := <-done
		s.heal()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
