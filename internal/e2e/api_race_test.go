package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// Everything that is exported, by many goroutines at once and with the end in the middle:
// for the race detector, and for what must hold in any case. The tables below are checked
// against the methods that there are.

const faceCallers = 8

type (
	faceCache = cache.Cache[string, string]
	faceLoad  = cache.Load[string]
)

func faceKey(rnd *rand.Rand) string { return fmt.Sprint("k", rnd.IntN(5)) }

func faceValue(key string, rnd *rand.Rand) string { return key + " " + fmt.Sprint(rnd.IntN(100)) }

// ofKey reports a value that is not its key's.
func ofKey(key, val string, err error) error {
	if err == nil && !strings.HasPrefix(val, key+" ") {
		return fmt.Errorf("%w: %s is %q", errWrong, key, val)
	}
	return err
}

var errWrong = errors.New("wrong value")

func ofKeys(vals map[string]string, err error) error {
	for k, v := range vals {
		if wrong := ofKey(k, v, nil); wrong != nil {
			return wrong
		}
	}
	return err
}

var cacheCalls = map[string]func(ctx context.Context, c *faceCache, rnd *rand.Rand) error{
	"Get": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		k := faceKey(rnd)
		var info cache.Info
		opts := []cache.ReadOption{cache.SkipLocal(), cache.AllowStale(), cache.MaxAge(time.Millisecond), cache.Report(&info)}
		n := rnd.IntN(len(opts) + 1)
		v, err := c.Get(ctx, k, opts[:n]...)
		return ofKey(k, v, err)
	},
	"Peek": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		k := faceKey(rnd)
		v, err := c.Peek(ctx, k)
		return ofKey(k, v, err)
	},
	"GetMany": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		return ofKeys(c.GetMany(ctx, []string{"k0", "k1", faceKey(rnd)}))
	},
	"GetOrLoad": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		k := faceKey(rnd)
		v, err := c.GetOrLoad(ctx, k, func(_ context.Context, key string) (string, error) { return key + " loaded", nil }, cache.Tags("t"), cache.TTL(time.Second))
		return ofKey(k, v, err)
	},
	"GetOrLoadMany": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		return ofKeys(c.GetOrLoadMany(ctx, []string{"k2", faceKey(rnd)}, func(_ context.Context, keys []string) (map[string]string, error) {
			vals := map[string]string{}
			for _, k := range keys {
				vals[k] = k + " loaded"
			}
			return vals, nil
		}))
	},
	"Inspect": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		k := faceKey(rnd)
		e, err := c.Inspect(ctx, k)
		if e.Absent {
			return err // the source has said that there is none
		}
		return ofKey(k, e.Value, err)
	},
	"Set": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		k := faceKey(rnd)
		return c.Set(ctx, k, faceValue(k, rnd), cache.Tags("t"))
	},
	"SetMany": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		return c.SetMany(ctx, map[string]string{"k0": faceValue("k0", rnd), "k3": faceValue("k3", rnd)})
	},
	"SetIfAbsent": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		k := faceKey(rnd)
		_, err := c.SetIfAbsent(ctx, k, faceValue(k, rnd))
		return err
	},
	"Update": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		k := faceKey(rnd)
		v, err := c.Update(ctx, k, func(old string, ok bool) (string, error) {
			if ok {
				if err := ofKey(k, old, nil); err != nil {
					return "", err
				}
			}
			return faceValue(k, rnd), nil
		})
		return ofKey(k, v, err)
	},
	"Delete":     func(ctx context.Context, c *faceCache, rnd *rand.Rand) error { return c.Delete(ctx, faceKey(rnd)) },
	"Invalidate": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error { return c.Invalidate(ctx, faceKey(rnd)) },
	"InvalidatePattern": func(ctx context.Context, c *faceCache, _ *rand.Rand) error {
		_, err := c.InvalidatePattern(ctx, "k[12]")
		return err
	},
	"InvalidateTags": func(ctx context.Context, c *faceCache, _ *rand.Rand) error { return c.InvalidateTags(ctx, "t") },
	"Clear":          func(ctx context.Context, c *faceCache, _ *rand.Rand) error { return c.Clear(ctx) },
	"Refresh":        func(ctx context.Context, c *faceCache, rnd *rand.Rand) error { return c.Refresh(ctx, faceKey(rnd)) },
	"Touch":          func(ctx context.Context, c *faceCache, rnd *rand.Rand) error { return c.Touch(ctx, faceKey(rnd)) },
	"Local": func(_ context.Context, c *faceCache, _ *rand.Rand) error {
		for k, e := range c.Local() {
			if e.Absent {
				continue
			}
			if err := ofKey(k, e.Value, nil); err != nil {
				return err
			}
		}
		return nil
	},
	"HotKeys":        func(_ context.Context, c *faceCache, _ *rand.Rand) error { _ = c.HotKeys(3); return nil },
	"HotKeysEncoded": func(_ context.Context, c *faceCache, _ *rand.Rand) error { _ = c.HotKeysEncoded(3); return nil },
	"Resize":         func(_ context.Context, c *faceCache, rnd *rand.Rand) error { return c.Resize(16 + rnd.IntN(100)) },
	"Sync": func(ctx context.Context, c *faceCache, _ *rand.Rand) error {
		ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		return c.Sync(ctx)
	},
	"DeadLetters": func(ctx context.Context, c *faceCache, _ *rand.Rand) error {
		_, err := c.DeadLetters(ctx, 10)
		return err
	},
	"ReplayDeadLetters": func(ctx context.Context, c *faceCache, _ *rand.Rand) error {
		_, err := c.ReplayDeadLetters(ctx)
		return err
	},
	"DiscardDeadLetters": func(ctx context.Context, c *faceCache, _ *rand.Rand) error {
		_, err := c.DiscardDeadLetters(ctx, "1/1-1")
		return err
	},
	"Metrics":      func(_ context.Context, c *faceCache, _ *rand.Rand) error { _ = c.Metrics().HitRate(); return nil },
	"ResetMetrics": func(_ context.Context, c *faceCache, _ *rand.Rand) error { c.ResetMetrics(); return nil },
	"Totals":       func(_ context.Context, c *faceCache, _ *rand.Rand) error { _ = c.Totals().HitRate(); return nil },
	"TopTags":      func(_ context.Context, c *faceCache, _ *rand.Rand) error { _ = c.TopTags(3); return nil },
	"Closed":       func(_ context.Context, c *faceCache, _ *rand.Rand) error { _ = c.Closed(); return nil },
	"InspectEncoded": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		_, err := c.InspectEncoded(ctx, faceKey(rnd))
		return err
	},
	"EncodeReplacement": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		k := faceKey(rnd)
		_, err := c.EncodeReplacement(ctx, k, faceValue(k, rnd))
		return err
	},
	"ReplaceEncoded": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		k := faceKey(rnd)
		r, err := c.EncodeReplacement(ctx, k, faceValue(k, rnd), cache.Tags("t"))
		if err == nil {
			_, err = c.ReplaceEncoded(ctx, k, r)
		}
		return err
	},
	"InvalidateEncoded": func(ctx context.Context, c *faceCache, rnd *rand.Rand) error {
		return c.InvalidateEncoded(ctx, faceKey(rnd))
	},
	"EncodeKey": func(_ context.Context, c *faceCache, _ *rand.Rand) error {
		if k, err := c.EncodeKey("k"); k != "k" || err != nil {
			return errWrong
		}
		return nil
	},
	"Name": func(_ context.Context, c *faceCache, _ *rand.Rand) error {
		if c.Name() != "n" {
			return errWrong
		}
		return nil
	},
	"RedisKey": func(_ context.Context, c *faceCache, _ *rand.Rand) error {
		if !strings.HasSuffix(c.RedisKey("k"), "n:k") {
			return errWrong
		}
		return nil
	},
	"Close": nil, // in the middle, and by all at once at the end
}

