package redisstore_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
)

func TestListenWorksInABubble(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		server, c := inMemory(t)
		s := newReal(t, c)
		l := store.Subscription{Channel: "news", HeartbeatInterval: 100 * time.Millisecond, HeartbeatTimeout: time.Second}
		h := listen(t, s, l)
		for range redistest.Times(5, 5) {
			time.Sleep(time.Minute)
			synctest.Wait()
			h.aliveSince(t, time.Now())
		}
		publish(t, s, "news", "x")
		h.expectText(t, "message", "x")
		server.SetError("ERR down")
		down := time.Now()
		if err := h.end(t); !errors.Is(err, store.ErrHeartbeatTimeout) || !strings.Contains(err.Error(), "ERR down") {
			t.Error(err)
		}
		if d := time.Since(down); d > l.HeartbeatTimeout+l.HeartbeatInterval {
			t.Errorf("it took %v", d)
		}
		h.checkOrder(t)
	})
}
