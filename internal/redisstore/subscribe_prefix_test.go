package redisstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// What caches that were closed have tracked does not pile up at the server for as long as another
// one lives. That one keeps its connection.
func TestTrackedPrefixesDoNotPileUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	client := redis.NewClient(server.Options())
	defer client.Close()
	s := newReal(t, client)
	keeper := listen(t, s, tracking(steady("keeper"), "keeper:"))
	for i := range 200 {
		h := listen(t, s, tracking(steady(fmt.Sprint("news", i)), fmt.Sprint("k", i, ":")))
		h.stop()
		h.end(t)
	}
	prefixes := func() (n int) {
		info := admin.Info(t.Context(), "stats").Val()
		_, after, ok := strings.Cut(info, "tracking_total_prefixes:")
		if _, err := fmt.Sscan(after, &n); !ok || err != nil {
			t.Fatalf("%v in %q", err, info)
		}
		return n
	}
	for start := time.Now(); prefixes() > 60; time.Sleep(time.Millisecond) { // a connection closes a moment later
		if time.Since(start) > enough {
			t.Fatalf("%d prefixes for one subscriber", prefixes())
		}
	}
	if prefixes() < 2 {
		t.Error("no prefixes were counted")
	}
	if err := admin.Set(t.Context(), "keeper:k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	keeper.expectText(t, "changed", "keeper:k")
	if all := keeper.all("any", "ended"); len(all) > 0 {
		t.Error(all)
	}
}
