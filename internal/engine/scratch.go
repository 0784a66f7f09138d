package engine

import (
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/store"
)

// Scratch is the reusable working memory of a read: its lookups, and what Redis is asked. It is
// reused only after a read that is known to be over: commands of one whose caller has returned
// early may still be in flight.
//
// No part of it is ever part of a result: values are copied out, and bytes that a value may
// retain belong to a reply. Nor does a load keep a part of it that may outlive the read; one that
// runs in the goroutine of the read does not.
type Scratch struct {
	items    []Lookup
	asked    []*Lookup
	cmds     []store.Command // one more than items: the logical clock is read with them
	founds   []decoded
	pointers []*decoded
	encoded  []byte
	sent     bool        // Redis was asked: the four above have been used
	load     *loadMemory // of a load in the caller's goroutine; nil: none yet
	seen     bool        // another goroutine may refer to what that load was given

	single struct { // the memory of a read of one key, which is most of them
		item    [1]Lookup
		asked   [1]*Lookup
		open    [1]*Lookup
		cmds    [2]store.Command
		found   [1]decoded
		pointer [1]*decoded
		encoded [128]byte
	}
}

// Grow makes room for n lookups. There are none yet.
func (s *Scratch) Grow(n int) {
	one := &s.single
	switch {
	case cap(s.items) >= n:
		return
	case n == 1:
		s.items, s.asked, s.cmds = one.item[:0], one.asked[:0], one.cmds[:0]
		s.founds, s.pointers, s.encoded = one.found[:], one.pointer[:], one.encoded[:0]
	default:
		s.encoded = make([]byte, 0, 128)
		s.items = make([]Lookup, 0, n)
		s.asked = make([]*Lookup, 0, n)
		s.cmds = make([]store.Command, 0, n+1)
		s.founds = make([]decoded, n)
		s.pointers = make([]*decoded, n)
	}
}

// Add adds the lookup of a key, for which Grow has made room. A value from Redis is decoded into space, which is zero; nil:
// into a new one.
func (s *Scratch) Add(key Key, space Value) {
	n := len(s.items)
	s.items = s.items[:n+1] // zero: see Reset
	s.items[n].key, s.items[n].space = key, space
}

// Len returns the number of lookups.
func (s *Scratch) Len() int { return len(s.items) }

// open returns memory for the lookups that are to be loaded.
func (s *Scratch) open() []*Lookup {
	if len(s.items) == 1 {
		return s.single.open[:0]
	}
	return nil
}

// At returns one of the lookups.
func (s *Scratch) At(i int) *Lookup { return &s.items[i] }

// Reset removes the lookups, so that the memory can be used again. It returns false, and
// changes nothing, if another goroutine may still refer to it.
func (s *Scratch) Reset() bool {
	if s.seen {
		return false
	}
	for i := range s.items {
		if it := &s.items[i]; it.err != nil && it.err != errs.ErrMiss || it.remoteErr != nil {
			return false
		}
	}
	n := len(s.items)
	clear(s.items)
	if s.sent {
		clear(s.founds[:n])
		clear(s.pointers[:n])
		clear(s.asked[:n])
		clear(s.cmds[:n+1])
	}
	s.items, s.sent = s.items[:0], false
	return true
}
