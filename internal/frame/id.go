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

// NewIDs returns n such IDs, for records that are made at once: it asks the system once.
func NewIDs(n int) []ID {
	bytes := make([]byte, n*len(ID{}))
	rand.Read(bytes) // never fails
	ids := make([]ID, n)
	for i := range ids {
		copy(ids[i][:], bytes[i*len(ID{}):])
	}
	return ids
}
