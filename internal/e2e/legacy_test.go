package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// goods is a value that another program stores as JSON.
type goods struct {
	Name  string   `json:"name"`
	Tags  []string `json:"tags,omitempty"`
	Stock int      `json:"stock"`
}

// takeover is a cache in the place of another one, which stores JSON under the same keys.
type takeover struct {
	*cache.Cache[string, goods]
	b     *redistest.Backend
	loads atomic.Int64
}

func takesOver(t *testing.T, b *redistest.Backend, name string, src cache.Source[string, goods], lo []codec.LegacyOption, opts ...cache.Option) *takeover {
	t.Helper()
	o := &takeover{b: b}
	if src.Load == nil {
		src.Load = func(context.Context, string) (goods, error) {
			return goods{Name: "loaded", Stock: int(o.loads.Add(1))}, nil
		}
	}
	opts = append([]cache.Option{cache.WithCodec(codec.Legacy(codec.JSON(), codec.JSON().Unmarshal, lo...))}, opts...)
	o.Cache = on(t, b, name, src, opts...)
	return o
}

// store stores a value as the other program does.
func (o *takeover) store(t *testing.T, key string, v goods, life time.Duration) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.b.Client.Set(t.Context(), o.RedisKey(key), text, life).Err(); err != nil {
		t.Fatal(err)
	}
}

// reads reads a key and reports whether the source was asked.
func (o *takeover) reads(t *testing.T, key string, opts ...cache.ReadOption) (v goods, loaded bool) {
	t.Helper()
	before := o.loads.Load()
	v, err := o.Get(t.Context(), key, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return v, o.loads.Load() > before
}

func (o *takeover) life(t *testing.T, key string) time.Duration {
	t.Helper()
	d, err := o.b.Client.PTTL(t.Context(), o.RedisKey(key)).Result()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A cache in the place of another one begins warm, and whatever the other program stores
// meanwhile is what it reads at once.
func TestACacheReadsWhatAnotherProgramHasStored(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		o := takesOver(t, b, "warm", cache.Source[string, goods]{}, nil, tiers, cache.WithStrategy(strategy.TTL(time.Hour), strategy.Jitter(0)))
		for key, life := range map[string]time.Duration{"short": time.Minute, "long": 24 * time.Hour, "for ever": 0} {
			o.store(t, key, goods{Name: key, Stock: 1}, life)
			var info cache.Info
			v, loaded := o.reads(t, key, cache.Report(&info))
			want := time.Hour
			if life == time.Minute {
				want = life
			}
			if v.Name != key || loaded || info.Tier != metrics.Remote || info.TTL <= 0 || info.TTL > want {
				t.Errorf("%s: %+v, %+v, loaded %v", key, v, info, loaded)
			}
			if left := o.life(t, key); left <= 0 || left > want || life != time.Minute && left < want/2 {
				t.Errorf("%s: Redis keeps it for another %v", key, left)
			}
			for n := range 5 { // nothing is kept of what the other program may change at any time
				o.store(t, key, goods{Name: key, Stock: n}, life)
				if v, loaded := o.reads(t, key); v.Stock != n || loaded {
					t.Errorf("%s: %+v instead of %d, loaded %v", key, v, n, loaded)
				}
			}
		}
		many := map[string]goods{}
		var keys []string
		for n := range 50 {
			key := fmt.Sprint("many", n)
			if n%10 != 0 {
				many[key] = goods{Name: key, Stock: n}
				o.store(t, key, many[key], time.Minute)
			}
			keys = append(keys, key)
		}
		if err := o.Set(t.Context(), "many10", goods{Name: "ours"}); err != nil {
			t.Fatal(err)
		}
		many["many10"] = goods{Name: "ours"}
		got, err := o.GetMany(t.Context(), keys)
		for key, v := range got {
			if v.Name == "loaded" {
				delete(got, key)
			}
		}
		if err != nil || !maps.EqualFunc(got, many, func(a, b goods) bool { return a.Name == b.Name && a.Stock == b.Stock }) {
			t.Errorf("%v, %v", got, err)
		}
		// What is written is ours, and is read without Legacy as well.
		if err := o.Set(t.Context(), "short", goods{Name: "written"}); err != nil {
			t.Fatal(err)
		}
		after := on(t, b, "warm", cache.Source[string, goods]{}, tiers)
		if v, err := after.Get(t.Context(), "short"); err != nil || v.Name != "written" {
			t.Errorf("%+v, %v", v, err)
		}
		if _, err := after.Get(t.Context(), "long"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("without Legacy: %v", err)
		}
		if v, loaded := o.reads(t, "short"); v.Name != "written" || loaded {
			t.Errorf("%+v, loaded %v", v, loaded)
		}
	})
}

