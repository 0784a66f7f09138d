package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

func lineage(t *testing.T, s store.Store) string {
	t.Helper()
	l, err := s.ServerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What happens to a server that keeps what it has acknowledged, or loses some of it but
// brings nothing older back, leaves its lineage as it is.
func TestLineageStays(t *testing.T) {
	s := redistest.Start(t)
	hand, own := s.Client(t), s.Client(t)
	store := newReal(t, own)
	was := lineage(t, store)
	if was == "" {
		t.Fatal("it is not known")
	}
	ctx := t.Context()
	for name, do := range map[string]func() error{
		"new connections": func() error {
			if err := hand.ClientKillByFilter(ctx, "type", "normal", "skipme", "yes").Err(); err != nil {
				return err
			}
			own.Ping(ctx) // may be what messages that the connection is gone
			return own.Ping(ctx).Err()
		},
		"CONFIG SET":   func() error { return hand.ConfigSet(ctx, "maxmemory", "100mb").Err() },
		"writes":       func() error { return hand.Set(ctx, "k", "v", 0).Err() },
		"SAVE":         func() error { return hand.Save(ctx).Err() },
		"BGREWRITEAOF": func() error { return hand.BgRewriteAOF(ctx).Err() },
		"FLUSHALL":     func() error { return hand.FlushAll(ctx).Err() },
		"SCRIPT FLUSH": func() error { return hand.ScriptFlush(ctx).Err() },
	} {
		if err := do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if is := lineage(t, store); is != was {
			t.Errorf("after %s it is %q, and was %q", name, is, was)
		}
	}
	if other := lineage(t, newReal(t, s.Client(t))); other != was {
		t.Errorf("by another client it is %q, and %q", other, was)
	}
}

func TestLineageChangesWithARestart(t *testing.T) {
	s := redistest.Start(t, redistest.AOF())
	store := newReal(t, s.Client(t))
	was := lineage(t, store)
	s.Kill()
	if l, err := store.ServerID(t.Context()); err == nil {
		t.Errorf("of a server that is dead it is %q", l)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if is := lineage(t, store); is == "" || is == was {
		t.Errorf("it is %q, and was %q", is, was)
	}
}

// A server that was a replica in between has another lineage, though it is the same process, and
// whether or not it has ever reached its master.
func TestLineageChangesWithTheRole(t *testing.T) {
	s, master := redistest.Start(t), redistest.Start(t)
	ctx := t.Context()
	hand, store := s.Client(t), newReal(t, s.Client(t))
	port := master.Port()
	for _, reached := range []bool{true, false} {
		if !reached {
			master.Kill()
		}
		was := lineage(t, store)
		if err := hand.Do(ctx, "replicaof", "127.0.0.1", port).Err(); err != nil {
			t.Fatal(err)
		}
		if is := lineage(t, store); is != "" {
			t.Errorf("a replica has the lineage %q", is)
		}
		for end := time.Now().Add(time.Minute); reached; time.Sleep(20 * time.Millisecond) {
			if info, err := hand.Info(ctx, "replication").Result(); err == nil && strings.Contains(info, "master_link_status:up") {
				break
			} else if time.Now().After(end) {
				t.Fatal("it does not reach its master", err)
			}
		}
		if err := hand.Do(ctx, "replicaof", "no", "one").Err(); err != nil {
			t.Fatal(err)
		}
		if is := lineage(t, store); is == "" || is == was || is == lineageOf(t, master) {
			t.Errorf("reached %v: it is %q, and was %q", reached, is, was)
		}
	}
}

// lineageOf is that of a server, "" if it is dead.
func lineageOf(t *testing.T, s *redistest.Server) string {
	if !s.Running() {
		return ""
	}
	return lineage(t, newReal(t, s.Client(t)))
}

func TestLineageChangesWithAFailover(t *testing.T) {
	t.Parallel()
	st := redistest.StartSentinel(t)
	store := newReal(t, st.Client(t))
	was := lineage(t, store)
	st.Failover(t)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		is, err := store.ServerID(t.Context())
		if err == nil && is != "" && is != was {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it is %q, %v, and was %q", is, err, was)
		}
	}
}

// A cluster's is that of all masters.
func TestLineageOfACluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, redistest.Replicas(1))
	store := newReal(t, c.Client(t))
	was := lineage(t, store)
	if n := len(strings.Split(was, "\n")); n != 3 {
		t.Fatalf("it has %d parts: %q", n, was)
	}
	if is := lineage(t, newReal(t, c.Client(t))); is != was {
		t.Errorf("by another client it is %q, and %q", is, was)
	}
	c.Failover(t, 1)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		is, err := store.ServerID(t.Context())
		if err == nil && is != "" && is != was {
			same := 0
			for _, one := range strings.Split(is, "\n") {
				if strings.Contains(was, one) {
					same++
				}
			}
			if same != 2 {
				t.Errorf("%d of %q were in %q", same, is, was)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it is %q, %v, and was %q", is, err, was)
		}
	}
}

// Where it is not to be known, that is no error.
func TestNoLineage(t *testing.T) {
	for name, c := range map[string]func(t *testing.T) redis.UniversalClient{
		"miniredis": func(t *testing.T) redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), MaintNotificationsConfig: noMaintenance()})
		},
		"who may not ask": func(t *testing.T) redis.UniversalClient {
			s := redistest.Start(t)
			if err := s.Client(t).ACLSetUser(t.Context(), "app", "on", ">p", "~*", "+@all", "-info").Err(); err != nil {
				t.Fatal(err)
			}
			o := s.Options()
			o.Username, o.Password = "app", "p"
			return redis.NewClient(o)
		},
		// Its keys go to another shard while one is down, and back to what they were.
		"a ring": func(t *testing.T) redis.UniversalClient {
			return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": redistest.Start(t).Addr()}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			rdb := c(t)
			t.Cleanup(func() { _ = rdb.Close() })
			if is := lineage(t, newReal(t, rdb)); is != "" {
				t.Errorf("it is %q", is)
			}
		})
	}
}

func TestLineageOfAMemory(t *testing.T) {
	m := storetest.NewMemory()
	g := client.New(m, time.Minute)
	t.Cleanup(g.Close)
	told := false
	g.Observe = func(context.Context, client.Observation) { told = true }
	ask := func() string {
		t.Helper()
		is, err := g.ServerID(t.Context())
		if is == "" || err != nil {
			t.Fatalf("%q, %v", is, err)
		}
		return is
	}
	was := ask()
	do(t, m, store.Command{Op: store.Set, Key: "k", Frame: frame("a")})
	if is := ask(); is != was {
		t.Errorf("it is %q, and was %q", is, was)
	}
	m.Succeed()
	if is := ask(); is == was {
		t.Errorf("it still is %q", is)
	}
	failed := errors.New("down")
	m.Fail(failed)
	if is, err := g.ServerID(t.Context()); is != "" || !errors.Is(err, failed) {
		t.Errorf("%q, %v", is, err)
	}
	if told {
		t.Error("it is observed as an operation")
	}
}
