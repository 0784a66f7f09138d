package engine

import (
	"context"

	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/strategy"
)

// unasked fills the local tier with the values that a LoadMany of the source has returned without
// being asked (strategy.BatchLoads). Which keys these are is known only when it has returned, so
// that none of them has a lease. Redis is therefore not filled. Any command that would do so now
// may be too late, and a SET NX is no exception:
//
//  1. LoadMany reads the old value of x, which it was not asked for
//  2. another process stores a new one in the source and invalidates x, of which Redis has nothing
//  3. SET NX stores the old value, where it stays for its whole life
//
// A lease that was granted before step 1 would be gone; its compare-and-set fails. That the
// notification of step 2 is received does not help: it may come after step 3.
//
// In the local tier it does help, as it does for loads of SkipRemote, which have no lease either.
// The generations of all fences are noted before step 1:
//
//   - If the notification comes before the fill, the fence of x has moved, and nothing is stored.
//   - If it comes after the fill, it removes the entry.
//   - If it is lost, or the connection is, the tier is emptied and all fences move; until that is
//     noticed the tier is used for as long as for any other entry.
//
// A write of this process moves the fence when it is acknowledged. Its new value takes the place
// of an entry that was stored before. The logical time is from before step 1 as well, for tags and
// Clear. Where the tombstones of its tags are not known, an entry is not used once any tag has been
// invalidated: for an entry that Redis has as well they are asked for there.
//
// A usable entry is left alone, also one of an absence: it is what Redis has, and readers should
// not go back and forth between both.
type unasked struct {
	c       *Cache
	fences  *fence.Snapshot
	version version

	// versions are those of all parts, where there are several.
	versions []version
}

// unasked prepares for a call of a loader; it is called before. nil: what it returns without being
// asked is ignored, because it is not the source's, or there is no local tier to fill or none that
// may be used. The values of a write-behind cache's source may be older than those in its queue.
func (c *Cache) unasked(j Loader) *unasked {
	if c.batcher == nil || c.local == nil || j != c.loader || c.policy.Write == strategy.ModeBehind || !c.LocalUsable(local.Now()) {
		return nil
	}
	u := &unasked{c: c, fences: c.fences.Snapshot()}
	if c.LocalOnly() {
		u.version, _ = c.backend.version(context.Background(), "")
	} else { // if it is not known, an entry with tags is invalid from the start
		u.version.epoch, u.version.time, _ = c.clock.Version()
		if len(c.clocks) > 1 {
			u.versions = make([]version, len(c.clocks))
			for i, clock := range c.clocks {
				s := &u.versions[i]
				s.part = uint8(i)
				s.epoch, s.time, _ = clock.Version()
			}
		}
	}
	return u
}

// fill stores the values of keys that are not in asked. w are the directives of the loader, which
// concern all values; began is the local time at which it was called.
func (u *unasked) fill(vals Found, asked []*inflightLoad, w *loadDirectives, began int64) {
	if u == nil {
		return
	}
	defer u.fences.Release()
	c := u.c
	if vals.All == nil || vals.N == 0 || !c.refresher.beginLate() {
		return
	}
	defer c.refresher.wg.Done()
	known := make(map[string]bool, len(asked))
	answered := 0
	for _, l := range asked {
		known[l.rk] = true
		if _, ok := vals.Get(l.key); ok {
			answered++
		}
	}
	if vals.N <= answered {
		return
	}
	var ls []*inflightLoad
	for key, val := range vals.All {
		rk, err := c.keyOf(key)
		if err != nil || known[rk] || !c.types.Findable(key) {
			continue
		}
		l := &inflightLoad{loadKey: loadKey{key: key, rk: rk}, state: fillLocal, version: u.versionOf(rk), fence: u.fences.Token(c.fences, c.encoded(rk))}
		l.res = loaded{val: val, began: began, directives: w}
		ls = append(ls, l)
	}
	if len(ls) > 0 && c.receiveAll != nil {
		c.receiveAll()
	}
	at := local.Now()
	usercode.Each(len(ls), func(i int) { u.store(ls[i], at) }, func(_ int, err error) { c.notKept(err) })
}

func (u *unasked) versionOf(rk string) version {
	if u.versions == nil {
		return u.version
	}
	return u.versions[u.c.part(rk)]
}

// store stores one value. The local time at is from before its plan is made.
func (u *unasked) store(l *inflightLoad, at int64) {
	c := u.c
	if e, ok := c.local.Peek(l.key); ok && at < e.Deadline && c.lives(e.Meta, at) {
		return
	}
	c.plan(context.Background(), &NoOptions, l)
	if r := &l.filled; r.keep && c.backend.mayUseLocal(l.rk, local.Now()) {
		e := c.localEntry(l.key, new(local.Head), &r.ans, at, l.aging(at), l.version)
		if c.local.Put(l.key, c.encoded(l.rk), e, l.fence) {
			c.stats.unasked.Add(1)
		}
	}
}
