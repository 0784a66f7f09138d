package frame

import "crypto/rand"

// ID distinguishes one write from every other, of this process and of others.
type ID [16]byte

// NewID returns an ID that no other call returns, anywhere: it is random, so that
// copies of a process, as snapshots of a machine make them, differ too.
func NewID() (id ID) {
	rand.Read(id[:]) // never fails
	return id
}

// IDs are IDs that were made together.
type IDs []byte

// NewIDs returns n such IDs, for records that are made at once: it asks the system once.
func NewIDs(n int) IDs {
	ids := make(IDs, n*len(ID{}))
	rand.Read(ids) // never fails
	return ids
}

// At returns one of the IDs.
func (s IDs) At(i int) ID { return ID(s[i*len(ID{}):]) }
