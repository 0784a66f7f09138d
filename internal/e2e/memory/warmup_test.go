package memory_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

// However many keys a process has written lately, a suspicion that Redis may be another one
// costs none of them, and none of others: they are checked key by key.
func TestASuspicionCostsNothingThatIsThere(t *testing.T) {
	for _, info := range []bool{true, false} {
		for _, transport := range []invalidate.Transport{invalidate.NoTransport(), invalidate.Broadcast()} {
			t.Run(fmt.Sprintf("INFO %v, %v", info, transport), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					store := storetest.NewMemory()
					other := onMemory(t, store, cache.Source[int, string]{})
					if err := other.Set(ctx, -1, "of another process"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Minute)
					c, net := onWire(t, store, cache.Source[int, string]{}, cache.WithTransport(transport))
					if !info {
						net.lose("server_id")
					}
					n := redistest.Times(2_000, 20_000)
					vals, keys := map[int]string{}, make([]int, n)
					for i := range n {
						vals[i], keys[i] = "v", i
					}
					if err := c.SetMany(ctx, vals); err != nil {
						t.Fatal(err)
					}
					for range 3 {
						net.redial()
						hook.Of(c).Coherence.Suspect()
						if got, err := c.GetMany(ctx, keys, cache.SkipLocal()); len(got) != n || err != nil {
							t.Errorf("%d of %d, %v", len(got), n, err)
						}
						time.Sleep(time.Second)
					}
					if v, err := other.Get(ctx, -1, cache.SkipLocal()); v == "" || err != nil {
						t.Errorf("another process's value: %q, %v", v, err)
					}
					if err := c.Sync(ctx); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// What a failover has lost of many writes is not read, and told to others.
func TestManyWritesThatAFailoverLostAreNotReadInTheirOlderState(t *testing.T) {
	redistest.Thorough(t)
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		c, net := onWire(t, st, cache.Source[int, string]{}, cache.WithTransport(invalidate.NoTransport()))
		const n = 10_000
		old, vals := map[int]string{}, map[int]string{}
		for i := range n {
			old[i], vals[i] = "old", "new"
		}
		if err := c.SetMany(ctx, old); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		lost := map[string][]byte{}
		for i := range n {
			if i%7 == 0 {
				rk := c.RedisKey(i)
				lost[rk] = st.Do(ctx, []store.Command{{Op: store.Get, Key: rk}})[0].Record.Raw
			}
		}
		if err := c.SetMany(ctx, vals); err != nil {
			t.Fatal(err)
		}
		for rk, raw := range lost {
			st.Do(ctx, []store.Command{{Op: store.Set, Key: rk, Frame: raw}})
		}
		st.Succeed()
		net.redial()
		for i := range n {
			v, err := c.Get(ctx, i, cache.SkipLocal())
			if i%7 == 0 && v == "old" || i%7 != 0 && (v != "new" || err != nil) {
				t.Fatalf("%d: %q, %v", i, v, err)
			}
		}
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		other := onMemory(t, st, cache.Source[int, string]{})
		for i := 0; i < n; i += 7 {
			if v, _ := other.Get(ctx, i); v == "old" {
				t.Fatalf("another process reads %q", v)
			}
		}
	})
}
