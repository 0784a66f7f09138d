package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

// The rules that coherence rests on, each with the interleaving in which a cache that
// does not keep it serves something old.

// Rule 1: a lease that is lost stays lost; renewal revives nothing.
//
//  1. a: takes the lease and loads v1
//  2. the source changes to v2; the key is deleted by hand, and with it the lease
//  3. a: renews, and must find nothing to renew
//  4. b: takes a lease of its own, loads v2 and fills
//  5. a: fills v1, and must lose
func TestALostLeaseIsNotRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		a, b := onMemory(t, st, cache.Source[string, string]{}), onMemory(t, st, cache.Source[string, string]{})
		ga, gb := newGate(), newGate()
		first := get(a, "k", ga.load)
		<-ga.began
		st.Do(ctx, []store.Command{{Op: store.Delete, Key: a.RedisKey("k")}})
		time.Sleep(hook.LeaseLife)
		if ttl := st.TTL(a.RedisKey("k")); ttl != -2*time.Millisecond {
			t.Errorf("the lease came back, for %v", ttl)
		}
		second := get(b, "k", gb.load)
		<-gb.began
		gb.end <- "v2"
		<-second
		ga.end <- "v1"
		<-first
		for name, c := range map[string]*cache.Cache[string, string]{"a": a, "b": b} {
			if v, err := c.Peek(ctx, "k"); v != "v2" || err != nil {
				t.Errorf("%s: %q, %v", name, v, err)
			}
		}
	})
}

// Rule 3: a notification moves the fence as an own write does.
//
//  1. a: a load begins and is answered v1
//  2. b: sets v2; a hears of it, and the value is deleted again
//  3. a: a reader comes: he must not join that load
func TestAReadAfterANotificationDoesNotJoinAnOlderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		a, b := onMemory(t, store, cache.Source[string, string]{}), onMemory(t, store, cache.Source[string, string]{})
		g := newGate()
		first := get(a, "k", g.load)
		<-g.began
		if err := b.Invalidate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		second := get(a, "k", g.load)
		<-g.began // a load of its own
		g.end <- "v1"
		g.end <- "v2"
		<-first
		<-second
	})
}

// Rule 4: the echo of a write that failed is foreign.
//
//  1. a: sets v1; its reply is late, and the write counts as failed; the key is told
//     to be invalid, and what Redis had is read again
//  2. Redis carries out the write of 1, and publishes its notice
//  3. a: hears its own number, and must drop the key all the same
func TestTheEchoOfAFailedWriteIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		a, net := onWire(t, store, cache.Source[string, string]{}, cache.WithTimeout(100*time.Millisecond))
		b := onMemory(t, store, cache.Source[string, string]{})
		_, _ = a.Peek(ctx, "k")
		late := make(chan struct{})
		net.set(func(op string) error {
			if op == "set" {
				<-late
			}
			return nil
		}, nil)
		if err := a.Set(ctx, "k", "v1"); err == nil {
			t.Fatal("it was not late")
		}
		if err := a.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if err := b.Set(ctx, "k", "v0"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if v, err := a.Get(ctx, "k"); v != "v0" || err != nil {
			t.Fatal(v, err)
		}
		close(late)
		time.Sleep(50 * time.Millisecond)
		if e, ok := localOf(a).Get("k", local.Now()); ok && e.Value != "v1" {
			t.Errorf("the local tier has %q, and Redis has v1", e.Value)
		}
	})
}

