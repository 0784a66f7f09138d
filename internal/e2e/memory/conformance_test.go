package memory_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// A cache is the same cache whatever its tiers are: every public method, alone and in any
// order, has the same results in a LocalOnly cache, on Redis only, on two tiers and with LocalValues. The
// runs below are compared line by line with one another, and with what is written here.

// tierings are the kinds of cache.
var tierings = []string{"local only", "Redis only", "two tiers", "local values"}

// conformer is one cache, the source behind it, and the account of what was done.
type conformer struct {
	c    *cache.Cache[string, []int]
	kind string

	// noUpdate leaves out Update, which with LocalValues asks the source under a write strategy.
	noUpdate bool

	mu      sync.Mutex       // guards what follows: a batch loads side by side
	rows    map[string][]int // of the source
	fails   map[string]bool
	touched []string // calls of the source since the last line

	lines []string
}

var errRows = errors.New("the source fails")

func (f *conformer) source(writes bool) cache.Source[string, []int] {
	src := cache.Source[string, []int]{
		Load: func(ctx context.Context, key string) ([]int, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.touched = append(f.touched, "load "+key)
			row, ok := f.rows[key]
			l := cache.CurrentLoad[[]int](ctx)
			if old, ok := l.Stale(); ok {
				f.touched = append(f.touched, fmt.Sprint("stale ", old))
			}
			switch {
			case f.fails[key]:
				return nil, errRows
			case !ok:
				return nil, cache.ErrNotFound
			}
			l.AddTags("loaded")
			return slices.Clone(row), nil
		},
		Tags: func(key string, _ []int) []string { return []string{"of " + key} },
	}
	if writes {
		src.Store = func(_ context.Context, key string, val []int) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.touched = append(f.touched, fmt.Sprint("store ", key, val))
			if f.fails[key] {
				return errRows
			}
			f.rows[key] = slices.Clone(val)
			return nil
		}
		src.Delete = func(_ context.Context, key string) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.touched = append(f.touched, "delete "+key)
			if f.fails[key] {
				return errRows
			}
			delete(f.rows, key)
			return nil
		}
	}
	return src
}

// say adds a line to the account: what was done, what came of it, and what the source was
// asked for.
func (f *conformer) say(format string, args ...any) {
	synctest.Wait()
	slices.Sort(f.touched) // refreshes and batches run side by side
	line := fmt.Sprintf(format, args...)
	if len(f.touched) > 0 {
		line += fmt.Sprintf(" %q", f.touched)
	}
	f.lines, f.touched = append(f.lines, line), nil
}

// plainly is an error without the name of what it came from.
func plainly(err error) string {
	var batch *cache.BatchError[string]
	if errors.As(err, &batch) {
		each := map[string]string{}
		for k, e := range batch.Errs {
			each[k] = plainly(e)
		}
		return fmt.Sprint(each)
	}
	var is []string
	for name, e := range map[string]error{"miss": cache.ErrMiss, "not found": cache.ErrNotFound, "closed": cache.ErrClosed, "invalid": cache.ErrInvalidOption, "unavailable": cache.ErrUnavailable,
		"too large": cache.ErrTooLarge, "unsupported": errors.ErrUnsupported, "source": errRows, "canceled": context.Canceled} {
		if errors.Is(err, e) {
			is = append(is, name)
		}
	}
	slices.Sort(is)
	if err != nil && len(is) == 0 {
		return err.Error()
	}
	return strings.Join(is, ", ")
}

// known is what an Info says that does not depend on the tier.
func known(i cache.Info) string {
	tags := slices.Sorted(slices.Values(i.Tags))
	return fmt.Sprintf("age %v ttl %v stale %v absent %v tags %q covers %q", i.Age.Round(time.Millisecond), i.TTL.Round(time.Millisecond), i.Stale, i.Absent, tags, plainly(i.LoadErr))
}

