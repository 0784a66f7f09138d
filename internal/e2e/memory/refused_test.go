package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// No write and no invalidation that Redis refuses is told to other processes, neither at once
// nor while it is tried again.
func TestARefusedWriteIsNotTold(t *testing.T) {
	redistest.Require(t)
	s := redistest.Start(t)
	ctx := t.Context()
	o := s.Options()
	o.MaxRetries = -1
	rdb := redis.NewClient(o)
	defer rdb.Close()
	loaded := "old"
	c, err := cache.New[string, string](rdb, "c", cache.WithStrategy(strategy.LRU(100)), cache.WithTransport(invalidate.Broadcast()), quietLog)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	load := func(context.Context, string) (string, error) { return loaded, nil }
	writes := map[string]func(k1, k2 string) error{
		"Set":     func(k, _ string) error { return c.Set(ctx, k, "new") },
		"SetMany": func(k1, k2 string) error { return c.SetMany(ctx, map[string]string{k1: "new", k2: "new"}) },
		"Delete":  func(k, _ string) error { return c.Delete(ctx, k) },
		"Deletes": func(k1, k2 string) error { return c.Delete(ctx, k1, k2) },
		"Update": func(k, _ string) error {
			_, err := c.Update(ctx, k, func(string, bool) (string, error) { return "new", nil })
			return err
		},
		"Invalidate":        func(k, _ string) error { return c.Invalidate(ctx, k) },
		"Invalidates":       func(k1, k2 string) error { return c.Invalidate(ctx, k1, k2) },
		"InvalidatePattern": func(k, _ string) error { _, err := c.InvalidatePattern(ctx, k[:len(k)-1]+"*"); return err },
		"InvalidateTags":    func(k, _ string) error { return c.InvalidateTags(ctx, k) },
	}
	for name := range writes {
		for i := range 2 {
			if err := c.Set(ctx, fmt.Sprint(name, i), "old", cache.Tags("t")); err != nil {
				t.Fatal(err)
			}
		}
	}
	admin := s.Client(t)
	sub := admin.Subscribe(ctx, hook.Of(c).Names.Channel)
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	heard := func() (kinds []message.Kind) {
		t.Helper()
		if err := admin.Publish(ctx, hook.Of(c).Names.Channel, "end").Err(); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := sub.ReceiveMessage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if m.Payload == "end" {
				return kinds
			}
			if n, err := message.Parse(m.Payload); err == nil && n.Kind != message.Watermark {
				kinds = append(kinds, n.Kind)
			}
		}
	}
	if err := admin.ConfigSet(ctx, "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	for name, write := range writes {
		if err := write(name+"0", name+"1"); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if got := heard(); len(got) > 0 {
			t.Errorf("%s: it was refused, and %v was told", name, got)
		}
	}
	if _, err := c.GetOrLoad(ctx, "loaded", load); err != nil {
		t.Fatal(err)
	}
	if err := c.Clear(ctx); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("Clear: %v", err)
	}
	// It is tried again, and refused again.
	awhile, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := c.Sync(awhile); err == nil {
		t.Error("Redis was told although it takes no writes")
	}
	if got := heard(); len(got) > 0 {
		t.Errorf("%v was told", got)
	}
	if err := admin.ConfigSet(ctx, "min-replicas-to-write", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if got := heard(); !slices.Contains(got, message.TagsInvalidated) { // which says all of it
		t.Errorf("%v was told", got)
	}
	for name := range writes {
		if v, err := c.Get(ctx, name+"0"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("%s: %q, %v", name, v, err)
		}
	}
}
