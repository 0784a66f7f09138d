// Package retryqueue holds invalidations that Redis has not acknowledged, and recent writes
// that may have to be replayed.
//
// A write or an invalidation whose reply was lost has happened, or has not, or will:
// nobody knows. Until Redis has been told, the local tier must not answer for its
// key, and what is told is an invalidation: to send the old write again would
// overwrite newer ones. [Queue] keeps what is to be told. It remembers keys, not
// operations: however often a key failed, one invalidation is enough.
//
// A replica that becomes the master may lack what its predecessor had acknowledged.
// [RecentWrites] keeps what this process had acknowledged lately, to tell it again then.
//
// Both are bounded. A queue replaces what does not fit by one that tells more than
// was needed, never less; a Recent forgets the oldest.
package retryqueue

// Item is one key that is to be told.
type Item struct {
	Key     string   // in Redis
	At      int64    // Redis's clock when the write was attempted, µs; 0: unknown
	Token   string   // head of the record that the write has stored, if it was; "": none
	Numbers []uint64 // of the messages that are open because of it
	Acked   bool     // Redis had acknowledged it, and most likely knows: it is told again in case it does not
	Since   int64    // local time: it was called for by then
}

// Past is when tags, or everything, were invalidated that Redis is to be told of later: what
// was written or loaded after that is to stay.
type Past struct {
	Since int64 // local time
	At    int64 // Redis's clock, µs; 0: unknown
	Acked bool  // as with Item
}

// and returns the time of an invalidation that is one for both.
func (p Past) and(q Past) Past {
	if p.Since < q.Since {
		p, q = q, p
	}
	if p.At != 0 {
		p.At = max(p.At, q.At)
	}
	p.Acked = p.Acked && q.Acked
	return p
}

func (it *Item) past() Past { return Past{Since: it.Since, Acked: it.Acked} }

// Batch is a part of a [Queue] that is being told. Its Items may go back in several
// batches, those that were told in one and those that failed in another. The rest goes back
// at once: what is not in the batch that goes back has been told.
type Batch struct {
	Items   []Item
	Tags    []string // to be invalidated
	Pasts   []Past   // of each of the Tags
	All     bool     // everything is to be invalidated
	Past    Past     // of All
	Numbers []uint64 // of the messages that are open because of Tags or All
}

// Empty reports whether there is nothing to tell.
func (b *Batch) Empty() bool { return len(b.Items) == 0 && len(b.Tags) == 0 && !b.All }