// Where the local tier has an older value than the other program has stored, a read of Redis
// shows that.
func TestARecordOfAnotherProgramReplacesALocalEntry(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		o := takesOver(t, b, "replaced", cache.Source[string, goods]{}, nil, withLocal)
		if err := o.Set(t.Context(), "k", goods{Name: "ours"}); err != nil {
			t.Fatal(err)
		}
		o.store(t, "k", goods{Name: "theirs"}, time.Minute)
		if v, _ := o.reads(t, "k", cache.SkipLocal()); v.Name != "theirs" {
			t.Errorf("%+v from Redis", v)
		}
		if v, _ := o.reads(t, "k"); v.Name != "theirs" {
			t.Errorf("%+v, after Redis was seen to hold another value", v)
		}
	})
}

// Every way to invalidate takes effect on records of another program, at once and by every policy,
// and whatever process does it.
func TestInvalidationsAffectRecordsOfAnotherProgram(t *testing.T) {
	ways := map[string]func(ctx context.Context, c *cache.Cache[string, goods]) error{
		"Invalidate": func(ctx context.Context, c *cache.Cache[string, goods]) error { return c.Invalidate(ctx, "k") },
		"Delete":     func(ctx context.Context, c *cache.Cache[string, goods]) error { return c.Delete(ctx, "k") },
		"InvalidatePattern": func(ctx context.Context, c *cache.Cache[string, goods]) error {
			n, err := c.InvalidatePattern(ctx, "*")
			if err == nil && n == 0 {
				err = errors.New("no key matches")
			}
			return err
		},
		"InvalidateTags": func(ctx context.Context, c *cache.Cache[string, goods]) error { return c.InvalidateTags(ctx, "any") },
		"Clear":          func(ctx context.Context, c *cache.Cache[string, goods]) error { return c.Clear(ctx) },
	}
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for policy, p := range map[string]invalidate.Policy{"immediate": invalidate.Immediate(), "delayed": invalidate.Delayed(time.Hour), "lazy": invalidate.Lazy()} {
			for way, f := range ways {
				for _, by := range []string{"its own", "another"} {
					name := strings.ReplaceAll(policy+"-"+way+"-"+by, " ", "-")
					stale := cache.WithStrategy(strategy.LRU(100), strategy.StaleIfError(time.Hour))
					o := takesOver(t, b, name, cache.Source[string, goods]{}, nil, cache.WithInvalidator(p), stale)
					o.store(t, "k", goods{Name: "theirs"}, time.Hour)
					if v, loaded := o.reads(t, "k"); v.Name != "theirs" || loaded {
						t.Fatalf("%s: %+v, loaded %v", name, v, loaded)
					}
					c := o.Cache
					if by == "another" {
						c = process(t, b, name, cache.Source[string, goods]{}, cache.WithInvalidator(p))
					}
					if err := f(t.Context(), c); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if by == "another" {
						// It hears of that by a message.
						eventually(t, "the other's invalidation is seen: "+name, func() bool {
							v, err := o.Peek(t.Context(), "k")
							return errors.Is(err, cache.ErrMiss) || err == nil && v.Name != "theirs"
						})
					}
					if v, loaded := o.reads(t, "k"); v.Name == "theirs" || !loaded {
						t.Errorf("%s: %+v, loaded %v", name, v, loaded)
					}
				}
			}
		}
	})
}

// After a Clear the records of another program are replaced, in a call of many keys with no more
// round trips than for a few.
func TestAClearedCacheReplacesRecordsOfAnotherProgramTogether(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		var ops atomic.Int64
		o := takesOver(t, b, "together", cache.Source[string, goods]{}, nil, cache.WithRecorder(&countingRecorder{ops: &ops}))
		const n = 200
		var keys []string
		for i := range n {
			keys = append(keys, fmt.Sprint("k", i))
			o.store(t, keys[i], goods{Name: "theirs"}, time.Hour)
		}
		if got, err := o.GetMany(t.Context(), keys); err != nil || len(got) != n || o.loads.Load() != 0 {
			t.Fatalf("%d values, %d loads, %v", len(got), o.loads.Load(), err)
		}
		if err := o.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		ops.Store(0)
		if got, err := o.GetMany(t.Context(), keys); err != nil || len(got) != n || o.loads.Load() != n {
			t.Errorf("%d values, %d loads, %v", len(got), o.loads.Load(), err)
		}
		if got := ops.Load(); got > 20 {
			t.Errorf("%d operations", got)
		}
		if got, err := o.GetMany(t.Context(), keys); err != nil || len(got) != n || o.loads.Load() != n {
			t.Errorf("again: %d values, %d loads, %v", len(got), o.loads.Load(), err)
		}
	})
}

