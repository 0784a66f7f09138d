package local

import (
	"hash/maphash"
	"sync"
)

// index finds the keys of an encoded key, for types of keys that can't be decoded.
// It has exactly the keys that the shards hold; a nil index does nothing.
//
// Usually an encoded key has one key. A program's own encoding may give it any number, for
// example where case does not matter.
//
// An encoded key is represented by 32 bits of its hash: no string is kept. Keys whose encodings
// have one hash are treated as keys of one encoding, and so removed together. That costs a
// miss, never a wrong value, and among a million entries happens to one key in four thousand.
// The hash is seeded, so that colliding keys can't be chosen.
type index[K comparable] struct {
	seed  maphash.Seed
	parts [16]part[K]
}

type part[K comparable] struct {
	mu sync.Mutex // guards the fields below
	// Each key is in one of the two. A set stays a set until it is empty, so that
	// every step is O(1) whatever the number of keys.
	one  map[uint32]K
	many map[uint32]map[K]struct{}
	_    [40]byte // a cache line for each
}

func newIndex[K comparable]() *index[K] {
	x := &index[K]{seed: maphash.MakeSeed()}
	for i := range x.parts {
		x.parts[i].clearLocked()
	}
	return x
}

// hash returns the hash that represents an encoded key.
func (x *index[K]) hash(encoded string) uint32 {
	if x == nil {
		return 0
	}
	return uint32(maphash.String(x.seed, encoded))
}

func (x *index[K]) part(h uint32) *part[K] {
	return &x.parts[h%uint32(len(x.parts))]
}

// add adds k, unless it is there.
func (x *index[K]) add(h uint32, k K) {
	if x == nil {
		return
	}
	s := x.part(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if set, ok := s.many[h]; ok {
		set[k] = struct{}{}
		return
	}
	switch first, ok := s.one[h]; {
	case !ok:
		s.one[h] = k
	case first != k:
		delete(s.one, h)
		s.many[h] = map[K]struct{}{first: {}, k: {}}
	}
}

// remove removes k, if it is there.
func (x *index[K]) remove(h uint32, k K) {
	if x == nil {
		return
	}
	s := x.part(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if set, ok := s.many[h]; ok {
		if delete(set, k); len(set) == 0 {
			delete(s.many, h)
		}
		return
	}
	if first, ok := s.one[h]; ok && first == k {
		delete(s.one, h)
	}
}

// appendKeys appends the keys to dst: a copy, since locks of shards come first.
func (x *index[K]) appendKeys(dst []K, h uint32) []K {
	s := x.part(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.one[h]; ok {
		return append(dst, first)
	}
	for k := range s.many[h] {
		dst = append(dst, k)
	}
	return dst
}

// clear removes every key, and gives the memory back.
func (x *index[K]) clear() {
	if x == nil {
		return
	}
	for i := range x.parts {
		s := &x.parts[i]
		s.mu.Lock()
		s.clearLocked()
		s.mu.Unlock()
	}
}

func (s *part[K]) clearLocked() {
	s.one = map[uint32]K{}
	s.many = map[uint32]map[K]struct{}{}
}