// conformance has an operation for every public method.
var conformance = map[string]func(f *conformer, rnd *rand.Rand){
	"Get": func(f *conformer, rnd *rand.Rand) {
		var info cache.Info
		opts := []cache.ReadOption{cache.Report(&info)}
		what := ""
		switch rnd.IntN(12) {
		case 8:
			opts, what = append(opts, cache.With(strategy.StaleIfError(0), strategy.StaleWhileRevalidate(0))), " fresh"
		case 9:
			opts, what = append(opts, cache.With(strategy.TTL(3*time.Second), strategy.ErrorTTL(2*time.Second), strategy.NotFoundTTL(time.Second))), " with"
		case 0:
			opts, what = append(opts, cache.AllowStale()), " stale"
		case 1:
			opts, what = append(opts, cache.MaxAge(0)), " anew"
		case 2:
			opts, what = append(opts, cache.MaxAge(2*time.Second)), " young"
		}
		k := conformKey(rnd)
		v, err := f.c.Get(context.Background(), k, opts...)
		f.say("Get%s %s = %v %s; %s", what, k, v, plainly(err), known(info))
		spoil(v)
	},
	"Peek": func(f *conformer, rnd *rand.Rand) {
		k := conformKey(rnd)
		v, err := f.c.Peek(context.Background(), k)
		f.say("Peek %s = %v %s", k, v, plainly(err))
		spoil(v)
	},
	"GetMany": func(f *conformer, rnd *rand.Rand) {
		m, err := f.c.GetMany(context.Background(), []string{"a", "b", conformKey(rnd)})
		f.say("GetMany = %v %s", m, plainly(err))
		for _, v := range m {
			spoil(v)
		}
	},
	"GetOrLoad": func(f *conformer, rnd *rand.Rand) {
		k := conformKey(rnd)
		v, err := f.c.GetOrLoad(context.Background(), k, func(context.Context, string) ([]int, error) { return []int{7}, nil }, cache.Tags("called"), cache.TTL(4*time.Second))
		f.say("GetOrLoad %s = %v %s", k, v, plainly(err))
		spoil(v)
	},
	"GetOrLoadMany": func(f *conformer, rnd *rand.Rand) {
		m, err := f.c.GetOrLoadMany(context.Background(), []string{"b", "c"}, func(_ context.Context, keys []string) (map[string][]int, error) {
			return map[string][]int{"b": {8}}, nil
		})
		f.say("GetOrLoadMany = %v %s", m, plainly(err))
	},
	"Inspect": func(f *conformer, rnd *rand.Rand) {
		k := conformKey(rnd)
		e, err := f.c.Inspect(context.Background(), k)
		f.say("Inspect %s = %v %s; %s", k, e.Value, plainly(err), known(e.Info))
		spoil(e.Value)
		for i := range e.Tags {
			e.Tags[i] = "spoiled"
		}
	},
	"InspectEncoded": func(f *conformer, rnd *rand.Rand) {
		k := conformKey(rnd)
		e, err := f.c.InspectEncoded(context.Background(), k)
		f.say("InspectEncoded %s = %v %s; %v %v", k, e.Value, plainly(err), e.Stale, e.Absent)
	},
	"Set": func(f *conformer, rnd *rand.Rand) {
		k, v := conformKey(rnd), rnd.IntN(100)
		opts, what := conformLife(rnd)
		val := []int{v}
		err := f.c.Set(context.Background(), k, val, opts...)
		spoil(val)
		f.say("Set%s %s %d: %s", what, k, v, plainly(err))
	},
	"SetMany": func(f *conformer, rnd *rand.Rand) {
		v := rnd.IntN(100)
		err := f.c.SetMany(context.Background(), map[string][]int{"a": {v}, "d": {v}})
		f.say("SetMany %d: %s", v, plainly(err))
	},
	"SetIfAbsent": func(f *conformer, rnd *rand.Rand) {
		k, v := conformKey(rnd), rnd.IntN(100)
		opts, what := conformLife(rnd)
		ok, err := f.setIfAbsent(k, []int{v}, opts...)
		f.say("SetIfAbsent%s %s %d: %v %s", what, k, v, ok, plainly(err))
	},
	"Update": func(f *conformer, rnd *rand.Rand) {
		k := conformKey(rnd)
		opts, what := conformLife(rnd)
		var refuse error
		if rnd.IntN(4) == 0 {
			refuse = errors.New("f fails")
		}
		if f.noUpdate {
			f.say("no Update")
			return
		}
		given := ""
		v, err := f.c.Update(context.Background(), k, func(old []int, ok bool) ([]int, error) {
			given = fmt.Sprint(old, ok)
			spoil(old)
			return []int{len(old) + 1}, refuse
		}, opts...)
		f.say("Update%s %s of %s = %v %s", what, k, given, v, plainly(err))
	},
	"Local": func(f *conformer, rnd *rand.Rand) {
		all := map[string]cache.Entry[[]int]{}
		for k, e := range f.c.Local() {
			all[k] = e
		}
		for k, e := range all {
			if v, err := f.c.Peek(context.Background(), k); plainly(err) == "closed" || e.Absent != errors.Is(err, cache.ErrNotFound) || !slices.Equal(v, e.Value) {
				f.say("Local %s = %v, and Peek %v, %v", k, e.Value, v, err)
			}
			spoil(e.Value)
		}
		f.say("Local") // what is in the local tier differs
	},
	"Resize": func(f *conformer, rnd *rand.Rand) {
		err := f.c.Resize(100)
		if f.kind == "Redis only" && errors.Is(err, errors.ErrUnsupported) {
			err = nil
		}
		f.say("Resize: %s", plainly(err))
		f.say("Resize(0) is refused: %v", f.c.Resize(0) != nil)
	},
	"HotKeys": func(f *conformer, rnd *rand.Rand) {
		f.c.HotKeys(3)
		f.say("HotKeys") // local hits are sampled
	},
	"HotKeysEncoded": func(f *conformer, rnd *rand.Rand) {
		f.c.HotKeysEncoded(3)
		f.say("HotKeysEncoded")
	},
	"Touch": func(f *conformer, rnd *rand.Rand) {
		k := conformKey(rnd)
		f.say("Touch %s: %s", k, plainly(f.c.Touch(context.Background(), k, "d")))
	},
	"Delete": func(f *conformer, rnd *rand.Rand) {
		k := conformKey(rnd)
		f.say("Delete %s: %s", k, plainly(f.c.Delete(context.Background(), k)))
	},
	"Invalidate": func(f *conformer, rnd *rand.Rand) {
		k := conformKey(rnd)
		f.say("Invalidate %s: %s", k, plainly(f.c.Invalidate(context.Background(), k, "d")))
	},
	"EncodeKey": func(f *conformer, rnd *rand.Rand) {
		encoded, err := f.c.EncodeKey(conformKey(rnd))
		f.say("EncodeKey: %s %s", encoded, plainly(err))
	},
	"EncodeReplacement": func(f *conformer, rnd *rand.Rand) {
		opts, what := conformLife(rnd)
		// What can be replaced is in Redis only.
		_, err := f.c.EncodeReplacement(context.Background(), conformKey(rnd), []int{1}, opts...)
		f.say("EncodeReplacement%s: %s", what, plainly(err))
	},
	"ReplaceEncoded": func(f *conformer, rnd *rand.Rand) {
		k := conformKey(rnd)
		replaced, err := f.c.ReplaceEncoded(context.Background(), k, []byte("damaged"))
		f.say("ReplaceEncoded %s = %v %s", k, replaced, plainly(err))
	},
	"InvalidateEncoded": func(f *conformer, rnd *rand.Rand) {
		k := conformKey(rnd)
		f.say("InvalidateEncoded %s: %s", k, plainly(f.c.InvalidateEncoded(context.Background(), k)))
	},
	"InvalidatePattern": func(f *conformer, rnd *rand.Rand) {
		_, err := f.c.InvalidatePattern(context.Background(), "[ab]")
		f.say("InvalidatePattern: %s", plainly(err))
	},
	"InvalidateTags": func(f *conformer, rnd *rand.Rand) {
		t := []string{"of a", "of b", "called", "loaded", "no member"}[rnd.IntN(5)]
		f.say("InvalidateTags %s: %s", t, plainly(f.c.InvalidateTags(context.Background(), t)))
	},
	"Clear": func(f *conformer, rnd *rand.Rand) {
		f.say("Clear: %s", plainly(f.c.Clear(context.Background())))
	},
	"Refresh": func(f *conformer, rnd *rand.Rand) {
		k := conformKey(rnd)
		f.say("Refresh %s: %s", k, plainly(f.c.Refresh(context.Background(), k)))
	},
	"Sync": func(f *conformer, rnd *rand.Rand) { f.say("Sync: %s", plainly(f.c.Sync(context.Background()))) },
	"DeadLetters": func(f *conformer, rnd *rand.Rand) {
		l, err := f.c.DeadLetters(context.Background(), 1)
		f.say("DeadLetters = %v %s", l, plainly(err))
	},
	"ReplayDeadLetters": func(f *conformer, rnd *rand.Rand) {
		n, err := f.c.ReplayDeadLetters(context.Background())
		f.say("ReplayDeadLetters = %v %s", n, plainly(err))
	},
	"DiscardDeadLetters": func(f *conformer, rnd *rand.Rand) {
		n, err := f.c.DiscardDeadLetters(context.Background())
		f.say("DiscardDeadLetters = %v %s", n, plainly(err))
	},
	"Metrics": func(f *conformer, rnd *rand.Rand) { f.count("Metrics", f.c.Metrics()) },
	"Totals":  func(f *conformer, rnd *rand.Rand) { f.count("Totals", f.c.Totals()) },
	"ResetMetrics": func(f *conformer, rnd *rand.Rand) {
		f.c.ResetMetrics()
		f.count("ResetMetrics", f.c.Metrics())
	},
	"TopTags":  func(f *conformer, rnd *rand.Rand) { f.say("TopTags = %v", f.c.TopTags(3)) },
	"Closed":   func(f *conformer, rnd *rand.Rand) { f.say("Closed = %v", f.c.Closed()) },
	"Name":     func(f *conformer, rnd *rand.Rand) { f.say("Name = %v", f.c.Name()) },
	"RedisKey": func(f *conformer, rnd *rand.Rand) { f.say("RedisKey = %v", f.c.RedisKey("a")) },
	"Close":    nil, // at the end of every run

	// And what happens between them.
	"": func(f *conformer, rnd *rand.Rand) {
		switch k := conformKey(rnd); rnd.IntN(6) {
		case 0, 1:
			f.rows[k] = []int{rnd.IntN(100)}
			f.say("the source has %s %v", k, f.rows[k])
		case 2:
			delete(f.rows, k)
			f.say("the source has no %s", k)
		case 3:
			f.fails[k] = !f.fails[k]
			f.say("the source fails for %s: %v", k, f.fails[k])
		case 4, 5:
			clear(f.fails)
			f.say("the source is well")
		}
	},
	"ended": func(f *conformer, rnd *rand.Rand) { // contexts
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		k, n := conformKey(rnd), rnd.IntN(6)
		if hook.Of(f.c).Invalidation.Mode != invalidation.Immediate && n < 3 {
			return // what is told later takes effect at once, whatever the policy is
		}
		switch n {
		case 0:
			f.say("ended: Invalidate %s: %s", k, plainly(f.c.Invalidate(ctx, k)))
		case 1:
			f.say("ended: InvalidateTags: %s", plainly(f.c.InvalidateTags(ctx, "of "+k)))
		case 2:
			f.say("ended: Clear: %s", plainly(f.c.Clear(ctx)))
		case 3:
			f.say("ended: Set: %s", plainly(f.c.Set(ctx, k, []int{1})))
		case 4:
			_, err := f.c.Update(ctx, k, func([]int, bool) ([]int, error) { return []int{1}, nil })
			f.say("ended: Update: %s", plainly(err))
		case 5:
			ok, err := f.c.SetIfAbsent(ctx, k, []int{1})
			f.say("ended: SetIfAbsent: %v %s", ok, plainly(err))
		}
		time.Sleep(time.Second) // what could not be told at once is told
	},
}

