package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

// Update asks the source on a miss. What it makes of the answer must not be kept if
// the key was invalidated meanwhile, in any process:
//
//  1. a: Update finds nothing in Redis, and asks the source, which answers v1
//  2. the source changes to v2; b invalidates the key, of which Redis has nothing
//  3. a: stores what it made of v1 over what it has seen: nothing
func TestUpdateKeepsNothingThatItLoadedBeforeAnInvalidation(t *testing.T) {
	for _, same := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			store := storetest.NewMemory()
			g := newGate()
			a := onMemory(t, store, cache.SourceFunc(g.load))
			b := a
			if !same {
				b = onMemory(t, store, cache.Source[string, string]{})
			}
			done := make(chan string)
			go func() {
				v, err := a.Update(ctx, "k", func(old string, _ bool) (string, error) { return old + "!", nil })
				if err != nil {
					v = err.Error()
				}
				done <- v
			}()
			<-g.began
			if err := b.Invalidate(ctx, "k"); err != nil {
				t.Fatal(err)
			}
			g.end <- "v1"
			g.end <- "v2"
			if v := <-done; v != "v2!" {
				t.Errorf("same process %v: Update returned %q", same, v)
			}
			if v, err := b.Peek(ctx, "k", cache.SkipLocal()); v == "v1!" {
				t.Errorf("same process %v: Redis has %q, %v", same, v, err)
			}
			if v, err := a.Peek(ctx, "k"); v == "v1!" {
				t.Errorf("same process %v: the local tier has %q, %v", same, v, err)
			}
		})
	}
}

// An invalidation that could not be told concerns also what a load brings that began
// before it and ends after it:
//
//  1. a: a load asks the source, which answers v1
//  2. the source changes to v2; b's invalidation is lost
//  3. a: fills; its record is stored later than 2, and is older than it
//  4. b: tells Redis what it could not tell, and must not take the record for newer
func TestWhatCouldNotBeToldConcernsLoadsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		a := onMemory(t, store, cache.Source[string, string]{})
		b, net := onWire(t, store, cache.Source[string, string]{})
		_, _ = b.Peek(ctx, "k")
		g := newGate()
		got := get(a, "k", g.load)
		<-g.began
		time.Sleep(10 * time.Millisecond)
		net.lose()
		if err := b.Invalidate(ctx, "k"); err == nil {
			t.Fatal("it was not lost")
		}
		time.Sleep(10 * time.Millisecond)
		g.end <- "v1"
		<-got
		net.heal()
		if err := b.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for name, c := range map[string]*cache.Cache[string, string]{"a": a, "b": b} {
			if v, err := c.Peek(ctx, "k"); err == nil {
				t.Errorf("%s: %q is served after the invalidation was told", name, v)
			}
		}
	})
}

// It concerns also what Update has made of an older value, be that one in Redis or from a
// load that began before.
func TestWhatCouldNotBeToldConcernsWhatUpdateMadeOfIt(t *testing.T) {
	for name, src := range map[string]bool{"in Redis": false, "in the source": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store, g := storetest.NewMemory(), newGate()
				var source cache.Source[string, string]
				if src {
					source.Load = g.load
				}
				a := onMemory(t, store, source)
				b, net := onWire(t, store, cache.Source[string, string]{})
				_, _ = b.Peek(ctx, "k")
				begun, end := make(chan struct{}), make(chan struct{})
				if !src {
					if err := a.Set(ctx, "k", "v1"); err != nil {
						t.Fatal(err)
					}
				}
				done := make(chan error)
				go func() {
					_, err := a.Update(ctx, "k", func(old string, _ bool) (string, error) {
						close(begun)
						<-end
						return old + "!", nil
					})
					done <- err
				}()
				if src {
					<-g.began
					g.end <- "v1"
				}
				<-begun
				time.Sleep(10 * time.Millisecond)
				net.lose()
				if err := b.Invalidate(ctx, "k"); err == nil {
					t.Fatal("it was not lost")
				}
				time.Sleep(10 * time.Millisecond)
				close(end)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				net.heal()
				if err := b.Sync(ctx); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				for name, c := range map[string]*cache.Cache[string, string]{"a": a, "b": b} {
					if v, err := c.Peek(ctx, "k"); err == nil {
						t.Errorf("%s: %q is served after the invalidation was told", name, v)
					}
				}
			})
		})
	}
}

// A call whose context ends while it waits has begun all the same, with all of its keys:
// what Redis has not received of any of them is sent later.
func TestACallOfManyKeysBeginsWithAllOfThem(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, c *cache.Cache[string, string]) error{
		"SetMany": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return c.SetMany(ctx, map[string]string{"a": "2", "b": "2", "c": "2"})
		},
		"Delete": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "a", "b", "c") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := storetest.NewMemory()
				other := onMemory(t, store, cache.Source[string, string]{})
				keys := []string{"a", "b", "c"}
				for _, k := range keys {
					if err := other.Set(t.Context(), k, "1"); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Second)
				c, net := onWire(t, store, cache.Source[string, string]{})
				net.lose()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				defer cancel()
				if err := call(ctx, c); err == nil {
					t.Fatal("it was not lost")
				}
				net.heal()
				if err := c.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				for _, k := range keys {
					if v, err := other.Peek(t.Context(), k, cache.SkipLocal()); err == nil {
						t.Errorf("%s is still %q", k, v)
					}
				}
			})
		})
	}
}