// Rule 5: who was deaf for a while trusts nothing from before, and nothing that was
// read before it hears again.
//
//  1. a: has v1 in its local tier
//  2. a's session ends; b sets v2
//  3. a: hears again
func TestWhatWasMissedWhileDeafIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		a, b := onMemory(t, store, cache.Source[string, string]{}), onMemory(t, store, cache.Source[string, string]{})
		if err := b.Set(ctx, "k", "v1"); err != nil {
			t.Fatal(err)
		}
		if v, err := a.Get(ctx, "k"); v != "v1" || err != nil {
			t.Fatal(v, err)
		}
		store.CutListeners(errors.New("cut"))
		synctest.Wait()
		if hook.Of(a).Coherence.LocalValid(local.Now()) {
			t.Error("the local tier is trusted though nothing is heard")
		}
		if err := b.Set(ctx, "k", "v2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(coherence.HeartbeatTimeout)
		if !hook.Of(a).Coherence.LocalValid(local.Now()) {
			t.Fatal("the session did not come back")
		}
		if v, err := a.Get(ctx, "k"); v != "v2" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
}

// Rule 9: whatever the policy, a load under way loses, and the others are told.
//
//  1. a: takes the lease and loads v1
//  2. the source changes to v2; b invalidates the key
//  3. a: fills, and must lose
func TestEveryPolicyVoidsALoadUnderWay(t *testing.T) {
	for name, policy := range map[string]invalidate.Policy{
		"immediate": invalidate.Immediate(), "delayed": invalidate.Delayed(10 * time.Millisecond), "lazy": invalidate.Lazy(),
	} {
		for what, revoke := range map[string]func(context.Context, *cache.Cache[string, string]) error{
			"key": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
			"all": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
			"pattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
				_, err := c.InvalidatePattern(ctx, "*")
				return err
			},
		} {
			for _, present := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					store := storetest.NewMemory()
					a := onMemory(t, store, cache.Source[string, string]{}, cache.WithInvalidator(policy))
					b := onMemory(t, store, cache.Source[string, string]{}, cache.WithInvalidator(policy))
					if present { // a refresh, in the place of a value
						if err := b.Set(ctx, "k", "v0"); err != nil {
							t.Fatal(err)
						}
					}
					g := newGate()
					got := make(chan error, 1)
					go func() {
						_, err := a.GetOrLoad(ctx, "k", g.load, cache.MaxAge(0))
						got <- err
					}()
					<-g.began
					if err := revoke(ctx, b); err != nil {
						t.Fatal(err)
					}
					g.end <- "v1"
					if err := <-got; err != nil {
						t.Fatal(err)
					}
					time.Sleep(20 * time.Millisecond)
					for i, c := range []*cache.Cache[string, string]{a, b} {
						if v, err := c.Peek(ctx, "k"); err == nil {
							t.Errorf("%s, %s, present %v: process %d serves %q", name, what, present, i, v)
						}
					}
				})
			}
		}
	}
}

// Rule 13: a message that is lost is missed.
//
//  1. a: has v1 in its local tier
//  2. b: sets v2; the message is lost on its way to a
//  3. b: says in a watermark that it was published
func TestALostNoticeIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		a, b := onMemory(t, store, cache.Source[string, string]{}), onMemory(t, store, cache.Source[string, string]{})
		_, _ = a.Peek(ctx, "k") // a is the first that listens
		if err := b.Set(ctx, "k", "v1"); err != nil {
			t.Fatal(err)
		}
		if v, err := a.Get(ctx, "k"); v != "v1" || err != nil {
			t.Fatal(v, err)
		}
		time.Sleep(5 * time.Second)
		store.Intercept(func(d storetest.Delivery) (int, time.Duration) {
			n, err := message.Parse(d.Text)
			if d.Listener == 0 && d.Kind == storetest.DeliverMessage && err == nil && n.Kind == message.Invalidated {
				return 0, 0
			}
			return 1, 0
		})
		if err := b.Set(ctx, "k", "v2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if v, err := a.Get(ctx, "k"); v != "v2" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
}

