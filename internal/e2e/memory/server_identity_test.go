package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

// One more connection to the server that acknowledged is no reason to remove what others
// have written since, or to doubt it; and be it dated earlier than what it replaced.
//
//  1. b: Set begins
//  2. a: Set
//  3. Redis carries out 1
//  4. a: reads, over a new connection
func TestANewConnectionToTheSameServer(t *testing.T) {
	for name, lost := range map[string][]string{
		"removes nothing": {"none of them"},
		"doubts nothing":  {"get_header", "compare_and_delete"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := storetest.NewMemory()
				a, net := onWire(t, store, cache.Source[string, string]{}, cache.WithTransport(invalidate.NoTransport()))
				b, late := onWire(t, store, cache.Source[string, string]{})
				for _, c := range []*cache.Cache[string, string]{a, b} {
					if err := c.Set(ctx, "other", "v"); err != nil {
						t.Fatal(err)
					}
				}
				late.set(func(op string) error {
					if op == "set" {
						time.Sleep(time.Second)
					}
					return nil
				}, nil)
				done := make(chan error)
				go func() { done <- b.Set(ctx, "k", "b's") }()
				time.Sleep(500 * time.Millisecond)
				if err := a.Set(ctx, "k", "a's"); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				net.lose(lost...)
				for range 3 {
					net.redial()
					if v, err := a.Get(ctx, "k", cache.SkipLocal()); v != "b's" || err != nil {
						t.Errorf("%q, %v", v, err)
					}
				}
				if v, err := b.Get(ctx, "k", cache.SkipLocal()); v != "b's" || err != nil {
					t.Errorf("the other: %q, %v", v, err)
				}
			})
		})
	}
}

// Redis comes back in its place without what it has acknowledged. All that shows is that
// there is a new connection.
func TestAnotherServerInTheSamePlace(t *testing.T) {
	for name, c := range map[string]struct {
		before func(ctx context.Context, a *cache.Cache[string, string], store *storetest.Memory, net *wire)
		after  func(store *storetest.Memory, net *wire)
		then   func(ctx context.Context, a *cache.Cache[string, string]) // before a is read
		late   bool                                                      // the first look is answered while the write's acknowledgement is on its way
		epoch  bool                                                      // goes back as well
	}{
		"another lineage": {
			after: func(store *storetest.Memory, net *wire) { store.Succeed(); net.redial() },
		},
		// The first caller makes the connection; those who read come later.
		"a write makes the connection": {
			after: func(store *storetest.Memory, net *wire) { store.Succeed(); net.redial() },
			then:  func(ctx context.Context, a *cache.Cache[string, string]) { _ = a.Set(ctx, "other", "v") },
		},
		"so does a load, which waits for another one": {
			after: func(store *storetest.Memory, net *wire) { store.Succeed(); net.redial() },
			then: func(ctx context.Context, a *cache.Cache[string, string]) {
				_, _ = a.GetOrLoad(ctx, "else", func(context.Context, string) (string, error) { return "v", nil }, cache.MaxAge(0))
			},
		},
		"it can't be asked": {
			after: func(_ *storetest.Memory, net *wire) { net.lose("server_id"); net.redial() },
		},
		// What operators can do to a running server shows in the logical clock only.
		"the same lineage, but it has gone back in time": {
			after: func(*storetest.Memory, *wire) {},
			epoch: true,
		},
		// What touches the clock from time to time repairs it.
		"the same lineage, and the clock is touched before the read": {
			after: func(*storetest.Memory, *wire) {},
			then:  func(context.Context, *cache.Cache[string, string]) { time.Sleep(time.Second) },
			epoch: true,
		},
		// There may be connections to the one before.
		"another one that was seen a moment before": {
			before: func(ctx context.Context, a *cache.Cache[string, string], store *storetest.Memory, net *wire) {
				store.Succeed()
				net.redial()
				_, _ = a.Get(ctx, "other", cache.SkipLocal())
				time.Sleep(time.Second)
			},
			after: func(_ *storetest.Memory, net *wire) { net.redial() },
		},
		// The first look may have been answered by the second server.
		"the first look ends while the write is under way": {
			after: func(_ *storetest.Memory, net *wire) { net.redial() },
			late:  true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				st := storetest.NewMemory()
				a, net := onWire(t, st, cache.Source[string, string]{}, cache.WithTransport(invalidate.NoTransport()))
				if c.late {
					net.lose("server_id")
				}
				if err := errors.Join(a.Set(ctx, "other", "v"), a.Set(ctx, "k", "v1")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Second)                     // nothing is recent
				if err := a.Set(ctx, "other", "v"); err != nil { // the logical clock goes on
					t.Fatal(err)
				}
				if c.before != nil {
					c.before(ctx, a, st, net)
				}
				keys := []string{a.RedisKey("k"), hook.Of(a).Names.Epoch}
				old := st.Do(ctx, []store.Command{{Op: store.Get, Key: keys[0]}, {Op: store.Get, Key: keys[1]}})
				if c.late {
					net.set(losing(errRequestLost, []string{"server_id"}), func(op string) error {
						if op == "set" {
							net.heal()
							time.Sleep(59 * time.Second) // the operation has a minute
						}
						return nil
					})
				}
				time.Sleep(time.Second)
				if err := a.Set(ctx, "k", "v2"); err != nil {
					t.Fatal(err)
				}
				for i, key := range keys {
					if i == 0 || c.epoch {
						st.Do(ctx, []store.Command{{Op: store.Set, Key: key, Frame: old[i].Record.Raw}})
					}
				}
				c.after(st, net)
				if c.then != nil {
					c.then(ctx, a)
				}
				for range 2 {
					if v, err := a.Get(ctx, "k", cache.SkipLocal()); v == "v1" {
						t.Errorf("%q, %v", v, err)
					}
				}
			})
		})
	}
}

// An invalidation is lost with the server that acknowledged it, and what comes back is
// hardly older: it was stored a moment before.
func TestALostInvalidationOfWhatWasJustStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		a, net := onWire(t, st, cache.Source[string, string]{}, cache.WithTransport(invalidate.NoTransport()))
		if _, err := a.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) { // who Redis is, is known
			t.Fatal(err)
		}
		synctest.Wait()
		if err := a.Set(ctx, "k", "old"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		key := a.RedisKey("k")
		old := st.Do(ctx, []store.Command{{Op: store.Get, Key: key}})[0].Record
		if err := a.Invalidate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		st.Do(ctx, []store.Command{{Op: store.Set, Key: key, Frame: old.Raw}})
		st.Succeed()
		net.redial()
		for range 2 {
			if v, err := a.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("%q, %v", v, err)
			}
		}
	})
}