// What is told again in case a failover has undone it must not take the place of what
// was not told at all:
//
//  1. a key is set, which Redis acknowledges
//  2. it is invalidated, which is lost: to be told
//  3. a new session begins, and what was acknowledged lately is to be told again
//  4. the record of 1 is there: nothing was lost of that; but 2 has to be told
func TestTellingAgainDoesNotForgetWhatWasNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		c, net := onWire(t, store, cache.Source[string, string]{})
		if err := c.Set(ctx, "k", "v1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		net.lose("delete", "get_header", "compare_and_delete")
		if err := c.Invalidate(ctx, "k"); err == nil {
			t.Fatal("it was not lost")
		}
		store.CutListeners(errors.New("cut"))
		time.Sleep(time.Second)
		net.heal()
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Peek(ctx, "k", cache.SkipLocal()); err == nil {
			t.Errorf("%q is served after Sync", v)
		}
	})
}

// A message that is lost may have been one of the logical clock. To drop what is in
// the local tier is not enough then: what Redis still has would be judged by marks
// that lack the lost one.
//
//  1. b marks a tag, or everything; the message is lost on its way to a
//  2. a: b's tally shows the gap, and everything is dropped
//  3. a: reads the entry from Redis
func TestALostMarkIsNoticed(t *testing.T) {
	for i := range 22 {
		tags, wait := []string{"t"}, time.Duration(i/2)*100*time.Millisecond
		if i%2 == 0 {
			tags = nil
		}
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			store := storetest.NewMemory()
			a := onMemory(t, store, cache.Source[string, string]{})
			b := onMemory(t, store, cache.Source[string, string]{})
			_, _ = a.Peek(ctx, "one") // a is the first that listens
			for _, k := range []string{"one", "other"} {
				var opts []cache.WriteOption
				if tags != nil {
					opts = []cache.WriteOption{cache.Tags(tags...)}
				}
				if err := b.Set(ctx, k, "old", opts...); err != nil {
					t.Fatal(err)
				}
				if _, err := a.Get(ctx, k); err != nil {
					t.Fatal(err)
				}
			}
			// a has asked for the tag's mark, and takes it for complete from then on.
			if err := a.InvalidateTags(ctx, "another"); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Get(ctx, "one"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2*time.Second + wait)
			store.Intercept(func(d storetest.Delivery) (int, time.Duration) {
				if n, err := message.Parse(d.Text); d.Listener == 0 && d.Kind == storetest.DeliverMessage && err == nil && n.Kind == message.TagsInvalidated {
					return 0, 0
				}
				return 1, 0
			})
			var err error
			if tags == nil {
				err = b.Clear(ctx)
			} else {
				err = b.InvalidateTags(ctx, tags...)
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 40 {
				time.Sleep(100 * time.Millisecond)
				_, _ = a.Peek(ctx, "one")
				_, _ = a.Get(ctx, "other")
			}
			for _, k := range []string{"one", "other"} {
				if v, err := a.Peek(ctx, k); err == nil {
					t.Errorf("tags %q: key %s: %q is served 4 s after it was revoked", tags, k, v)
				}
			}
		})
	}
}

// With Tracking, nothing is taken for this process's own that says only that there is
// nothing:
//
//  1. a: deletes the key
//  2. b: sets it; a reads it
//  3. it is deleted by hand: Redis has what a has left there, nothing
func TestADeleteByHandAfterAnOwnOneIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		a := onMemory(t, st, cache.Source[string, string]{}, cache.WithTransport(invalidate.Tracking()))
		b := onMemory(t, st, cache.Source[string, string]{}, cache.WithTransport(invalidate.Tracking()))
		if err := a.Delete(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		if err := b.Set(ctx, "k", "v"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if v, err := a.Get(ctx, "k"); v != "v" || err != nil {
			t.Fatal(v, err)
		}
		st.Do(ctx, []store.Command{{Op: store.Delete, Key: a.RedisKey("k")}})
		time.Sleep(100 * time.Millisecond)
		if v, err := a.Peek(ctx, "k"); err == nil {
			t.Errorf("%q is served after it was deleted by hand", v)
		}
	})
}

// Redis's clock may go back, when another machine becomes the master. What is dated by
// it must not come back to life, nor live longer.

func TestALostInvalidationIsSentForARecordFromTheFuture(t *testing.T) {
	for _, skew := range []time.Duration{-time.Hour, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			store := storetest.NewMemory()
			c, net := onWire(t, store, cache.Source[string, string]{})
			if err := c.Set(ctx, "k", "old"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute / 2)
			store.SetSkew(skew)
			net.lose()
			if err := c.Invalidate(ctx, "k"); err == nil {
				t.Fatal("it was not lost")
			}
			net.heal()
			if err := c.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			if v, err := c.Peek(ctx, "k"); err == nil {
				t.Errorf("skew %v: %q is served after Sync", skew, v)
			}
		})
	}
}