// Rule 14: what Update makes of a value is as old as that.
//
//  1. a: Update is given v1, which has a tag
//  2. b: invalidates the tag
//  3. a: stores what it made of v1
func TestWhatUpdateMakesIsAsOldAsWhatItWasMadeOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		a, b := onMemory(t, store, cache.Source[string, string]{}), onMemory(t, store, cache.Source[string, string]{})
		if err := b.Set(ctx, "k", "v1", cache.Tags("t")); err != nil {
			t.Fatal(err)
		}
		_, err := a.Update(ctx, "k", func(old string, _ bool) (string, error) {
			if err := b.InvalidateTags(ctx, "t"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // a has received it
			return old + "!", nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range []*cache.Cache[string, string]{a, b} {
			if v, err := c.Peek(ctx, "k"); err == nil {
				t.Errorf("process %d serves %q", i, v)
			}
		}
	})
}

// Rules 14 and 15: a process that starts, or that does not hear, learns what was said
// of tags and of everything before it serves an entry.
func TestWhoKnowsNoMarksAsksForThem(t *testing.T) {
	for _, transport := range []invalidate.Transport{invalidate.Broadcast(), invalidate.NoTransport()} {
		for _, all := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := storetest.NewMemory()
				a := onMemory(t, store, cache.Source[string, string]{})
				quiet := onMemory(t, store, cache.Source[string, string]{}, cache.WithTransport(invalidate.NoTransport()))
				if err := a.Set(ctx, "k", "v1", cache.Tags("t")); err != nil {
					t.Fatal(err)
				}
				if v, err := quiet.Get(ctx, "k", cache.SkipLocal()); v != "v1" || err != nil {
					t.Fatal(v, err)
				}
				var err error
				if all {
					err = a.Clear(ctx)
				} else {
					err = a.InvalidateTags(ctx, "t")
				}
				if err != nil {
					t.Fatal(err)
				}
				young := onMemory(t, store, cache.Source[string, string]{}, cache.WithTransport(transport))
				if v, err := young.Get(ctx, "k"); err == nil {
					t.Errorf("%v: one that has just started serves %q", transport, v)
				}
				if v, err := quiet.Get(ctx, "k", cache.SkipLocal()); err == nil {
					t.Errorf("one that does not hear serves %q", v)
				}
			})
		}
	}
}

// Rule 16: a failover that loses what was acknowledged does not bring back the old
// value for good.
//
//  1. Redis holds v1, and so does its replica
//  2. a: sets v2, or invalidates, or marks; Redis acknowledges
//  3. the replica takes over, without 2: it holds v1; sessions end
//  4. a: tells again what it did lately
func TestAFailoverDoesNotBringTheOldValueBack(t *testing.T) {
	for name, change := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"set":        func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Set(ctx, "k", "v2") },
		"invalidate": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
		"tag":        func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
		"clear":      func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
		"pattern": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.InvalidatePattern(ctx, "k*")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				st := storetest.NewMemory()
				a, b := onMemory(t, st, cache.Source[string, string]{}), onMemory(t, st, cache.Source[string, string]{})
				if err := b.Set(ctx, "k", "v1", cache.Tags("t")); err != nil {
					t.Fatal(err)
				}
				if v, err := a.Get(ctx, "k"); v != "v1" || err != nil {
					t.Fatal(v, err)
				}
				time.Sleep(time.Second)
				replica := st.Do(ctx, []store.Command{{Op: store.Get, Key: a.RedisKey("k")}, {Op: store.Get, Key: hook.Of(a).Names.Epoch}})
				if err := change(ctx, a); err != nil {
					t.Fatal(err)
				}
				for i, key := range []string{a.RedisKey("k"), hook.Of(a).Names.Epoch} {
					st.Do(ctx, []store.Command{{Op: store.Set, Key: key, Frame: replica[i].Record.Raw}})
				}
				st.Do(ctx, []store.Command{{Op: store.Delete, Key: hook.Of(a).Names.Tags}})
				st.Succeed()
				st.CutListeners(errors.New("failover"))
				time.Sleep(3 * time.Second)
				for i, c := range []*cache.Cache[string, string]{a, b} {
					if v, _ := c.Peek(ctx, "k"); v == "v1" {
						t.Errorf("process %d serves %q", i, v)
					}
				}
			})
		})
	}
}