// setIfAbsent calls SetIfAbsent. With LocalValues it does what that would do in a single process.
func (f *conformer) setIfAbsent(k string, v []int, opts ...cache.WriteOption) (ok bool, err error) {
	if ok, err = f.c.SetIfAbsent(context.Background(), k, v, opts...); f.kind != "local values" || !errors.Is(err, errors.ErrUnsupported) {
		return ok, err
	}
	if e, err := f.c.Inspect(context.Background(), k); err == nil && !e.Absent && !e.Stale {
		return false, nil
	}
	err = f.c.Set(context.Background(), k, v, opts...)
	return err == nil, err
}

func (f *conformer) count(what string, s interface{ Misses() uint64 }) {
	v := reflect.ValueOf(s)
	n := func(name string) any { return v.FieldByName(name).Interface() }
	f.say("%s: %d misses, %v loads, %v sets, %v deletes", what, s.Misses(), n("Loads"), n("Sets"), n("Deletes"))
}

func conformKey(rnd *rand.Rand) string { return string(rune('a' + rnd.IntN(4))) }

// conformLife returns options of a write.
func conformLife(rnd *rand.Rand) (opts []cache.WriteOption, what string) {
	switch rnd.IntN(8) {
	case 0:
		return []cache.WriteOption{cache.TTL(3 * time.Second)}, " for 3 s"
	case 1:
		return []cache.WriteOption{cache.TTL(-1)}, " of no life"
	case 2:
		return []cache.WriteOption{cache.Tags("called")}, " tagged"
	case 3:
		return []cache.WriteOption{cache.KeepTTL()}, " to the same end"
	}
	return nil, ""
}

