package local

import "math/bits"

// departure is how a node has left an order.
type departure uint8

const (
	removed   departure = iota + 1 // it was invalidated
	refused                        // from the window: the oldest in probation was used more often
	displaced                      // from probation or protected, for want of room
)

// history knows the frequencies of keys that have left an order, about four of them for each
// node. It represents a key by bits of its hash: keys with the same bits are taken for one,
// which happens to one of a hundred thousand, and then costs no more than a worse decision.
//
// It is an array of buckets, each a cache line of items from young to old. In a full bucket a
// new item takes the place of the oldest.
type history struct {
	buckets []bucketOfItems
	numbers [displaced + 1]int // of the items, by departure
}

type bucketOfItems [16]item

// item is a key: from the lowest bits, a frequency in fewer bits, a departure, and a tag. 0 is
// none.
type item uint32

const (
	perItemBucket = 4 // nodes for each bucket

	// recentItems are those of a bucket that count as recent: together, half as many as nodes.
	recentItems = 2

	periodBits    = 5 // of a frequency
	frequencyBits = usesBits + periodBits
	departureBits = 2
	tagShift      = frequencyBits + departureBits
)

// itemTag returns the part of an item that is its key's. Of the hash, it has none of the bits
// that choose the shard or the bucket.
func itemTag(h uint64) item { return item(uint32(h>>8) << tagShift) }

func (x *history) bucket(h uint64) *bucketOfItems {
	hi, _ := bits.Mul64(h&^(1<<32-1), uint64(len(x.buckets)))
	return &x.buckets[hi]
}

// fit sees to it that there is room for the history of so many nodes.
func (x *history) fit(nodes int) {
	if n := (nodes + perItemBucket - 1) / perItemBucket; len(x.buckets) == 0 {
		x.buckets = make([]bucketOfItems, max(n, 1))
		return
	} else if n < 2*len(x.buckets) {
		return
	}
	// The items of a bucket belong into one of two, and it is not known which: they are copied
	// to both, where the wrong ones are never found.
	larger := make([]bucketOfItems, 2*len(x.buckets))
	for i, b := range x.buckets {
		larger[2*i], larger[2*i+1] = b, b
	}
	x.buckets = larger
	for i := range x.numbers {
		x.numbers[i] *= 2
	}
}

// shrink makes the history one of so many nodes, if it is one of more. It has to: of what is
// recent among the items of many nodes, most is not among those of few.
func (x *history) shrink(nodes int) {
	n := max((nodes+perItemBucket-1)/perItemBucket, 1)
	for len(x.buckets) >= 2*n && len(x.buckets)%2 == 0 {
		smaller := make([]bucketOfItems, len(x.buckets)/2)
		for i := range smaller {
			smaller[i].merge(&x.buckets[2*i], &x.buckets[2*i+1])
		}
		x.buckets = smaller
	}
	if len(x.buckets) >= 2*n {
		x.buckets = nil // of another number of buckets, it is not known where an item belongs
	}
	x.numbers = [displaced + 1]int{}
	for i := range x.buckets {
		for _, it := range x.buckets[i] {
			if it != 0 {
				x.numbers[it.departure()]++
			}
		}
	}
}

// merge fills an empty bucket with the younger items of two.
func (b *bucketOfItems) merge(one, other *bucketOfItems) {
	n := 0
	for i := range b {
		for _, it := range [2]item{one[i], other[i]} {
			if it != 0 && n < len(b) {
				b[n] = it
				n++
			}
		}
	}
}

// add adds a key with the hash h.
func (x *history) add(h uint64, f frequency, how departure) {
	b := x.bucket(h)
	if oldest := b[len(b)-1]; oldest != 0 {
		x.numbers[oldest.departure()]--
	}
	copy(b[1:], b[:len(b)-1])
	b[0] = itemTag(h) | item(how)<<frequencyBits | item(f)&(1<<frequencyBits-1)
	x.numbers[how]++
}

// take removes the key with the hash h, and returns how often it was used, how it had left and
// whether that was lately. All are zero if it is not known.
func (x *history) take(h uint64, c *clock) (uses int, how departure, recent bool) {
	if len(x.buckets) == 0 {
		return 0, 0, false
	}
	b := x.bucket(h)
	for i, it := range b {
		if it>>tagShift<<tagShift != itemTag(h) || it == 0 {
			continue
		}
		copy(b[i:], b[i+1:])
		b[len(b)-1] = 0
		x.numbers[it.departure()]--
		return it.uses(c), it.departure(), i < recentItems
	}
	return 0, 0, false
}

func (it item) departure() departure {
	return departure(it >> frequencyBits & (1<<departureBits - 1))
}

func (it item) uses(c *clock) int {
	periods := (c.period - uint16(it>>usesBits)) & (1<<periodBits - 1)
	return int(it&maxUses) >> min(periods, usesBits)
}
