package engine

import (
	"sync"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/metrics"
)

// given holds the values that the source has returned to Updates of this process whose functions
// are running. Such a function has no context by which it could be distinguished from other
// readers, and may read its own key: that read must not wait for the Update's lease, which ends
// only when the function returns. So a reader of this process that finds the Update's lease gets
// a copy of the value that the Update got. That is the key's value for as long as the lease is
// there and no tag is invalidated: an invalidation by tag does not end leases. A reader that comes
// after one loads on its own:
//
//  1. an Update gets the source's value, and runs its function
//  2. the source is changed; the tag of the key is invalidated
//  3. a read of the key begins
type given struct {
	mu   sync.Mutex
	byID map[any]givenValue // by the lease, or the claim
}

type givenValue struct {
	ask   func() (result, error)
	fence fence.Token // from before the source was asked
}

func (g *given) by(id any) (v givenValue, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v, ok = g.byID[id]
	return v, ok
}

// give makes the value of l available to readers, until stop is called: when the function of the
// Update has returned. The function may modify l.val, so it is copied before. tok is a fence from
// before the source was asked.
func (c *Cache) give(rk string, id any, l *loadedFor, tok fence.Token) (stop func()) {
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
		c.given.byID = map[any]givenValue{}
	}
	c.given.byID[id] = givenValue{ask, tok}
	return func() {
		c.given.mu.Lock()
		defer c.given.mu.Unlock()
		delete(c.given.byID, id)
	}
}

// taken resolves a load with the value that the Update that holds the lease or claim id was
// given, if there is one and it may be returned. If a tag was invalidated since the source was
// asked, it is outdated: the load is not to wait for the Update.
func (c *Cache) taken(o *Options, l *inflightLoad, id any) (ok, outdated bool) {
	g, ok := c.given.by(id)
	if !ok || c.fences.Turned(g.fence) {
		return false, ok
	}
	ans, err := g.ask()
	if err != nil {
		return false, false
	}
	ans.info = Info{Tier: metrics.Source, Absent: ans.absent != nil}
	c.countAwaited(o)
	c.resolve(l, &ans, nil)
	return true, false
}

// leaseID returns the id of a lease that was granted.
func leaseID(seen store.CASToken) (id frame.ID) {
	copy(id[:], seen.Token[8:])
	return id
}
