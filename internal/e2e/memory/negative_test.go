package memory_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/strategy"
)

func TestErrorsAreRememberedForErrorTTL(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.ErrorTTL(5 * time.Second)}, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		src.fail(errFlaky)
		for range 3 {
			if _, err := c.Get(t.Context(), "k"); err != errFlaky {
				t.Error(err)
			}
		}
		if hook.Of(c).Remote() {
			if _, err := again().Get(t.Context(), "k"); err == nil {
				t.Error("another process asks again")
			}
		}
		if n := src.calls.Load(); n != 1 {
			t.Errorf("%d loads", n)
		}
		src.give("v")
		if v, err := c.Get(t.Context(), "k", cache.MaxAge(0)); v != "v" || err != nil {
			t.Errorf("MaxAge(0): %q, %v", v, err)
		}
		src.fail(errFlaky)
		if _, err := c.Get(t.Context(), "other"); err != errFlaky {
			t.Error(err)
		}
		src.give("v")
		time.Sleep(5*time.Second - time.Millisecond)
		if _, err := c.Get(t.Context(), "other"); err == nil {
			t.Error("forgotten too early")
		}
		time.Sleep(time.Millisecond)
		if v, err := c.Get(t.Context(), "other"); v != "v" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		// A write is newer than a failure.
		src.fail(errFlaky)
		_, _ = c.Get(t.Context(), "third")
		if err := c.Set(t.Context(), "third", "w"); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context(), "third"); err != nil {
			t.Fatal(err)
		}
		src.give("v")
		if v, err := c.Get(t.Context(), "third"); v != "v" || err != nil {
			t.Errorf("after a write: %q, %v", v, err)
		}
	})
}

func TestALoadSaysWhenToAskAgain(t *testing.T) {
	src := new(source)
	tiers(t, src, nil, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		src.will(func(ctx context.Context) (string, error) {
			cache.CurrentLoad[string](ctx).RetryAfter(3 * time.Second)
			return "", errFlaky
		})
		for range 3 {
			if _, err := c.Get(t.Context(), "k"); err != errFlaky {
				t.Error(err)
			}
			time.Sleep(time.Second - time.Millisecond)
		}
		if n := src.calls.Load(); n != 1 {
			t.Errorf("%d loads", n)
		}
		src.give("v")
		time.Sleep(3 * time.Millisecond)
		read(t, c, "v", false, nil)
	})
}

func TestConditionalLoads(t *testing.T) {
	src := new(source)
	tiers(t, src, []strategy.Strategy{strategy.TTL(10 * time.Second), strategy.StaleIfError(time.Hour)}, func(t *testing.T, c *cache.Cache[string, string], again func() *cache.Cache[string, string]) {
		ctx := t.Context()
		src.will(func(ctx context.Context) (string, error) {
			l := cache.CurrentLoad[string](ctx)
			if v, ok := l.Stale(); ok || v != "" || l.ETag() != "" {
				t.Errorf("there is %q, %v, %q to begin with", v, ok, l.ETag())
			}
			if _, err := l.NotModified(); err == nil {
				t.Error("nothing can't be unmodified")
			}
			l.SetETag("e1")
			l.AddTags("t")
			return "v", nil
		})
		read(t, c, "v", false, nil)
		src.will(func(ctx context.Context) (string, error) {
			l := cache.CurrentLoad[string](ctx)
			if v, ok := l.Stale(); !ok || v != "v" || l.ETag() != "e1" {
				t.Errorf("%q, %v, %q", v, ok, l.ETag())
			}
			return l.NotModified()
		})
		for range 3 {
			time.Sleep(11 * time.Second)
			read(t, c, "v", false, nil)
			time.Sleep(9 * time.Second)
			info := read(t, c, "v", false, nil)
			if fmt.Sprint(info.Tags) != "[t]" || info.TTL != time.Second {
				t.Errorf("%+v", info)
			}
			time.Sleep(time.Second)
		}
		if n := src.calls.Load(); n != 4 {
			t.Errorf("%d loads", n)
		}
		// What was written has not the ETag of what was there before.
		if err := c.Set(ctx, "k", "w"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		src.will(func(ctx context.Context) (string, error) {
			if l := cache.CurrentLoad[string](ctx); l.ETag() != "" {
				t.Errorf("ETag %q", l.ETag())
			}
			return "x", nil
		})
		read(t, c, "x", false, nil)
	})
}
