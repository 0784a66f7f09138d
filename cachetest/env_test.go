package cachetest_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

func TestProcessesAreCoherent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		src := cachetest.NewSource(map[int]string{1: "Ada"})
		a, b := open(t, env.Process().Client(), src.ReadOnly()), open(t, env.Process().Client(), src.ReadOnly())
		get(t, a, 1, "Ada")
		get(t, b, 1, "Ada")
		if tier := get(t, b, 1, "Ada"); tier != metrics.Local {
			t.Errorf("b reads from the tier %v", tier)
		}
		src.WantLoads(t, 1) // for both
		cachetest.Loads(t, a, 1)
		cachetest.Loads(t, b, 0)

		if err := a.Set(t.Context(), 1, "Grace"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cachetest.WantHit(t, b, 1, "Grace")
		if err := b.Invalidate(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cachetest.WantMiss(t, a, 1)
	})
}

func TestTimePassesEverywhere(t *testing.T) {
	type opener func(*testing.T, redis.UniversalClient, cache.Source[int, string], ...strategy.Strategy) *cache.Cache[int, string]
	for name, open := range map[string]opener{"two tiers": open, "Redis only": openRemote} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := cachetest.New(t)
				src := cachetest.NewSource(map[int]string{1: "Ada"})
				c := open(t, env.Client(), src.ReadOnly())
				get(t, c, 1, "Ada")
				env.Advance(59 * time.Second)
				cachetest.WantHit(t, c, 1, "Ada")
				env.Advance(time.Second)
				cachetest.WantMiss(t, c, 1)
				if n, err := env.Client().Exists(t.Context(), c.RedisKey(1)).Result(); n != 0 || err != nil {
					t.Errorf("Redis has the key: %d, %v", n, err)
				}
				get(t, c, 1, "Ada")
				cachetest.Loads(t, c, 2)
			})
		})
	}
}

func TestCutRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		src := cachetest.NewSource(map[int]string{1: "Ada", 2: "Grace"})
		c := open(t, env.Client(), src.ReadOnly())
		get(t, c, 1, "Ada")
		env.CutRedis()
		synctest.Wait()
		cachetest.WantUnavailable(t, c, 1)
		cachetest.WantUnavailable(t, c, 3)
		if tier := get(t, c, 2, "Grace"); tier != metrics.Source {
			t.Errorf("read from the tier %v", tier)
		}
		if err := c.Set(t.Context(), 1, "Edith"); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("Set: %v", err)
		}
		if err := env.Client().Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "Redis is cut off") {
			t.Errorf("Ping: %v", err)
		}
		late := open(t, env.Process().Client(), src.ReadOnly()) // a process that starts meanwhile
		get(t, late, 1, "Ada")
		cachetest.WantUnavailable(t, late, 1)

		src.Put(1, "Edith")
		env.Heal()
		env.Advance(5 * time.Second)
		if err := c.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		for _, c := range []*cache.Cache[int, string]{c, late} {
			get(t, c, 1, "Edith")
			if tier := get(t, c, 1, "Edith"); tier != metrics.Local {
				t.Errorf("after the outage it reads from the tier %v", tier)
			}
		}
	})
}

func TestCutRedisOfOneProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		src := cachetest.NewSource(map[int]string{1: "Ada"})
		p, q := env.Process(), env.Process()
		a, b := open(t, p.Client(), src.ReadOnly()), open(t, q.Client(), src.ReadOnly())
		get(t, a, 1, "Ada")
		get(t, b, 1, "Ada")
		q.CutRedis()
		synctest.Wait()
		src.Put(1, "Grace")
		if err := a.Set(t.Context(), 1, "Grace"); err != nil {
			t.Fatal(err)
		}
		cachetest.WantUnavailable(t, b, 1) // and not the old value
		get(t, b, 1, "Grace")
		q.Heal()
		env.Advance(5 * time.Second)
		cachetest.WantHit(t, b, 1, "Grace")
		cachetest.Loads(t, b, 1)
	})
}

func TestCutNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		a, b := env.Process(), env.Process()
		in, deaf := open(t, a.Client(), cache.Source[int, string]{}), open(t, b.Client(), cache.Source[int, string]{})
		if err := in.Set(t.Context(), 1, "Ada"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			get(t, in, 1, "Ada")
			get(t, deaf, 1, "Ada")
		}
		b.CutNotifications()
		synctest.Wait()
		for range 2 {
			if x, y := get(t, in, 1, "Ada"), get(t, deaf, 1, "Ada"); x != metrics.Local || y != metrics.Remote {
				t.Errorf("they read from the tiers %v and %v", x, y)
			}
		}
		env.CutNotifications()
		synctest.Wait()
		third := open(t, env.Process().Client(), cache.Source[int, string]{})
		for _, c := range []*cache.Cache[int, string]{in, deaf, third} {
			if tier := get(t, c, 1, "Ada"); tier != metrics.Remote {
				t.Errorf("one reads from the tier %v", tier)
			}
		}
		env.Heal()
		env.Advance(5 * time.Second)
		for _, c := range []*cache.Cache[int, string]{in, deaf, third} {
			get(t, c, 1, "Ada")
			if tier := get(t, c, 1, "Ada"); tier != metrics.Local {
				t.Errorf("healed, one reads from the tier %v", tier)
			}
		}
	})
}

// What a program subscribes to by itself is cut as well, and other commands are not.
func TestCutNotificationsOfTheProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		rdb := env.Client()
		sub := rdb.Subscribe(t.Context(), "news")
		defer sub.Close()
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		env.CutNotifications()
		if msg, err := sub.Receive(t.Context()); err == nil {
			t.Errorf("it received %v", msg)
		}
		// These words in a value subscribe to nothing.
		if err := rdb.Set(t.Context(), "k", "*2\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n", 0).Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		rdb := env.Client()
		ctx := t.Context()
		took := func(f func() error) (time.Duration, error) {
			began := time.Now()
			err := f()
			return time.Since(began), err
		}
		ping := func() error { return rdb.Ping(ctx).Err() }
		if err := ping(); err != nil {
			t.Fatal(err)
		}
		env.Slow(200 * time.Millisecond)
		if d, err := took(ping); d != 200*time.Millisecond || err != nil {
			t.Errorf("it took %v: %v", d, err)
		}
		// Without an answer in time it has been executed all the same.
		env.Slow(time.Minute)
		d, err := took(func() error { return rdb.Set(ctx, "k", "v", 0).Err() })
		if d != time.Second || err == nil {
			t.Errorf("it took %v: %v", d, err)
		}
		env.Heal()
		if v, err := rdb.Get(ctx, "k").Result(); v != "v" || err != nil {
			t.Errorf("Get = %q, %v", v, err)
		}

		// What is on its way arrives when the network is healed, and in its order.
		other := env.Process()
		other.Client().Ping(ctx)
		other.Slow(900 * time.Millisecond)
		began := time.Now()
		var vals [3]string
		var all sync.WaitGroup
		all.Go(func() {
			cmds, _ := other.Client().Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "a", 1, 0)
				p.Incr(ctx, "a")
				p.Incr(ctx, "a")
				return nil
			})
			for i, cmd := range cmds {
				vals[i] = strings.Fields(cmd.String())[len(strings.Fields(cmd.String()))-1]
			}
		})
		time.Sleep(100 * time.Millisecond)
		other.Heal()
		all.Wait()
		if d := time.Since(began); d != 100*time.Millisecond || vals != [3]string{"OK", "2", "3"} {
			t.Errorf("after %v: %v", d, vals)
		}
	})
}

// A cache gives up a slow Redis, and the source answers.
func TestSlowIsAnOutageForACache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		src := cachetest.NewSource(map[int]string{1: "Ada"})
		c := open(t, env.Client(), src.ReadOnly())
		get(t, c, 1, "Ada")
		env.Slow(2 * time.Second)
		env.Advance(4 * time.Second) // heartbeats are too late for the local tier
		began := time.Now()
		if tier := get(t, c, 1, "Ada"); tier != metrics.Source || time.Since(began) > time.Second {
			t.Errorf("it read from the tier %v after %v", tier, time.Since(began))
		}
	})
}

func TestFlushAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		c := openRemote(t, env.Client(), cache.Source[int, string]{})
		if err := c.Set(t.Context(), 1, "Ada"); err != nil {
			t.Fatal(err)
		}
		cachetest.WantHit(t, c, 1, "Ada")
		env.FlushAll()
		if n, err := env.Client().DBSize(t.Context()).Result(); n != 0 || err != nil {
			t.Errorf("there are %d keys: %v", n, err)
		}
		cachetest.WantMiss(t, c, 1)
	})
}

// Each process has connections of its own, and one client.
func TestClients(t *testing.T) {
	env := cachetest.New(t)
	p := env.Process()
	if env.Client() != env.Client() || p.Client() != p.Client() || env.Client() == p.Client() {
		t.Error("clients are not told apart by processes")
	}
}

