package redisstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
)

// One server, and the shards of a ring, lose no message of a connection that lives; the nodes of a
// cluster may lose what they forward.
func TestSessionsAreDirectWhereNoNodeForwards(t *testing.T) {
	onStores(t, func(t *testing.T, s store.Store, prefix string) {
		if strings.Contains(t.Name(), "memory") {
			return
		}
		first := listen(t, s, steady(prefix+"news"))
		second := listen(t, s, steady(prefix+"more")) // joins the session
		for _, h := range []*hearing{first, second} {
			if strings.Contains(t.Name(), "cluster") {
				h.aliveSince(t, time.Now())
				h.aliveSince(t, time.Now())
				if n := len(h.all("direct")); n > 0 {
					t.Errorf("a session on a cluster is direct")
				}
				continue
			}
			h.expectKind(t, "direct")
			h.aliveSince(t, time.Now())
			if n := len(h.all("direct")); n != 1 {
				t.Errorf("it was told %d times", n)
			}
			h.checkOrder(t)
		}
	})
}

// A session whose subscription turns out to be on another server than its commands ends at once,
// though its connection lives.
func TestADirectSessionEndsWhenItsCommandsGoElsewhere(t *testing.T) {
	both(t, func(t *testing.T, with func(store.Subscription) store.Subscription) {
		w := newTwoWays(t)
		l := with(steady("news"))
		h := w.listen(t, l)
		for start := time.Now(); len(h.all("direct")) == 0; time.Sleep(time.Millisecond) {
			if time.Since(start) > enough {
				t.Fatal("the session is not direct")
			}
		}
		other := redistest.Start(t)
		w.data.Redirect(other.Addr())
		w.data.Reset()
		if err := h.end(t); errors.Is(err, store.ErrHeartbeatTimeout) || !strings.Contains(err.Error(), "another server") {
			t.Error(err)
		}
		h.checkOrder(t)
	})
}
