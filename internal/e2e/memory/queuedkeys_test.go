package memory_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// A queue keeps keys that can't be read from their encoding as JSON: the source must get
// the same one, also where the encoding has only a part of it.
func TestQueuedKeysComeBackOrAreRefused(t *testing.T) {
	type key struct{ ID, Name string }
	type held struct {
		ID    string
		Extra any
	}
	type nested struct{ In [1]*held }
	type wide struct {
		ID string
		At time.Time
	}
	refused(t, func(k held) string { return k.ID })
	refused(t, func(nested) string { return "k" })
	refused(t, func(any) string { return "k" })
	refused(t, func(k struct{ error }) string { return "k" })
	synctest.Test(t, func(t *testing.T) {
		queues(t, func(k key) string { return k.ID }, key{"a", "b"}, true)
		queues(t, func(k key) string { return k.ID }, key{"a", "\xff"}, false)
		queues(t, func(k wide) string { return k.ID }, wide{"a", time.Unix(5, 0).UTC()}, true)
		queues(t, func(k wide) string { return k.ID }, wide{"a", time.Unix(5, 0).In(time.FixedZone("", 61))}, false)
	})
}

func behindKeys[K comparable](text func(K) string, stored chan K) (*cache.Cache[K, int], error) {
	src := cache.Source[K, int]{Key: text, Store: func(_ context.Context, k K, _ int) error { stored <- k; return nil }}
	return build("x", src, []cache.Option{quietLog, cache.WithStrategy(strategy.WriteBehind())}, func() store.Store { return storetest.NewMemory() })
}

func refused[K comparable](t *testing.T, text func(K) string) {
	t.Helper()
	if c, err := behindKeys(text, nil); err == nil {
		c.Close()
		t.Errorf("New accepts keys of type %v in a queue", reflect.TypeFor[K]())
	}
}

func queues[K comparable](t *testing.T, text func(K) string, key K, keeps bool) {
	t.Helper()
	stored := make(chan K, 10)
	c, err := behindKeys(text, stored)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = errors.Join(c.Set(t.Context(), key, 1), c.Sync(t.Context()))
	switch {
	case keeps != (err == nil):
		t.Errorf("%T %+v: %v", key, key, err)
	case keeps:
		if back := <-stored; back != key {
			t.Errorf("%+v comes as %+v", key, back)
		}
	}
}
