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

// Table counts names. It is safe for concurrent use.
type Table struct {
	limit int

	mu     sync.Mutex // guards the fields below
	byName map[string]*counter
	order  rarest
}

type counter struct {
	name  string
	count uint64
	over  uint64 // how much of the count may be of other names
	at    int    // its place in order
}

// Count is how often a name came up, at least.
type Count struct {
	Name  string
	Count uint64
}

// New returns a table of at most limit names; at least 1.
func New(limit int) *Table {
	return &Table{limit: max(limit, 1), byName: map[string]*counter{}}
}

// Add counts names, once each time they are listed.
func (t *Table) Add(names ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		c := t.byName[name]
		switch {
		case c != nil:
			c.count++
			heap.Fix(&t.order, c.at)
		case len(t.order) < t.limit:
			c = &counter{name: name, count: 1}
			t.byName[name] = c
			heap.Push(&t.order, c)
		default:
			c = t.order[0]
			delete(t.byName, c.name)
			c.name, c.over = name, c.count
			c.count++
			t.byName[name] = c
			heap.Fix(&t.order, 0)
		}
	}
}

// Top returns the n most frequent names, the most frequent first, equals by name.
func (t *Table) Top(n int) []Count {
	t.mu.Lock()
	all := make([]Count, len(t.order))
	for i, c := range t.order {
		all[i] = Count{c.name, c.count - c.over}
	}
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	return all[:min(max(n, 0), len(all))]
}

// rarest is a heap with the lowest count at its top.
type rarest []*counter

func (r rarest) Len() int           { return len(r) }
func (r rarest) Less(i, j int) bool { return r[i].count < r[j].count }
func (r rarest) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].at, r[j].at = i, j
}

func (r *rarest) Push(x any) {
	c := x.(*counter)
	c.at = len(*r)
	*r = append(*r, c)
}

// Pop completes heap.Interface; it is never called.
func (r *rarest) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}