// countingRecorder counts operations on Redis.
type countingRecorder struct {
	metrics.Discard
	ops *atomic.Int64
}

func (r *countingRecorder) RemoteOperation(context.Context, metrics.RemoteEvent) { r.ops.Add(1) }

// With StoredFor, what the other program stores after a Clear is read, and nothing from before.
func TestWhatIsStoredAfterAClearIsRead(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		if !b.RealTime {
			return // the lifetimes of its keys do not pass by the clock, and would say that all was just stored
		}
		o := takesOver(t, b, "after", cache.Source[string, goods]{}, []codec.LegacyOption{codec.StoredFor(time.Hour)}, cache.WithStrategy(strategy.HardTimeout(time.Millisecond)))
		o.store(t, "before", goods{Name: "theirs"}, time.Hour)
		o.store(t, "long before", goods{Name: "theirs"}, time.Minute) // it has been there for 59 minutes
		for _, key := range []string{"before", "long before"} {
			if v, err := o.Peek(t.Context(), key); err != nil || v.Name != "theirs" {
				t.Fatalf("%s: %+v, %v", key, v, err)
			}
		}
		if err := o.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"before", "long before"} {
			if v, err := o.Peek(t.Context(), key); !errors.Is(err, cache.ErrMiss) {
				t.Fatalf("%s: %+v, %v", key, v, err)
			}
		}
		eventually(t, "what is stored later is read", func() bool {
			o.store(t, "later", goods{Name: "theirs"}, time.Hour)
			_, err := o.Peek(t.Context(), "later")
			return err == nil
		})
		o.store(t, "old", goods{Name: "theirs"}, time.Minute) // by its lifetime, from before the Clear
		if v, err := o.Peek(t.Context(), "old"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("old: %+v, %v", v, err)
		}
		for key, life := range map[string]time.Duration{"longer": 2 * time.Hour, "for ever": 0} {
			o.store(t, key, goods{Name: "theirs"}, life)
			if v, loaded := o.reads(t, key); v.Name != "loaded" || !loaded {
				t.Errorf("%s than StoredFor: %+v", key, v)
			}
		}
	})
}

// lateAnswers holds back the answers of scripts.
type lateAnswers struct{ armed atomic.Bool }

func (l *lateAnswers) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *lateAnswers) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		l.hold(cmd)
		return err
	}
}

func (l *lateAnswers) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		l.hold(cmds...)
		return err
	}
}

func (l *lateAnswers) hold(cmds ...redis.Cmder) {
	if l.armed.Load() && slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return strings.HasPrefix(cmd.Name(), "eval") }) {
		time.Sleep(100 * time.Millisecond)
	}
}

// However long the answer takes that says how long a record has left, a record from right before a
// Clear is not taken for one from after it.
func TestALateAnswerMakesNoRecordOfAnotherProgramYounger(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		if !b.RealTime {
			return // see TestWhatIsStoredAfterAClearIsRead
		}
		own := *b
		own.Client = b.NewClient(t)
		late := &lateAnswers{}
		own.Client.AddHook(late)
		o := takesOver(t, &own, "late", cache.Source[string, goods]{}, []codec.LegacyOption{codec.StoredFor(time.Hour)}, cache.WithStrategy(strategy.HardTimeout(time.Millisecond)))
		keys := []string{"one", "two", "three"}
		for _, key := range keys {
			o.store(t, key, goods{Name: "theirs"}, time.Hour)
			if v, err := o.Peek(t.Context(), key); err != nil || v.Name != "theirs" {
				t.Fatalf("%s: %+v, %v", key, v, err)
			}
		}
		if err := o.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		late.armed.Store(true)
		if v, err := o.Peek(t.Context(), "one"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("%+v, %v", v, err)
		}
		got, err := o.GetMany(t.Context(), keys)
		for _, key := range keys {
			if got[key].Name != "loaded" {
				t.Errorf("%s: %+v, %v", key, got[key], err)
			}
		}
	})
}

