package servermatrix_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

var serversFlag = flag.String("servers", "", "programs of servers, separated by commas")

func TestMain(m *testing.M) { redistest.Main(m) }

func clientOf(t *testing.T, addr string) redis.UniversalClient {
	t.Helper()
	rdb, err := cacheClient(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func TestExplore(t *testing.T) {
	for _, bin := range strings.Split(*serversFlag, ",") {
		t.Run(bin, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, redistest.Binary(bin))
			sub := &subject{t: t, connect: func() redis.UniversalClient { return clientOf(t, s.Addr()) }, direct: s.Client(t)}
			for i, c := range checks {
				fmt.Println(bin, c.name, sub.run(c, fmt.Sprint("p", i, ":")))
			}
		})
	}
	for name, r := range map[string]redistest.Restriction{"noscripts": redistest.NoScripts, "nopubsub": redistest.NoPubSub, "noinfo": redistest.NoInfo, "notracking": redistest.NoTracking, "resp2": redistest.OnlyRESP2, "62": redistest.Restricted(redistest.OldSet, redistest.OldScripts), "oneslot": redistest.OneSlot} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			f := redistest.NewFront(t, s.Addr(), r)
			sub := &subject{t: t, connect: func() redis.UniversalClient { return clientOf(t, f.Addr()) }, direct: s.Client(t)}
			for i, c := range checks {
				fmt.Println(name, c.name, sub.run(c, fmt.Sprint("p", i, ":")))
			}
		})
	}
}

func cacheClient(addr string) (redis.UniversalClient, error) {
	return cache.NewClient("redis://" + addr)
}
