package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// audits are the counters of an audit.
type audits struct{ Audited, Within, Beyond, Source, Ahead, Dropped uint64 }

func auditsOf(c metrics.Cache) audits {
	s := c.Totals()
	return audits{s.Audited, s.StaleWithin, s.StaleBeyond, s.AuditedSource, s.SourceAhead, s.AuditsDropped}
}

// logTo returns an option that has a cache log to a buffer.
func logTo() (*bytes.Buffer, cache.Option) {
	var b bytes.Buffer
	return &b, cache.WithLogger(slog.New(slog.NewTextHandler(&b, nil)))
}

var audited = cache.WithStrategy(strategy.Audit(1), strategy.Jitter(0), strategy.TTL(time.Hour), strategy.LocalTTL(time.Hour))

// reads reads a key, from the local tier.
func reads(t *testing.T, c *cache.Cache[string, string], key, want string) {
	t.Helper()
	if v, err := c.Get(t.Context(), key); v != want || err != nil {
		t.Fatalf("%s is %q, %v, want %q", key, v, err, want)
	}
	synctest.Wait()
}

// Notifications that are lost, and nothing that shows it: the audit is what notices.
func TestAnAuditCatchesABrokenNotificationPath(t *testing.T) {
	for name, cd := range map[string]codec.Codec{
		"json": codec.JSON(), "encrypted": codec.Encrypted(codec.JSON(), []byte("0123456789abcdef0123456789abcdef")), "compressed": codec.Compressed(codec.JSON()),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, st := t.Context(), storetest.NewMemory()
				log, logged := logTo()
				opts := []cache.Option{cache.WithCodec(cd), audited}
				writer := onMemory(t, st, cache.Source[string, string]{}, cache.WithCodec(cd))
				c := onMemory(t, st, cache.Source[string, string]{}, append(opts, logged)...)
				set := func(key, val string) {
					t.Helper()
					if err := writer.Set(ctx, key, val); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				// As long as notifications are received, whatever is read is as in Redis.
				for i := range 10 {
					set("k", fmt.Sprint(i))
					reads(t, c, "k", fmt.Sprint(i))
					reads(t, c, "k", fmt.Sprint(i))
					time.Sleep(10 * time.Second)
				}
				if got, want := auditsOf(c), (audits{Audited: 10}); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
				st.Intercept(func(d storetest.Delivery) (int, time.Duration) {
					if d.Kind == storetest.DeliverMessage {
						return 0, 0
					}
					return 1, 0
				})
				set("k", "new")
				time.Sleep(500 * time.Millisecond)
				reads(t, c, "k", "9") // stale
				time.Sleep(2250 * time.Millisecond)
				synctest.Wait()
				if got, want := auditsOf(c), (audits{Audited: 11, Beyond: 1}); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
				if s := log.String(); strings.Count(s, "a local entry is older than the bound allows") != 1 || !strings.Contains(s, "for=2.75s") || !strings.Contains(s, "no notification") || !strings.Contains(s, "level=ERROR") {
					t.Errorf("the log:\n%s", s)
				}
				// What is dropped within the bound is no fault.
				reads(t, c, "k", "9")
				localOf(c).Remove("k")
				time.Sleep(3 * time.Second)
				synctest.Wait()
				if got, want := auditsOf(c), (audits{Audited: 12, Within: 1, Beyond: 1}); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
				if strings.Count(log.String(), "older than the bound") != 1 {
					t.Errorf("the log:\n%s", log)
				}
			})
		})
	}
}

