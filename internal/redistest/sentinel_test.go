package redistest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestSentinelsPutTheReplicaInTheMastersPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		leave func(*Server) error
		opts  []Option
		want  string // of the URL
	}{
		"that runs":  {func(*Server) error { return nil }, nil, "redis+sentinel://127.0.0.1:"},
		"that died":  {func(s *Server) error { s.Kill(); return nil }, []Option{Sentinels(3), Password("a b"), SentinelPassword("c d")}, "redis+sentinel://:a%20b@127.0.0.1:"},
		"that hangs": {(*Server).Freeze, []Option{TLS()}, "rediss+sentinel://127.0.0.1:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := StartSentinel(t, c.opts...)
			if !strings.HasPrefix(st.URL(), c.want) {
				t.Errorf("the URL is %s", st.URL())
			}
			old, next := st.Master, st.Replica
			rdb := st.Client(t)
			mustSet(t, rdb, "k", "before")
			if err := next.waitFor("the value", func(ctx context.Context, c *redis.Client) error {
				return c.Get(ctx, "k").Err()
			}); err != nil {
				t.Fatal(err)
			}
			if err := c.leave(old); err != nil {
				t.Fatal(err)
			}
			st.Failover(t)
			if st.Master != next || st.Replica != old {
				t.Error("the two have not changed places")
			}
			after := st.Client(t)
			mustGet(t, after, "k", "before")
			mustSet(t, after, "k", "after")
			mustGet(t, next.Client(t), "k", "after")
		})
	}
}

func TestTheReplicaOfAMasterFollowsIt(t *testing.T) {
	t.Parallel()
	st := StartSentinel(t)
	if err := st.Replica.do(func(c *redis.Client) error { return linked(t.Context(), c) }); err != nil {
		t.Error(err)
	}
	if err := st.Master.do(func(c *redis.Client) error { return isMaster(t.Context(), c) }); err != nil {
		t.Error(err)
	}
	for role, err := range map[string]error{
		"a master was taken for a replica": st.Master.do(func(c *redis.Client) error { return linked(t.Context(), c) }),
		"a replica was taken for a master": st.Replica.do(func(c *redis.Client) error { return isMaster(t.Context(), c) }),
	} {
		if err == nil {
			t.Error(role)
		}
	}
}

func TestASentinelIsRestartedWithWhatItKnows(t *testing.T) {
	t.Parallel()
	st := StartSentinel(t)
	w := st.Watchers[0]
	w.Kill()
	if err := w.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := w.waitFor("a sentinel that knows all", st.knowsAll); err != nil {
		t.Error(err)
	}
}

func TestServersThatShareADirAreRefused(t *testing.T) {
	t.Parallel()
	dir := Dir(t.TempDir())
	_, cluster := newCluster(1, newConfig([]Option{dir}))
	_, sentinel := newSentinel(newConfig([]Option{dir}))
	_, none := newSentinel(newConfig([]Option{Sentinels(0)}))
	if cluster == nil || sentinel == nil || none == nil {
		t.Error(errors.Join(cluster, sentinel, none))
	}
}