// alwaysThere work on a cache that was closed.
var alwaysThere = []string{"HotKeys", "HotKeysEncoded", "Local", "Metrics", "ResetMetrics", "Totals", "TopTags", "Closed", "Name", "RedisKey", "EncodeKey"}

var loadCalls = map[string]func(l *faceLoad, rnd *rand.Rand){
	"Stale":       func(l *faceLoad, _ *rand.Rand) { _, _ = l.Stale() },
	"NotModified": func(l *faceLoad, _ *rand.Rand) { _, _ = l.NotModified() },
	"ETag":        func(l *faceLoad, _ *rand.Rand) { _ = l.ETag() },
	"SetETag":     func(l *faceLoad, rnd *rand.Rand) { l.SetETag(fmt.Sprint(rnd.IntN(3))) },
	"SetTTL":      func(l *faceLoad, rnd *rand.Rand) { l.SetTTL(time.Duration(1+rnd.IntN(100)) * time.Millisecond) },
	"AddTags":     func(l *faceLoad, _ *rand.Rand) { l.AddTags("t") },
	"NoStore":     func(l *faceLoad, _ *rand.Rand) { l.NoStore() },
	"RetryAfter":  func(l *faceLoad, _ *rand.Rand) { l.RetryAfter(time.Millisecond) },
	"NoStale":     func(l *faceLoad, _ *rand.Rand) { l.NoStale() },
}