// Redis has no record any more: it was evicted, or an invalidation was not received. The source
// tells which.
func TestAnAuditOfAKeyThatRedisHasNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := t.Context(), storetest.NewMemory()
		var source atomic.Value
		source.Store("old")
		src := cache.SourceFunc(func(context.Context, string) (string, error) {
			if v := source.Load().(string); v != "" {
				return v, nil
			}
			return "", cache.ErrNotFound
		})
		log, logged := logTo()
		c := onMemory(t, st, src, audited, logged)
		alone := onMemory(t, st, cache.Source[string, string]{}, audited)
		reads(t, c, "k", "old")
		reads(t, alone, "k", "old")
		reads(t, c, "k", "old") // the first hit: the source is asked as well
		if got, want := auditsOf(c), (audits{Audited: 1, Source: 1}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		st.Intercept(func(d storetest.Delivery) (int, time.Duration) {
			return map[bool]int{true: 1}[d.Kind != storetest.DeliverMessage], 0
		})
		st.Do(ctx, []store.Command{{Op: store.Delete, Key: c.RedisKey("k")}}) // as an eviction
		reads(t, c, "k", "old")
		reads(t, alone, "k", "old")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got, want := auditsOf(c), (audits{Audited: 2, Source: 2}); got != want {
			t.Errorf("evicted: %+v, want %+v", got, want)
		}
		if got, want := auditsOf(alone), (audits{Dropped: 1}); got != want {
			t.Errorf("without a source: %+v, want %+v", got, want)
		}
		for i, v := range []string{"new", ""} {
			source.Store(v)
			reads(t, c, "k", "old")
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if got, want := auditsOf(c), (audits{Audited: uint64(3 + i), Source: uint64(3 + i), Beyond: uint64(1 + i)}); got != want {
				t.Errorf("the source has %q: %+v, want %+v", v, got, want)
			}
		}
		if s := log.String(); !strings.Contains(s, "an invalidation was not received") {
			t.Errorf("the log:\n%s", s)
		}
	})
}

func TestAnAuditComparesWithTheSource(t *testing.T) {
	for _, kind := range []string{"two tiers", "local only"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var loads atomic.Int64
				var source atomic.Value
				source.Store("old")
				src := cache.SourceFunc(func(_ context.Context, k string) (string, error) {
					loads.Add(1)
					if k == "fails" {
						return "", errors.New("bad")
					}
					return source.Load().(string), nil
				})
				log, logged := logTo()
				c := ofKind(t, kind, storetest.NewMemory(), src, cache.WithOptions(audited, logged))
				reads(t, c, "k", "old")
				reads(t, c, "k", "old")
				if got, want := auditsOf(c), (audits{Audited: 1, Source: 1}); got != want || loads.Load() != 2 {
					t.Errorf("%+v, want %+v; %d loads", got, want, loads.Load())
				}
				// The source is asked once a second at most, however many hits there are.
				began := time.Now()
				for time.Since(began) < 10*time.Second {
					reads(t, c, "k", "old")
					time.Sleep(10 * time.Millisecond)
				}
				if n := loads.Load() - 2; n < 8 || n > 11 {
					t.Errorf("%d loads in 10 seconds", n)
				}
				time.Sleep(2 * time.Second)
				before := auditsOf(c)
				source.Store("new") // and nothing is invalidated
				for range 10 {
					reads(t, c, "k", "old")
				}
				time.Sleep(3 * time.Second)
				synctest.Wait()
				got := auditsOf(c)
				if got.Ahead != 1 || got.Beyond != 0 || got.Within != 0 || got.Source != before.Source+1 {
					t.Errorf("%+v, before %+v", got, before)
				}
				if s := log.String(); strings.Count(s, "the source has another value than the cache") != 1 || strings.Contains(s, "level=ERROR") {
					t.Errorf("the log:\n%s", s)
				}
				// With an invalidation it is no fault.
				time.Sleep(2 * time.Second)
				if err := c.Invalidate(t.Context(), "k"); err != nil {
					t.Fatal(err)
				}
				for range 20 {
					reads(t, c, "k", "new")
				}
				time.Sleep(3 * time.Second)
				synctest.Wait()
				if again := auditsOf(c); again.Ahead != 1 || again.Beyond != 0 {
					t.Errorf("%+v", again)
				}
				if s := c.Metrics(); s.Misses() != s.Loads-s.Refreshes+s.Coalesced+s.Awaited+s.Unloaded {
					t.Errorf("the counters do not add up: %v", s)
				}
			})
		})
	}
}

