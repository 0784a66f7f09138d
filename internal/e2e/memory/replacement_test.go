package memory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// replacement encodes one of "k" that there must be.
func replacement(t *testing.T, c *cache.Cache[string, string], val string, opts ...cache.WriteOption) []byte {
	t.Helper()
	r, err := c.EncodeReplacement(t.Context(), "k", val, opts...)
	if err != nil || r == nil {
		t.Fatalf("EncodeReplacement: %d bytes, %v", len(r), err)
	}
	return r
}

func replaced(t *testing.T, c *cache.Cache[string, string], r []byte) bool {
	t.Helper()
	ok, err := c.ReplaceEncoded(t.Context(), "k", r)
	if err != nil {
		t.Fatal("ReplaceEncoded:", err)
	}
	synctest.Wait()
	return ok
}

// holds checks what caches have for "k"; "" stands for a miss.
func holds(t *testing.T, want string, caches ...*cache.Cache[string, string]) {
	t.Helper()
	for i, c := range caches {
		if v, err := c.Peek(t.Context(), "k"); v != want || (err != nil) != (want == "") {
			t.Errorf("cache %d has %q, %v, want %q", i, v, err, want)
		}
	}
}

// A replacement of one process is put in place by another one, and all see it.
func TestAReplacementTakesThePlaceOfWhatWasThere(t *testing.T) {
	for name, opts := range map[string][]cache.Option{
		"plain":     nil,
		"encrypted": {cache.WithCodec(codec.Encrypted(codec.JSON(), []byte("0123456789abcdef0123456789abcdef")))},
		"sliding":   {cache.WithStrategy(strategy.Sliding(time.Minute))},
		"forever":   {cache.WithStrategy(strategy.Forever())},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				st := storetest.NewMemory()
				a, b, c := onMemory(t, st, cache.Source[string, string]{}, opts...), onMemory(t, st, cache.Source[string, string]{}, opts...), onMemory(t, st, cache.Source[string, string]{}, opts...)
				if err := a.Set(ctx, "k", "v1"); err != nil {
					t.Fatal(err)
				}
				holds(t, "v1", a, b, c)
				r := replacement(t, a, "v2", cache.Tags("t"))
				holds(t, "v1", a, b, c)
				time.Sleep(time.Second)
				before := b.Metrics()
				if !replaced(t, b, r) {
					t.Fatal("it was not put in place")
				}
				holds(t, "v2", a, b, c)
				if m := b.Metrics(); m.Sets != before.Sets+1 || m.Set.Count != before.Set.Count+1 {
					t.Errorf("counted as %d writes, %d in the histogram", m.Sets-before.Sets, m.Set.Count-before.Set.Count)
				}
				// Once more, as after a crash: the same record is there.
				if !replaced(t, c, r) {
					t.Error("a second time it was not taken for its own")
				}
				holds(t, "v2", a, b, c)
				if err := c.InvalidateTags(ctx, "t"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				holds(t, "", a, b, c)
			})
		})
	}
}

