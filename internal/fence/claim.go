package fence

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// Without Redis there are no leases, and nothing orders two writes. There a [Table] has claims
// beside its generations: one for each load and for each write to the source that is in flight.
// A claim is lost as soon as its own key is written or invalidated, but not when another key is
// that shares a slot: without Redis, a lost value can't be read from elsewhere.
//
//	load                                   write
//	1. claim the key                       1. store the value in the tier, and take
//	2. look into the tier once more           the claims of the key away with it
//	3. ask the source
//	4. store, if the claim is not lost
//
// Step 4 of a load and step 1 of a write hold the lock of the key's shard. A claim that is made
// when step 1 of a write finds none to take away is made after that write: its load begins
// then.

// The claims are split into parts, so that writers of different keys do not contend.
const parts = 64

type claims [parts]claimPart

type claimPart struct {
	held atomic.Int64 // number of claims in keys: a write has nothing to do while it is 0

	mu    sync.Mutex // guards what follows, and the fields of its claims
	keys  heldKeys
	spare *claimed // to be used again
	_     [8]byte  // padding: a cache line for each part
}

// claimed holds the claims of one key that are neither lost nor ended, and their waiters.
type claimed struct {
	Place
	next    *claimed // in heldKeys
	claims  []*Claim // in the order in which they began
	waiters map[*Waiter]struct{}
	first   [1]*Claim // the memory of claims, unless they are more
}

// Claim is one load, or one write to the source, of a key. A nil Claim is no claim.
type Claim struct {
	Place
	part  *claimPart
	of    *claimed // the claims of its key, while it is one of them: neither lost nor ended
	order int64
	began int64 // local time, of a load
	write bool
	set   bool // it is that of a Set, which no source orders; write is set as well

	lost    bool  // guarded by part.mu, as are the following
	outdone bool  // lost to a Take of another one
	ended   bool  //
	left    bool  // by Leave: it is not waited for any more
	awaited bool  // others have been given it, to wait for it
	err     error // of a load, for the callers that have waited for it
}

// WithClaims adds claims to the table, and returns it.
func (t *Table) WithClaims() *Table {
	t.claims = new(claims)
	return t
}

// ClaimLoad claims a key for a load, or returns the claims that have to be waited for. order is
// the logical time at which the load begins: the second of two concurrent loads must be later,
// for it is needed only if the first may have begun too early. With force the key is claimed
// whatever is in flight. The claim is stored in space, nil for a new one. That may be used again
// only when the claim has ended, if nothing else has it; see End.
func (t *Table) ClaimLoad(key string, order int64, force bool, space *Claim) (c *Claim, others []*Claim) {
	return t.ClaimLoadSince(t.Place(key), order, math.MinInt64, math.MinInt64, force, space)
}

// ClaimLoadSince is ClaimLoad of the key of a place, for a load that begins at a local time, and does not
// wait for loads that began before the local time notBefore: where changes are not received, what those
// return may be too old.
func (t *Table) ClaimLoadSince(place Place, order, at, notBefore int64, force bool, space *Claim) (c *Claim, others []*Claim) {
	p := t.partAt(place)
	p.mu.Lock()
	defer p.mu.Unlock()
	if k := p.keys.find(place); k != nil && !force {
		held := slices.DeleteFunc(slices.Clone(k.claims), func(c *Claim) bool { return c.left || !c.write && c.began < notBefore })
		if len(held) > 1 || len(held) == 1 && (held[0].write || held[0].order >= order) {
			for _, c := range held {
				c.awaited = true
			}
			return nil, held
		}
	}
	if space == nil {
		space = new(Claim)
	}
	*space = Claim{Place: place, part: p, order: order, began: at}
	return p.addLocked(space), nil
}

// ClaimWrite claims a key for a write to the source. All other claims of the key are lost. With
// alone the claim is nil if another write is in flight.
func (t *Table) ClaimWrite(key string, alone bool) *Claim {
	place := t.Place(key)
	p := t.partAt(place)
	p.mu.Lock()
	defer p.mu.Unlock()
	if alone && p.writingLocked(place) {
		return nil
	}
	t.BumpAt(place)
	p.loseLocked(place, everyClaim)
	return p.addLocked(&Claim{Place: place, part: p, write: true})
}

