package memory_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// Tests of how long LocalValues serves what another process has replaced, with
// strategy.LocalDuringOutage.

// lapse delays heartbeats by so much that the local tier is not valid now and then, without an end
// of the session, and returns when it is not. over ends that, and waits until it is valid.
func lapse(t *testing.T, st *storetest.Memory, c *cache.Cache[string, string]) (over func()) {
	t.Helper()
	valid := func() bool { return hook.Of(c).Coherence.LocalValid(local.Now()) }
	if !valid() {
		t.Fatal("there is no session")
	}
	st.Intercept(func(d storetest.Delivery) (int, time.Duration) {
		if d.Kind == storetest.DeliverPulse {
			return 1, 1400 * time.Millisecond
		}
		return 1, 0
	})
	for valid() {
		time.Sleep(time.Millisecond)
	}
	return func() {
		t.Helper()
		st.Intercept(nil)
		for !valid() {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		if !valid() {
			t.Fatal("the session has ended")
		}
	}
}

// unheard has a process receive nothing any more, and returns when that is known. Its commands are
// answered.
func unheard(c *cache.Cache[string, string], st *storetest.Memory, net *outageWire) {
	net.deaf.Store(true)
	st.CutListeners(errDown)
	for hook.Of(c).Coherence.LocalValid(local.Now()) {
		time.Sleep(time.Millisecond)
	}
}

// Touch prolongs an entry that was loaded while a heartbeat was late. In the outage that follows it
// ends as every other one.
func TestTouchedLocalValuesEndInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st, s := t.Context(), storetest.NewMemory(), newSource("k")
		c, net := withOutage(t, st, cache.SourceFunc(s.Load), cache.LocalValues())
		_, _ = c.Peek(ctx, "other")
		time.Sleep(3 * time.Second)
		over := lapse(t, st, c)
		wants(t, c, s, "k", "old k", 1)
		over()
		wants(t, c, s, "k", "old k", 1)
		if err := c.Touch(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		net.down()
		synctest.Wait()
		s.set("k", "new k")
		time.Sleep(outageLife)
		wants(t, c, s, "k", "new k", 2)
	})
}

// Touch prolongs an entry that was loaded while a heartbeat was late, beyond the time of an outage.
func TestLocalValuesOfALateHeartbeatAreTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st, s := t.Context(), storetest.NewMemory(), newSource("k")
		c, _ := withOutage(t, st, cache.SourceFunc(s.Load), cache.LocalValues())
		_, _ = c.Peek(ctx, "other")
		time.Sleep(3 * time.Second)
		over := lapse(t, st, c)
		wants(t, c, s, "k", "old k", 1)
		over()
		if err := c.Touch(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * outageLife)
		wants(t, c, s, "k", "old k", 1)
	})
}

// What other processes invalidate around a load while a heartbeat is late is not served by the
// session that goes on.
func TestChangesOfOthersWhileAHeartbeatIsLate(t *testing.T) {
	for name, change := range outageChanges {
		if name == "Set" || name == "SetMany" || name == "Delete" {
			continue
		}
		for _, when := range []string{"before", "during", "after"} {
			t.Run(name+" "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, st, s := t.Context(), storetest.NewMemory(), newSource("k", "other")
					read, cont := make(chan bool, 1), make(chan bool, 1)
					src := taggedAs(s)
					src.Load = func(ctx context.Context, k string) (string, error) {
						v, err := s.Load(ctx, k)
						if k == "k" && v == "old k" && when == "during" {
							read <- true
							<-cont
						}
						return v, err
					}
					c, _ := withOutage(t, st, src, cache.LocalValues())
					peer := onMemory(t, st, taggedAs(s), cache.LocalValues())
					_, _ = c.Peek(ctx, "other")
					_, _ = peer.Peek(ctx, "other")
					time.Sleep(3 * time.Second)
					over := lapse(t, st, c)
					changed := func() {
						t.Helper()
						s.set("k", "new k")
						if err := change.change(ctx, peer); err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
					}
					if when == "before" {
						changed()
					}
					first := get(c, "k", src.Load)
					if when == "during" {
						<-read
						changed()
						cont <- true
					}
					<-first
					if when == "after" {
						changed()
					}
					over() // messages come in the order in which they were sent, and may wait for the late ones
					if v, err := c.Get(ctx, "k"); v != "new k" || err != nil {
						t.Errorf("%q, %v", v, err)
					}
				})
			})
		}
	}
}

// An Update of what was loaded is served for its time after the source was asked: another process
// may have changed it since.
func TestUpdatedLocalValuesEndInAnOutage(t *testing.T) {
	for _, slow := range []string{"source", "function"} {
		t.Run(slow, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, st, s, wait := t.Context(), storetest.NewMemory(), newSource("k"), false
				load := func(ctx context.Context, k string) (string, error) {
					v, err := s.Load(ctx, k)
					if wait && slow == "source" {
						time.Sleep(6 * time.Second)
					}
					return v, err
				}
				c, net := withOutage(t, st, cache.SourceFunc(load), cache.LocalValues())
				peer := onMemory(t, st, cache.SourceFunc(s.Load), cache.LocalValues())
				_, _ = c.Peek(ctx, "other")
				time.Sleep(2300 * time.Millisecond)
				unheard(c, st, net)
				time.Sleep(time.Second)
				wait = true
				began, done := time.Now(), make(chan error, 1)
				go func() {
					_, err := c.Update(ctx, "k", func(old string, _ bool) (string, error) {
						if slow == "function" {
							time.Sleep(6 * time.Second)
						}
						return old + ", updated", nil
					})
					done <- err
				}()
				time.Sleep(time.Second)
				s.set("k", "new k")
				if err := peer.Invalidate(ctx, "k"); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				wait = false
				if v, err := c.Get(ctx, "k"); v != "old k, updated" || err != nil {
					t.Errorf("%q, %v", v, err)
				}
				time.Sleep(time.Until(began.Add(outageLife)))
				if v, err := c.Get(ctx, "k"); v != "new k" || err != nil {
					t.Errorf("%v after the source was asked: %q, %v", time.Since(began), v, err)
				}
			})
		})
	}
}

