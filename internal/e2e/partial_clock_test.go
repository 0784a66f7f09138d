package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
)

// others is the timeout of a cache with a master that does not answer: the others are well, and may be
// busy.
var others = cache.WithTimeout(time.Second)

// While the master of a cluster does not answer that holds the logical clock, or another one,
// keys of the other masters are written as ever, and read: from the source, or from Redis. When it is
// back, all is as before.
func TestAClusterWithoutOneMaster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.Args("--cluster-node-timeout", "60000"))
	ctx, client := t.Context(), cluster.Client(t)
	for _, down := range []string{"clock", "other"} {
		t.Run(down, func(t *testing.T) {
			load := cache.SourceFunc(func(_ context.Context, k string) (string, error) { return "source", nil })
			c, err := cache.NewFrom(cluster.Client(t), down, load, withLocal, others, discard)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			home, err := client.MasterForKey(ctx, ":{c:"+down+"}:epoch")
			if err != nil {
				t.Fatal(err)
			}
			clock := home.Options().Addr
			var frozen *redistest.Server
			for _, s := range cluster.Nodes {
				if (s.Addr() == clock) == (down == "clock") {
					frozen = s
				}
			}
			var keys []string // of the masters that answer
			for i := 0; len(keys) < 20; i++ {
				k := fmt.Sprint("k", i)
				m, err := client.MasterForKey(ctx, c.RedisKey(k))
				if err != nil {
					t.Fatal(err)
				}
				if m.Options().Addr != frozen.Addr() {
					keys = append(keys, k)
				}
			}
			for _, k := range keys {
				if err := c.Set(ctx, k, "before"); err != nil {
					t.Fatal(err)
				}
			}
			if err := frozen.Freeze(); err != nil {
				t.Fatal(err)
			}
			thaw := func() {
				if err := frozen.Thaw(); err != nil {
					t.Fatal(err)
				}
			}
			defer thaw()
			// Until then, what is missed may go unnoticed.
			for c.Metrics().Listener == metrics.Up {
				time.Sleep(10 * time.Millisecond)
			}
			for _, k := range keys {
				if err := c.Set(ctx, k, "during"); err != nil {
					t.Errorf("Set of a key of a master that answers: %v", err)
				}
			}
			want := "during"
			if down == "clock" {
				want = "source"
			}
			for _, k := range keys {
				if v, err := c.Get(ctx, k); v != want || err != nil {
					t.Errorf("Get of a key of a master that answers: %q, %v", v, err)
				}
			}
			err = c.InvalidateTags(ctx, "t")
			if down == "clock" && !errors.Is(err, cache.ErrUnavailable) || down == "other" && err != nil {
				t.Errorf("InvalidateTags: %v", err)
			}
			thaw()
			if err := c.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			for _, k := range keys {
				if v, err := c.Get(ctx, k); v != "during" && v != want || err != nil {
					t.Errorf("Get when all is well: %q, %v", v, err)
				}
			}
		})
	}
}