// MaxAge takes a record whose age is known and not too great. The load of one that is too old takes
// its place.
func TestMaxAgeOfARecordOfAnotherProgram(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		dated := takesOver(t, b, "dated", cache.Source[string, goods]{}, []codec.LegacyOption{codec.StoredFor(time.Hour)})
		undated := takesOver(t, b, "undated", cache.Source[string, goods]{}, nil)
		for _, o := range []*takeover{dated, undated} {
			o.store(t, "k", goods{Name: "theirs"}, 50*time.Minute)
		}
		var info cache.Info
		if v, loaded := dated.reads(t, "k", cache.MaxAge(20*time.Minute), cache.Report(&info)); v.Name != "theirs" || loaded || info.Age < 10*time.Minute || info.Age > 15*time.Minute {
			t.Errorf("%+v, %+v, loaded %v", v, info, loaded)
		}
		for _, o := range []*takeover{dated, undated} {
			if v, loaded := o.reads(t, "k", cache.MaxAge(5*time.Minute)); v.Name != "loaded" || !loaded {
				t.Errorf("%s: %+v, loaded %v", o.Name(), v, loaded)
			}
			if v, loaded := o.reads(t, "k"); v.Name != "loaded" || loaded {
				t.Errorf("%s: %+v, loaded %v: the load did not take its place", o.Name(), v, loaded)
			}
		}
	})
}

// With TagsBySource an invalidation affects the records of its tags alone.
func TestTagsOfTheSourceAreThoseOfRecordsOfAnotherProgram(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		if !b.RealTime {
			return // the lifetimes of its keys do not pass by the clock, and would say that all was just stored
		}
		src := cache.Source[string, goods]{Tags: func(_ string, v goods) []string { return v.Tags }}
		o := takesOver(t, b, "tags", src, []codec.LegacyOption{codec.StoredFor(time.Hour), codec.TagsBySource()}, cache.WithStrategy(strategy.HardTimeout(time.Millisecond)))
		other := process(t, b, "tags", cache.Source[string, goods]{}, cache.WithCodec(codec.JSON()))
		o.store(t, "untouched", goods{Name: "theirs", Tags: []string{"red"}}, time.Hour)
		var info cache.Info
		if _, err := o.Peek(t.Context(), "untouched", cache.Report(&info)); err != nil || len(info.Tags) != 1 || info.Tags[0] != "red" {
			t.Fatalf("%+v, %v", info, err)
		}
		// The beginning of the cache: what has tags and was stored before is not used any more.
		if err := other.InvalidateTags(t.Context(), "blue"); err != nil {
			t.Fatal(err)
		}
		o.store(t, "without", goods{Name: "theirs"}, time.Hour)
		if _, err := o.Peek(t.Context(), "without"); err != nil {
			t.Errorf("a record without tags: %v", err)
		}
		for _, key := range []string{"red", "blue"} {
			eventually(t, "what is stored later is read", func() bool {
				o.store(t, key, goods{Name: "theirs", Tags: []string{key}}, time.Hour)
				_, err := o.Peek(t.Context(), key)
				return err == nil
			})
		}
		// Times of storing are known to some milliseconds: store them some more after that.
		began := b.Client.Time(t.Context()).Val()
		eventually(t, "the server's clock moves on", func() bool { return b.Client.Time(t.Context()).Val().Sub(began) > 100*time.Millisecond })
		for _, key := range []string{"red", "blue"} {
			o.store(t, key, goods{Name: "theirs", Tags: []string{key}}, time.Hour)
			if _, err := o.Peek(t.Context(), key); err != nil {
				t.Fatal(key, err)
			}
		}
		if err := o.InvalidateTags(t.Context(), "red"); err != nil {
			t.Fatal(err)
		}
		if v, err := o.Peek(t.Context(), "red"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("red: %+v, %v", v, err)
		}
		if v, err := o.Peek(t.Context(), "blue"); err != nil || v.Name != "theirs" {
			t.Errorf("blue: %+v, %v", v, err)
		}
	})
}