// The client has the settings of cache.NewClient.
func TestClientsAreMadeAsByNewClient(t *testing.T) {
	rdb, err := cache.NewClient("redis://cachetest:6379")
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	got, want := *cachetest.New(t).Client().(*redis.Client).Options(), *rdb.(*redis.Client).Options()
	typ := reflect.TypeFor[redis.Options]()
	for i := range typ.NumField() {
		switch f := typ.Field(i); f.Name {
		case "Dialer", "PushNotificationProcessor": // each has its own
		default:
			x, y := reflect.ValueOf(got).Field(i), reflect.ValueOf(want).Field(i)
			if f.IsExported() && f.Type.Kind() != reflect.Func && !reflect.DeepEqual(x.Interface(), y.Interface()) {
				t.Errorf("%s is %+v, and %+v of cache.NewClient", f.Name, x.Interface(), y.Interface())
			}
		}
	}
}

func TestAdvanceNeedsABubble(t *testing.T) {
	record(t, func(r *recorder) { cachetest.New(r).Advance(time.Second) }).wantFatal(t, "Advance needs the clock of a bubble", "synctest.Test")
	record(t, func(r *recorder) { cachetest.New(r).Advance(-1) }).wantFatal(t, "time does not go back")
	record(t, func(r *recorder) { cachetest.New(r).Slow(-1) }).wantFatal(t, "must not be negative")
	record(t, func(r *recorder) { cachetest.New(r).Process().Slow(-1) }).wantFatal(t, "must not be negative")
}

func TestAnEnvironmentFromOutsideTheBubbleIsRefused(t *testing.T) {
	env := cachetest.New(t)
	var err error
	synctest.Test(t, func(t *testing.T) { err = env.Client().Ping(t.Context()).Err() })
	if err == nil || !strings.Contains(err.Error(), "New was called outside of the synctest bubble") {
		t.Errorf("Ping: %v", err)
	}
	outer := &recorder{ctx: t.Context()}
	env = cachetest.New(outer)
	synctest.Test(t, func(t *testing.T) {
		record(t, func(*recorder) { env.Advance(time.Second) })
	})
	outer.wantFatal(t, "New was called outside of the synctest bubble")
	outer.cleanup()
}

func TestACacheThatIsLeftOpenIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, closes := range []bool{false, true} {
			r := record(t, func(r *recorder) {
				c := open(t, cachetest.New(r).Client(), cache.Source[int, string]{})
				_ = c.Set(t.Context(), 1, "Ada") // which waits for the subscription
				if closes {
					c.Close()
				}
			})
			want := "1 caches or subscriptions are still open"
			if closes && len(r.errors) > 0 || !closes && (len(r.errors) != 1 || !strings.Contains(r.errors[0], want)) {
				t.Errorf("closed: %v, errors: %q", closes, r.errors)
			}
		}
	})
}

// Outside of a bubble time is real, and everything else the same. Faults come and go while
// processes work; then all is well again.
func TestFaultsAtAnyTime(t *testing.T) {
	redistest.Thorough(t)
	env := cachetest.New(t)
	src := cachetest.NewSource(map[int]string{})
	for i := range 10 {
		src.Put(i, "value")
	}
	var all sync.WaitGroup
	over := make(chan struct{})
	var caches []*cache.Cache[int, string]
	for range 3 {
		c := open(t, env.Process().Client(), src.ReadOnly())
		caches = append(caches, c)
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				if v, err := c.Get(t.Context(), i%10); v != "value" || err != nil {
					t.Errorf("Get = %q, %v", v, err)
				}
				if i%7 == 0 {
					_ = c.Invalidate(t.Context(), i%10)
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range redistest.Times(200, 200) {
		switch rnd.IntN(6) {
		case 0:
			env.CutRedis()
		case 1:
			env.CutNotifications()
		case 2:
			env.Slow(time.Duration(rnd.IntN(int(time.Millisecond))))
		case 3:
			env.FlushAll()
		default:
			env.Heal()
		}
		_, _ = caches[0].Get(t.Context(), rnd.IntN(10))
	}
	env.Heal()
	close(over)
	all.Wait()
	deadline := time.Now().Add(time.Minute)
	for _, c := range caches {
		for {
			err := c.Set(t.Context(), 1, "new")
			if e, broken := c.Inspect(t.Context(), 1); err == nil && broken == nil && e.Value == "new" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("it is not as before: %v", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