// A read in an outage does not get what an Update of this process has read longer ago than an entry
// is served.
func TestAReadBesideALongUpdateInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st, s := t.Context(), storetest.NewMemory(), newSource("k")
		c, net := withOutage(t, st, cache.SourceFunc(s.Load), cache.LocalValues())
		peer := onMemory(t, st, cache.SourceFunc(s.Load), cache.LocalValues())
		_, _ = c.Peek(ctx, "other")
		time.Sleep(2300 * time.Millisecond)
		unheard(c, st, net)
		reached, release, done := make(chan bool), make(chan bool), make(chan error, 1)
		go func() {
			var once bool
			_, err := c.Update(ctx, "k", func(old string, _ bool) (string, error) {
				if !once {
					once = true
					reached <- true
					<-release
				}
				return old + ", updated", nil
			})
			done <- err
		}()
		<-reached
		time.Sleep(time.Second)
		s.set("k", "new k")
		if err := peer.Invalidate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(outageLife + 2*time.Second)
		if v, err := c.Get(ctx, "k"); v != "new k" || err != nil {
			t.Errorf("%v after it was replaced: %q, %v", outageLife+2*time.Second, v, err)
		}
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if v, err := c.Get(ctx, "k"); v != "new k, updated" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
}

// Reads in an outage that can't share a load, since it began too long ago, do not queue behind it.
func TestLongLoadsInAnOutageRunSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes, every, reads = 2 * outageLife, outageLife + time.Second, 6
		s := newSource("k")
		load := func(ctx context.Context, k string) (string, error) {
			time.Sleep(takes)
			return s.Load(ctx, k)
		}
		c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(load), cache.LocalValues(), cache.WithStrategy(strategy.HardTimeout(time.Minute)))
		net.down()
		_, _ = c.Peek(t.Context(), "k")
		took := make(chan time.Duration, reads)
		for range reads {
			go func() {
				began := time.Now()
				if v, err := c.Get(t.Context(), "k"); v != "old k" || err != nil {
					t.Errorf("%q, %v", v, err)
				}
				took <- time.Since(began)
			}()
			time.Sleep(every)
		}
		for range reads {
			if d := <-took; d > takes+time.Second {
				t.Errorf("a read takes %v, its load %v", d, takes)
			}
		}
	})
}

// KeepTTL keeps the life of an entry that answers in an outage.
func TestKeepTTLOfLocalValuesInAnOutage(t *testing.T) {
	for name, replace := range map[string]func(context.Context, *cache.Cache[string, string]) error{
		"GetOrLoad": func(ctx context.Context, c *cache.Cache[string, string]) error {
			_, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "loaded k", nil }, cache.MaxAge(time.Second), cache.KeepTTL())
			return err
		},
		"Set apart": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return c.Set(ctx, "k", "set k", cache.SkipRemote(), cache.KeepTTL())
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, s := t.Context(), newSource("k")
				c, net := withOutage(t, storetest.NewMemory(), cache.SourceFunc(s.Load), cache.LocalValues(), cache.WithStrategy(strategy.TTL(6*time.Second)))
				wants(t, c, s, "k", "old k", 1)
				net.down()
				time.Sleep(4 * time.Second)
				wants(t, c, s, "k", "old k", 1)
				if err := replace(ctx, c); err != nil {
					t.Fatal(err)
				}
				loads := s.count("k")
				s.set("k", "new k")
				time.Sleep(2 * time.Second)
				wants(t, c, s, "k", "new k", loads+1)
			})
		})
	}
}

// A value that was set apart from Redis while a heartbeat was late answers when that has come.
func TestLocalValuesSetApartWhileAHeartbeatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st, s := t.Context(), storetest.NewMemory(), newSource()
		c, _ := withOutage(t, st, cache.SourceFunc(s.Load), cache.LocalValues())
		_, _ = c.Peek(ctx, "other")
		time.Sleep(3 * time.Second)
		over := lapse(t, st, c)
		if err := c.Set(ctx, "k", "here", cache.SkipRemote()); err != nil {
			t.Fatal(err)
		}
		over()
		before := c.Metrics()
		wants(t, c, s, "k", "here", 0)
		if v, err := c.Peek(ctx, "k"); v != "here" || err != nil {
			t.Errorf("Get answers, and Peek %q, %v", v, err)
		}
		if m := c.Metrics(); m.Misses() != before.Misses() {
			t.Errorf("%d misses", m.Misses()-before.Misses())
		}
	})
}