// An Update of a record of another program replaces exactly what it was made of: another record
// that begins alike makes it run again.
func TestUpdateOfARecordOfAnotherProgramIsAtomic(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		o := takesOver(t, b, "update", cache.Source[string, goods]{}, nil, tiers)
		long := strings.Repeat("the same beginning ", 3)
		o.store(t, "k", goods{Name: long, Stock: 1}, time.Minute)
		runs := 0
		v, err := o.Update(t.Context(), "k", func(old goods, ok bool) (goods, error) {
			if runs++; runs == 1 {
				o.store(t, "k", goods{Name: long, Stock: 100}, time.Minute)
			}
			if !ok {
				return old, errors.New("there is no value")
			}
			old.Stock++
			return old, nil
		})
		if err != nil || v.Stock != 101 || runs != 2 {
			t.Errorf("%+v after %d runs, %v", v, runs, err)
		}
		if v, loaded := o.reads(t, "k"); v.Stock != 101 || loaded {
			t.Errorf("%+v, loaded %v", v, loaded)
		}
		if left := o.life(t, "k"); left <= 0 || left > time.Minute {
			t.Errorf("it has %v left", left)
		}
		// What was made of it ends with a Clear, as a value of this cache.
		if err := o.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		if v, loaded := o.reads(t, "k"); !loaded {
			t.Errorf("after Clear: %+v", v)
		}
		o.store(t, "there", goods{Name: "theirs"}, time.Minute)
		fresh := takesOver(t, b, "there", cache.Source[string, goods]{}, nil, tiers)
		fresh.store(t, "there", goods{Name: "theirs"}, time.Minute)
		if stored, err := fresh.SetIfAbsent(t.Context(), "there", goods{Name: "ours"}); err != nil || stored {
			t.Errorf("stored %v over a value of another program, %v", stored, err)
		}
		if e, err := fresh.Inspect(t.Context(), "there"); err != nil || e.Value.Name != "theirs" {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

// What the function can't decode, a type that it panics for, another type of Redis, and damaged
// records of this library are misses, which a load replaces.
func TestWhatIsNoRecordOfTheOtherProgramIsAMiss(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		o := takesOver(t, b, "misses", cache.Source[string, goods]{}, nil)
		panics := on(t, b, "panics", cache.SourceFunc(func(context.Context, string) (goods, error) { return goods{Name: "loaded"}, nil }),
			cache.WithCodec(codec.Legacy(codec.JSON(), func([]byte, any) error { panic("oh") })))
		if err := o.Set(t.Context(), "ours", goods{Name: "ours"}); err != nil {
			t.Fatal(err)
		}
		ours, err := b.Client.Get(t.Context(), o.RedisKey("ours")).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		damaged := append([]byte(nil), ours...)
		damaged[len(damaged)-9] ^= 1
		for name, raw := range map[string][]byte{
			"text": []byte("no JSON"), "cut off": []byte(`{"name":`), "another type": []byte(`[1,2]`), "damaged": damaged, "of another key": ours,
			"a beginning": []byte("\xC5dq"), "newer": append([]byte("\xC5dq\x02"), ours[4:]...),
		} {
			if err := b.Client.Set(t.Context(), o.RedisKey(name), raw, time.Minute).Err(); err != nil {
				t.Fatal(err)
			}
			if v, loaded := o.reads(t, name); v.Name != "loaded" || !loaded {
				t.Errorf("%s: %+v, loaded %v", name, v, loaded)
			}
		}
		if err := b.Client.RPush(t.Context(), o.RedisKey("list"), "x").Err(); err != nil {
			t.Fatal(err)
		}
		if v, loaded := o.reads(t, "list"); v.Name != "loaded" || !loaded {
			t.Errorf("a list: %+v, loaded %v", v, loaded)
		}
		if err := b.Client.Set(t.Context(), panics.RedisKey("k"), `{"name":"theirs"}`, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		if v, err := panics.Get(t.Context(), "k"); err != nil || v.Name != "loaded" {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

// While programs of both kinds run, a load of this cache never brings back what the other program
// has replaced meanwhile.
func TestALoadNeverReplacesWhatAnotherProgramHasStoredMeanwhile(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		var o *takeover
		meanwhile := func() {}
		o = takesOver(t, b, "fills", cache.Source[string, goods]{Load: func(context.Context, string) (goods, error) {
			meanwhile()
			return goods{Name: "loaded"}, nil
		}}, nil, cache.WithStrategy(strategy.StaleWhileRevalidate(time.Hour)))
		same := goods{Name: "theirs"}
		for n := range 3 {
			key := fmt.Sprint("k", n)
			o.store(t, key, same, time.Minute)
			// The other program stores the very same bytes again while the source is asked: they are
			// newer than what the load brings.
			meanwhile = func() { o.store(t, key, same, time.Minute) }
			if _, err := o.Get(t.Context(), key, cache.MaxAge(time.Duration(n)*time.Second)); err != nil {
				t.Fatal(err)
			}
			if v, err := o.Peek(t.Context(), key); err != nil || v.Name != "theirs" {
				t.Errorf("%+v, %v: the load has replaced it", v, err)
			}
		}
	})
}
