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

// naming counts the round trips that have a channel as an argument.
type naming struct {
	channel string
	n       atomic.Int64
}

func (c *naming) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *naming) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.count(cmd)
		return next(ctx, cmd)
	}
}

func (c *naming) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.count(cmds...)
		return next(ctx, cmds)
	}
}

func (c *naming) count(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		if slices.ContainsFunc(cmd.Args(), func(a any) bool { return a == c.channel || a == store.ControlChannel(c.channel) }) {
			c.n.Add(1)
			return
		}
	}
}

// A message that is published on the control channel as well takes no other round trip.
func TestAWideMessageTakesOneRoundTrip(t *testing.T) {
	eachOwn(t, func(t *testing.T, c redis.UniversalClient) {
		s := newReal(t, c)
		all, control := listen(t, s, steady("news")), listen(t, s, steady(store.ControlChannel("news")))
		publish := func(message string, wide bool) {
			t.Helper()
			if err := s.Publish(t.Context(), store.Notify{Channel: "news", Message: message, Wide: wide}); err != nil {
				t.Fatal(err)
			}
		}
		publish("1", true) // the server learns the script
		count := naming{channel: "news"}
		if err := onMasters(t.Context(), c, func(_ context.Context, c *redis.Client) error {
			c.AddHook(&count)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		publish("2", true)
		if n := count.n.Load(); n != 1 {
			t.Errorf("%d round trips", n)
		}
		publish("3", false)
		publish("4", true)
		for _, message := range []string{"1", "2", "3", "4"} {
			all.expectText(t, "message", message)
		}
		control.expectText(t, "message", "4")
		var got []string
		for _, ev := range control.all("message") {
			if !slices.Contains(got, ev.text) { // each node of a cluster has it
				got = append(got, ev.text)
			}
		}
		if !slices.Equal(got, []string{"1", "2", "4"}) {
			t.Errorf("on the control channel: %q", got)
		}
	})
}