// spoil does to a value what its owner may do.
func spoil(v []int) {
	for i := range v {
		v[i] = -1
	}
}

// conform runs a script on a cache of one kind and returns its account.
func conform(t *testing.T, kind string, writes, noUpdate bool, opts []cache.Option, script func(f *conformer)) (lines []string) {
	synctest.Test(t, func(t *testing.T) {
		f := &conformer{kind: kind, noUpdate: noUpdate, rows: map[string][]int{"a": {1}, "b": {2}}, fails: map[string]bool{}}
		opts := append([]cache.Option{quietLog, cache.WithCloning(), cache.WithStrategy(strategy.TTL(10*time.Second), strategy.Jitter(0))}, opts...)
		var st store.Store
		switch kind {
		case "local only":
			opts = append(opts, cache.LocalOnly())
		case "two tiers":
			opts, st = append(opts, cache.WithStrategy(strategy.LRU(100))), storetest.NewMemory()
		case "local values":
			opts, st = append(opts, cache.WithStrategy(strategy.LRU(100)), cache.LocalValues()), storetest.NewMemory()
		default:
			st = storetest.NewMemory()
		}
		var err error
		if f.c, err = build("n", f.source(writes), opts, func() store.Store { return st }); err != nil {
			if kind == "local values" && errors.Is(err, cache.ErrInvalidOption) && strings.Contains(err.Error(), "LocalValues") {
				return // with another invalidator
			}
			t.Fatal(err)
		}
		script(f)
		f.c.Close()
		for _, name := range slices.Sorted(maps.Keys(conformance)) {
			if op := conformance[name]; op != nil && name != "" && name != "ended" && name != "TopTags" && name != "Metrics" && name != "Totals" && name != "ResetMetrics" && name != "Name" && name != "RedisKey" {
				op(f, rand.New(rand.NewPCG(1, 1)))
			}
		}
		lines = f.lines
	})
	return lines
}

