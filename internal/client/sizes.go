package client

import (
	"github.com/delqhi/cache/internal/store"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"time"
)

// sizes records how large the records of a cache are: their usual size, and which of them are
// large. Redis reports the size of an answer only with the answer.
type sizes struct {
	mean  atomic.Int64 // of recent records that are not large, in bytes; 0: none was seen
	small atomic.Int64 // records seen that are not large, up to smallEnough
	last  atomic.Int64 // when a large record was last seen, in ns since started; 0: never
	large atomic.Pointer[largeKeys]
}

// started is the reference for times of which only differences count.
var started = time.Now()

const (
	// largeRecord is the size from which a record does not share a round trip with others.
	largeRecord = 32 << 10
	// expectedRecord is the size assumed for a record while none was seen.
	expectedRecord = 1 << 10
)

// largeKeys holds the keys of large records: the last one for each place. A word is the upper
// bits of the key's hash, with the bit length of the record's size in the lowest 6 bits.
type largeKeys struct {
	seed  maphash.Seed
	words [4096]atomic.Uint64
}

const sizeBits = 63

func (l *largeKeys) place(key string) (*atomic.Uint64, uint64) {
	h := maphash.String(l.seed, key)
	return &l.words[h%uint64(len(l.words))], h &^ sizeBits
}

// of returns an upper bound of the size of a key's record, at most twice the size, or 0 if the
// record is not known to be large.
func (s *sizes) of(key string) int {
	l := s.large.Load()
	if l == nil {
		return 0
	}
	place, h := l.place(key)
	if w := place.Load(); w != 0 && w&^sizeBits == h {
		return 1 << (w & sizeBits)
	}
	return 0
}

func (s *sizes) set(key string, size int) {
	l := s.large.Load()
	if size < largeRecord {
		if l != nil && s.of(key) > 0 {
			place, _ := l.place(key)
			place.Store(0)
		}
		return
	}
	if l == nil {
		s.large.CompareAndSwap(nil, &largeKeys{seed: maphash.MakeSeed()})
		l = s.large.Load()
	}
	place, h := l.place(key)
	place.Store(h | uint64(bits.Len(uint(size))))
	s.last.Store(max(int64(time.Since(started)), 1))
}

// expected is the number of bytes expected in answer to a command.
func (s *sizes) expected(c *store.Command) int {
	switch c.Op {
	case store.Get, store.SetNX:
	case store.GetHeader:
		return store.HeadLen
	default:
		return 0
	}
	if n := s.of(c.Key); n > 0 {
		return n
	}
	if c.Op == store.SetNX { // it mostly finds no record
		return 0
	}
	if mean := int(s.mean.Load()); mean > 0 {
		return mean
	}
	return expectedRecord
}

// note updates the estimates from commands and their replies.
func (s *sizes) note(cmds []store.Command, replies []store.Reply) {
	n, bytes := 0, 0
	for i := range cmds {
		c, size := &cmds[i], 0
		switch c.Op {
		case store.Get:
			if size = len(replies[i].Record.Raw); replies[i].Cut {
				size = cutSize
			}
		case store.Set, store.CompareAndSet:
			size = len(c.Frame)
		}
		if size == 0 || c.Shared {
			continue
		}
		if size >= largeRecord || s.large.Load() != nil {
			s.set(c.Key, size)
		}
		if size < largeRecord {
			n, bytes = n+1, bytes+size
		}
	}
	if n == 0 {
		return
	}
	if s.small.Load() < smallEnough {
		s.small.Add(int64(n))
	}
	mean := s.mean.Load()
	if now := int64(bytes / n); mean == 0 {
		s.mean.Store(now)
	} else if next := mean + (now-mean)/8; next != mean {
		s.mean.Store(next)
	}
}
