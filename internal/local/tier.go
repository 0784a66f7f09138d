// Package local is the tier inside the process: decoded values in sharded LRUs.
//
// golang-lru owns the order of eviction. Its lists must be locked to move an
// entry, which a hit therefore does not do: a hit takes no lock at all, finds the
// entry in a [table] and marks it as used. Only when room is needed is the order
// looked at: an entry at the old end that was used since gets a second chance at the
// young end, and the first that was not used, or whose deadline has passed,
// leaves. There is no goroutine: what is over stays until a writer comes by, and
// is not served in the meantime.
//
// A [fence.Table] decides whether what a reader or a writer brings is still to be
// stored. How it is kept in step with shards and index stands at the methods that
// do so.
//
// Lock order: the shards' locks, in the order of the shards if more than one is
// held, then one part's of the index. Nothing foreign runs under either: not
// Config.Decode, nor the function given to Range.
package local

import (
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/fence"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Entry is a value and what is known of it. What was put is the tier's own copy, which
// nobody changes from then on. Times are those of [Now], in nanoseconds; math.MaxInt64
// stands for never.
type Entry[V any] struct {
	Deadline int64 // Get serves it before this time only
	Meta     *Meta // nil for a plain value
	Value    V
	Expires  int64 // when the value's life ends, which may be later
	Stored   int64 // when the value was stored in the remote tier
}

// node is what a tier holds: an entry and its key.
type node[K comparable, V any] struct {
	key   K
	entry Entry[V]
}

// order is the order of eviction. It has no use for keys: nodes are found in tables.
type order[K comparable, V any] = simplelru.LRU[*node[K, V], struct{}]

// Meta is what few entries have.
type Meta struct {
	Stale   int64         // local time before which the value may be of use as a stale one; see Tier.Peek
	Fresh   time.Duration // its whole fresh life, 0 for no end, where it may be refreshed before that is over
	Cost    time.Duration // how long it took to load, 0: not known
	ETag    string
	Size    int64  // in bytes, about, where they are counted: see Config.Bytes
	Era     uint64 // of the logical clock, with Stamp: see logicalclock.Epoch
	Stamp   int64
	Began   int64    // when the value began, by the clock of the node that has the logical one, µs; 0: not known
	Absent  bool     // there is no such thing
	Reasons []string // what the absence matches
	Tags    []string
}

// Config says how to make a [Tier].
type Config[K comparable] struct {
	// Capacity is the number of entries, at least 1.
	Capacity int
	// Bytes bounds the sum of the entries' Meta.Size; 0: no bound. It is divided among
	// the shards, of which there are fewer then, so that large values fit.
	Bytes int64
	// Fences decide whether a Put may still happen.
	Fences *fence.Table
	// Decode turns an encoded key back; ok is false for what is no key's encoding.
	// Different keys must have different encodings. Without Decode the tier keeps
	// an index from encoded keys to keys, and they may share encodings.
	Decode func(encoded string) (k K, ok bool)
}

// Tier is the local tier. All methods are safe for concurrent use.
//
// Beyond K and V, an entry takes 149 bytes with keys of type string and 140 with int64, on
// a 64-bit machine and averaged over numbers of entries, as Go's maps double and size
// classes fit. Some 90 of it are golang-lru's, 15 the table's. An index adds 70 with keys
// of 16 bytes.
type Tier[K comparable, V any] struct {
	seed   maphash.Seed
	fences *fence.Table
	decode func(string) (K, bool)
	shards []shard[K, V] // a power of two
	index  *index[K]     // nil: keys are decoded
	closed atomic.Bool
}

// shard is a part of the keys. On a 64-bit machine it has two cache lines: a hit reads
// the first, which changes when the table grows, and writers use the second.
type shard[K comparable, V any] struct {
	table atomic.Pointer[table[K, V]] // changed under mu
	_     [56]byte

	mu        sync.Mutex
	lru       *order[K, V] // has exactly the nodes of the table
	capacity  int          // of lru, which is never asked to hold more: it would choose by itself what leaves
	evictions atomic.Uint64
	budget    int64                  // of bytes, 0: none
	bytes     int64                  // what the entries count for
	encodings map[*node[K, V]]uint32 // hashes of the encodings, if there is an index
	_         [8]byte
}

const (
	maxShards     = 16       // what writers divide among themselves: readers do not meet
	perShard      = 256      // fewer entries would make a shard's order less like that of the whole
	bytesPerShard = 16 << 20 // fewer would refuse large values
	oneShard      = 1024     // below this capacity, there is one order for all
)

// New returns an empty tier.
func New[K comparable, V any](cfg Config[K]) (*Tier[K, V], error) {
	if cfg.Capacity < 1 {
		return nil, errors.New("local: the capacity must be positive")
	}
	if cfg.Fences == nil {
		return nil, errors.New("local: fences are needed")
	}
	n := 1
	for cfg.Capacity >= oneShard && n < maxShards && cfg.Capacity/(2*n) >= perShard &&
		(cfg.Bytes == 0 || cfg.Bytes/int64(2*n) >= bytesPerShard) {
		n *= 2
	}
	t := &Tier[K, V]{seed: maphash.MakeSeed(), fences: cfg.Fences, decode: cfg.Decode, shards: make([]shard[K, V], n)}
	if t.decode == nil {
		t.index = newIndex[K]()
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.capacity = cfg.Capacity / n
		s.budget = cfg.Bytes / int64(n)
		if i < cfg.Capacity%n {
			s.capacity++
		}
		s.emptyLocked(t.index != nil)
	}
	return t, nil
}

// emptyLocked makes the shard anew.
func (s *shard[K, V]) emptyLocked(indexed bool) {
	s.table.Store(newTable[K, V](1))
	s.lru, s.bytes = newOrder[K, V](s.capacity), 0
	if indexed {
		s.encodings = map[*node[K, V]]uint32{}
	}
}

func newOrder[K comparable, V any](capacity int) *order[K, V] {
	// The one error is that of a capacity below 1, which New refuses.
	lru, _ := simplelru.NewLRU[*node[K, V], struct{}](capacity, nil)
	return lru
}

// hash returns the hash of k, by which it is found. A key that can't be compared panics
// here, before any lock is taken that would never be released.
func (t *Tier[K, V]) hash(k K) uint64 { return maphash.Comparable(t.seed, k) }

func (t *Tier[K, V]) shard(hash uint64) *shard[K, V] {
	return &t.shards[hash&uint64(len(t.shards)-1)]
}

// Get returns the entry of k, unless its deadline has passed at now. It neither takes a
// lock nor allocates.
func (t *Tier[K, V]) Get(k K, now int64) (*Entry[V], bool) {
	h := t.hash(k)
	n, at := t.shard(h).table.Load().get(h, k)
	if n == nil || now >= n.entry.Deadline {
		return nil, false
	}
	at.use()
	return &n.entry, true
}

// Peek returns the entry of k also if its deadline has passed. It leaves no trace: no
// hit, and no use that would keep the entry.
func (t *Tier[K, V]) Peek(k K) (*Entry[V], bool) {
	h := t.hash(k)
	n, _ := t.shard(h).table.Load().get(h, k)
	if n == nil {
		return nil, false
	}
	return &n.entry, true
}

// Len returns how many entries are held, those past their deadline included.
func (t *Tier[K, V]) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += s.lru.Len()
		s.mu.Unlock()
	}
	return n
}

// Bytes returns what the entries count for, 0 where there is no bound of it.
func (t *Tier[K, V]) Bytes() int64 {
	var n int64
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += s.bytes
		s.mu.Unlock()
	}
	return n
}

// Evictions returns how many entries have left for want of room before their
// deadlines.
func (t *Tier[K, V]) Evictions() uint64 {
	var n uint64
	for i := range t.shards {
		n += t.shards[i].evictions.Load()
	}
	return n
}

// Range calls f for every entry, those past their deadline included, until f
// returns false. f runs without a lock and may use the tier; what is put or
// removed while Range runs may or may not be seen.
func (t *Tier[K, V]) Range(f func(k K, e *Entry[V]) bool) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		nodes := s.lru.Keys() // from old to young
		s.mu.Unlock()
		for _, n := range nodes {
			if !f(n.key, &n.entry) {
				return
			}
		}
	}
}