// ClaimSet claims a key for a Set that tells other processes before it takes effect. It leaves
// the other claims of the key, of which only its [Table.Take] decides. Loads wait for its end:
//
//  1. a Set claims the key, and tells the other processes
//  2. a load claims it, and gets the source's value
//  3. the Set stores its value; that of the load is not to replace it
func (t *Table) ClaimSet(key string) *Claim {
	place := t.Place(key)
	p := t.partAt(place)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addLocked(&Claim{Place: place, part: p, write: true, set: true})
}

// ToWrite turns the claim of a load into that of a write, and reports whether it could: the
// claim was neither lost nor ended, and no write is in flight.
func (t *Table) ToWrite(c *Claim) bool {
	c.part.mu.Lock()
	defer c.part.mu.Unlock()
	if c.lost || c.ended || c.of.writing() {
		return false
	}
	t.BumpAt(c.Place)
	c.part.loseOfLocked(c.of, func(o *Claim) bool { return o != c })
	c.write = true
	return true
}

// Writing reports whether a write to the source is in flight.
func (t *Table) Writing(key string) bool {
	place := t.Place(key)
	p := t.partAt(place)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writingLocked(place)
}

// Take reports whether the claim is still held, and moves the key's generation if so, since the
// claimed value is now stored. Loads that began earlier store nothing any more; nor do later
// ones, if the claim is a write's. Of Sets, the one that began last is the newest.
func (t *Table) Take(c *Claim) bool {
	c.part.mu.Lock()
	defer c.part.mu.Unlock()
	if c.lost || c.ended {
		return false
	}
	t.BumpAt(c.Place)
	if len(c.of.claims) == 1 { // c alone, nearly always
		return true
	}
	earlier := true
	c.part.loseOfLocked(c.of, func(o *Claim) bool {
		earlier = earlier && o != c
		lost := earlier || c.write && o != c && !o.set
		o.outdone = o.outdone || lost
		return lost
	})
	return true
}

// Outdone reports whether the claim was lost because the value of another claim was stored, which
// is then newer, and not by an invalidation.
func (c *Claim) Outdone() bool {
	c.part.mu.Lock()
	defer c.part.mu.Unlock()
	return c.outdone
}

// End ends a claim. err is the error of a failed load, nil if it does not concern the callers
// that have waited for it. Only the first End counts. awaited reports whether others have the claim:
// if not, its memory may be used again.
func (c *Claim) End(err error) (awaited bool) {
	if c == nil {
		return false
	}
	c.part.mu.Lock()
	defer c.part.mu.Unlock()
	if c.ended {
		return c.awaited
	}
	c.ended, c.err = true, err
	if !c.lost {
		c.part.removeLocked(c.of, func(o *Claim) bool { return o == c })
	}
	return c.awaited
}

// Leave is End of a claim whose load goes on: it is not waited for any more, and can still be
// taken, or be lost.
func (c *Claim) Leave(err error) {
	if c == nil {
		return
	}
	c.part.mu.Lock()
	defer c.part.mu.Unlock()
	if c.ended || c.left {
		return
	}
	if c.left, c.err = true, err; !c.lost {
		c.of.wake()
	}
}

// Lost reports whether the key was written or invalidated since it was claimed.
func (c *Claim) Lost() bool {
	c.part.mu.Lock()
	defer c.part.mu.Unlock()
	return c.lost
}

// Failed returns the error of the load, nil unless it has ended or was left, and the claim is
// not lost.
func (c *Claim) Failed() error {
	c.part.mu.Lock()
	defer c.part.mu.Unlock()
	if c.lost {
		return nil
	}
	return c.err
}

// any reports whether there may be a claim of a key with that hash. cs may be nil.
func (cs *claims) any(hash uint64) bool { return cs != nil && cs[hash%parts].held.Load() != 0 }

// lose marks all claims of a key as lost.
func (cs *claims) lose(at Place) {
	p := &cs[at.hash%parts]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loseLocked(at, everyClaim)
}

