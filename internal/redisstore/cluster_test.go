package redisstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// After a failover a client's map of the cluster is old.
func TestCommandsFollowAFailover(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.Replicas(1))
	st := newReal(t, cluster.Client(t))
	var sets []store.Command
	for i := range 50 {
		sets = append(sets, store.Command{Op: store.Set, Key: fmt.Sprint("k", i), Frame: frame("o")})
	}
	for i, r := range st.Do(t.Context(), sets) {
		if r.Err != nil {
			t.Fatalf("%d: %v", i, r.Err)
		}
	}
	for i, next := range []string{"a", "b"} {
		cluster.Failover(t, i)
		for j, r := range st.Do(t.Context(), sets) {
			if r.Err != nil {
				t.Errorf("%d in a batch after failover %d: %v", j, i, r.Err)
			}
		}
		for _, c := range sets {
			swap := store.Command{Op: store.CompareAndSet, Key: c.Key, Seen: store.TokenOf(c.Frame), Frame: frame(next)}
			if r := do(t, st, swap); r.Err != nil || !r.OK {
				t.Errorf("%s after failover %d: %+v", c.Key, i, r)
			}
		}
	}
	if _, err := st.Now(t.Context(), "k1"); err != nil {
		t.Error(err)
	}
}

// migration moves one slot from one master to another, step by step.
type migration struct {
	slot     int64
	from, to *redis.Client
	ids      [2]string
}

func (m *migration) do(t *testing.T, c *redis.Client, args ...any) {
	t.Helper()
	if err := c.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
}

func (m *migration) begin(t *testing.T) {
	t.Helper()
	m.do(t, m.to, "cluster", "setslot", m.slot, "importing", m.ids[0])
	m.do(t, m.from, "cluster", "setslot", m.slot, "migrating", m.ids[1])
}

// move hands over the key, as redis-cli does. A key that is not there need not be.
func (m *migration) move(t *testing.T, key string) {
	t.Helper()
	m.do(t, m.from, "migrate", "127.0.0.1", port(m.to), key, 0, 10000)
}

func (m *migration) end(t *testing.T) {
	t.Helper()
	m.do(t, m.to, "cluster", "setslot", m.slot, "node", m.ids[1])
	m.do(t, m.from, "cluster", "setslot", m.slot, "node", m.ids[1])
}

func port(c *redis.Client) string {
	return c.Options().Addr[len("127.0.0.1:"):]
}

// While a slot moves, the old master has some of its keys and the new one others,
// and afterwards clients have the old map. Whatever the moment, commands, scripts
// and pipelines among them give the answers that they would without the move.
func TestCommandsFollowASlotThatMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	for name, load := range map[string]bool{"scripts known": true, "scripts unknown": false} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			client := cluster.Client(t)
			st, model := newReal(t, client), memory{storetest.NewMemory()}
			tag := "{" + name + "}"
			m := migration{slot: client.ClusterKeySlot(ctx, tag).Val()}
			home, err := client.MasterForKey(ctx, tag)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range cluster.Nodes {
				c := s.Client(t)
				id, err := c.ClusterMyID(ctx).Result()
				if err != nil {
					t.Fatal(err)
				}
				if port(c) == port(home) {
					m.from, m.ids[0] = c, id
				} else {
					m.to, m.ids[1] = c, id
				}
			}
			if load {
				for _, op := range []store.Op{store.CompareAndSet, store.CompareAndDelete, store.Extend} {
					for i := range 30 { // for all masters
						do(t, st, store.Command{Op: op, Key: fmt.Sprint("elsewhere", i), Seen: store.TokenOf(frame("a")), TTL: time.Hour})
					}
				}
			} else {
				st.forget(t)
			}

			keys := []string{tag + "stays", tag + "moves", tag + "new"}
			both := func(when string, cmds ...store.Command) {
				t.Helper()
				want, got := model.Do(ctx, cmds), st.Do(ctx, cmds)
				for i := range cmds {
					if got[i].Err != nil || want[i].OK != got[i].OK || want[i].Record.State != got[i].Record.State || string(want[i].Record.Raw) != string(got[i].Record.Raw) {
						t.Errorf("%s: %v %q: %+v instead of %+v", when, cmds[i].Op, cmds[i].Key, got[i], want[i])
					}
				}
			}
			seen := map[string]string{keys[0]: "a", keys[1]: "a"}
			for _, k := range keys[:2] {
				both("before", store.Command{Op: store.Set, Key: k, Frame: frame("a"), TTL: time.Hour})
			}
			// everything has each key changed, alone and in a pipeline.
			everything := func(when, next string) {
				t.Helper()
				var batch []store.Command
				for _, k := range keys {
					s := store.CASToken{}
					if seen[k] != "" {
						s = store.TokenOf(frame(seen[k]))
					}
					both(when, store.Command{Op: store.Get, Key: k})
					both(when, store.Command{Op: store.SetNX, Key: k, Frame: frame(next), TTL: time.Hour})
					if seen[k] == "" {
						s = store.TokenOf(frame(next))
					}
					both(when, store.Command{Op: store.Extend, Key: k, Seen: s, TTL: time.Minute})
					batch = append(batch,
						store.Command{Op: store.Get, Key: k},
						store.Command{Op: store.CompareAndSet, Key: k, Seen: s, Frame: frame(next + "x"), TTL: time.Hour},
						store.Command{Op: store.Get, Key: k},
						store.Command{Op: store.Set, Key: k, Frame: frame(next)},
					)
					seen[k] = next
				}
				both(when+", in a pipeline", batch...)
				both(when, store.Command{Op: store.CompareAndDelete, Key: keys[2], Seen: store.TokenOf(frame(next))})
				seen[keys[2]] = ""
			}
			everything("before", "b")
			m.begin(t)
			everything("at the start", "c")
			m.move(t, keys[1])
			if err := m.from.Get(ctx, keys[1]).Err(); err == nil || !redis.HasErrorPrefix(err, "ASK") {
				t.Errorf("the old master says %v", err)
			}
			everything("in the middle", "d")
			m.move(t, keys[0])
			m.move(t, keys[2])
			m.end(t)
			if err := m.from.Get(ctx, keys[1]).Err(); err == nil || !redis.HasErrorPrefix(err, "MOVED") {
				t.Errorf("the old master says %v", err)
			}
			everything("at the end", "e")
			for _, k := range keys {
				want, _ := model.look(t, k)
				if got, _ := st.look(t, k); got != want {
					t.Errorf("%q holds %s instead of %s", k, got, want)
				}
			}
		})
	}
}
