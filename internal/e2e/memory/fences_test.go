package memory_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// versions is a source whose first load is held up until the test lets it end.
type versions struct {
	now   atomic.Value // string
	loads atomic.Int32
	first chan struct{}
}

func newVersions(v string) *versions {
	s := &versions{first: make(chan struct{})}
	s.now.Store(v)
	return s
}

func (s *versions) load(context.Context, string) (string, error) {
	v := s.now.Load().(string)
	if s.loads.Add(1) == 1 {
		<-s.first
	}
	return v, nil
}

// onlyOnce returns a hook for [wire.watch] that closes seen at the first command for which
// is reports true, and waits there for goOn.
func onlyOnce(is func(store.Command) bool) (hook func([]store.Command), seen, goOn chan struct{}) {
	seen, goOn = make(chan struct{}), make(chan struct{})
	var n atomic.Int32
	return func(cmds []store.Command) {
		if is(cmds[0]) && n.Add(1) == 1 {
			close(seen)
			<-goOn
		}
	}, seen, goOn
}

// Without a local tier the fence moves at the acknowledgement as well.
//
//  1. a: an invalidation is on its way to Redis
//  2. a: a read fails, and a load begins without a lease; it is answered v1
//  3. the source changes to v2; the invalidation is acknowledged
//  4. a: a reader comes: it must not join the load of 2
func TestALoadFromBeforeAnAcknowledgementIsNotJoined(t *testing.T) {
	for name, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"invalidate": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		"delete":     func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "k") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				src := newVersions("v1")
				c, net := onWireWith(t, storetest.NewMemory(), cache.Source[string, string]{Load: src.load})
				_, _ = c.Peek(ctx, "other")
				hook, sent, goOn := onlyOnce(func(cmd store.Command) bool { return cmd.Op == store.Delete })
				net.watch(hook, nil)
				done := make(chan error, 1)
				go func() { done <- change(ctx, c) }()
				<-sent
				net.lose("get")
				go c.Get(ctx, "k")
				synctest.Wait()
				if src.loads.Load() != 1 {
					t.Fatal("no load has begun")
				}
				src.now.Store("v2")
				close(goOn)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				second := get(c, "k", src.load)
				synctest.Wait()
				close(src.first)
				if v := <-second; v != "v2" {
					t.Errorf("%q after the change was acknowledged", v)
				}
			})
		})
	}
}

// The fence of what a lease's request finds in Redis is taken before that is asked.
//
//  1. a: looks, and finds nothing; b sets v1
//  2. a: asks for the lease, and is answered v1
//  3. b: sets v2; a hears of it
//  4. a: gets the answer of 2, and must not keep it
func TestWhatTheLeaseFindsIsFencedFromBeforeItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		a, net := onWire(t, st, cache.Source[string, string]{Load: func(context.Context, string) (string, error) { return "", errors.New("not this way") }})
		b := onMemory(t, st, cache.Source[string, string]{})
		_, _ = a.Peek(ctx, "other")
		_, _ = b.Peek(ctx, "other")
		time.Sleep(5 * time.Second)
		key := a.RedisKey("k")
		getting, got, goOn := onlyOnce(func(cmd store.Command) bool { return cmd.Op == store.Get && cmd.Key == key })
		adding, added, end := onlyOnce(func(cmd store.Command) bool { return cmd.Op == store.SetNX && cmd.Key == key })
		net.watch(nil, func(cmds []store.Command) { getting(cmds); adding(cmds) })
		read := make(chan struct{})
		go func() { defer close(read); _, _ = a.Get(ctx, "k") }()
		<-got
		if err := b.Set(ctx, "k", "v1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		close(goOn)
		<-added
		if err := b.Set(ctx, "k", "v2"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		close(end)
		<-read
		time.Sleep(3 * time.Second)
		if v, err := a.Get(ctx, "k"); v != "v2" || err != nil {
			t.Errorf("%q, %v: 3 s after it was replaced", v, err)
		}
	})
}

