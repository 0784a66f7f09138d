package redisstore_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// stuckEar blocks in a message, until it is freed.
type stuckEar struct {
	*ear
	in, free chan struct{}
	once     sync.Once
}

func (e *stuckEar) Message(p string) {
	e.once.Do(func() {
		close(e.in)
		<-e.free
	})
	e.ear.Message(p)
}

// A subscriber that does not return loses its own subscription. Others of the session get their
// messages and heartbeats meanwhile, others join it and leave it, and it does not end.
func TestASubscriberThatBlocksHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redis.NewClient(server.Options())
	defer client.Close()
	s, other := newReal(t, client), newReal(t, client)
	l := store.Subscription{Channel: "stuck", HeartbeatInterval: 20 * time.Millisecond, HeartbeatTimeout: 2 * time.Second}
	stuck := &stuckEar{ear: newEar(), in: make(chan struct{}), free: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- other.Subscribe(t.Context(), l, stuck) }()
	free := sync.OnceFunc(func() { close(stuck.free) })
	defer free()
	stuck.expectKind(t, "armed")
	l.Channel = "news"
	h := listen(t, s, l)
	publish(t, s, "stuck", "m")
	<-stuck.in
	for i := range 10 {
		publish(t, s, "stuck", fmt.Sprint("n", i))
		publish(t, s, "news", fmt.Sprint("m", i))
		h.expectText(t, "message", fmt.Sprint("m", i))
	}
	h.aliveSince(t, time.Now().Add(2*l.HeartbeatTimeout)) // what stands is ended
	l.Channel = "late"
	late := listen(t, s, l)
	late.aliveSince(t, time.Now())
	late.stop()
	late.end(t)
	select {
	case err := <-ended:
		t.Errorf("a call is in progress, and the subscription returned %v", err)
	default:
	}
	free()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "does not return") {
		t.Error(err)
	}
	if all := stuck.all("message"); len(all) != 1 {
		t.Errorf("messages after the end: %v", all)
	}
	h.aliveSince(t, time.Now())
	if all := h.all("ended"); len(all) > 0 {
		t.Error(all)
	}
}

// More messages than may wait arrive, all and in their order.
func TestABurstArrivesWholeAndInOrder(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redis.NewClient(server.Options())
	defer client.Close()
	s := newReal(t, client)
	h := listen(t, s, steady("news"))
	const n = 20_000
	for i := 0; i < n; {
		_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for range 1000 {
				p.Publish(t.Context(), "news", fmt.Sprint(i))
				i++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	h.expectText(t, "message", fmt.Sprint(n-1))
	got := h.all("message")
	if len(got) != n {
		t.Fatalf("%d messages", len(got))
	}
	for i, ev := range got {
		if ev.text != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, ev.text)
		}
	}
}

// A client whose methods block, as a decorator's may, holds up only those who subscribe by it.
func TestAClientThatBlocksHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	inner := redis.NewClient(server.Options())
	defer inner.Close()
	c := &stuckClient{UniversalClient: inner, in: make(chan struct{}), free: make(chan struct{})}
	blocked := newReal(t, c)
	c.block.Store(true)
	stuck := start(t, blocked, steady("news"))
	free := sync.OnceFunc(func() { close(c.free) })
	defer free()
	<-c.in
	client := redis.NewClient(server.Options())
	defer client.Close()
	listen(t, newReal(t, client), steady("news")).expectKind(t, "alive")
	free()
	stuck.expectKind(t, "alive")
}

// stuckClient is a decorator whose Unwrap blocks, until it is freed.
type stuckClient struct {
	redis.UniversalClient
	block    atomic.Bool
	once     sync.Once
	in, free chan struct{}
}

func (c *stuckClient) Unwrap() redis.UniversalClient {
	if c.block.Load() {
		c.once.Do(func() { close(c.in) })
		<-c.free
	}
	return c.UniversalClient
}
