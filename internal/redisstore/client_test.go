package redisstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// Types of users' programs that embed a client count as one.
type (
	ownSingle  struct{ *redis.Client }
	ownCluster struct{ *redis.ClusterClient }
	ownRing    struct{ *redis.Ring }
)

func TestClientsThatMayReadWhatIsOldAreRefused(t *testing.T) {
	t.Parallel()
	const nowhere = "127.0.0.1:1"
	cluster := func(o redis.ClusterOptions) redis.UniversalClient {
		o.Addrs, o.DialerRetries = []string{nowhere}, 1
		return redis.NewClusterClient(&o)
	}
	failover := func(o redis.FailoverOptions) redis.UniversalClient {
		o.MasterName, o.SentinelAddrs, o.DialerRetries = "m", []string{nowhere}, 1
		return redis.NewFailoverClusterClient(&o)
	}
	single := func(o redis.Options) *redis.Client {
		o.Addr, o.Protocol, o.DialerRetries = nowhere, 3, 1
		return redis.NewClient(&o)
	}
	for name, tt := range map[string]struct {
		client redis.UniversalClient
		why    string // "" is accepted
	}{
		"single":                               {single(redis.Options{}), ""},
		"cluster":                              {cluster(redis.ClusterOptions{}), ""},
		"ring":                                 {redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": nowhere}}), ""},
		"failover":                             {redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{nowhere}}), ""},
		"failover as a cluster":                {failover(redis.FailoverOptions{}), ""},
		"cluster, read only":                   {cluster(redis.ClusterOptions{ReadOnly: true}), "replicas"},
		"cluster, by latency":                  {cluster(redis.ClusterOptions{RouteByLatency: true}), "replicas"},
		"cluster, randomly":                    {cluster(redis.ClusterOptions{RouteRandomly: true}), "replicas"},
		"failover as a cluster, by latency":    {failover(redis.FailoverOptions{RouteByLatency: true}), "replicas"},
		"failover as a cluster, randomly":      {failover(redis.FailoverOptions{RouteRandomly: true}), "replicas"},
		"failover as a cluster, replicas only": {failover(redis.FailoverOptions{ReplicaOnly: true}), "replicas"},
		"cluster, embedded":                    {ownCluster{cluster(redis.ClusterOptions{ReadOnly: true}).(*redis.ClusterClient)}, "replicas"},
		"single, with a cache of its own":      {single(redis.Options{ClientSideCacheConfig: &redis.ClientSideCacheConfig{}}), "caches"},
		"single, embedded, with a cache":       {ownSingle{single(redis.Options{ClientSideCacheConfig: &redis.ClientSideCacheConfig{}})}, "caches"},
	} {
		t.Run(name, func(t *testing.T) {
			defer tt.client.Close()
			switch store, err := redisstore.NewRedis(tt.client); {
			case tt.why == "" && err != nil:
				t.Error(err)
			case tt.why != "" && (err == nil || !strings.Contains(err.Error(), tt.why)):
				t.Errorf("%v", err)
			case err == nil:
				store.Close()
				store.Close()
			}
		})
	}
}

func TestAClientThatIsEmbeddedIsUsedInFull(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		var client redis.UniversalClient
		switch c := b.Client.(type) {
		case *redis.Client:
			client = ownSingle{c}
		case *redis.ClusterClient:
			client = ownCluster{c}
		}
		st, err := redisstore.NewRedis(client)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		var cmds []store.Command
		for i := range 20 {
			k := fmt.Sprint(b.Prefix, i)
			cmds = append(cmds, store.Command{Op: store.Set, Key: k, Frame: frame("a")}, store.Command{Op: store.Get, Key: k}, store.Command{Op: store.Get, Key: k})
		}
		for i, r := range st.Do(t.Context(), cmds) {
			if r.Err != nil || cmds[i].Op == store.Get && string(r.Record.Raw) != string(frame("a")) {
				t.Errorf("%v %s: %+v", cmds[i].Op, cmds[i].Key, r)
			}
		}
		if !st.HonorsDeadline() {
			t.Error("the client obeys deadlines, and the store does not know")
		}
	})
}