// An invalidation by tag, or of everything, keeps readers from joining loads under way,
// whose values are not known to have the tag until they have ended.
func TestNoLoadFromBeforeAnInvalidationByTagIsJoined(t *testing.T) {
	for _, kind := range []string{"one tier", "two tiers", "local only"} {
		for what, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
			"tag":   func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
			"clear": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
			"pattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
				_, err := c.InvalidatePattern(ctx, "*")
				return err
			},
		} {
			t.Run(kind+"/"+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					src := newVersions("v1")
					c := ofKind(t, kind, storetest.NewMemory(), cache.Source[string, string]{
						Load: src.load, Tags: func(string, string) []string { return []string{"t"} },
					})
					go c.Get(ctx, "k")
					synctest.Wait()
					src.now.Store("v2")
					if err := change(ctx, c); err != nil {
						t.Fatal(err)
					}
					second := get(c, "k", src.load)
					synctest.Wait()
					close(src.first)
					if v := <-second; v != "v2" {
						t.Errorf("%q after the invalidation", v)
					}
				})
			})
		}
	}
}

// A failure counts as having every tag. Mostly its logical time says that it is from before an
// invalidation; where the clock could not be read, the fences do.
//
//  1. Redis can't be reached; a load begins
//  2. it can be reached again; an invalidation by tag is on its way
//  3. the load of 1 fails, which is remembered
//  4. the invalidation is acknowledged: the failure of 3 does not count any more
func TestAFailureOfUnknownTimeIsForgottenByAnInvalidationByTag(t *testing.T) {
	for _, kind := range []string{"one tier", "two tiers"} {
		for what, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
			"tag":   func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
			"clear": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
		} {
			t.Run(kind+"/"+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					var loads atomic.Int32
					end := make(chan struct{})
					opts := []cache.Option{cache.WithTransport(invalidate.NoTransport()), cache.WithStrategy(strategy.ErrorTTL(time.Hour))}
					if kind == "two tiers" {
						opts = append(opts, cache.WithStrategy(strategy.LRU(100)))
					}
					c, net := onWireWith(t, storetest.NewMemory(), cache.Source[string, string]{Load: func(context.Context, string) (string, error) {
						if loads.Add(1) == 1 {
							<-end
							return "", errors.New("from before")
						}
						return "v", nil
					}}, opts...)
					net.lose()
					first := make(chan error, 1)
					go func() { _, err := c.Get(ctx, "k"); first <- err }()
					synctest.Wait()
					if loads.Load() != 1 {
						t.Fatal("no load has begun")
					}
					net.heal()
					reached, release := make(chan struct{}), make(chan struct{})
					var once atomic.Bool
					net.set(func(op string) error {
						if op == "add_tombstones" && once.CompareAndSwap(false, true) {
							close(reached)
							<-release
						}
						return nil
					}, nil)
					done := make(chan error, 1)
					go func() { done <- change(ctx, c) }()
					<-reached
					close(end)
					if err := <-first; err == nil {
						t.Fatal("the load has not failed")
					}
					close(release)
					if err := <-done; err != nil {
						t.Fatal(err)
					}
					if v, err := c.Get(ctx, "k"); v != "v" || err != nil {
						t.Errorf("%q, %v after the invalidation", v, err)
					}
				})
			})
		}
	}
}

