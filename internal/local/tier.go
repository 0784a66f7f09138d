// Package local is the tier inside the process: decoded values in sharded LRUs.
//
// golang-lru owns the order of eviction. Its lists must be locked to move an
// entry, which a hit therefore does not do: a hit takes a shared lock, looks the
// entry up and marks it as used. Only when room is needed is the order looked
// at: an entry at the old end that was used since gets a second chance at the
// young end, and the first that was not used, or whose deadline has passed,
// leaves. There is no goroutine: what is over stays until a writer comes by, and
// is not served in the meantime.
//
// A [fence.Table] decides whether what a reader or a writer brings is still to be
// stored. How it is kept in step with shards and index stands at the methods that
// do so.
//
// Lock order: the shards' locks, in the order of the shards if more than one is
// held, then one bucket's of the index. Nothing foreign runs under either: not
// Config.Decode, nor the function given to Range.
package local

import (
	"errors"
	"hash/maphash"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/stripe"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Entry is a value and what is known of it. It is put once, and nothing but the
// tier changes it from then on. Times are those of [Now], in nanoseconds;
// math.MaxInt64 stands for never.
type Entry[V any] struct {
	Value    V
	Deadline int64 // Get serves it before this time only
	Expires  int64 // when the value's life ends, which may be later
	Stored   int64 // when the value was stored in the remote tier
	Meta     *Meta // nil for a plain value

	hash uint32      // stands for the key's encoding where there is an index
	used atomic.Bool // by a hit since the entry was put or last spared
}

// Meta is what few entries have.
type Meta struct {
	Stale   int64         // local time before which the value may be of use as a stale one; see Tier.Any
	Fresh   time.Duration // its whole fresh life, 0 for no end, where it may be refreshed before that is over
	Cost    time.Duration // how long it took to load, 0: not known
	ETag    string
	Size    int64  // in bytes, about, where they are counted: see Config.Bytes
	Era     uint64 // of the logical clock, with Stamp: see remote.Epoch
	Stamp   int64
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
// Beyond K and V, an entry takes 148 bytes with keys of type string and 143 with
// int64, on a 64-bit machine and averaged over capacities; from 139 to 158 and 151,
// depending on how full Go's maps happen to be. Some 92 of it are golang-lru's,
// which keeps each key twice. The index adds 45 for keys of 16 bytes.
type Tier[K comparable, V any] struct {
	seed      maphash.Seed
	fences    *fence.Table
	decode    func(string) (K, bool)
	shards    []shard[K, V] // a power of two
	onlyShard bool          // there is one, and it can be taken without a look at the key
	index     *index[K]     // nil: keys are decoded
	closed    atomic.Bool
}

// shard is an LRU and its lock. On a 64-bit machine it is a cache line, which a hit
// reads.
type shard[K comparable, V any] struct {
	mu        lock // guards lru; a look-up that moves nothing takes it shared
	lru       *simplelru.LRU[K, *Entry[V]]
	capacity  int // of lru, which is never asked to hold more: it would choose by itself what leaves
	evictions atomic.Uint64
	budget    int64 // of bytes, 0: none
	bytes     int64 // what the entries count for; guarded by mu
}

const (
	maxShards     = 16       // what writers divide among themselves: readers do not meet in any case
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
	t.onlyShard = n == 1 && !mayPanic(reflect.TypeFor[K]())
	if t.decode == nil {
		t.index = newIndex[K]()
	}
	for i := range t.shards {
		s := &t.shards[i]
		s.mu = newLock()
		s.capacity = cfg.Capacity / n
		s.budget = cfg.Bytes / int64(n)
		if i < cfg.Capacity%n {
			s.capacity++
		}
		s.lru = newLRU[K, V](s.capacity)
	}
	return t, nil
}

func newLRU[K comparable, V any](capacity int) *simplelru.LRU[K, *Entry[V]] {
	// The one error is that of a capacity below 1, which New refuses.
	lru, _ := simplelru.NewLRU[K, *Entry[V]](capacity, nil)
	return lru
}

// mayPanic reports whether comparing keys of this type may panic: where there is
// an interface, for it may hold a slice.
func mayPanic(k reflect.Type) bool {
	switch k.Kind() {
	case reflect.Interface:
		return true
	case reflect.Array:
		return mayPanic(k.Elem())
	case reflect.Struct:
		for i := range k.NumField() {
			if mayPanic(k.Field(i).Type) {
				return true
			}
		}
	}
	return false
}

// shard returns the shard of k. A key that can't be compared panics here, before
// any lock is taken that would never be released.
func (t *Tier[K, V]) shard(k K) *shard[K, V] {
	if t.onlyShard {
		return &t.shards[0]
	}
	h := maphash.Comparable(t.seed, k)
	return &t.shards[h&uint64(len(t.shards)-1)]
}

// Get returns the entry of k, unless its deadline has passed at now. It neither
// takes an exclusive lock nor allocates.
func (t *Tier[K, V]) Get(k K, now int64) (*Entry[V], bool) {
	ticket := stripe.Take()
	defer stripe.Give(ticket)
	return t.GetBy(ticket, k, now)
}

// GetBy is Get for who has a ticket.
func (t *Tier[K, V]) GetBy(ticket *stripe.Ticket, k K, now int64) (*Entry[V], bool) {
	s := t.shard(k)
	mu := s.mu.reading(ticket)
	mu.RLock()
	// Peek reads the LRU's map and follows a pointer to the list's element, of
	// which it reads the value; it touches neither the order nor any count. Any
	// number of Peeks may so run at a time, and the lock keeps out all that writes.
	e, ok := s.lru.Peek(k)
	mu.RUnlock()
	if !ok || now >= e.Deadline {
		return nil, false
	}
	// Written the first time only, a hot entry's cache line stays shared.
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e, true
}

// Any returns the entry of k also if its deadline has passed. It leaves no trace: no
// hit, and no use that would keep the entry.
func (t *Tier[K, V]) Any(k K) (*Entry[V], bool) {
	s := t.shard(k)
	defer s.read()()
	return s.lru.Peek(k)
}

// read locks for reading, and returns what ends that.
func (s *shard[K, V]) read() (release func()) {
	t := stripe.Take()
	mu := s.mu.reading(t)
	stripe.Give(t)
	mu.RLock()
	return mu.RUnlock
}

// Len returns how many entries are held, those past their deadline included.
func (t *Tier[K, V]) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		release := s.read()
		n += s.lru.Len()
		release()
	}
	return n
}

// Bytes returns what the entries count for, 0 where there is no bound of it.
func (t *Tier[K, V]) Bytes() int64 {
	var n int64
	for i := range t.shards {
		s := &t.shards[i]
		release := s.read()
		n += s.bytes
		release()
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
		release := s.read()
		keys, entries := s.lru.Keys(), s.lru.Values() // both from old to young
		release()
		for j, k := range keys {
			if !f(k, entries[j]) {
				return
			}
		}
	}
}
