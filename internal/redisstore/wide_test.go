package redisstore_test

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// commandCount counts commands and pipelines.
type commandCount struct{ n atomic.Int64 }

func (c *commandCount) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *commandCount) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c *commandCount) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmds)
	}
}

// A message that is published on the control channel as well takes no other round trip.
func TestAWideMessageTakesOneRoundTrip(t *testing.T) {
	eachOwn(t, func(t *testing.T, c redis.UniversalClient) {
		s := newReal(t, c)
		all, control := heardOn(t, s, "news"), heardOn(t, s, store.ControlChannel("news"))
		tell := store.Notify{Channel: "news", Message: "m", Wide: true}
		if err := s.Publish(t.Context(), tell); err != nil { // the server learns the script
			t.Fatal(err)
		}
		all()
		control()
		var count commandCount
		if err := onMasters(t.Context(), c, func(_ context.Context, c *redis.Client) error {
			c.AddHook(&count)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(t.Context(), tell); err != nil {
			t.Fatal(err)
		}
		if n := count.n.Load(); n != 1 {
			t.Errorf("%d round trips", n)
		}
		for channel, got := range map[string][]string{"all": all(), "control": control()} {
			if len(got) == 0 || slices.ContainsFunc(got, func(m string) bool { return m != got[0] }) {
				t.Errorf("%s: %q", channel, got)
			}
		}
		tell.Wide = false
		if err := s.Publish(t.Context(), tell); err != nil {
			t.Fatal(err)
		}
		if a, b := all(), control(); len(a) == 0 || len(b) > 0 {
			t.Errorf("%q, %q on the control channel", a, b)
		}
	})
}
