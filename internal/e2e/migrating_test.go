package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// moving puts the slot of a key in the state in which a cluster moves it, and returns what
// moves a key of it, and what ends the move.
func moving(t *testing.T, cluster *redistest.Cluster, key string) (move func(key string), end func()) {
	t.Helper()
	ctx, client := t.Context(), cluster.Client(t)
	do := func(c *redis.Client, args ...any) {
		t.Helper()
		if err := c.Do(ctx, args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	home, err := client.MasterForKey(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	slot := client.ClusterKeySlot(ctx, key).Val()
	var from, to *redis.Client
	ids := map[*redis.Client]string{}
	for _, s := range cluster.Nodes {
		c := s.Client(t)
		ids[c] = c.ClusterMyID(ctx).Val()
		if s.Addr() == home.Options().Addr {
			from = c
		} else {
			to = c
		}
	}
	do(to, "cluster", "setslot", slot, "importing", ids[from])
	do(from, "cluster", "setslot", slot, "migrating", ids[to])
	move = func(key string) {
		t.Helper()
		host, port, _ := strings.Cut(to.Options().Addr, ":")
		do(from, "migrate", host, port, key, 0, 10000)
	}
	end = func() {
		t.Helper()
		left, err := from.ClusterGetKeysInSlot(ctx, int(slot), 1000).Result() // the clocks of other caches
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range left {
			move(key)
		}
		do(to, "cluster", "setslot", slot, "node", ids[to])
		do(from, "cluster", "setslot", slot, "node", ids[to])
	}
	return move, end
}

// A cluster that moves the logical clock of a cache to another node, for as long as it takes,
// is as good as one that does not.
func TestACacheWorksWhileItsClockMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	for name, hears := range map[string]cache.Option{"heard": withLocal, "unheard": transports["no local tier"][0]} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			node := func() *cache.Cache[string, int] {
				c, err := cache.New[string, int](cluster.Client(t), name, hears, slowly, discard)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				return c
			}
			a, b, n := node(), node(), 0
			works := func(when string) {
				t.Helper()
				must := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatalf("%s: %v", when, err)
					}
				}
				load := func(context.Context, string) (int, error) { return -1, nil }
				is := func(key string, want int) {
					t.Helper()
					for _, c := range []*cache.Cache[string, int]{a, b} {
						eventually(t, fmt.Sprintf("%s: %s is %d", when, key, want), func() bool { // to one a message is under way
							v, err := c.GetOrLoad(ctx, key, load, cache.SkipLocal())
							if want > 0 && v != want || err != nil {
								t.Fatalf("%s: %s is %d instead of %d, %v", when, key, v, want, err)
							}
							return v == want
						})
					}
				}
				n++
				must(a.InvalidateTags(ctx, "first")) // what was lost is noticed
				must(a.Set(ctx, "plain", n))
				must(b.Set(ctx, "tagged", n, cache.Tags("t")))
				is("plain", n)
				is("tagged", n)
				must(a.InvalidateTags(ctx, "u"))
				is("tagged", n)
				must(a.InvalidateTags(ctx, "t"))
				is("tagged", -1)
				is("plain", n)
				must(b.Clear(ctx))
				is("plain", -1)
				must(a.Delete(ctx, "plain"))
			}
			if err := a.Set(ctx, "first", 1); err != nil {
				t.Fatal(err)
			}
			names := store.NewNames("", name).Parted(true)
			clock := names[store.PartOf(a.RedisKey("tagged"))]
			move, end := moving(t, cluster, clock.Epoch)
			works("at first")
			move(clock.Epoch)
			works("when the epoch has moved")
			move(clock.Tags)
			works("when all has moved")
			end()
			works("afterwards")
		})
	}
}
