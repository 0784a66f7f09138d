package e2e_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
)

func TestAnEndedContextEndsEveryCall(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		c := on(t, b, "n", cache.Source[string, string]{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		load := func(context.Context, string) (string, error) { t.Error("loaded"); return "", nil }
		loadMany := func(context.Context, []string) (map[string]string, error) { t.Error("loaded"); return nil, nil }
		for name, call := range map[string]func() error{
			"Get":           func() error { _, err := c.Get(ctx, "k"); return err },
			"Peek":          func() error { _, err := c.Peek(ctx, "k"); return err },
			"GetOrLoad":     func() error { _, err := c.GetOrLoad(ctx, "k", load); return err },
			"GetMany":       func() error { _, err := c.GetMany(ctx, []string{"k"}); return err },
			"GetOrLoadMany": func() error { _, err := c.GetOrLoadMany(ctx, []string{"k"}, loadMany); return err },
			"Inspect":       func() error { _, err := c.Inspect(ctx, "k"); return err },
			"Set":           func() error { return c.Set(ctx, "k", "v") },
			"SetMany":       func() error { return c.SetMany(ctx, map[string]string{"k": "v"}) },
			"SetIfAbsent":   func() error { _, err := c.SetIfAbsent(ctx, "k", "v"); return err },
			"Update": func() error {
				_, err := c.Update(ctx, "k", func(string, bool) (string, error) { return "v", nil })
				return err
			},
			"Delete": func() error { return c.Delete(ctx, "k") },
		} {
			if err := call(); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestACallerLeavesWhileRedisHangs(t *testing.T) {
	redistest.Require(t)
	srv := redistest.Start(t)
	c, err := cache.NewFrom(srv.Client(t), "n", cache.Source[string, string]{}, cache.WithTimeout(time.Hour), discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	srv.Freeze()
	for name, call := range map[string]func(ctx context.Context) error{
		"Get":    func(ctx context.Context) error { _, err := c.Get(ctx, "k"); return err },
		"Set":    func(ctx context.Context) error { return c.Set(ctx, "k", "w") },
		"Delete": func(ctx context.Context) error { return c.Delete(ctx, "k") },
		"Update": func(ctx context.Context) error {
			_, err := c.Update(ctx, "k", func(string, bool) (string, error) { return "", nil })
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- call(ctx) }()
		cancel()
		// Without an end of its own the call would hang until the test times out.
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	srv.Thaw()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestRedisOutOfReachIsNotTheReadersFailure(t *testing.T) {
	redistest.Require(t)
	for _, how := range []string{"killed", "frozen"} {
		t.Run(how, func(t *testing.T) {
			ctx := t.Context()
			srv := redistest.Start(t)
			c, err := cache.NewFrom(srv.Client(t), "n", cache.SourceFunc(func(_ context.Context, k string) (string, error) { return "loaded " + k, nil }),
				discard, withLocal, cache.WithTimeout(50*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			awaits(t, "a write within the timeout", func() error { return c.Set(ctx, "local", "v") })
			if how == "killed" {
				srv.Kill()
			} else {
				srv.Freeze()
			}
			// From the local tier as long as it is trusted, which a connection that
			// breaks ends at once.
			if v, err := c.Get(ctx, "local"); v != "v" && v != "loaded local" || err != nil {
				t.Errorf("local: %q, %v", v, err)
			}
			if v, err := c.Get(ctx, "k"); v != "loaded k" || err != nil {
				t.Errorf("with a loader: %q, %v", v, err)
			}
			got, err := c.GetMany(ctx, []string{"a", "b"})
			if len(got) != 2 || err != nil {
				t.Errorf("a batch: %v, %v", got, err)
			}
			if _, err := c.Peek(ctx, "k"); !errors.Is(err, cache.ErrUnavailable) || !errors.Is(err, cache.ErrMiss) {
				t.Errorf("without a loader: %v", err)
			}
			if err := c.Set(ctx, "local", "w"); !errors.Is(err, cache.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Set: %v", err)
			}
			if _, err := c.Peek(ctx, "local"); !errors.Is(err, cache.ErrUnavailable) {
				t.Errorf("a write that may have happened left the old value: %v", err)
			}
			if m := c.Metrics(); m.MissUnavailable == 0 || m.Fallbacks == 0 || m.RemoteErrors == 0 {
				t.Errorf("not counted: %+v", m.MissUnavailable)
			}
			if how == "frozen" {
				srv.Thaw()
			}
		})
	}
}
