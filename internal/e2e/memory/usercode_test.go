package memory_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// A saboteur is the program's code at every place where a cache calls it: one of the
// places, for the key "bad" or the value "bad", does what must harm nothing else.
type saboteur struct {
	at  string
	do  func() error
	hit atomic.Int64
}

// wildError is an error whose methods panic.
type wildError struct{}

func (wildError) Error() string { panic("Error") }
func (wildError) Is(error) bool { panic("Is") }
func (wildError) As(any) bool   { panic("As") }
func (wildError) Unwrap() error { panic("Unwrap") }

// wrongdoings are the ways in which a function may fail to return a result.
var wrongdoings = []struct {
	name   string
	values bool // it returns an error, which only some functions can
	do     func() error
}{
	{"panic", false, func() error { panic("the program's mistake") }},
	{"panic(nil)", false, func() error { panic(nil) }},
	{"panic with ErrNotFound", false, func() error { panic(cache.ErrNotFound) }},
	{"panic with a hostile error", false, func() error { panic(wildError{}) }},
	{"Goexit", false, func() error { runtime.Goexit(); return nil }},
	{"typed nil", true, func() error { var err *net.OpError; return err }},
	{"wrapped typed nil", true, func() error { var err *net.OpError; return fmt.Errorf("load: %w", err) }},
	{"hostile error", true, func() error { return wildError{} }},
}

// returningErrors are the places whose functions return errors.
var returningErrors = map[string]bool{
	"Load": true, "LoadMany": true, "Store": true, "StoreMany": true, "Delete": true, "encoder": true, "decoder": true, "Update": true, "GetOrLoad": true, "logger": true,
}

func (s *saboteur) call(at, key string) error {
	if s.at != at || key != "bad" {
		return nil
	}
	s.hit.Add(1)
	return s.do()
}

func (s *saboteur) must(at, key string) { _ = s.call(at, key) }

// source is a source of values that are their keys. many: Load and Store have their
// counterparts for many keys only.
func (s *saboteur) source(many, writes bool) cache.Source[string, string] {
	src := cache.Source[string, string]{
		Key:   func(k string) string { s.must("Key", k); return k },
		Tags:  func(k, _ string) []string { s.must("Tags", k); return []string{"t"} },
		TTL:   func(k, _ string) time.Duration { s.must("TTL", k); return 0 },
		Clone: func(v string) string { s.must("Clone", v); return v },
	}
	one := func(at string) func(context.Context, string) (string, error) {
		return func(_ context.Context, k string) (string, error) { return k, s.call(at, k) }
	}
	if many {
		src.LoadMany = func(_ context.Context, keys []string) (map[string]string, error) {
			vals := map[string]string{}
			for _, k := range keys {
				if err := s.call("LoadMany", k); err != nil {
					return vals, err
				}
				vals[k] = k
			}
			return vals, nil
		}
	} else {
		src.Load = one("Load")
	}
	if !writes {
		return src
	}
	src.Delete = func(_ context.Context, k string) error { return s.call("Delete", k) }
	if many {
		src.StoreMany = func(_ context.Context, vals map[string]string) error { return s.call("StoreMany", vals["bad"]) }
	} else {
		src.Store = func(_ context.Context, k, _ string) error { return s.call("Store", k) }
	}
	return src
}

func (s *saboteur) codec() codec.Codec {
	return codec.Func("plain", func(dst []byte, v any) ([]byte, error) {
		return append(dst, v.(string)...), s.call("encoder", v.(string))
	}, func(data []byte, v any) error {
		*v.(*string) = string(data)
		return s.call("decoder", string(data))
	})
}

// sabotagedRecorder and sabotagedHandler do it at each call.
type sabotagedRecorder struct{ s *saboteur }

func (r sabotagedRecorder) StartLoad(ctx context.Context, _ metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
	r.s.must("StartLoad", "bad")
	return ctx, func(metrics.LoadResult) { r.s.must("end of load", "bad") }
}
func (r sabotagedRecorder) RemoteOperation(context.Context, metrics.RemoteEvent) {
	r.s.must("RemoteOperation", "bad")
}
func (r sabotagedRecorder) StateChange(metrics.StateEvent) { r.s.must("StateChange", "bad") }

type sabotagedHandler struct{ s *saboteur }

func (sabotagedHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h sabotagedHandler) Handle(context.Context, slog.Record) error {
	return h.s.call("logger", "bad")
}
func (h sabotagedHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h sabotagedHandler) WithGroup(string) slog.Handler      { return h }

var places = []string{
	"Load", "LoadMany", "Store", "StoreMany", "Delete", "Key", "Tags", "TTL", "Clone", "encoder", "decoder",
	"Update", "GetOrLoad", "StartLoad", "end of load", "RemoteOperation", "StateChange", "logger",
}

