package local

import (
	"math/bits"
	"slices"
	"sync/atomic"
)

// table finds nodes by their keys. A lookup takes no lock. Changes are made under the shard's
// lock.
//
// It is an array of buckets, each a cache line with room for some nodes and a byte for each of
// them: a tag, which is a few bits of its key's hash, so that a lookup hardly ever touches
// another node than the one that it looks for; and the mark of a node that was used.
//
// A node whose bucket is full goes to another one, a step away that its hash chooses, or a step
// from there, and each bucket that it passed counts it: a lookup continues after a bucket that
// nodes have passed, and ends at one that none has. When the node is removed, the buckets count
// down again, so that nodes that were added and removed do not slow down later lookups.
// Counting overflows is an idea of F14, the hash tables of Facebook's folly.
//
// A node never moves within a table, so that a lookup concurrent with a change finds the state
// before it or after it. To grow, the table is replaced by a new one, and a lookup still in the
// old one finds the state of when it began; a mark that it sets there is lost.
type table[K comparable, V any] struct {
	buckets []bucket[K, V] // an odd number
	len     int
}

const (
	// slots is how many nodes a bucket has room for.
	slots = 7

	// perBucket is how many there are on average before the table grows. In a cache that is
	// full, nodes are added and removed for ever, and one that was displaced once stays
	// displaced: with 5, a hit reads 1.25 buckets and a miss 2.4; with 6 it would be 2 and 25.
	perBucket = 5
)

// bucket is a cache line on a 64-bit machine.
type bucket[K comparable, V any] struct {
	// head has a byte for each slot: a tag, 0 for a free one, and the highest bit if the node
	// was used. Its highest byte is the number of nodes that have passed; mostPassed is that
	// many or more. Hits set marks at any time, all else is changed under the lock.
	head  atomic.Uint64
	nodes [slots]atomic.Pointer[node[K, V]]
}

const (
	passedShift = 8 * slots
	onePassed   = uint64(1) << passedShift
	mostPassed  = 255

	aTag    = uint64(0x7f) // in a slot's byte
	aMark   = uint64(0x80) // likewise
	each    = 0x01_01_01_01_01_01_01
	allTags = aTag * each
	marks   = aMark * each
)

// Of a hash, the highest 32 bits choose the bucket, the lowest of them the step, and the lowest of all
// the shard.
func tagOf(h uint64) uint64 { return max(h>>16&aTag, 1) }

// place is where a node was found.
type place[K comparable, V any] struct {
	bucket *bucket[K, V]
	slot   int
}

func (p place[K, V]) mark() uint64 { return aMark << (8 * p.slot) }

// used reports whether the node at p is marked as used.
func (p place[K, V]) used() bool { return p.bucket.head.Load()&p.mark() != 0 }

// use marks the node at p as used. By now that may be another node, which then has a mark too
// many. Writing only the first time keeps a hot cache line shared.
func (p place[K, V]) use() {
	if !p.used() {
		p.bucket.head.Or(p.mark())
	}
}

// clearRef clears the mark, and reports whether there was one.
func (p place[K, V]) clearRef() bool { return p.used() && p.bucket.head.And(^p.mark())&p.mark() != 0 }

// replace puts n in the place of the node at p, which has the same key, without a mark, and reports
// whether that one had a mark.
func (p place[K, V]) replace(n *node[K, V]) bool {
	p.bucket.nodes[p.slot].Store(n)
	return p.clearRef()
}

// newTable returns a table of so many buckets, or some more that cost no memory.
func newTable[K comparable, V any](buckets int) *table[K, V] {
	all := slices.Grow([]bucket[K, V](nil), buckets|1)
	return &table[K, V]{buckets: all[:(cap(all)-1)|1]}
}

func bucketsFor(nodes int) int { return nodes/perBucket + min(nodes%perBucket, 1) }

// full reports whether there should be more buckets before one more node is added.
func (t *table[K, V]) full() bool { return t.len/perBucket >= len(t.buckets) }

// grown returns a table with the same nodes and more buckets, by an eighth, as far as that
// many make sense for so many nodes.
func (t *table[K, V]) grown(hash func(K) uint64, nodes int) *table[K, V] {
	n := len(t.buckets)
	return t.resized(hash, min(n+n/8+2, bucketsFor(nodes)))
}