// Whatever comes between the two steps makes the replacement an invalidation:
//
//  1. a replacement of R by "old" is encoded
//  2. something newer is written, or said to be out of date
//  3. the replacement is applied: "old" must not be there afterwards
func TestAReplacementNeverOverwritesWhatIsNewer(t *testing.T) {
	other := []cache.Option{cache.WithVersion(1)}
	for name, step := range map[string]struct {
		between func(ctx context.Context, c *cache.Cache[string, string], st *storetest.Memory) error
		opts    []cache.Option
		write   []cache.WriteOption
		applier []cache.Option
	}{
		"a Set": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			return c.Set(ctx, "k", "new")
		}},
		"a Set of the same value": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			return c.Set(ctx, "k", "v1")
		}},
		"an Update": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			_, err := c.Update(ctx, "k", func(string, bool) (string, error) { return "new", nil })
			return err
		}},
		"a Delete": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			return c.Delete(ctx, "k")
		}},
		"an invalidation": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			return c.Invalidate(ctx, "k")
		}},
		"a pattern": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			_, err := c.InvalidatePattern(ctx, "*")
			return err
		}},
		"an invalidation and a load": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			if err := c.Invalidate(ctx, "k"); err != nil {
				return err
			}
			_, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "new", nil })
			return err
		}},
		"a refresh": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			_, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "new", nil }, cache.MaxAge(0))
			return err
		}},
		"a lazy invalidation": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			return c.Invalidate(ctx, "k")
		}, opts: []cache.Option{cache.WithInvalidator(invalidate.Lazy()), cache.WithStrategy(strategy.StaleIfError(time.Hour))}},
		"a delayed invalidation": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			if err := c.Invalidate(ctx, "k"); err != nil {
				return err
			}
			time.Sleep(time.Second)
			return nil
		}, opts: []cache.Option{cache.WithInvalidator(invalidate.Delayed(time.Second))}},
		"a DEL by hand": {between: func(ctx context.Context, c *cache.Cache[string, string], st *storetest.Memory) error {
			return st.Do(ctx, []store.Command{{Op: store.Delete, Key: c.RedisKey("k")}})[0].Err
		}},
		"a SET by hand": {between: func(ctx context.Context, c *cache.Cache[string, string], st *storetest.Memory) error {
			return st.Do(ctx, []store.Command{{Op: store.Set, Key: c.RedisKey("k"), Frame: []byte("by another program")}})[0].Err
		}},
		"its own tag": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			return c.InvalidateTags(ctx, "t")
		}, write: []cache.WriteOption{cache.Tags("t")}},
		"a Clear": {between: func(ctx context.Context, c *cache.Cache[string, string], _ *storetest.Memory) error {
			return c.Clear(ctx)
		}},
		"the end of its life": {between: func(context.Context, *cache.Cache[string, string], *storetest.Memory) error {
			time.Sleep(10 * time.Second)
			return nil
		}, write: []cache.WriteOption{cache.TTL(10 * time.Second)}},
		"another version of the program": {between: func(context.Context, *cache.Cache[string, string], *storetest.Memory) error { return nil }, applier: other},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				st := storetest.NewMemory()
				writer := onMemory(t, st, cache.Source[string, string]{}, step.opts...)
				else_ := onMemory(t, st, cache.Source[string, string]{}, step.opts...)
				relay := onMemory(t, st, cache.Source[string, string]{}, append(step.opts, step.applier...)...)
				if err := writer.Set(ctx, "k", "v1"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				r := replacement(t, writer, "old", step.write...)
				if err := step.between(ctx, else_, st); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				taken := replaced(t, relay, r)
				for _, c := range []*cache.Cache[string, string]{writer, else_, relay} {
					if v, err := c.Peek(ctx, "k"); v == "old" {
						t.Errorf("the old value is served: %v, %v", taken, err)
					}
				}
				// The row's transaction was committed: what was there before is out of date as well.
				for _, c := range []*cache.Cache[string, string]{writer, else_} {
					if v, err := c.Peek(ctx, "k"); v == "v1" && err == nil {
						t.Errorf("the value from before is served")
					}
				}
			})
		})
	}
}

// A load that began before the replacement is applied loses, whichever record it is to replace.
func TestALoadInFlightDoesNotOverwriteAReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		a, b := onMemory(t, st, cache.Source[string, string]{}), onMemory(t, st, cache.Source[string, string]{})
		if err := a.Set(ctx, "k", "v1"); err != nil {
			t.Fatal(err)
		}
		r := replacement(t, a, "v2")
		g := newGate()
		refresh := make(chan error)
		go func() {
			_, err := b.GetOrLoad(ctx, "k", g.load, cache.MaxAge(0))
			refresh <- err
		}()
		<-g.began // reads the row before the commit
		taken := replaced(t, a, r)
		g.end <- "v1"
		if err := <-refresh; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, c := range []*cache.Cache[string, string]{a, b} {
			if v, err := c.Peek(ctx, "k"); err == nil && v != "v2" {
				t.Errorf("%q after the replacement, which was put in place: %v", v, taken)
			}
		}
	})
}

// What can't be replaced is not encoded, and the key is invalidated instead.
func TestWithoutAnEntryThereIsNoReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		none := func(what string, c *cache.Cache[string, string], opts ...cache.WriteOption) {
			t.Helper()
			if r, err := c.EncodeReplacement(ctx, "k", "v", opts...); r != nil || err != nil {
				t.Errorf("%s: %d bytes, %v", what, len(r), err)
			}
		}
		c := onMemory(t, st, cache.Source[string, string]{})
		none("an empty key", c)
		g := newGate()
		first := get(c, "k", g.load)
		<-g.began
		none("a load in flight", c)
		g.end <- "v1"
		<-first
		none("a life that is over", c, cache.TTL(0))
		none("around the cache", onMemory(t, st, cache.Source[string, string]{Store: func(context.Context, string, string) error { return nil }}, cache.WithStrategy(strategy.WriteAround())))
		local := newCache(t, nil, cache.Source[string, string]{}, cache.LocalOnly())
		if err := local.Set(ctx, "k", "v1"); err != nil {
			t.Fatal(err)
		}
		none("a LocalOnly cache", local)
		if ok, err := local.ReplaceEncoded(ctx, "k", replacement(t, c, "v2")); ok || err != nil {
			t.Errorf("in a LocalOnly cache: %v, %v", ok, err)
		}
		holds(t, "", local)
		newer := onMemory(t, st, cache.Source[string, string]{}, cache.WithVersion(1))
		if err := newer.Set(ctx, "k", "of a newer program"); err != nil {
			t.Fatal(err)
		}
		none("a record of a newer program", c)

		// A remembered absence is an entry.
		if err := c.Delete(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		_, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "", cache.ErrNotFound })
		if !errors.Is(err, cache.ErrNotFound) {
			t.Fatal(err)
		}
		if !replaced(t, c, replacement(t, c, "created")) {
			t.Error("an absence was not replaced")
		}
		holds(t, "created", c)
	})
}

func TestAReplacementIsRefusedAsAValueIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		c := onMemory(t, st, cache.Source[string, string]{}, cache.WithMaxValueSize(100))
		for _, there := range []bool{false, true} {
			if _, err := c.EncodeReplacement(ctx, "k", strings.Repeat("x", 200)); !errors.Is(err, cache.ErrTooLarge) {
				t.Errorf("too large, there %v: %v", there, err)
			}
			if _, err := c.EncodeReplacement(ctx, "k", "v", cache.Tags("")); err == nil {
				t.Errorf("an empty tag, there %v", there)
			}
			if _, err := c.EncodeReplacement(ctx, "k", "v", nil); !errors.Is(err, cache.ErrInvalidOption) {
				t.Errorf("a nil option: %v", err)
			}
			if err := c.Set(ctx, "k", "v1"); err != nil {
				t.Fatal(err)
			}
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := c.EncodeReplacement(ended, "k", "v"); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that has ended: %v", err)
		}
		r := replacement(t, c, "v2")
		numbers := newCache(t, st, cache.Source[int, string]{})
		if ok, err := numbers.ReplaceEncoded(ctx, "k", r); ok || !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("no key of the cache: %v, %v", ok, err)
		}

		// Redis does not answer: nothing to encode, and nothing is lost.
		st.Fail(errors.New("no answer"))
		if r, err := c.EncodeReplacement(ctx, "k", "v2"); r != nil || err != nil {
			t.Errorf("without Redis: %d bytes, %v", len(r), err)
		}
		if ok, err := c.ReplaceEncoded(ctx, "k", r); ok || !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("without Redis: %v, %v", ok, err)
		}
		st.Fail(nil)
		if err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if _, err := c.EncodeReplacement(ctx, "k", "v"); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if _, err := c.ReplaceEncoded(ctx, "k", r); !errors.Is(err, cache.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
}

// Whatever its bytes are, a replacement is put in place whole or not at all.
func TestADamagedReplacementInvalidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewMemory()
		c := onMemory(t, st, cache.Source[string, string]{})
		set := func() {
			if err := c.Set(ctx, "k", "v1"); err != nil {
				t.Fatal(err)
			}
		}
		set()
		n := len(replacement(t, c, "v2"))
		for i := range n {
			for _, damage := range []func([]byte) []byte{
				func(r []byte) []byte { r[i] ^= 0x41; return r },
				func(r []byte) []byte { return r[:i] },
			} {
				set()
				r := damage(replacement(t, c, "v2"))
				taken := replaced(t, c, r)
				want := ""
				if i >= 1 && i < 9 && len(r) == n {
					continue // the end of the key's life in Redis, which has no bearing on the value
				}
				if taken {
					t.Errorf("damaged at %d, and put in place", i)
				}
				holds(t, want, c)
			}
		}
		// That of another key, as after a mistake of a program.
		set()
		r := replacement(t, c, "v2")
		if ok, err := c.ReplaceEncoded(ctx, "other", r); ok || err != nil {
			t.Errorf("another key's: %v, %v", ok, err)
		}
		if _, err := c.Peek(ctx, "other"); !errors.Is(err, cache.ErrMiss) {
			t.Error(err)
		}
		// A kind that is no value.
		lease := frame.AppendLease(nil, frame.NewID())
		if taken := replaced(t, c, append(r[:33:33], lease...)); taken {
			t.Error("a lease was put in place")
		}
		holds(t, "", c)
	})
}

// Many writers with replacements that are applied at any time, in any order and more than once,
// beside plain writes and invalidations: in the end no value is older than the row.
func TestReplacementsInAnyOrder(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			st := storetest.NewMemory()
			w := newReplacementWorld(t, st, seed)
			for range 200 {
				w.step(ctx)
			}
			for len(w.outbox) > 0 {
				w.apply(ctx, true)
			}
			synctest.Wait()
			want := fmt.Sprint(w.row)
			for i, c := range w.caches {
				if v, err := c.Get(ctx, "k"); v != want || err != nil {
					t.Errorf("seed %d, cache %d: %q, %v, and the row is %s", seed, i, v, err, want)
				}
			}
		})
	}
}
