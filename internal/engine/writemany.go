package engine

import (
	"context"

	"github.com/delqhi/cache/internal/store"
)

// WritingMany is the memory of a write of many keys: the changes, their commands and their
// records. It is used again only after a write without any failure: else commands may still be in
// flight.
//
// No part of it is kept beyond the write: the local tier copies values, and tokens are copies.
type WritingMany struct {
	changes []Change
	all     []*Change
	encoded []string
	cmds    []store.Command // one more than changes: the logical clock is read with them
	used    bool            // by commands of this write
	left    bool            // a command that is not of a change may still be in flight
	records records
}

const (
	// maxWriting and maxRecords bound the memory that is kept for the next write, in changes and
	// in bytes of records: for a larger one the allocation does not matter.
	maxWriting = 512
	maxRecords = 512 << 10
)

// Grow makes room for n changes.
func (w *WritingMany) Grow(n int) {
	if cap(w.changes) < n {
		w.changes, w.all = make([]Change, 0, n), make([]*Change, 0, n)
	}
}

// Add adds a change.
func (w *WritingMany) Add(key Key, val Value) {
	w.changes = append(w.changes, Change{Key: key, Val: val, many: w})
}

// Changes returns the changes, with their outcome.
func (w *WritingMany) Changes() []Change { return w.changes }

// Reset removes the changes, so that the memory can be used again. It returns false, and changes
// nothing, if it is not to be used again.
func (w *WritingMany) Reset() bool {
	if w.left || len(w.changes) > maxWriting || w.records.size() > maxRecords {
		return false
	}
	for i := range w.changes {
		if w.changes[i].Err != nil {
			return false
		}
	}
	clear(w.changes)
	clear(w.all)
	clear(w.encoded)
	clear(w.cmds)
	w.changes, w.all, w.encoded, w.cmds, w.used = w.changes[:0], w.all[:0], w.encoded[:0], w.cmds[:0], false
	w.records.reset()
	return true
}

// SetMany stores the values of the changes of w; the outcome is in each.
func (c *Cache) SetMany(ctx context.Context, w *WritingMany, o *Options) {
	for i := range w.changes {
		w.all = append(w.all, &w.changes[i])
	}
	w.records.more = len(w.changes)
	c.setAll(ctx, w.all, o)
}

// commandsFor returns memory for n commands. room is that and a place before it.
func commandsFor(changes []*Change) (cmds, room []store.Command) {
	n := len(changes)
	w := changes[0].many
	if w == nil || w.used {
		room = make([]store.Command, 1+n)
		return room[1:], room
	}
	if w.used = true; cap(w.cmds) < 1+n {
		w.cmds = make([]store.Command, 1+n)
	}
	w.cmds = w.cmds[:1+n]
	return w.cmds[1:], w.cmds
}

// leave has the memory of the changes' write not be used again: the look at the logical clock has
// failed. If it was sent by itself, it may still be in flight although each change took effect.
func leave(changes []*Change) {
	if w := changes[0].many; w != nil {
		w.left = true
	}
}

// encodedOf returns the encodings of the keys of changes.
func (c *remote) encodedOf(changes []*Change) []string {
	w := changes[0].many
	var encoded []string
	if w != nil {
		encoded = w.encoded[:0]
	}
	if cap(encoded) < len(changes) {
		encoded = make([]string, 0, len(changes))
	}
	for _, ch := range changes {
		encoded = append(encoded, c.encoded(ch.rk))
	}
	if w != nil {
		w.encoded = encoded
	}
	return encoded
}

// records is memory that records share.
type records struct {
	first []byte // the memory that was begun first, without length
	left  []byte // what is left of the last memory, likewise
	more  int    // records that are expected
	used  int    // bytes of records
	parts int    // how often memory was made, and first if it is there
	need  int    // bytes that the last write has used, if that was more than first
}

// records returns the memory for the record of a change, nil if it has its own.
func (ch *Change) records() *records {
	if ch.many == nil {
		return nil
	}
	return &ch.many.records
}

// begin returns memory for a record of about n bytes. r may be nil.
func (r *records) begin(n int) []byte {
	if r == nil {
		return make([]byte, 0, n)
	}
	if cap(r.left) < n {
		r.left = make([]byte, 0, max(n, min(max(n*r.more, r.need), maxRecords)))
		if r.parts++; r.first == nil {
			r.first = r.left
		}
	}
	return r.left
}

// end keeps the record that was begun, and returns it. It does so with any number of bytes: those
// that were too many for the memory are in memory of their own.
func (r *records) end(record []byte) []byte {
	n := len(record)
	if r == nil || n == 0 {
		return record
	}
	r.more = max(r.more-1, 1)
	r.used += n
	if n <= cap(r.left) && &record[0] == &r.left[:1][0] {
		r.left = r.left[n:n:cap(r.left)]
	} else {
		r.parts++
	}
	return record[:n:n]
}

// size is how much memory is kept.
func (r *records) size() int { return cap(r.first) }

// reset has the memory be used again, unless it was too little: then the next write makes enough.
func (r *records) reset() {
	if r.parts > 1 {
		r.first, r.need, r.parts = nil, r.used+r.used/8, 0
	}
	r.left, r.used = r.first, 0
}