// Tags, Clear, and what a process does itself, are no faults of an audit.
func TestAnAuditFindsNothingWrongWhereNothingIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := t.Context(), storetest.NewMemory()
		src := cache.SourceFunc(func(_ context.Context, k string) (string, error) { return "loaded", nil })
		c := onMemory(t, st, src, audited)
		other := onMemory(t, st, src)
		old := onMemory(t, st, src, audited, cache.WithVersion(1))
		newer := onMemory(t, st, src, cache.WithVersion(2))
		changes := []func() error{
			func() error { return c.Set(ctx, "k", "own", cache.Tags("t")) },
			func() error { return other.Set(ctx, "k", "other", cache.Tags("t")) },
			func() error { return other.InvalidateTags(ctx, "t") },
			func() error { return c.Clear(ctx) },
			func() error { return other.Delete(ctx, "k") },
			func() error { _ = c.Touch(ctx, "k"); return nil }, // of a newer version it can't be
			func() error { return c.Set(ctx, "k", "apart", cache.SkipRemote()) },
			func() error { return other.Invalidate(ctx, "k") },
			func() error { return newer.Set(ctx, "k", "newer") },
		}
		for i := range 200 {
			change := changes[i%len(changes)]
			for _, reader := range []*cache.Cache[string, string]{c, old} {
				for range 3 {
					if _, err := reader.Get(ctx, "k"); err != nil {
						t.Fatal(err)
					}
				}
			}
			if i%2 == 0 {
				time.Sleep(700 * time.Millisecond)
			}
			if err := change(); err != nil && !errors.Is(err, cache.ErrMiss) {
				t.Fatal(i, err)
			}
		}
		time.Sleep(time.Minute)
		for _, reader := range []*cache.Cache[string, string]{c, old} {
			if got := auditsOf(reader); got.Beyond != 0 || got.Ahead != 0 || got.Audited == 0 || got.Audited+got.Dropped < 100 {
				t.Errorf("%+v", got)
			}
		}
	})
}

// An audit never holds up a hit, and ends with the cache.
func TestAnAuditThatIsHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int64
		src := cache.SourceFunc(func(ctx context.Context, k string) (string, error) {
			if loads.Add(1) > 1 {
				<-ctx.Done()
			}
			return "v", ctx.Err()
		})
		c := onMemory(t, storetest.NewMemory(), src, audited)
		reads(t, c, "k", "v")
		reads(t, c, "k", "v")
		began := time.Now()
		for range 1000 {
			if v, err := c.Get(t.Context(), "k"); v != "v" || err != nil {
				t.Fatal(v, err)
			}
		}
		if got, want := auditsOf(c), (audits{Dropped: 1000 - 64}); got != want || time.Since(began) != 0 {
			t.Errorf("%+v, want %+v, after %v", got, want, time.Since(began))
		}
		c.Close()
		if time.Since(began) != 0 {
			t.Errorf("Close took %v", time.Since(began))
		}
	})
}

func TestAuditsThatNewRefuses(t *testing.T) {
	_, err := cache.New[string, string](nil, "n", cache.LocalOnly(), cache.WithStrategy(strategy.Audit(0.5)))
	if !errors.Is(err, cache.ErrInvalidOption) || !strings.Contains(fmt.Sprint(err), "nothing to compare local hits with but its source") {
		t.Error(err)
	}
}

// A process that listens to nothing is stale for as long as its local entries live.
func TestAnAuditWithoutATransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewMemory()
		log, logged := logTo()
		c := onMemory(t, st, cache.Source[string, string]{}, audited, logged, cache.WithTransport(invalidate.NoTransport()))
		writer := onMemory(t, st, cache.Source[string, string]{})
		for _, v := range []string{"old", "new"} {
			if err := writer.Set(t.Context(), "k", v); err != nil {
				t.Fatal(err)
			}
			reads(t, c, "k", "old")
			time.Sleep(time.Second)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got, want := auditsOf(c), (audits{Audited: 1, Beyond: 1}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if !strings.Contains(log.String(), "invalidate.NoTransport") {
			t.Errorf("the log:\n%s", log)
		}
	})
}

