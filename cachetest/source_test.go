package cachetest_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
)

func TestSourceLoads(t *testing.T) {
	rows := map[int]string{1: "one", 2: "two"}
	src := cachetest.NewSource(rows)
	rows[1] = "changed" // its own from the beginning
	ctx := t.Context()
	if v, err := src.Load(ctx, 1); v != "one" || err != nil {
		t.Errorf("Load = %q, %v", v, err)
	}
	if _, err := src.Load(ctx, 3); err != cache.ErrNotFound {
		t.Errorf("Load of nothing: %v", err)
	}
	if m, err := src.LoadMany(ctx, []int{1, 2, 3}); !maps.Equal(m, map[int]string{1: "one", 2: "two"}) || err != nil {
		t.Errorf("LoadMany = %v, %v", m, err)
	}
	src.Put(3, "three")
	src.Remove(1, 2)
	if v, ok := src.Row(3); v != "three" || !ok {
		t.Errorf("Row = %q, %v", v, ok)
	}
	if _, ok := src.Row(1); ok {
		t.Error("a removed row is there")
	}
	if src.Loads() != 5 || src.LoadsOf(1) != 2 || src.LoadsOf(3) != 2 || src.LoadsOf(4) != 0 || src.Stores() != 0 {
		t.Errorf("it counts %d loads, %d of 1, %d of 3", src.Loads(), src.LoadsOf(1), src.LoadsOf(3))
	}
	r := record(t, func(r *recorder) {
		src.WantLoads(r, 5)
		src.WantLoads(r, 1)
		src.Reset()
		src.WantLoads(r, 0)
		src.WantLoads(r, 1)
	})
	if len(r.errors) != 2 || r.errors[0] != "cachetest: 5 loads from the source, want 1: key 1 2 times, key 3 2 times, key 2 once" ||
		r.errors[1] != "cachetest: 0 loads from the source, want 1: it was not asked" {
		t.Errorf("errors: %q", r.errors)
	}
}

func TestSourceStores(t *testing.T) {
	src := cachetest.NewSource[int, string](nil)
	ctx := t.Context()
	if err := errors.Join(src.Store(ctx, 1, "one"), src.StoreMany(ctx, map[int]string{2: "two", 3: "three"}), src.Delete(ctx, 2)); err != nil {
		t.Error(err)
	}
	if src.Stores() != 3 || src.Deletes() != 1 || src.Loads() != 0 {
		t.Errorf("it counts %d stores, %d deletes", src.Stores(), src.Deletes())
	}
	for key, want := range map[int]string{1: "one", 2: "", 3: "three"} {
		if v, ok := src.Row(key); v != want || ok != (want != "") {
			t.Errorf("Row(%d) = %q, %v", key, v, ok)
		}
	}
}

func TestSourceFails(t *testing.T) {
	src := cachetest.NewSource(map[int]string{1: "one", 2: "two"})
	ctx := t.Context()
	down, bad := errors.New("down"), errors.New("bad row")
	all := func() []error {
		_, one := src.Load(ctx, 1)
		_, many := src.LoadMany(ctx, []int{1, 2})
		return []error{one, many, src.Store(ctx, 1, "x"), src.StoreMany(ctx, map[int]string{1: "x", 2: "two"}), src.Delete(ctx, 1)}
	}
	src.Fail(down)
	for i, err := range all() {
		if !errors.Is(err, down) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	src.Fail(nil)
	src.Fail(bad, 1)
	for i, err := range all() {
		if !errors.Is(err, bad) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if v, _ := src.Row(1); v != "one" {
		t.Errorf("what failed has changed the row to %q", v)
	}
	m, err := src.LoadMany(ctx, []int{1, 2, 3})
	var batch *cache.BatchError[int]
	if !errors.As(err, &batch) || len(batch.Errs) != 1 || batch.For(1) != bad || !maps.Equal(m, map[int]string{2: "two"}) {
		t.Errorf("LoadMany = %v, %v", m, err)
	}
	src.Fail(nil, 1)
	src.Fail(bad, 2)
	src.Fail(nil)
	for i, err := range all() {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func TestSourceIsSlowAndHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := cachetest.NewSource(map[int]string{1: "one"})
		load := func(ctx context.Context) (time.Duration, error) {
			began := time.Now()
			_, err := src.Load(ctx, 1)
			return time.Since(began), err
		}
		src.Slow(time.Second)
		if d, err := load(t.Context()); d != time.Second || err != nil {
			t.Errorf("slow: %v, %v", d, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if d, err := load(ctx); d != time.Millisecond || err != context.DeadlineExceeded {
			t.Errorf("slow with a deadline: %v, %v", d, err)
		}
		src.Slow(0)
		release := src.Hold()
		ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := load(ctx); err != context.DeadlineExceeded {
			t.Errorf("held: %v", err)
		}
		var all sync.WaitGroup
		all.Go(func() {
			if d, err := load(t.Context()); d != time.Hour || err != nil {
				t.Errorf("held: %v, %v", d, err)
			}
		})
		time.Sleep(time.Hour)
		src.WantLoads(t, 4)
		release()
		release()
		all.Wait()
		if d, err := load(t.Context()); d != 0 || err != nil {
			t.Errorf("released: %v, %v", d, err)
		}
	})
}

// It is a source for a cache, with each write strategy.
func TestSourceOfACache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		src := cachetest.NewSource[int, string](nil)
		c := open(t, env.Client(), src.ReadWrite())
		if err := c.Set(t.Context(), 1, "Ada"); err != nil {
			t.Fatal(err)
		}
		if v, ok := src.Row(1); v != "Ada" || !ok || src.Stores() != 1 {
			t.Errorf("the source has %q", v)
		}
		if err := c.Delete(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if src.Deletes() != 1 {
			t.Errorf("%d deletes", src.Deletes())
		}
		src.Put(2, "Grace")
		if m, err := c.GetMany(t.Context(), []int{1, 2}); !maps.Equal(m, map[int]string{2: "Grace"}) || err != nil {
			t.Errorf("GetMany = %v, %v", m, err)
		}
	})
}
