package redisstore_test

import (
	"errors"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// A server that refuses the user, on each connection that is made, has carried nothing
// out: no reply may look as if it had. The password of a user that is changed while its
// programs run has that effect.
func TestAServerThatRefusesTheUser(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, rdb redis.UniversalClient) {
		t.Helper()
		defer rdb.Close()
		s, err := redisstore.NewRedis(rdb)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		tell := store.Notify{Channel: "c", Message: "m"}
		for _, cmds := range [][]store.Command{
			{{Op: store.Get, Key: "{k}"}},
			{{Op: store.Set, Key: "{k}", Frame: []byte("v"), Notify: tell}},
			{{Op: store.Delete, Key: "{k}", Notify: tell}},
			{{Op: store.Delete, Key: "{k}1"}, {Op: store.Delete, Key: "{k}2"}},
			{{Op: store.Set, Key: "{k}1", Frame: []byte("v"), Notify: tell}, {Op: store.Get, Key: "{k}2"}, {Op: store.Delete, Key: "other", Notify: tell}},
		} {
			for i, r := range s.Do(t.Context(), cmds) {
				var reply redis.Error
				if r.OK || r.Err == nil || !errors.As(r.Err, &reply) {
					t.Errorf("%v of %d commands: %+v", cmds[i].Op, len(cmds), r)
				}
			}
		}
	}
	t.Run("miniredis", func(t *testing.T) {
		m := miniredis.RunT(t)
		m.RequireAuth("secret")
		check(t, redis.NewClient(&redis.Options{Addr: m.Addr(), Password: "wrong"}))
	})
	t.Run("redis", func(t *testing.T) {
		redistest.Require(t)
		o := redistest.Start(t).Options()
		o.Username, o.Password = "nobody", "wrong"
		check(t, redis.NewClient(o))
	})
	t.Run("cluster", func(t *testing.T) {
		redistest.Require(t)
		c := redistest.StartCluster(t, 3, redistest.ACL("app on >secret ~* &* +@all"))
		o := c.Options()
		o.Username, o.Password = "app", "secret"
		rdb := redis.NewClusterClient(o)
		if err := rdb.Ping(t.Context()).Err(); err != nil { // it knows the nodes
			t.Fatal(err)
		}
		for _, n := range c.Nodes {
			admin := n.Client(t)
			for _, cmd := range [][]any{{"acl", "setuser", "app", "off"}, {"client", "kill", "user", "app"}} {
				if err := admin.Do(t.Context(), cmd...).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		check(t, rdb)
	})
}