// A refresh whose outcome is not known notifies other processes: they may have the value that it
// replaced.
//
//  1. a and b: have v1 in their local tiers
//  2. a: refreshes; Redis stores v2, and neither the reply nor the notification arrives
//  3. b: must see v2
func TestARefreshOfUnknownOutcomeReachesOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		src := newVersions("v1")
		close(src.first)
		a, net := onWire(t, st, cache.Source[string, string]{Load: src.load})
		b := onMemory(t, st, cache.Source[string, string]{}, cache.WithStrategy(strategy.TTL(time.Hour), strategy.LocalTTL(time.Hour)))
		for _, c := range []*cache.Cache[string, string]{a, b} {
			if v, err := c.Get(ctx, "k"); v != "v1" || err != nil {
				t.Fatal(v, err)
			}
			synctest.Wait()
		}
		time.Sleep(5 * time.Second)
		if v, err := b.Get(ctx, "k"); v != "v1" || err != nil {
			t.Fatal(v, err)
		}
		if _, ok := localOf(b).Peek("k"); !ok {
			t.Fatal("b does not have it")
		}
		src.now.Store("v2")
		var lost atomic.Bool
		st.Intercept(func(d storetest.Delivery) (int, time.Duration) {
			if lost.Load() && d.Kind == storetest.DeliverMessage {
				return 0, 0
			}
			return 1, 0
		})
		net.set(nil, func(op string) error {
			if op == "compare_and_set" {
				return errors.New("the reply was lost")
			}
			return nil
		})
		net.watch(func(cmds []store.Command) { lost.Store(cmds[0].Op == store.CompareAndSet) }, func([]store.Command) { lost.Store(false) })
		_ = a.Refresh(ctx, "k")
		net.heal()
		if err := a.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if v, err := b.Get(ctx, "k"); v == "v1" {
			t.Errorf("%q, %v: 2 s after it was replaced", v, err)
		}
	})
}

// A key whose invalidation is pending is not read from the local tier, whatever has put it
// there, and what is read meanwhile is not kept there.
func TestTheLocalTierHasNoPartInWhatIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		c, net := onWire(t, store, cache.Source[string, string]{})
		if err := c.Set(ctx, "k", "v1"); err != nil {
			t.Fatal(err)
		}
		net.lose("delete", "compare_and_delete", "get_header")
		if err := c.Invalidate(ctx, "k"); err == nil {
			t.Fatal("it was acknowledged")
		}
		old := &local.Entry[string]{Head: local.Head{Deadline: local.Now() + int64(time.Hour)}, Value: "v0"}
		put := func() {
			localOf(c).Put("k", "k", old, hook.Of(c).Fence("k"))
		}
		put()
		if v, _ := c.Get(ctx, "k"); v == "v0" {
			t.Errorf("%q was served from the local tier", v)
		}
		localOf(c).Remove("k")
		_, _ = c.Get(ctx, "k")
		if e, ok := localOf(c).Peek("k"); ok {
			t.Errorf("%q was kept in the local tier", e.Value)
		}
		time.Sleep(5 * time.Second)
		if err := onMemory(t, store, cache.Source[string, string]{}).Set(ctx, "k", "v2"); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(ctx, "k"); v != "v2" || err != nil {
			t.Errorf("%q, %v: what was stored after the invalidation", v, err)
		}
		if e, ok := localOf(c).Peek("k"); ok {
			t.Errorf("%q, which was stored after it, was kept in the local tier", e.Value)
		}
		put()
		net.heal()
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if e, ok := localOf(c).Peek("k"); ok {
			t.Errorf("%q is in the local tier when the invalidation has been delivered", e.Value)
		}
	})
}

// When a pending invalidation by pattern has been delivered, nothing that matches it is in
// the local tier.
func TestADeliveredPatternLeavesNothingInTheLocalTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		c, net := onWire(t, storetest.NewMemory(), cache.Source[string, string]{})
		_, _ = c.Peek(ctx, "other")
		net.lose("publish")
		if _, err := c.InvalidatePattern(ctx, "k*"); err == nil {
			t.Fatal("it was acknowledged")
		}
		old := &local.Entry[string]{Head: local.Head{Deadline: local.Now() + int64(time.Hour)}, Value: "v0"}
		localOf(c).Put("k1", "k1", old, hook.Of(c).Fence("k1"))
		net.heal()
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if e, ok := localOf(c).Peek("k1"); ok {
			t.Errorf("%q is in the local tier", e.Value)
		}
	})
}