// agree compares the accounts of one script on the kinds.
func agree(t *testing.T, writes bool, opts []cache.Option, script func(f *conformer)) {
	t.Helper()
	first := conform(t, tierings[1], writes, false, opts, script)
	for _, kind := range []string{tierings[0], tierings[2], tierings[3]} {
		noUpdate, want := writes && kind == "local values", first
		if noUpdate {
			want = conform(t, tierings[1], writes, true, opts, script)
		}
		got := conform(t, kind, writes, noUpdate, opts, script)
		if got == nil && kind == tierings[3] {
			continue
		}
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Errorf("after\n  %s\n%s:\n  %s\n%s:\n  %s", strings.Join(want[max(0, i-12):i], "\n  "), tierings[1], want[i], kind, got[i])
				break
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d lines, and %d", kind, len(got), len(want))
		}
	}
}

func TestConformanceHasEveryMethod(t *testing.T) {
	typ := reflect.TypeFor[*cache.Cache[string, []int]]()
	for i := range typ.NumMethod() {
		if _, ok := conformance[typ.Method(i).Name]; !ok {
			t.Errorf("%s is not run over all kinds of caches", typ.Method(i).Name)
		}
	}
}

var conformConfigs = map[string]struct {
	writes bool
	pause  time.Duration // between two steps, at least: a quarter of the idle time, within which the local tier prolongs nothing
	opts   []cache.Option
}{
	"plain":              {},
	"stale if error":     {opts: []cache.Option{cache.WithStrategy(strategy.StaleIfError(5*time.Second), strategy.RetryAfter(0))}},
	"stale while":        {opts: []cache.Option{cache.WithStrategy(strategy.StaleWhileRevalidate(5 * time.Second))}},
	"errors":             {opts: []cache.Option{cache.WithStrategy(strategy.ErrorTTL(3 * time.Second))}},
	"no absences":        {opts: []cache.Option{cache.WithStrategy(strategy.NotFoundTTL(0), strategy.StaleIfError(5*time.Second), strategy.RetryAfter(0))}},
	"sliding":            {pause: 2 * time.Second, opts: []cache.Option{cache.WithStrategy(strategy.Sliding(8 * time.Second))}},
	"sliding and stale":  {pause: 2 * time.Second, opts: []cache.Option{cache.WithStrategy(strategy.Sliding(8*time.Second), strategy.StaleIfError(5*time.Second), strategy.RetryAfter(0))}},
	"refresh ahead":      {opts: []cache.Option{cache.WithStrategy(strategy.RefreshAhead(0.5))}},
	"forever":            {opts: []cache.Option{cache.WithStrategy(strategy.Forever())}},
	"lazy":               {opts: []cache.Option{cache.WithInvalidator(invalidate.Lazy())}},
	"lazy and stale":     {opts: []cache.Option{cache.WithInvalidator(invalidate.Lazy()), cache.WithStrategy(strategy.StaleIfError(5*time.Second), strategy.RetryAfter(0))}},
	"lazy and while":     {opts: []cache.Option{cache.WithInvalidator(invalidate.Lazy()), cache.WithStrategy(strategy.StaleWhileRevalidate(5 * time.Second))}},
	"delayed":            {opts: []cache.Option{cache.WithInvalidator(invalidate.Delayed(2 * time.Second))}},
	"delayed and stale":  {opts: []cache.Option{cache.WithInvalidator(invalidate.Delayed(2 * time.Second)), cache.WithStrategy(strategy.StaleIfError(5*time.Second), strategy.RetryAfter(0))}},
	"through":            {writes: true},
	"through and stale":  {writes: true, opts: []cache.Option{cache.WithStrategy(strategy.StaleIfError(5*time.Second), strategy.RetryAfter(0))}},
	"around":             {writes: true, opts: []cache.Option{cache.WithStrategy(strategy.WriteAround())}},
	"through and lazily": {writes: true, opts: []cache.Option{cache.WithInvalidator(invalidate.Lazy()), cache.WithStrategy(strategy.StaleIfError(5*time.Second), strategy.RetryAfter(0))}},
}

// Any order of anything: 40 steps each.
func TestAllKindsOfCachesAgree(t *testing.T) {
	ops := slices.DeleteFunc(slices.Sorted(maps.Keys(conformance)), func(name string) bool { return conformance[name] == nil })
	for name, cfg := range conformConfigs {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(redistest.Times(5, 20)) {
				agree(t, cfg.writes, cfg.opts, func(f *conformer) {
					rnd := rand.New(rand.NewPCG(seed, 7))
					for range 40 {
						op := ops[rnd.IntN(len(ops))]
						if rnd.IntN(3) == 0 {
							op = []string{"Get", "Set", "Update", ""}[rnd.IntN(4)]
						}
						conformance[op](f, rnd)
						time.Sleep(max(time.Duration(1+rnd.IntN(3000))*time.Millisecond, cfg.pause))
					}
				})
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}