// Whatever the program's code does, at whatever place, in whatever method: the call
// returns or its goroutine ends, other keys of it are served, no lease stays behind, and the
// cache goes on. A short run has any two of place, wrongdoing and tiers meet.
func TestUserCodeCostsItsOwnCallAndKeyOnly(t *testing.T) {
	kinds := []string{"local only", "Redis", "two tiers"}
	for i, at := range places {
		for j, m := range wrongdoings {
			if m.values && !returningErrors[at] || (i+j)%4 >= redistest.Times(4, 4) {
				continue
			}
			for shift := range redistest.Times(1, len(kinds)) {
				tiers := kinds[(i+j+shift)%len(kinds)]
				t.Run(strings.Join([]string{tiers, at, m.name}, "/"), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						for _, many := range []bool{false, true} {
							for _, writes := range []bool{false, true} {
								(&trial{t: t, tiers: tiers, at: at, many: many, writes: writes, stays: many == writes}).run(m.do, m.name == "Goexit")
							}
						}
					})
				})
			}
		}
	}
}

// trial is a cache whose program has one fault.
type trial struct {
	t            *testing.T
	tiers, at    string
	many, writes bool
	stays        bool // the callers can't leave

	s     *saboteur
	store *storetest.Memory
	c     *cache.Cache[string, string]
}

func (r *trial) run(do func() error, goexit bool) {
	t := r.t
	r.s = &saboteur{do: do}
	st := storetest.NewMemory()
	r.c = ofKind(t, r.tiers, st, r.s.source(r.many, r.writes), cache.WithCodec(r.s.codec()), cache.WithRecorder(sabotagedRecorder{r.s}), cache.WithLogger(slog.New(sabotagedHandler{r.s})))
	if r.tiers != "local only" {
		r.store = st
	}
	defer r.c.Close()
	ctx := t.Context()
	if r.stays {
		ctx = context.Background()
	}
	update := func(k string) func(string, bool) (string, error) {
		return func(string, bool) (string, error) { return k, r.s.call("Update", k) }
	}
	load := func(_ context.Context, k string) (string, error) { return k, r.s.call("GetOrLoad", k) }
	c, two := r.c, []string{"bad", "good"}
	for name, f := range map[string]func() error{
		"Get":       func() error { _, err := c.Get(ctx, "bad"); return err },
		"Peek":      func() error { _, err := c.Peek(ctx, "bad"); return err },
		"Inspect":   func() error { _, err := c.Inspect(ctx, "bad"); return err },
		"GetOrLoad": func() error { _, err := c.GetOrLoad(ctx, "bad", load); return err },
		"GetMany": func() error {
			vals, err := c.GetMany(ctx, two)
			if vals["good"] != "good" && r.at != "LoadMany" && r.at != "StartLoad" { // those are for all of them
				t.Errorf("GetMany: %v, %v", vals, err)
			}
			return err
		},
		"GetOrLoadMany": func() error {
			vals, err := c.GetOrLoadMany(ctx, two, func(_ context.Context, keys []string) (map[string]string, error) {
				vals := map[string]string{}
				for _, k := range keys {
					if err := r.s.call("GetOrLoad", k); err != nil {
						return vals, err
					}
					vals[k] = k
				}
				return vals, nil
			})
			if vals["good"] != "good" && r.at != "GetOrLoad" && r.at != "StartLoad" { // those are for all of them
				t.Errorf("GetOrLoadMany: %v, %v", vals, err)
			}
			return err
		},
		"Sync": func() error { return c.Sync(ctx) },
		"SetMany": func() error {
			err := c.SetMany(ctx, map[string]string{"bad": "bad", "good": "good"})
			if be, _ := errors.AsType[*cache.BatchError[string]](err); be.For("good") != nil && r.at != "StoreMany" {
				t.Errorf("SetMany: %v", err)
			}
			return err
		},
		"Set":               func() error { return c.Set(ctx, "bad", "bad") },
		"SetIfAbsent":       func() error { _, err := c.SetIfAbsent(ctx, "bad", "bad"); return err },
		"Update":            func() error { _, err := c.Update(ctx, "bad", update("bad")); return err },
		"Delete":            func() error { return c.Delete(ctx, two...) },
		"Invalidate":        func() error { return c.Invalidate(ctx, two...) },
		"InvalidatePattern": func() error { _, err := c.InvalidatePattern(ctx, "b*"); return err },
		"InvalidateTags":    func() error { return c.InvalidateTags(ctx, "t") },
		"Refresh":           func() error { return c.Refresh(ctx, two...) },
		"RedisKey":          func() error { c.RedisKey("bad"); return nil },
		"InspectEncoded":    func() error { _, err := c.InspectEncoded(ctx, "bad"); return err },
		"InvalidateEncoded": func() error { return c.InvalidateEncoded(ctx, "bad") },
		"ReplaceEncoded": func() error {
			replacement, err := c.EncodeReplacement(ctx, "bad", "bad")
			if err == nil {
				_, err = c.ReplaceEncoded(ctx, "bad", replacement)
			}
			return err
		},
		"Clear": func() error { return c.Clear(ctx) },
	} {
		for _, prepared := range []bool{false, true} {
			r.s.at = ""
			if _ = c.Delete(ctx, two...); prepared {
				_ = c.Set(ctx, "bad", "bad")
			}
			synctest.Wait()
			r.s.at = r.at
			r.s.hit.Store(0)
			r.attempt(name, f, goexit)
		}
	}
	r.s.at = ""
	if v, err := c.Get(ctx, "bad"); v != "bad" || err != nil {
		t.Errorf("after all of it: %q, %v", v, err)
	}
}

