package local

// Policy says which entries leave a tier that is full.
type Policy uint8

const (
	// LRU evicts the entry that was put or replaced longest ago, unless it was used since.
	LRU Policy = iota

	// TinyLFU counts uses too: an entry leaves that is used less often than others.
	TinyLFU
)

// list is a list of nodes. A node is in one list at most.
type list[K comparable, V any] struct {
	oldest, youngest *node[K, V]
	len              int
}

// add adds a node at the young end.
func (l *list[K, V]) add(n *node[K, V]) {
	if n.older = l.youngest; n.older == nil {
		l.oldest = n
	} else {
		n.older.younger = n
	}
	l.youngest = n
	l.len++
}

// remove removes a node. The node forgets its neighbours, since a reader may hold it for long.
func (l *list[K, V]) remove(n *node[K, V]) {
	if n.older == nil {
		l.oldest = n.younger
	} else {
		n.older.younger = n.younger
	}
	if n.younger == nil {
		l.youngest = n.older
	} else {
		n.younger.older = n.older
	}
	n.older, n.younger = nil, nil
	l.len--
}

// region is one of the lists of an order.
type region uint8

const (
	window    region = iota // nodes that were added lately; with LRU, all nodes
	probation               // nodes that have left the window, or protected
	protected               // nodes that were used in probation
	regions
)

// order is the order in which the nodes of a shard leave it. It is guarded by the shard's lock.
//
// With TinyLFU it is derived from the W-TinyLFU of Einziger, Friedman and Manes, "TinyLFU: A
// Highly Efficient Cache Admission Policy", ACM Transactions on Storage, 2017. A new node is
// added to the window. When it has to leave that, it takes the place of the oldest node in
// probation if its key has been used more often, and otherwise leaves the tier. There are three
// differences:
//
//   - A hit changes no list and no count, since it takes no lock: it marks the node. A node that
//     is found with a mark at the old end of its list has been used once more, however often it
//     was, and gets a second chance.
//   - Frequencies are not estimated by a sketch. A node has its own, and a [history] those of
//     nodes that have left: what is read once only doesn't add to what is read often.
//   - The share of the window adapts, as lists do in the ARC of Megiddo and Modha, "ARC: A
//     Self-Tuning, Low Overhead Replacement Cache", FAST 2003. It grows when a key is put that
//     was refused shortly before, and shrinks when one is put that was displaced.
//
// The constants were chosen by replaying traces of web shops, databases and file systems, at
// many sizes, not for the best of one of them but so that none is bad.
type order[K comparable, V any] struct {
	lists   [regions]list[K, V]
	policy  Policy
	share   float64 // of the window, from 0 to maxShare
	clock   clock
	history history
}

const (
	initialShare   = 0.03
	maxShare       = 0.95
	protectedShare = 0.8 // of the nodes outside the window

	// The window grows or shrinks by shareStep nodes at a time, and by up to maxRatio times as
	// many where one kind of departure is rarer than the other. It does not grow by more than
	// maxGrowth of all nodes: in a small tier, few keys that come back by chance would otherwise
	// make it large.
	shareStep = 0.8
	maxRatio  = 4
	maxGrowth = 0.004
)

func newOrder[K comparable, V any](p Policy) *order[K, V] {
	return &order[K, V]{policy: p, share: initialShare}
}

func (o *order[K, V]) len() int {
	return o.lists[window].len + o.lists[probation].len + o.lists[protected].len
}

// nodes returns all nodes. Those of a list are together, from old to young.
func (o *order[K, V]) nodes() []*node[K, V] {
	all := make([]*node[K, V], 0, o.len())
	for i := range o.lists {
		for n := o.lists[i].oldest; n != nil; n = n.younger {
			all = append(all, n)
		}
	}
	return all
}

// windowRoom is how many of so many nodes may be in the window.
func (o *order[K, V]) windowRoom(nodes int) int { return max(int(o.share*float64(nodes)), 1) }

// protectedRoom is how many of so many nodes may be protected.
func (o *order[K, V]) protectedRoom(nodes int) int {
	return int(protectedShare * float64(nodes-o.windowRoom(nodes)))
}

// add adds a node whose key has the hash h.
func (o *order[K, V]) add(h uint64, n *node[K, V]) {
	n.region = window
	o.lists[window].add(n)
	if o.policy != TinyLFU {
		return
	}
	nodes := o.len()
	o.clock.count(nodes)
	uses, how, recent := o.history.take(h, &o.clock)
	n.frequency = o.clock.frequency(uses + 1)
	if recent {
		o.adapt(how, nodes)
	}
}

// adapt changes the share of the window after a key has come back that had left in that way. As
// in ARC, the step is the larger, the fewer keys have left so.
func (o *order[K, V]) adapt(how departure, nodes int) {
	ratio := func(a, b departure) float64 {
		return min(max(float64(o.history.numbers[a]+1)/float64(o.history.numbers[b]+1), 1), maxRatio)
	}
	switch how {
	case refused:
		o.share = min(o.share+min(shareStep*ratio(displaced, refused)/float64(nodes), maxGrowth), maxShare)
	case displaced:
		o.share = max(o.share-shareStep*ratio(refused, displaced)/float64(nodes), 0)
	}
}

// remove removes a node.
func (o *order[K, V]) remove(n *node[K, V]) { o.lists[n.region].remove(n) }

// remember adds a node that has been removed to the history, once that is needed: when the
// order was full for the first time. used says whether it had a mark.
func (o *order[K, V]) remember(h uint64, n *node[K, V], used bool, how departure) {
	if len(o.history.buckets) == 0 {
		return
	}
	if used {
		o.use(n)
	}
	o.history.add(h, n.frequency, how)
}

// replace adds n in the place of old, which has been removed and had the same key. It is a use.
func (o *order[K, V]) replace(old, n *node[K, V], used bool) {
	n.region, n.frequency = old.region, old.frequency
	if o.policy == TinyLFU {
		o.use(n)
		if used {
			o.use(n)
		}
		if n.region == probation {
			n.region = protected
		}
	}
	o.lists[n.region].add(n)
}

// use counts a use of a node.
func (o *order[K, V]) use(n *node[K, V]) {
	if o.policy == TinyLFU {
		o.clock.count(o.len())
		n.frequency = o.clock.frequency(o.clock.uses(n.frequency) + 1)
	}
}

// move moves a node to the young end of a region.
func (o *order[K, V]) move(n *node[K, V], to region) {
	o.lists[n.region].remove(n)
	n.region = to
	o.lists[to].add(n)
}
