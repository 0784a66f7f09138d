package engine

import (
	"sync"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/metrics"
)

// given holds the values that the source has returned to Updates of this process whose functions
// are running. Such a function has no context by which it could be distinguished from other
// readers, and may read its own key: that read must not wait for the Update's lease, which ends
// only when the function returns. So a reader of this process that finds the Update's lease gets
// a copy of the value that the Update got. That is the key's value for as long as the lease is
// there.
type given struct {
	mu   sync.Mutex
	byID map[any]func() (result, error) // by the lease, or the claim
}

func (g *given) by(id any) func() (result, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byID[id]
}

// give makes the value of l available to readers, until stop is called. The function of the
// Update may modify l.val, so it is copied before.
func (c *Cache) give(rk string, id any, l *loadedFor) (stop func()) {
	ask := func() (result, error) { return result{absent: c.absence(errs.ErrNotFound)}, nil }
	if l.have {
		next, ok := c.backend.copies(rk, l.val)
		if !ok {
			return func() {}
		}
		ask = func() (ans result, err error) {
			ans.val, err = next()
			return ans, err
		}
	}
	c.given.mu.Lock()
	defer c.given.mu.Unlock()
	if c.given.byID == nil {
		c.given.byID = map[any]func() (result, error){}
	}
	c.given.byID[id] = ask
	return func() {
		c.given.mu.Lock()
		defer c.given.mu.Unlock()
		delete(c.given.byID, id)
	}
}

// taken resolves a load with the value that the Update that holds the lease or claim id was
// given. It reports whether there is one.
func (c *Cache) taken(o *Options, l *inflightLoad, id any) bool {
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

// leaseID returns the id of a lease that was granted.
func leaseID(seen store.CASToken) (id frame.ID) {
	copy(id[:], seen.Token[8:])
	return id
}