// attempt calls f on a goroutine of its own and looks at what is left.
func (r *trial) attempt(name string, f func() error, goexit bool) {
	t, returned := r.t, false
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = f()
		returned = true
	}()
	<-done
	hit := r.s.hit.Load() > 0
	switch r.at {
	case "Load", "LoadMany", "Store", "StoreMany", "Delete", "GetOrLoad":
		if !returned && !(r.stays && (name == "Get" || name == "GetOrLoad")) { // which may load by themselves
			t.Errorf("%s, %v: ended the caller's goroutine", name, r)
		}
		if returned && hit && err == nil {
			t.Errorf("%s, %v: no error", name, r)
		}
	}
	if !returned && !goexit {
		t.Errorf("%s, %v: did not return", name, r)
	}
	if returned && err != nil {
		_ = err.Error() // and none of these panics
		_ = errors.Is(err, context.Canceled)
	}
	if hit && hook.IsAbsentError(err) && strings.HasPrefix(r.at, "Load") {
		t.Errorf("%s, %v: taken for an absence", name, r)
	}
	if r.store == nil {
		return
	}
	synctest.Wait() // what is released behind the caller's back
	for _, key := range []string{"bad", "good"} {
		rec := r.store.Do(context.Background(), []store.Command{{Op: store.Get, Key: hook.Of(r.c).Names.Data + key}})[0].Record
		if h, err := frame.ReadHead(rec.Raw); err == nil && (h.Kind == frame.Lease || h.Kind == frame.Intent) {
			t.Errorf("%s, %v: left a lease of %s", name, r, key)
		}
	}
}

func (r *trial) String() string {
	return fmt.Sprintf("many %v, writes %v, stays %v", r.many, r.writes, r.stays)
}

func TestAPanicIsNoAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("no rows")
		c := onMemory(t, storetest.NewMemory(), cache.Source[string, string]{Load: func(context.Context, string) (string, error) { panic(boom) }}, cache.WithStrategy(strategy.NotFoundTTL(time.Minute, boom)))
		for range 2 {
			if _, err := c.Get(t.Context(), "k"); errors.Is(err, cache.ErrNotFound) || !errors.Is(err, boom) {
				t.Error(err)
			}
		}
		if m := c.Metrics(); m.LoadPanics != 2 || m.NotFound != 0 {
			t.Errorf("%d panics, %d absences", m.LoadPanics, m.NotFound)
		}
	})
}

func TestADecoderThatPanicsMakesAMiss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &saboteur{do: func() error { panic("no") }}
		c := onMemory(t, storetest.NewMemory(), cache.Source[string, string]{Load: func(_ context.Context, k string) (string, error) { return "loaded", nil }}, cache.WithCodec(s.codec()))
		if err := c.Set(t.Context(), "k", "bad"); err != nil {
			t.Fatal(err)
		}
		s.at = "decoder"
		for range 2 {
			if v, err := c.Get(t.Context(), "k", cache.SkipLocal()); v != "loaded" || err != nil {
				t.Errorf("%q, %v", v, err)
			}
		}
		if m := c.Metrics(); m.MissUndecodable != 1 || m.Loads != 1 {
			t.Errorf("%d damaged, %d loads", m.MissUndecodable, m.Loads)
		}
		s.at = "encoder"
		if err := c.Set(t.Context(), "k", "bad"); err == nil {
			t.Error("what could not be encoded was set")
		} else if _, ok := errors.AsType[*cache.PanicError](err); !ok {
			t.Error(err)
		}
	})
}