var clientCalls = map[string]func(ctx context.Context, c *invalidate.Client, rnd *rand.Rand) error{
	"Invalidate": func(ctx context.Context, c *invalidate.Client, rnd *rand.Rand) error {
		return c.Invalidate(ctx, faceKey(rnd))
	},
	"InvalidatePattern": func(ctx context.Context, c *invalidate.Client, _ *rand.Rand) error {
		_, err := c.InvalidatePattern(ctx, "k[34]")
		return err
	},
	"InvalidateTags": func(ctx context.Context, c *invalidate.Client, _ *rand.Rand) error { return c.InvalidateTags(ctx, "t") },
	"Clear":          func(ctx context.Context, c *invalidate.Client, _ *rand.Rand) error { return c.Clear(ctx) },
	"Name":           func(_ context.Context, c *invalidate.Client, _ *rand.Rand) error { _ = c.Name(); return nil },
	"Close":          nil,
}

var groupCalls = map[string]func(ctx context.Context, g *invalidate.Group, t invalidate.Target) error{
	"AddPattern": func(_ context.Context, g *invalidate.Group, t invalidate.Target) error {
		g.AddPattern(t, "k1")
		return nil
	},
	"AddTags": func(_ context.Context, g *invalidate.Group, t invalidate.Target) error {
		g.AddTags(t, "t", "u")
		return nil
	},
	"InvalidateAll": func(ctx context.Context, g *invalidate.Group, _ invalidate.Target) error { return g.InvalidateAll(ctx) },
}

// The tables have every method that there is, and no other.
func TestNoMethodIsForgotten(t *testing.T) {
	for what, of := range map[reflect.Type][]string{
		reflect.TypeFor[*faceCache]():         names(cacheCalls),
		reflect.TypeFor[*faceLoad]():          names(loadCalls),
		reflect.TypeFor[*invalidate.Client](): names(clientCalls),
		reflect.TypeFor[*invalidate.Group]():  names(groupCalls),
	} {
		var methods []string
		for i := range what.NumMethod() {
			methods = append(methods, what.Method(i).Name)
		}
		slices.Sort(methods)
		if !slices.Equal(methods, of) {
			t.Errorf("%v has the methods %q, and the table %q", what, methods, of)
		}
	}
}

func TestEverythingAtOnce(t *testing.T) {
	s := redistest.Start(t)
	kinds := map[string][]strategy.Strategy{
		"write-through": {strategy.WriteThrough(), strategy.TTL(time.Second), strategy.StaleWhileRevalidate(time.Second), strategy.StaleIfError(time.Second)},
		"write-behind":  {strategy.WriteBehind(strategy.BatchDelay(time.Millisecond)), strategy.RefreshAhead(0.5), strategy.TTL(time.Second)},
		"local values":  {strategy.TTL(time.Second), strategy.StaleWhileRevalidate(time.Second), strategy.Sliding(500 * time.Millisecond)},
	}
	sideBySide(t, names(kinds), func(t *testing.T, kind string) {
		sideBySide(t, names(transports), func(t *testing.T, transport string) {
			f := &faceRun{t: t}
			prefix := kind + transport + ":"
			tiers := []cache.Option{discard, slowly, cache.WithPrefix(prefix), transports[transport][0], cache.WithStrategy(kinds[kind]...)}
			if transport != "no local tier" {
				tiers = append(tiers, cache.WithStrategy(strategy.LRU(3)))
			}
			if kind == "local values" {
				if transport == "no local tier" {
					return
				}
				tiers = append(tiers, cache.LocalValues())
			}
			c, err := cache.NewFrom(s.Client(t), "n", f.source(), tiers...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			client, err := invalidate.NewClient(s.Client(t), "n", invalidate.Prefix(prefix))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { client.Close() })
			f.run(c, client)
		})
	})
}

