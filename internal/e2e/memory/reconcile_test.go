package memory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

// A reconciliation is held up at one of its steps. A write is acknowledged meanwhile, a
// failover loses it, and a read comes: what the reconciliation has found out by then is
// too old for it.
func TestAReadIsNotContentWithAnEarlierReconciliation(t *testing.T) {
	for _, step := range []string{"get", "read_clock", "server_id", "get_header", "compare_and_delete", "publish"} {
		for what, write := range map[string]func(context.Context, *cache.Cache[string, string]) error{
			"Set":        func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Set(ctx, "k", "v2") },
			"Delete":     func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "k") },
			"Invalidate": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		} {
			t.Run(step+" "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					st := storetest.NewMemory()
					c, net := onWire(t, st, cache.Source[string, string]{}, cache.WithTransport(invalidate.NoTransport()))
					if err := errors.Join(c.Set(ctx, "other", "v"), c.Set(ctx, "k", "v1")); err != nil {
						t.Fatal(err)
					}
					time.Sleep(20 * time.Second) // nothing is recent
					if err := c.Set(ctx, "other", "v"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					key := []store.Command{{Op: store.Get, Key: c.RedisKey("k")}}
					old := st.Do(ctx, key)[0].Record.Raw
					otherKey := []store.Command{{Op: store.Set, Key: c.RedisKey("other"), Frame: old}}
					st.Do(ctx, otherKey) // not what was acknowledged: there is something to tell
					st.Succeed()

					written := make(chan error, 1)
					sending, send := make(chan struct{}), make(chan struct{})
					telling, tell := make(chan struct{}), make(chan struct{})
					var sent, heldUp atomic.Bool
					net.set(func(op string) error {
						if op == step && sent.Load() && heldUp.CompareAndSwap(false, true) {
							close(telling)
							<-tell
						}
						return nil
					}, func(op string) error {
						if (op == "set" || op == "delete") && sent.CompareAndSwap(false, true) {
							close(sending)
							<-send
						}
						return nil
					})
					go func() { written <- write(ctx, c) }()
					<-sending
					hook.Of(c).Coherence.Suspect()
					go c.Get(ctx, "x")
					<-telling
					close(send)
					if err := <-written; err != nil {
						t.Fatal(err)
					}
					st.Do(ctx, []store.Command{{Op: store.Set, Key: c.RedisKey("k"), Frame: old}})
					st.Succeed()
					hook.Of(c).Coherence.Suspect()
					got := make(chan string, 1)
					go func() {
						v, err := c.Get(ctx, "k")
						got <- fmt.Sprint(v, " ", err)
					}()
					synctest.Wait()
					close(tell)
					if s := <-got; strings.HasPrefix(s, "v1") {
						t.Errorf("%s was acknowledged, and lost; then a read got %s", what, s)
					}
					if v, err := c.Get(ctx, "k"); v == "v1" {
						t.Errorf("and once more: %q, %v", v, err)
					}
				})
			})
		}
	}
}

// A read that needs no later reconciliation than the one under way makes none of its own.
func TestReadsShareAReconciliation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		c, net := onWire(t, store, cache.Source[string, string]{}, cache.WithTransport(invalidate.NoTransport()))
		if err := c.Set(ctx, "k", "v"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the first look is over
		store.Succeed()
		looks := 0
		net.set(func(op string) error {
			if op == "server_id" {
				looks++
				time.Sleep(time.Millisecond)
			}
			return nil
		}, nil)
		hook.Of(c).Coherence.Suspect()
		got := make(chan error, 50)
		for range cap(got) {
			go func() { _, err := c.Get(ctx, "k", cache.SkipLocal()); got <- err }()
		}
		for range cap(got) {
			if err := <-got; err != nil {
				t.Error(err)
			}
		}
		if looks > 2 { // the first reader may find another suspicion
			t.Errorf("%d reconciliations", looks)
		}
	})
}