// The clients of the harness obey contexts; those of users do not by default.
func TestPromptIsWhatTheClientSays(t *testing.T) {
	for _, prompt := range []bool{false, true} {
		single := redis.NewClient(&redis.Options{ContextTimeoutEnabled: prompt})
		cluster := redis.NewClusterClient(&redis.ClusterOptions{ContextTimeoutEnabled: prompt, Addrs: []string{"127.0.0.1:1"}, DialerRetries: 1})
		ring := redis.NewRing(&redis.RingOptions{ContextTimeoutEnabled: prompt, Addrs: map[string]string{"a": "127.0.0.1:1"}})
		for _, c := range []redis.UniversalClient{single, cluster, ring, ownRing{ring}} {
			store, err := redisstore.NewRedis(c)
			if err != nil {
				t.Fatal(err)
			}
			if store.HonorsDeadline() != prompt {
				t.Errorf("%T: %v instead of %v", c, store.HonorsDeadline(), prompt)
			}
			store.Close()
		}
		single.Close()
		cluster.Close()
		ring.Close()
	}
	single := redis.NewClient(&redis.Options{ContextTimeoutEnabled: true})
	defer single.Close()
	store, err := redisstore.NewRedis(struct{ redis.UniversalClient }{single})
	if err != nil || store.HonorsDeadline() {
		t.Errorf("an unknown client: %v", err)
	}
}

func TestTheClockIsThatOfTheNode(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		store := newReal(t, b.Client)
		if b.Mini != nil {
			b.Mini.SetTime(time.Now().Add(-time.Hour)) // it stands still
		}
		for i := range 20 {
			key := fmt.Sprint(b.Prefix, i)
			var node redis.Cmdable = b.Client
			if c, ok := b.Client.(*redis.ClusterClient); ok {
				var err error
				if node, err = c.MasterForKey(ctx, key); err != nil {
					t.Fatal(err)
				}
			}
			start := time.Now()
			before, err := node.Time(ctx).Result()
			if err != nil {
				t.Fatal(err)
			}
			now, err := store.Now(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			after, err := node.Time(ctx).Result()
			if err != nil {
				t.Fatal(err)
			}
			// The estimate is good to half of a round trip, of one that may have
			// been made earlier.
			slack := time.Since(start) + time.Minute
			if at := time.UnixMicro(now); at.Before(before.Add(-slack)) || at.After(after.Add(slack)) {
				t.Errorf("%v is not between %v and %v", at, before, after)
			}
		}
	})
}

// A server whose clock is an hour off is believed, and so is one that replaces it.
func TestTheClockFollowsAServerThatIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, c := inMemory(t)
		store := newReal(t, c)
		expect := func(skew time.Duration) {
			t.Helper()
			now, err := store.Now(t.Context(), "k")
			if got := time.Until(time.UnixMicro(now)); err != nil || got != skew {
				t.Errorf("ahead by %v instead of %v; %v", got, skew, err)
			}
		}
		m.SetTime(time.Now().Add(time.Hour))
		expect(time.Hour)
		time.Sleep(11 * time.Second)
		m.SetTime(time.Now().Add(-time.Hour))
		expect(time.Hour) // starts a measurement
		synctest.Wait()
		expect(-time.Hour)

		// Without the server the last offset goes on.
		c.Close()
		time.Sleep(time.Hour)
		expect(-time.Hour)
		synctest.Wait()
		expect(-time.Hour)
		store.Close()
		time.Sleep(time.Hour)
		expect(-time.Hour)
	})
}

func TestAClosedClientIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := inMemory(t)
		st := newReal(t, c)
		c.Close()
		if _, err := st.Now(t.Context(), "k"); err == nil {
			t.Error("Now without a measurement")
		}
		for n := 1; n <= 3; n++ {
			cmds := make([]store.Command, n)
			for i := range cmds {
				cmds[i].Op = store.Op(i) // Get, Set, Add
			}
			for _, r := range st.Do(t.Context(), cmds) {
				if r.Err == nil || r.OK {
					t.Errorf("%+v", r)
				}
			}
		}
	})
}

// blocked is a client whose TIME waits.
type blocked struct {
	*redis.Client
	asked, release chan struct{}
}

func (b *blocked) Time(ctx context.Context) *redis.TimeCmd {
	select {
	case <-b.asked:
		<-b.release
	default:
		close(b.asked)
	}
	return b.Client.Time(ctx)
}

func TestCloseWaitsForTheRenewalOfAClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := inMemory(t)
		b := &blocked{c, make(chan struct{}), make(chan struct{})}
		store := newReal(t, b)
		now := func() {
			if _, err := store.Now(t.Context(), "k"); err != nil {
				t.Error(err)
			}
		}
		now()
		time.Sleep(time.Minute)
		now() // starts a renewal, which is held up
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			store.Close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close has left it behind")
		default:
		}
		close(b.release)
		<-closed
		now() // starts no other one
	})
}
