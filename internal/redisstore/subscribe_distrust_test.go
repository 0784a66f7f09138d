package redisstore

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

// decorated is a client of no kind that is known.
type decorated struct{ redis.UniversalClient }

type incomparable struct {
	redis.UniversalClient
	_ []int
}

// The set of clients is bounded, and tells clients apart.
func TestSomeClientsAreRemembered(t *testing.T) {
	var c clients
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	ring := redis.NewRing(&redis.RingOptions{})
	defer ring.Close()
	all := []redis.UniversalClient{client, ring, decorated{client}, &decorated{client}}
	for i, rdb := range all {
		if c.has(rdb) {
			t.Errorf("%d is remembered", i)
		}
		c.add(rdb)
		c.add(rdb)
	}
	for i, rdb := range all {
		if !c.has(rdb) {
			t.Errorf("%d is not remembered", i)
		}
	}
	if c.add(incomparable{UniversalClient: client}); c.has(incomparable{UniversalClient: client}) || len(c.ids) != len(all) {
		t.Errorf("%d clients", len(c.ids))
	}
	for range clientsMax - 1 {
		c.add(&decorated{client})
	}
	if c.has(ring) || len(c.ids) != clientsMax || !c.has(all[3]) {
		t.Errorf("%d clients", len(c.ids))
	}
}
