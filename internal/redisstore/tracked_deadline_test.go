package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// A caller whose time is over does not end the session, and with it the local tiers of all caches of
// the client, where the client itself ends operations at their deadline.
func TestADeadlineEndsNoSession(t *testing.T) {
	for name, l := range map[string]store.Subscription{
		"tracking": tracking(steady("news"), "k"), "by key": byKey(steady("news"), "k"),
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			o := *server.Client(t).Options()
			o.ContextTimeoutEnabled = true
			c := redis.NewClient(&o)
			t.Cleanup(func() { c.Close() })
			s := newReal(t, c)
			h := listen(t, s, l)
			if err := server.Client(t).Do(t.Context(), "client", "pause", 300, "all").Err(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if r := s.Do(ctx, []store.Command{{Op: store.Get, Key: "k"}})[0]; r.Err == nil {
				t.Fatalf("%+v", r) // the server paused for less than that
			}
			if err := set(t.Context(), c, "k"); err != nil { // when the server goes on
				t.Fatal(err)
			}
			do(t, s, store.Command{Op: store.Get, Key: "k"})
			if err := set(t.Context(), server.Client(t), "k"); err != nil {
				t.Fatal(err)
			}
			h.expectText(t, "changed", "k")
		})
	}
}