// resized returns a table with the same nodes and so many buckets, or some more.
func (t *table[K, V]) resized(hash func(K) uint64, buckets int) *table[K, V] {
	larger := newTable[K, V](buckets)
	for i := range t.buckets {
		b := &t.buckets[i]
		for j := range b.nodes {
			n := b.nodes[j].Load()
			if n == nil {
				continue
			}
			if p := larger.add(hash(n.key), n); (place[K, V]{b, j}).used() {
				p.use()
			}
		}
	}
	return larger
}

// home is the bucket where a hash belongs.
func (t *table[K, V]) home(h uint64) int { return int(h >> 32 * uint64(len(t.buckets)) >> 32) }

// next is the bucket after i for a hash. A step is a power of two, and the number of buckets
// odd, so that the sequence visits all of them.
func (t *table[K, V]) next(h uint64, i int) int { return (i + 1<<(h>>32&7)) % len(t.buckets) }

// get returns the node of k, nil if there is none, and where it was. h is the hash of k.
func (t *table[K, V]) get(h uint64, k K) (*node[K, V], place[K, V]) {
	tags := tagOf(h) * each
	i := t.home(h)
	for range t.buckets {
		b := &t.buckets[i]
		head := b.head.Load()
		// Where the tags are equal, their difference is zero, and the sum does not reach the
		// highest bit of the byte.
		for m := ^((head^tags)&allTags + allTags) & marks; m != 0; m &= m - 1 {
			// By now the slot may be free, or another node's.
			j := bits.TrailingZeros64(m) / 8
			if n := b.nodes[j].Load(); n != nil && n.key == k {
				return n, place[K, V]{b, j}
			}
		}
		if head < onePassed {
			break
		}
		i = t.next(h, i)
	}
	return nil, place[K, V]{}
}

// add adds a node whose key is not in the table, and returns its place. There must be room.
func (t *table[K, V]) add(h uint64, n *node[K, V]) place[K, V] {
	t.len++
	for i := t.home(h); ; i = t.next(h, i) {
		b := &t.buckets[i]
		if j := b.free(); j < slots {
			p := place[K, V]{b, j}
			p.clearRef() // a hit may have marked the former node at the last moment
			b.nodes[j].Store(n)
			b.head.Or(tagOf(h) << (8 * j)) // from now on it is found
			return p
		}
		b.pass(1)
	}
}

// find returns the place of a node of the table. Of the hash it needs the highest 32 bits.
func (t *table[K, V]) find(h uint64, n *node[K, V]) place[K, V] {
	for i := t.home(h); ; i = t.next(h, i) {
		if j := t.buckets[i].slot(n); j < slots {
			return place[K, V]{&t.buckets[i], j}
		}
	}
}

// remove removes a node of the table, and reports whether it had a mark. Of the hash it needs the highest
// 32 bits.
func (t *table[K, V]) remove(h uint64, n *node[K, V]) bool {
	t.len--
	for i := t.home(h); ; i = t.next(h, i) {
		b := &t.buckets[i]
		if j := b.slot(n); j < slots {
			p := place[K, V]{b, j}
			used := b.head.And(^(p.mark()|aTag<<(8*j)))&p.mark() != 0
			b.nodes[j].Store(nil)
			return used
		}
		b.pass(-1)
	}
}

// slot returns where a node is in b, or slots if it is not.
func (b *bucket[K, V]) slot(n *node[K, V]) int {
	for j := range b.nodes {
		if b.nodes[j].Load() == n {
			return j
		}
	}
	return slots
}

// free returns the first free slot, or slots if there is none.
func (b *bucket[K, V]) free() int {
	head := b.head.Load()
	for j := range slots {
		if head>>(8*j)&aTag == 0 {
			return j
		}
	}
	return slots
}

// pass counts a node that passes, or one less. A count that has reached mostPassed stays,
// because the exact number is no longer known.
func (b *bucket[K, V]) pass(n int) {
	if b.head.Load()>>passedShift < mostPassed {
		b.head.Add(uint64(n) << passedShift)
	}
}
