// Package retryqueue holds invalidations that Redis has not acknowledged, and recent writes
// that may have to be replayed.
//
// A write or an invalidation whose reply was lost may have been executed, may never be, or may
// be executed later. Until Redis has acknowledged an invalidation of its key, the local tier
// must not answer for it, and only an invalidation is sent: to send the old write again would
// overwrite newer ones. [Queue] holds these invalidations. It remembers keys, not operations:
// however often a key failed, one invalidation is enough.
//
// A replica that is promoted may lack what its master had acknowledged. [RecentWrites] holds
// what was acknowledged to this process recently, to replay it then.
//
// Both are bounded. A queue replaces what does not fit by an invalidation of more than was
// needed, never of less; RecentWrites forgets the oldest writes.
package retryqueue

// Item is a key whose invalidation is pending.
type Item struct {
	Key     string   // in Redis
	At      int64    // Redis's clock when the write was attempted, µs; 0: unknown
	Token   string   // header of the record that the write has stored, if it was executed; "": none
	Numbers []uint64 // of the messages that stay open until the item is delivered
	Acked   bool     // Redis had acknowledged the operation, and most likely has it: replayed in case it does not
	Since   int64    // local time: the operation was requested by then
}

// Past is the time of a pending invalidation of tags, or of everything: records written or
// loaded after it are to stay.
type Past struct {
	Since int64 // local time
	At    int64 // Redis's clock, µs; 0: unknown
	Acked bool  // as with Item
}

// and returns the time of one invalidation that covers both.
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

// Batch is a part of a [Queue] that is being delivered. Its Items may go back in several
// batches, the delivered ones in one and the failed ones in another. The rest goes back at
// once: what is missing from the batch that goes back has been delivered.
type Batch struct {
	Items   []Item
	Tags    []string // to be invalidated
	Pasts   []Past   // of each of the Tags
	All     bool     // everything is to be invalidated
	Past    Past     // of All
	Numbers []uint64 // of the messages that stay open until Tags or All are delivered
}

// Empty reports whether the batch has nothing to deliver.
func (b *Batch) Empty() bool { return len(b.Items) == 0 && len(b.Tags) == 0 && !b.All }
