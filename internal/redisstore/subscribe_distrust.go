package redisstore

import (
	"reflect"
	"slices"
	"sync"
	"weak"

	"github.com/redis/go-redis/v9"
)

// distrusted are the clients whose sessions are not direct any more: a message was lost alone, or
// their commands went to another server than their subscription did, or the user may not count
// subscriptions. What is in front of the servers, and what the user may do, outlive a session, and a
// session that is direct in error costs reads of old values for a while.
//
// The oldest are forgotten when there are many. A client that is not used any more is not kept.
var distrusted clients

// clientsMax is how many clients are remembered.
const clientsMax = 64

// clients is a bounded set of clients.
type clients struct {
	mu  sync.Mutex
	ids []any // oldest first
}

func (c *clients) add(rdb redis.UniversalClient) {
	id := clientID(rdb)
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == nil || slices.Contains(c.ids, id) {
		return
	}
	if len(c.ids) == clientsMax {
		c.ids = slices.Delete(c.ids, 0, 1)
	}
	c.ids = append(c.ids, id)
}

func (c *clients) has(rdb redis.UniversalClient) bool {
	id := clientID(rdb)
	c.mu.Lock()
	defer c.mu.Unlock()
	return id != nil && slices.Contains(c.ids, id)
}

// clientID identifies a client; nil: it can't be.
func clientID(rdb redis.UniversalClient) any {
	switch c := rdb.(type) {
	case *redis.Client:
		return weak.Make(c)
	case *redis.Ring:
		return weak.Make(c)
	}
	if !reflect.ValueOf(rdb).Comparable() {
		return nil
	}
	return rdb
}