// A difference counts as beyond the bound only if it has been there all the time: a notification
// may be on its way whenever the audit looks.
func TestAnAuditLooksWhileNotificationsAreOnTheirWay(t *testing.T) {
	const late = 100 * time.Millisecond // of notifications
	const again = 2250 * time.Millisecond
	type world struct {
		c, writer *cache.Cache[string, string]
		st        *storetest.Memory
		source    *atomic.Value
	}
	set := func(t *testing.T, w *world, val string) {
		t.Helper()
		if err := w.writer.Set(t.Context(), "k", val); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		do   func(t *testing.T, w *world)
		want audits
	}{
		"a value that comes back": {func(t *testing.T, w *world) {
			set(t, w, "off")
			reads(t, w.c, "k", "on")
			time.Sleep(time.Second)
			set(t, w, "on")
			time.Sleep(late)
			reads(t, w.c, "k", "on") // from Redis
			time.Sleep(again - time.Second - late - late/2)
			set(t, w, "off")
		}, audits{Audited: 1, Within: 1}},
		"the source is ahead, and the write arrives": {func(t *testing.T, w *world) {
			w.source.Store("off")
			reads(t, w.c, "k", "on")
			time.Sleep(again - late/2)
			set(t, w, "off")
		}, audits{Audited: 1, Within: 1, Source: 1}},
		"the source is ahead, and Redis evicts the record": {func(t *testing.T, w *world) {
			w.source.Store("off")
			reads(t, w.c, "k", "on")
			time.Sleep(again - late/2)
			w.source.Store("on")
			w.st.Do(t.Context(), []store.Command{{Op: store.Delete, Key: w.c.RedisKey("k")}})
		}, audits{Audited: 1, Source: 1}},
		"the source is behind for a while": {func(t *testing.T, w *world) {
			w.source.Store("off")
			reads(t, w.c, "k", "on")
			time.Sleep(time.Second)
			w.source.Store("on")
		}, audits{Audited: 1, Source: 1}},
		"an evicted record is loaded anew": {func(t *testing.T, w *world) {
			w.st.Do(t.Context(), []store.Command{{Op: store.Delete, Key: w.c.RedisKey("k")}})
			reads(t, w.c, "k", "on")
			time.Sleep(again - late/2)
			set(t, w, "off")
		}, audits{Audited: 1, Within: 1}},
		"an evicted record, and the source changes": {func(t *testing.T, w *world) {
			w.st.Do(t.Context(), []store.Command{{Op: store.Delete, Key: w.c.RedisKey("k")}})
			reads(t, w.c, "k", "on")
			time.Sleep(again - late/2)
			w.source.Store("off")
			if err := w.writer.Invalidate(t.Context(), "k"); err != nil {
				t.Fatal(err)
			}
		}, audits{Audited: 1, Source: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{st: storetest.NewMemory(), source: new(atomic.Value)}
				w.source.Store("on")
				src := cache.SourceFunc(func(context.Context, string) (string, error) { return w.source.Load().(string), nil })
				log, logged := logTo()
				w.c, w.writer = onMemory(t, w.st, src, audited, logged), onMemory(t, w.st, src)
				reads(t, w.c, "k", "on")
				w.st.Intercept(func(d storetest.Delivery) (int, time.Duration) {
					if d.Kind == storetest.DeliverMessage {
						return 1, late
					}
					return 1, 0
				})
				test.do(t, w)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if got := auditsOf(w.c); got != test.want {
					t.Errorf("%+v, want %+v\n%s", got, test.want, log)
				}
			})
		})
	}
}