// A clock that is set back by more than the processes' estimates of it may differ shows in the
// record. One that is set back by less does not, and the local tier must not make the delay longer
// than Redis's own timer does.
func TestWhatWasInvalidatedStaysSoWhenRedissClockGoesBack(t *testing.T) {
	for _, back := range []time.Duration{time.Hour, 900 * time.Millisecond} {
		t.Run(back.String(), func(t *testing.T) { testClockGoesBack(t, back) })
	}
}

func testClockGoesBack(t *testing.T, back time.Duration) {
	const delay = 2 * time.Second
	for name, policy := range map[string]invalidate.Policy{"lazy": invalidate.Lazy(), "delayed": invalidate.Delayed(delay)} {
		for what, revoke := range map[string]func(context.Context, *cache.Cache[string, string]) error{
			"key": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Invalidate(ctx, "k") },
			"tag": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.InvalidateTags(ctx, "t") },
			"all": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Clear(ctx) },
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					store := storetest.NewMemory()
					a := onMemory(t, store, cache.Source[string, string]{}, cache.WithInvalidator(policy))
					b := onMemory(t, store, cache.Source[string, string]{}, cache.WithInvalidator(policy))
					if err := a.Set(ctx, "k", "old", cache.Tags("t")); err != nil {
						t.Fatal(err)
					}
					if err := revoke(ctx, a); err != nil {
						t.Fatal(err)
					}
					store.SetSkew(-back)
					c := onMemory(t, store, cache.Source[string, string]{}, cache.WithInvalidator(policy)) // learns now
					caches := []*cache.Cache[string, string]{a, b, c}
					for _, c := range caches {
						if v, err := c.Get(ctx, "k"); err == nil && name == "lazy" {
							t.Errorf("%q is served as fresh", v)
						}
					}
					time.Sleep(delay + 100*time.Millisecond)
					for i, c := range caches {
						if v, err := c.Peek(ctx, "k"); err == nil {
							t.Errorf("process %d: %q is served after its end", i, v)
						}
					}
				})
			})
		}
	}
}

// A load that keeps a record prolongs its key, so that Redis's timer does not end the delay:
//
//  1. a record is invalidated with a delay
//  2. a load keeps it, and prolongs its key
//  3. Redis's clock is set back
//  4. the record has an hour left by that clock, and is invalidated a second time or not
func TestADelayedInvalidationOfARecordThatIsProlonged(t *testing.T) {
	const delay = 100 * time.Millisecond
	for name, again := range map[string]bool{"once": false, "twice": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := storetest.NewMemory()
				loads, goOn := make(chan struct{}), make(chan struct{})
				a := onMemory(t, store, cache.Source[string, string]{Load: func(context.Context, string) (string, error) {
					close(loads)
					<-goOn
					return "new", nil
				}}, cache.WithInvalidator(invalidate.Delayed(delay)))
				b := onMemory(t, store, cache.Source[string, string]{}, cache.WithInvalidator(invalidate.Delayed(delay)))
				if err := a.Set(ctx, "k", "old"); err != nil {
					t.Fatal(err)
				}
				if err := b.Invalidate(ctx, "k"); err != nil {
					t.Fatal(err)
				}
				done := make(chan error)
				go func() {
					_, err := a.Get(ctx, "k", cache.MaxAge(0))
					done <- err
				}()
				<-loads
				time.Sleep(delay / 2)
				store.SetSkew(-time.Hour)
				c := onMemory(t, store, cache.Source[string, string]{}, cache.WithInvalidator(invalidate.Delayed(delay))) // learns now
				if again {
					if err := c.Invalidate(ctx, "k"); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(delay/2 + time.Millisecond)
				for i, c := range []*cache.Cache[string, string]{b, c} {
					if v, err := c.Peek(ctx, "k"); err == nil {
						t.Errorf("process %d: %q is served after its end", i, v)
					}
				}
				close(goOn)
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// noClock is a store that can't say what time it is: TIME is forbidden by its ACL.
type noClock struct{ *storetest.Memory }

func (noClock) Now(context.Context, string) (int64, error) {
	return 0, errors.New("NOPERM this user has no permissions to run the 'time' command")
}

// Lazy leaves the record in Redis, and its readers have to know that it is over:
// also a process that can't find out what time it is there.
func TestWhatIsRevokedLazilyIsOverWithoutAClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		a := onMemory(t, st, cache.Source[string, string]{}, cache.WithInvalidator(invalidate.Lazy()))
		b := newCache(t, noClock{st}, cache.Source[string, string]{})
		if err := a.Set(ctx, "k", "old"); err != nil {
			t.Fatal(err)
		}
		if err := a.Invalidate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		if v, err := b.Get(ctx, "k"); err == nil {
			t.Errorf("%q is served as fresh", v)
		}
	})
}
