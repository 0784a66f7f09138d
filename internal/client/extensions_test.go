package client

import (
	"errors"
	"fmt"
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
	described
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

func TestAStatusIsAWordOfTheServer(t *testing.T) {
	for text, want := range map[string]string{
		"OOM command not allowed when used memory > 'maxmemory'.": "OOM",
		"WRONGTYPE": "WRONGTYPE",
		"NOREPLICAS Not enough good replicas to write.": "NOREPLICAS",
		"no such key":                            "",
		"":                                       "",
		"A_KEY_THAT_IS_LONGER_THAN_ANY_STATUS x": "",
	} {
		if got := Status(fmt.Errorf("wrapped: %w", reply(text))); got != want {
			t.Errorf("%q has the status %q, want %q", text, got, want)
		}
	}
	for _, err := range []error{nil, redis.Nil, errors.New("OOM not of a server"), ErrOpen} {
		if got := Status(err); got != "" {
			t.Errorf("%v has the status %q", err, got)
		}
	}
}

// reply is an error reply of a server.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}
