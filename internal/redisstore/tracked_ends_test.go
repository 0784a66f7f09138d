package redisstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
)

// A session that ends, for whatever reason, has no write fail that is in flight, and is carried out.
func TestTheEndOfASessionFailsNoWrite(t *testing.T) {
	for name, l := range map[string]store.Subscription{
		"tracking": tracking(steady("news"), "k"), "by key": byKey(steady("news"), "k"),
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			c, admin := server.Client(t), server.Client(t)
			ctx := t.Context()
			s := newReal(t, c)
			h := listen(t, s, l)
			if err := admin.Do(ctx, "client", "pause", 60_000, "write").Err(); err != nil {
				t.Fatal(err)
			}
			replies := make(chan store.Reply, 1)
			go func() {
				replies <- s.Do(ctx, []store.Command{{Op: store.Set, Key: "k", Frame: frame("a"), Notify: store.Notify{Channel: "other", Message: "m"}}})[0]
			}()
			for began := time.Now(); ; {
				list, err := admin.ClientList(ctx).Result()
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(list, "cmd=eval") { // its own, or a heartbeat that it waits for
					break
				}
				if time.Since(began) > enough {
					t.Fatal(list)
				}
			}
			h.stop()
			h.end(t)
			if err := admin.Do(ctx, "client", "unpause").Err(); err != nil {
				t.Fatal(err)
			}
			if r := <-replies; !ok(r) {
				t.Errorf("%+v", r)
			}
		})
	}
}
