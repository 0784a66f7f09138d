package cache

import (
	"sync"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/metrics"
)

// given is what the source has said to the Updates of this process whose functions run. Such a
// function has no context by which it could be told from other readers, and may read its own
// key: that must not wait for what only its return ends. So readers of this process who find
// the Update's lease get what the Update got, a copy of it. It is what the key holds for as
// long as the lease is there.
type given[V any] struct {
	mu   sync.Mutex
	byID map[any]func() (result[V], error) // by the lease, or the claim
}

func (g *given[V]) by(id any) func() (result[V], error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byID[id]
}

// give gives readers what l is, until stop is called. The function of the Update may change
// l.val: so it is copied before.
func (c *Cache[K, V]) give(rk string, id any, l *loadedFor[V]) (stop func()) {
	ask := func() (result[V], error) { return result[V]{absent: c.absence(ErrNotFound)}, nil }
	switch {
	case !l.have:
	case c.client == nil:
		if c.own == nil {
			return func() {}
		}
		val, err := c.own(l.val)
		if err != nil {
			return func() {}
		}
		ask = func() (ans result[V], err error) {
			ans.val, err = c.own(val)
			return ans, err
		}
	default:
		data, err := c.marshal(rk, nil, l.val)
		if err != nil {
			return func() {}
		}
		ask = func() (ans result[V], err error) {
			ans.val, err = c.unmarshal(rk, append([]byte(nil), data...))
			return ans, err
		}
	}
	c.given.mu.Lock()
	defer c.given.mu.Unlock()
	if c.given.byID == nil {
		c.given.byID = map[any]func() (result[V], error){}
	}
	c.given.byID[id] = ask
	return func() {
		c.given.mu.Lock()
		defer c.given.mu.Unlock()
		delete(c.given.byID, id)
	}
}

// taken answers a load with what an Update that holds the lease or claim id was given.
func (c *Cache[K, V]) taken(o *callOptions, l *inflightLoad[K, V], id any) bool {
	ask := c.given.by(id)
	if ask == nil {
		return false
	}
	ans, err := ask()
	if err != nil {
		return false
	}
	ans.info = Info{Tier: metrics.Source, Absent: ans.absent != nil}
	c.countAwaited(o)
	c.resolve(l, ans, nil)
	return true
}

// leaseID is the id of a lease that was granted.
func leaseID(seen store.CASToken) (id frame.ID) {
	copy(id[:], seen.Token[8:])
	return id
}