// faceRun is one run of everything.
type faceRun struct {
	t      *testing.T
	ending atomic.Bool // Close has been called
	called [64]atomic.Int32
	loads  atomic.Int32
}

func (f *faceRun) source() cache.Source[string, string] {
	return cache.Source[string, string]{
		Load: func(ctx context.Context, key string) (string, error) {
			f.handle(ctx)
			if n := f.loads.Add(1); n%7 == 0 {
				return "", cache.ErrNotFound
			}
			return key + " of the source", nil
		},
		Store:  func(context.Context, string, string) error { return nil },
		Delete: func(context.Context, string) error { return nil },
	}
}

// handle uses the load's handle from several goroutines, one of which goes on after the
// load.
func (f *faceRun) handle(ctx context.Context) {
	l := cache.CurrentLoad[string](ctx)
	var all sync.WaitGroup
	for i := range 3 {
		use := func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for _, name := range names(loadCalls) {
				loadCalls[name](l, rnd)
			}
		}
		if i == 0 {
			go use()
			continue
		}
		all.Go(use)
	}
	all.Wait()
}

func (f *faceRun) run(c *faceCache, client *invalidate.Client) {
	ctx := f.t.Context()
	var group invalidate.Group
	calls := []string{}
	for _, name := range names(cacheCalls) {
		if cacheCalls[name] != nil {
			calls = append(calls, name)
		}
	}
	var all sync.WaitGroup
	for g := range faceCallers {
		rnd := rand.New(rand.NewPCG(uint64(g), 2))
		all.Go(func() {
			for after := 0; after < 2*len(calls); {
				i := rnd.IntN(len(calls))
				ended := f.ending.Load()
				f.judge(calls[i], cacheCalls[calls[i]](ctx, c, rnd), ended && !slices.Contains(alwaysThere, calls[i]))
				f.called[i].Add(1)
				if ended {
					after++
				}
			}
			if err := c.Close(); err != nil {
				f.t.Errorf("Close: %v", err)
			}
		})
	}
	for g := range 2 {
		rnd := rand.New(rand.NewPCG(uint64(g), 3))
		all.Go(func() {
			for !f.ending.Load() {
				for _, name := range names(clientCalls) {
					if call := clientCalls[name]; call != nil {
						f.judge("Client."+name, call(ctx, client, rnd), false)
					}
				}
				for i, name := range names(groupCalls) {
					target := []invalidate.Target{c, client}[(g+i)%2]
					f.judge("Group."+name, groupCalls[name](ctx, &group, target), false)
				}
			}
			if err := client.Close(); err != nil {
				f.t.Errorf("Client.Close: %v", err)
			}
		})
	}
	// The end comes when everything has been called some times.
	awaits(f.t, "everything to be called", func() error {
		for i, name := range calls {
			if n := f.called[i].Load(); n < 5 {
				return fmt.Errorf("%s was called %d times", name, n)
			}
		}
		return nil
	})
	err := c.Close()
	f.ending.Store(true)
	all.Wait()
	if err != nil {
		f.t.Errorf("Close: %v", err)
	}
}

// judge reports an error that may not be.
func (f *faceRun) judge(what string, err error, ended bool) {
	switch {
	case errors.Is(err, errWrong), err == nil && ended:
		f.t.Errorf("%s: %v; the cache was closed: %v", what, err, ended)
	case err == nil, errors.Is(err, cache.ErrClosed), errors.Is(err, cache.ErrMiss), errors.Is(err, cache.ErrNotFound),
		errors.Is(err, errors.ErrUnsupported), errors.Is(err, context.DeadlineExceeded), errors.Is(err, cache.ErrUnavailable):
	default:
		f.t.Errorf("%s: %v", what, err)
	}
}
