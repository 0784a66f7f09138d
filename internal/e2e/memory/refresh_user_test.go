package memory_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// awkward is an error whose methods do what they must not.
type awkward struct{ what string }

func (e awkward) do(method string) {
	switch e.what {
	case method + " panics":
		panic(method)
	case method + " ends":
		runtime.Goexit()
	}
}

func (e awkward) Error() string   { e.do("Error"); return "awkward" }
func (e awkward) Is(error) bool   { e.do("Is"); return false }
func (e awkward) As(any) bool     { e.do("As"); return false }
func (e awkward) Unwrap() []error { e.do("Unwrap"); return nil }

// misdeeds are ways in which a function of the source fails.
var misdeeds = map[string]func() error{
	"an error":         func() error { return errFlaky },
	"a nil pointer":    func() error { return (*net.OpError)(nil) },
	"a nil map":        func() error { return nilMap(nil) },
	"wrapped nil":      func() error { return fmt.Errorf("save: %w", (*net.OpError)(nil)) },
	"joined":           func() error { return errors.Join(awkward{"Is panics"}, errFlaky) },
	"a panic":          func() error { panic("no") },
	"a panic with nil": func() error { panic(nil) },
	"no rows":          func() error { panic(sql.ErrNoRows) },
	"panics hostile":   func() error { panic(awkward{"Error panics"}) },
	"Goexit":           func() error { runtime.Goexit(); return nil },
	"Error panics":     func() error { return awkward{"Error panics"} },
	"Error ends":       func() error { return awkward{"Error ends"} },
	"Is panics":        func() error { return awkward{"Is panics"} },
	"Is ends":          func() error { return awkward{"Is ends"} },
	"As panics":        func() error { return awkward{"As panics"} },
	"As ends":          func() error { return awkward{"As ends"} },
	"Unwrap panics":    func() error { return awkward{"Unwrap panics"} },
	"Unwrap ends":      func() error { return awkward{"Unwrap ends"} },
}

type nilMap map[string]int

func (m nilMap) Error() string { m["x"] = 1; return "" }

// Whatever a function of the source does for one key of the queue, that key fails and
// ends as a dead letter; all others reach the source, in one batch with it or later.
func TestAWriteThatFailsInAnyWayCostsItsKeyOnly(t *testing.T) {
	for _, kind := range []string{"Store", "StoreMany", "Delete"} {
		for name, misdeed := range misdeeds {
			t.Run(kind+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					db := newDatabase()
					bad := func(key string) error {
						if strings.HasPrefix(key, "bad") {
							return misdeed()
						}
						return nil
					}
					st := func(key, val string) error {
						if err := bad(key); err != nil || strings.HasPrefix(key, "bad") {
							return err
						}
						db.mu.Lock()
						defer db.mu.Unlock()
						db.rows[key] = val
						return nil
					}
					src := cache.Source[string, string]{
						Store:  func(_ context.Context, key, val string) error { return st(key, val) },
						Delete: func(_ context.Context, key string) error { return bad(key) },
					}
					if kind == "StoreMany" {
						src.Store = nil
						src.StoreMany = func(_ context.Context, vals map[string]string) error {
							for k, v := range vals {
								if err := st(k, v); err != nil {
									return err
								}
							}
							return nil
						}
					}
					opts := []cache.Option{quietLog, cache.WithStrategy(strategy.WriteBehind(strategy.MaxAttempts(2)))}
					c := newCache(t, storetest.NewMemory(), src, opts...)
					ctx := t.Context()
					vals := map[string]string{}
					for i := range 30 {
						vals[fmt.Sprint("good", i)] = "v"
					}
					if kind != "Delete" {
						vals["bad"] = "v"
					}
					if err := c.SetMany(ctx, vals); err != nil {
						t.Fatal(err)
					}
					if kind == "Delete" {
						if err := c.Delete(ctx, "bad", "good0"); err != nil {
							t.Fatal(err)
						}
					}
					if err := c.Sync(ctx); err != nil {
						t.Error(err)
					}
					// The partitions are served as before.
					for i := range 30 {
						if err := c.Set(ctx, fmt.Sprint("later", i), "v"); err != nil {
							t.Fatal(err)
						}
					}
					if err := c.Sync(ctx); err != nil {
						t.Error(err)
					}
					want := 60
					if kind == "Delete" {
						want = 59
					}
					if db.mu.Lock(); len(db.rows) < want {
						t.Errorf("the source has %d rows", len(db.rows))
					}
					db.mu.Unlock()
					letters, err := c.DeadLetters(ctx, 100)
					if err != nil || len(letters) != 1 || letters[0].Key != "bad" || letters[0].Reason == "" || letters[0].Attempts != 2 {
						t.Errorf("%+v, %v", letters, err)
					}
				})
			})
		}
	}
}

// explosive is a codec of strings that panics when it meets certain values.
type explosive struct{}

func (explosive) Name() string { return "explosive" }
func (explosive) Marshal(dst []byte, v any) ([]byte, error) {
	if v == "bad to write" {
		panic("marshal")
	}
	return append(dst, v.(string)...), nil
}
func (explosive) Unmarshal(data []byte, v any) error {
	if string(data) == "bad to read" {
		panic("unmarshal")
	}
	*v.(*string) = string(data)
	return nil
}

func TestACodecThatPanicsCostsItsWriteOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newDatabase()
		src := cache.Source[string, string]{StoreMany: func(_ context.Context, vals map[string]string) error {
			db.mu.Lock()
			defer db.mu.Unlock()
			for k, v := range vals {
				db.rows[k] = v
			}
			return nil
		}, Load: func(context.Context, string) (string, error) { return "", cache.ErrNotFound }}
		opts := []cache.Option{quietLog, cache.WithCodec(explosive{}), cache.WithStrategy(strategy.WriteBehind())}
		c := newCache(t, storetest.NewMemory(), src, opts...)
		ctx := t.Context()
		if err := c.SetMany(ctx, map[string]string{"a": "1", "b": "bad to read", "c": "3"}); err != nil {
			t.Fatal(err)
		}
		// The records in Redis are gone: the queue has the values.
		if err := c.Invalidate(ctx, "a", "b", "c"); err != nil {
			t.Fatal(err)
		}
		if vals, err := c.GetMany(ctx, []string{"a", "b", "c"}); fmt.Sprint(vals) != "map[a:1 c:3]" {
			t.Errorf("while they are on their way: %v, %v", vals, err)
		}
		if err := c.Sync(ctx); err != nil {
			t.Error(err)
		}
		letters, err := c.DeadLetters(ctx, 10)
		if err != nil || len(letters) != 1 || letters[0].Key != "b" || letters[0].Err == nil || fmt.Sprint(db.rows) != "map[a:1 c:3]" {
			t.Errorf("%+v, %v; %v", letters, err, db.rows)
		}
	})
}

// oddKey is a key that decodes itself, and panics over some.
type oddKey struct{ S string }

func (k oddKey) MarshalText() ([]byte, error) { return []byte(k.S), nil }
func (k *oddKey) UnmarshalText(text []byte) error {
	if string(text) == "panics" && hostile.Load() {
		panic("UnmarshalText")
	}
	if k.S = string(text); k.S == "changed" {
		k.S = "another"
	}
	return nil
}

var hostile atomic.Bool // keys panic from now on

type pair struct{ Tenant, ID string }

// What a queued key is read back as is the key that was written, or it is not queued.
func TestAKeyThatDoesNotComeBackIsNotQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		stored := map[any]int{} // guarded by mu
		note := func(k any, v int) error {
			mu.Lock()
			defer mu.Unlock()
			stored[k] = v
			return nil
		}
		pairs := newCache(t, storetest.NewMemory(), cache.Source[pair, int]{Store: func(_ context.Context, k pair, v int) error { return note(k, v) }}, cache.WithStrategy(strategy.WriteBehind()))
		odd := newCache(t, storetest.NewMemory(), cache.Source[oddKey, int]{Store: func(_ context.Context, k oddKey, v int) error { return note(k, v) }}, cache.WithStrategy(strategy.WriteBehind()))
		ctx := t.Context()
		for _, k := range []pair{{"a", "\xff"}, {"\xc3\x28", "b"}, {"a\xed\xa0\x80", ""}} {
			if err := pairs.Set(ctx, k, 1); !errors.Is(err, cache.ErrInvalidOption) {
				t.Errorf("%q is queued: %v", k, err)
			}
		}
		if err := odd.Set(ctx, oddKey{"changed"}, 1); !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("a key that changes is queued: %v", err)
		}
		good := []pair{{"a", "b"}, {"a:b", ""}, {"", "a:b"}, {"\ufffd", "é\u2028\x00"}, {"%3A", ":"}, {"<&>", "\t\n\""}}
		for i, k := range good {
			if err := pairs.Set(ctx, k, i); err != nil {
				t.Errorf("%q: %v", k, err)
			}
		}
		if err := errors.Join(odd.Set(ctx, oddKey{"panics"}, 1), odd.Set(ctx, oddKey{"fine"}, 2)); err != nil {
			t.Error(err)
		}
		hostile.Store(true)
		defer hostile.Store(false)
		if err := errors.Join(pairs.Sync(ctx), odd.Sync(ctx)); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for i, k := range good {
			if v, ok := stored[k]; !ok || v != i {
				t.Errorf("%q did not reach the source", k)
			}
		}
		if _, ok := stored[oddKey{"fine"}]; !ok || len(stored) != len(good)+1 {
			t.Errorf("stored are %v", stored)
		}
		if letters, err := odd.DeadLetters(ctx, 10); err != nil || len(letters) != 1 || letters[0].Err == nil {
			t.Errorf("%+v, %v", letters, err)
		}
	})
}

// The log's handler is the program's, too.
type badHandler struct{ slog.Handler }

func (badHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (badHandler) Handle(context.Context, slog.Record) error { panic("handle") }
func (h badHandler) WithAttrs([]slog.Attr) slog.Handler      { return h }
func (h badHandler) WithGroup(string) slog.Handler           { return h }

func TestALogThatPanicsDoesNotStopTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := 3
		src := cache.Source[string, string]{Store: func(context.Context, string, string) error {
			if fails--; fails >= 0 {
				return errFlaky
			}
			return nil
		}}
		c := newCache(t, storetest.NewMemory(), src, cache.WithLogger(slog.New(badHandler{})), cache.WithStrategy(strategy.WriteBehind()))
		if err := errors.Join(c.Set(t.Context(), "k", "v"), c.Sync(t.Context())); err != nil {
			t.Error(err)
		}
	})
}
