// Package local is the local tier of a cache: decoded values in shards of bounded size, inside
// the process.
//
// A hit takes no lock: it finds the entry in a [table] and marks it as used. The order in which
// entries leave is kept in lists, which need a lock and which a hit therefore does not touch. It
// is consulted only when room is needed: an entry at the old end of a list that was used since
// gets a second chance at the young end. By the [Policy] LRU there is one list, and the first
// entry that was not used, or whose deadline has passed, is evicted. By TinyLFU, what was used
// more often stays; see order. There is no goroutine: an entry that has ended stays until a
// writer reaches it, and is not served in the meantime.
//
// A [fence.Table] decides whether the value of a reader or a writer may still be stored. The
// methods that depend on the order of its steps and those of shards and index document it.
//
// Lock order: the shards' locks, in the order of the shards if more than one is held, then one
// part's of the index. No user code runs under either: neither Config.Decode, nor the function
// given to Range.
package local

import (
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/fence"
)

// Entry is a value and its metadata. What was put is the tier's own copy, which is not modified
// from then on.
type Entry[V any] struct {
	Head
	Value V
}

// Head is the metadata that every entry has. Times are those of [Now], in nanoseconds;
// math.MaxInt64 stands for never.
type Head struct {
	Deadline int64 // Get serves it before this time only
	Meta     *Meta // nil for a plain value
	Expires  int64 // when the value's life ends, which may be later
	Stored   int64 // when the value was stored in the remote tier
}

// node is an entry and its key, which don't change, and its place in the order of its shard.
type node[K comparable, V any] struct {
	key   K
	entry Entry[V]

	// Below, what the shard's lock guards.
	older, younger *node[K, V]
	encoding       uint32 // of the key: index.hash, if there is an index; else the highest bits of the key's hash
	frequency      frequency
	region         region
}

// Meta is metadata that few entries have.
type Meta struct {
	Stale       int64         // local time before which the value may be of use as a stale one; see Tier.Peek
	Fresh       time.Duration // its whole fresh life, 0 for no end, where it may be refreshed before that is over
	Cost        time.Duration // how long it took to load, 0: not known
	ETag        string
	Size        int64  // in bytes, about, where they are counted: see Config.Bytes
	Epoch       uint64 // of the logical clock, with Stamp: see logicalclock.Epoch
	LogicalTime int64
	Began       int64    // when the value began, by the clock of the node that has the logical clock, µs; 0: not known
	Part        uint8    // of the keys, whose logical clock that is: see store.Names.Parted
	Outage      Outage   // whether it was put during an outage
	Absent      bool     // the entry is an absence
	Ends        bool     // an invalidation has set the deadline, which may not be put off
	Reasons     []string // the errors that the absence matches
	Tags        []string
}

// Outage says whether an entry was put while it could not be known that notifications are
// received, or while Redis could not be asked, in a cache whose local tier is used during an outage.
// After its deadline such an entry is not served during an outage either. One that is Apart is served
// during an outage only. See package engine.
type Outage uint8

const (
	None    Outage = iota // it was not
	Reached               // it was, and Redis had the value, or has taken it
	Apart                 // it was, and Redis has not confirmed that it has the value, if it was asked
)

// Config configures a [Tier].
type Config[K comparable] struct {
	// Capacity is the number of entries, at least 1.
	Capacity int
	// Bytes bounds the sum of the entries' Meta.Size; 0: no bound. It is divided among
	// the shards, of which there are fewer then, so that large values fit.
	Bytes int64
	// Policy says which entries leave when there is no room for another one.
	Policy Policy
	// Fences decide whether a Put may still happen.
	Fences *fence.Table
	// Decode decodes an encoded key; ok is false for bytes that are no key's encoding.
	// Different keys must have different encodings. Without Decode the tier keeps an index from
	// encoded keys to keys, and they may share encodings.
	Decode func(encoded string) (k K, ok bool)
}

// Tier is the local tier. All methods are safe for concurrent use.
//
// Beyond K and V, an entry takes 71 bytes with keys of type string and 79 with int64, on a
// 64-bit machine and as size classes fit; 15 of it are the table's. TinyLFU takes 16 more for
// its history, once the tier was full. An index adds 44 with keys of 16 bytes.
type Tier[K comparable, V any] struct {
	seed   maphash.Seed
	fences *fence.Table
	decode func(string) (K, bool)
	shards []shard[K, V] // a power of two
	index  *index[K]     // nil: keys are decoded
	closed atomic.Bool
	left   *departures[K, V] // nil: not told to the program
	resize sync.Mutex        // one Resize at a time; taken before the shards' locks
}

// shard is a part of the keys. On a 64-bit machine it has two cache lines: a hit reads
// the first, which changes when the table grows, and writers use the second.
type shard[K comparable, V any] struct {
	table atomic.Pointer[table[K, V]] // changed under mu
	_     [56]byte

	mu        sync.Mutex
	order     *order[K, V] // has exactly the nodes of the table
	capacity  int          // number of nodes
	evictions atomic.Uint64
	budget    int64 // of bytes, 0: none
	bytes     int64 // what the entries count for
	_         [16]byte
}

const (
	maxShards     = 16       // for writers: readers do not contend
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
		s.order = newOrder[K, V](cfg.Policy)
		s.emptyLocked()
	}
	return t, nil
}

// emptyLocked makes the shard anew.
func (s *shard[K, V]) emptyLocked() {
	s.table.Store(newTable[K, V](1))
	s.order, s.bytes = newOrder[K, V](s.order.policy), 0
}

// hash returns the hash of k, by which it is found. A key that can't be compared panics
// here, before any lock is taken that would never be released.
func (t *Tier[K, V]) hash(k K) uint64 { return maphash.Comparable(t.seed, k) }

func (t *Tier[K, V]) shard(hash uint64) *shard[K, V] {
	return &t.shards[hash&uint64(len(t.shards)-1)]
}

// Get returns the entry of k, nil if there is none. ok is false as well if its deadline has passed at
// now. It neither takes a lock nor allocates.
func (t *Tier[K, V]) Get(k K, now int64) (e *Entry[V], ok bool) {
	h := t.hash(k)
	n, at := t.shard(h).table.Load().get(h, k)
	if n == nil {
		return nil, false
	}
	if now >= n.entry.Deadline {
		return &n.entry, false
	}
	at.use()
	return &n.entry, true
}

// Peek returns the entry of k also if its deadline has passed. It has no effect: it counts no
// hit, and no use that would keep the entry.
func (t *Tier[K, V]) Peek(k K) (*Entry[V], bool) {
	h := t.hash(k)
	n, _ := t.shard(h).table.Load().get(h, k)
	if n == nil {
		return nil, false
	}
	return &n.entry, true
}

// Use returns the entry of k also if its deadline has passed, and counts as a use of it.
func (t *Tier[K, V]) Use(k K) (*Entry[V], bool) {
	h := t.hash(k)
	n, at := t.shard(h).table.Load().get(h, k)
	if n == nil {
		return nil, false
	}
	at.use()
	return &n.entry, true
}

// Len returns how many entries are held, those past their deadline included.
func (t *Tier[K, V]) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += s.order.len()
		s.mu.Unlock()
	}
	return n
}

// Bytes returns the sum of the entries' sizes, 0 where it is not bounded.
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

// Evictions returns how many entries were evicted for want of room before their deadlines.
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
		nodes := s.order.nodes()
		s.mu.Unlock()
		for _, n := range nodes {
			if !f(n.key, &n.entry) {
				return
			}
		}
	}
}
