package client

import (
	"testing"

	"github.com/delqhi/cache/internal/redisstore"
	"github.com/redis/go-redis/v9"
)

// The store on Redis has all of what a store may have. A method by another name would not be
// found, and nothing else would fail.
var _ interface {
	deadliner
	pooled
	publisher
	single
	placed
	clocked
	kinded
	demoted
	misfitting
	detouring
	renewing
	oneNode
	connected
} = (*redisstore.Redis)(nil)

func TestAStoreOnRedisIsKnownForWhatItCan(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:0", PoolSize: 6, ContextTimeoutEnabled: true})
	defer rdb.Close()
	st, err := redisstore.NewRedis(rdb)
	if err != nil {
		t.Fatal(err)
	}
	g := New(st, 1)
	defer g.Close()
	if !g.honorsDeadline || cap(g.wide) != 3 || endpointsOf(st) != nil {
		t.Errorf("honors deadlines: %v, %d large operations at once, endpoints: %v", g.honorsDeadline, cap(g.wide), endpointsOf(st) != nil)
	}
}
