package redisurl

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// works checks that a client reaches a Redis on which key has a value, and can
// write there.
func works(t *testing.T, c redis.UniversalClient, key, value string) {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
	if got, err := c.Get(t.Context(), key).Result(); err != nil || got != value {
		t.Errorf("%s is %q, not %q; %v", key, got, value, err)
	}
	for _, k := range []string{"a", "b", "c", "d", "e", "f"} { // in a cluster, on all nodes
		if err := c.Set(t.Context(), k, value, 0).Err(); err != nil {
			t.Errorf("SET %s: %v", k, err)
		}
	}
}

func client(t *testing.T, raw string) redis.UniversalClient {
	t.Helper()
	c, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustSet(t *testing.T, c redis.Cmdable, key, value string) {
	t.Helper()
	if err := c.Set(t.Context(), key, value, 0).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestAURLReachesAServer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, redistest.Password("p:/?#@ %"), redistest.Socket(), redistest.ACL("app on >u:/@ ~* +@all"))
	mustSet(t, s.Client(t), "k", "zero")
	o := s.Options()
	o.DB = 5
	five := redis.NewClient(o)
	defer five.Close()
	mustSet(t, five, "k", "five")

	works(t, client(t, s.URL()), "k", "zero")
	works(t, client(t, strings.Replace(s.URL(), "127.0.0.1", "localhost", 1)), "k", "zero")
	works(t, client(t, strings.TrimSuffix(s.URL(), "0")+"5?protocol=2"), "k", "five")
	works(t, client(t, "redis://app:u%3A%2F%40@"+s.Addr()+"?db=5"), "k", "five")
	works(t, client(t, "unix://app:u%3A%2F%40@"+s.Socket()), "k", "zero")
	works(t, client(t, "unix://:p:%2F%3F%23%40%20%25@"+s.Socket()+"?db=5"), "k", "five")

	named := client(t, s.URL()+"?client_name=me&pool_size=2&min_idle_conns=1&max_idle_conns=2&conn_max_lifetime=1h&pipeline_pool_size=-1")
	works(t, named, "k", "zero")
	if name, err := named.ClientGetName(t.Context()).Result(); name != "me" || err != nil {
		t.Errorf("the connection is named %q; %v", name, err)
	}

	wrong := client(t, "redis://app:wrong@"+s.Addr())
	defer wrong.Close()
	if err := wrong.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestAURLReachesACluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, redistest.Password("p@"))
	mustSet(t, c.Client(t), "k", "v")
	works(t, client(t, c.URL()), "k", "v")
	one := "redis://:p%40@" + c.Nodes[2].Addr()
	works(t, client(t, one+"?cluster=true&max_redirects=5"), "k", "v")

	// Without cluster=true, one host is a single server, which sends others away.
	plain := client(t, one)
	defer plain.Close()
	moved := 0
	for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
		if err := plain.Get(t.Context(), k).Err(); err != nil && strings.HasPrefix(err.Error(), "MOVED") {
			moved++
		}
	}
	if moved == 0 {
		t.Error("it followed the slots")
	}
}

func TestAURLReachesTheMasterOfSentinels(t *testing.T) {
	t.Parallel()
	st := redistest.StartSentinel(t, redistest.Password("p/q"), redistest.SentinelPassword("s&t"))
	mustSet(t, st.Master.Client(t), "k", "v")
	rdb := client(t, st.URL())
	works(t, rdb, "k", "v")
	works(t, client(t, st.URL()+"&sentinel_username=default"), "k", "v")

	// It follows the master. The client hears of the change from the sentinels.
	st.Failover(t)
	if err := st.Replica.Freeze(); err != nil { // the old master may not answer for the new one
		t.Fatal(err)
	}
	after := client(t, st.URL())
	mustSet(t, after, "k", "after")
	works(t, after, "k", "after")
	works(t, st.Master.Client(t), "k", "after")
}

// A URL can't name the authority of a private network: it can leave certificates
// unverified, or one takes a go-redis client with a TLS configuration of one's own.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, err := redistest.CA()
	if err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]func(t *testing.T) (url string){
		"single": func(t *testing.T) string {
			s := redistest.Start(t, redistest.TLS())
			mustSet(t, s.Client(t), "k", "v")
			return s.URL()
		},
		"cluster": func(t *testing.T) string {
			c := redistest.StartCluster(t, 2, redistest.TLS())
			mustSet(t, c.Client(t), "k", "v")
			return c.URL()
		},
		"sentinel": func(t *testing.T) string {
			st := redistest.StartSentinel(t, redistest.TLS())
			mustSet(t, st.Client(t), "k", "v")
			return st.URL()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unverified := start(t)
			works(t, client(t, unverified), "k", "v")

			verified, found := strings.CutSuffix(unverified, "?skip_verify=true")
			if !found {
				t.Fatalf("the URL is %s", unverified)
			}
			c := client(t, verified)
			defer c.Close()
			if err := c.Get(t.Context(), "k").Err(); err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("an authority that is not trusted: %v", err)
			}

			o := mustParse(t, verified)
			o.TLSConfig.RootCAs = ca
			works(t, redis.NewUniversalClient(o), "k", "v")
		})
	}
}

// Each attempt is one connection, which ends at once. The proxy counts them.
func TestWhatFailsIsNotRepeatedUnlessTheURLSaysSo(t *testing.T) {
	t.Parallel()
	dead := redistest.Start(t)
	dead.Stop()
	for params, want := range map[string]int{"": 1, "?max_retries=0": 1, "?max_retries=2&min_retry_backoff=1ms&max_retry_backoff=1ms": 3} {
		p := redistest.NewProxy(t, dead.Addr())
		c := client(t, "redis://"+p.Addr()+params)
		if err := c.Get(t.Context(), "k").Err(); err == nil {
			t.Error("a dead server answered")
		}
		if n := p.Accepted(); n != want {
			t.Errorf("%q: %d connections for one command, not %d", params, n, want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestADeadlineHoldsAgainstAServerThatHangs(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	// Only the deadline can end this: the client itself would wait for ever.
	c := client(t, s.URL()+"?read_timeout=0&write_timeout=0")
	defer c.Close()
	mustSet(t, c, "k", "v")
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Get(ctx, "k").Err(); err == nil {
		t.Error("a frozen server answered")
	}
}