// LoseMatching marks the claims of matching keys as lost, and moves every key's generation.
func (t *Table) LoseMatching(match func(key string) bool) {
	t.epoch.Add(1)
	if t.claims == nil {
		return
	}
	for i := range t.claims {
		p := &t.claims[i]
		p.mu.Lock()
		p.keys.each(func(k *claimed) {
			if match(k.key) {
				p.loseOfLocked(k, everyClaim)
			}
		})
		p.mu.Unlock()
	}
}

func (t *Table) partAt(at Place) *claimPart { return &t.claims[at.hash%parts] }

func everyClaim(*Claim) bool { return true }

func (p *claimPart) writingLocked(at Place) bool {
	k := p.keys.find(at)
	return k != nil && k.writing()
}

// writing reports whether a write to the source is in flight.
func (k *claimed) writing() bool {
	return slices.ContainsFunc(k.claims, func(c *Claim) bool { return c.write })
}

func (k *claimed) wake() {
	for w := range k.waiters {
		w.wake()
	}
}

func (p *claimPart) keyLocked(at Place) *claimed {
	k := p.keys.find(at)
	if k == nil {
		if k, p.spare = p.spare, nil; k == nil {
			k = new(claimed)
		}
		k.Place, k.claims = at, k.first[:0]
		p.keys.add(k)
	}
	return k
}

func (p *claimPart) addLocked(c *Claim) *Claim {
	c.of = p.keyLocked(c.Place)
	c.of.claims = append(c.of.claims, c)
	p.held.Add(1)
	return c
}

// loseLocked marks claims of a key as lost.
func (p *claimPart) loseLocked(at Place, which func(*Claim) bool) {
	if k := p.keys.find(at); k != nil {
		p.loseOfLocked(k, which)
	}
}

func (p *claimPart) loseOfLocked(k *claimed, which func(*Claim) bool) {
	p.removeLocked(k, func(c *Claim) bool {
		lost := which(c)
		c.lost = c.lost || lost
		return lost
	})
}

// removeLocked removes claims, and wakes the waiters.
func (p *claimPart) removeLocked(k *claimed, which func(*Claim) bool) {
	before := len(k.claims)
	if before == 1 && which(k.claims[0]) { // which is the only one nearly always
		k.claims[0].of, k.claims[0] = nil, nil
		k.claims = k.claims[:0]
	} else if before > 1 {
		k.claims = slices.DeleteFunc(k.claims, func(c *Claim) bool {
			gone := which(c)
			if gone {
				c.of = nil
			}
			return gone
		})
	}
	if gone := before - len(k.claims); gone > 0 {
		p.held.Add(-int64(gone))
		k.wake()
	}
	p.forgetLocked(k)
}

func (p *claimPart) forgetLocked(k *claimed) {
	if len(k.claims) == 0 && len(k.waiters) == 0 {
		p.keys.remove(k)
		*k = claimed{}
		p.spare = k
	}
}

// Waiter waits for claims of keys to end. It is created before its owner looks at them.
type Waiter struct {
	// C receives a value when a claim has ended or was lost since the last receive.
	C chan struct{}

	t    *Table
	keys []Place
}

// Wait returns a Waiter for keys. It must be closed.
func (t *Table) Wait(keys ...string) *Waiter {
	w := &Waiter{C: make(chan struct{}, 1), t: t, keys: make([]Place, len(keys))}
	for i, key := range keys {
		w.keys[i] = t.Place(key)
		p := t.partAt(w.keys[i])
		p.mu.Lock()
		k := p.keyLocked(w.keys[i])
		if k.waiters == nil {
			k.waiters = map[*Waiter]struct{}{}
		}
		k.waiters[w] = struct{}{}
		p.mu.Unlock()
	}
	return w
}

// Close stops waiting. It may be called more than once.
func (w *Waiter) Close() {
	for _, at := range w.keys {
		p := w.t.partAt(at)
		p.mu.Lock()
		if k := p.keys.find(at); k != nil {
			delete(k.waiters, w)
			p.forgetLocked(k)
		}
		p.mu.Unlock()
	}
	w.keys = nil
}

func (w *Waiter) wake() {
	select {
	case w.C <- struct{}{}:
	default:
	}
}
