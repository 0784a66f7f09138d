// Package topk counts which of many names come up most, in bounded memory, by
// the algorithm Space-Saving: "Efficient Computation of Frequent and Top-k
// Elements in Data Streams", Metwally, Agrawal, El Abbadi, 2005.
//
// A new name replaces the rarest one and inherits its count, which bounds the occurrences that
// it may have missed. Reported counts leave that part out, so that a count is never too high. A
// name that makes up more than 1/limit of all occurrences is certain to be reported.
package topk

import (
	"cmp"
	"container/heap"
	"slices"
	"sync"
)

// Table counts strings.
type Table = Of[string]

// Of counts names of any comparable type. It is safe for concurrent use.
type Of[K comparable] struct {
	limit int
	tie   func(a, b K) int // orders equals; nil: in no order

	mu     sync.Mutex // guards the fields below
	byName map[K]*counter[K]
	order  rarest[K]
}

type counter[K comparable] struct {
	name  K
	count uint64
	over  uint64 // how much of the count may be of other names
	at    int    // its place in order
}

// Count is how often a string came up, at least.
type Count = CountOf[string]

// CountOf is how often a name came up, at least.
type CountOf[K comparable] struct {
	Name  K
	Count uint64
}

// New returns a table of at most limit strings; at least 1.
func New(limit int) *Table {
	t := NewOf[string](limit)
	t.tie = cmp.Compare[string]
	return t
}

// NewOf is New for names of another type. Of equals, which come first is not determined.
func NewOf[K comparable](limit int) *Of[K] {
	return &Of[K]{limit: max(limit, 1), byName: map[K]*counter[K]{}}
}

// Add counts names, once each time they are listed.
func (t *Of[K]) Add(names ...K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		t.addLocked(name, 1)
	}
}

// AddN counts a name n times. A name that does not equal itself, such as NaN, is not counted.
func (t *Of[K]) AddN(name K, n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(name, n)
}

func (t *Of[K]) addLocked(name K, n uint64) {
	if same := name; same != name {
		return
	}
	c := t.byName[name]
	switch {
	case c != nil:
		c.count += n
		heap.Fix(&t.order, c.at)
	case len(t.order) < t.limit:
		c = &counter[K]{name: name, count: n}
		t.byName[name] = c
		heap.Push(&t.order, c)
	default:
		c = t.order[0]
		delete(t.byName, c.name)
		c.name, c.over = name, c.count
		c.count += n
		t.byName[name] = c
		heap.Fix(&t.order, 0)
	}
}

// Top returns the n most frequent names, the most frequent first; equal strings by name.
func (t *Of[K]) Top(n int) []CountOf[K] {
	t.mu.Lock()
	all := make([]CountOf[K], len(t.order))
	for i, c := range t.order {
		all[i] = CountOf[K]{c.name, c.count - c.over}
	}
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b CountOf[K]) int {
		if order := cmp.Compare(b.Count, a.Count); order != 0 || t.tie == nil {
			return order
		}
		return t.tie(a.Name, b.Name)
	})
	return all[:min(max(n, 0), len(all))]
}

// rarest is a heap with the lowest count at its top.
type rarest[K comparable] []*counter[K]

func (r rarest[K]) Len() int           { return len(r) }
func (r rarest[K]) Less(i, j int) bool { return r[i].count < r[j].count }
func (r rarest[K]) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].at, r[j].at = i, j
}

func (r *rarest[K]) Push(x any) {
	c := x.(*counter[K])
	c.at = len(*r)
	*r = append(*r, c)
}

// Pop completes heap.Interface; it is never called.
func (r *rarest[K]) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}
