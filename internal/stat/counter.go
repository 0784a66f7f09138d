// Package stat counts and measures concurrently, for package metrics to show.
//
// The zero values are ready for use. Recording allocates nothing and takes no
// lock. Reading sums up while others record: a result contains all that was
// recorded before the call, and may or may not contain what was recorded during
// it.
package stat

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// stripes is a power of two. More would cost memory in every counter of every
// cache; processors that share a stripe only share its cost.
const stripes = 8

// striped is whether there are so many processors that a single word would be
// what they wait for. With one or two, choosing a stripe costs more than it
// saves.
var striped = runtime.NumCPU() > 2

// Counter is a number that only grows. It must not be copied after its first use.
type Counter struct {
	cells [stripes]cell
}

// cell has a cache line to itself.
type cell struct {
	n atomic.Uint64
	_ [56]byte
}

// Add adds n.
func (c *Counter) Add(n uint64) {
	if !striped {
		c.cells[0].n.Add(n)
		return
	}
	c.addStriped(&tickets, n)
}

func (c *Counter) addStriped(p *ticketPool, n uint64) {
	t := p.get()
	c.cells[t.stripe].n.Add(n)
	p.put(t)
}

// Load returns the sum.
func (c *Counter) Load() uint64 {
	var sum uint64
	for i := range c.cells {
		sum += c.cells[i].n.Load()
	}
	return sum
}

// ticket is the right to add to a stripe, though not alone.
type ticket struct {
	stripe uint32
}

// ticketPool hands out tickets, to each processor its own again and again: that
// is what sync.Pool does, and the only way to get at something that belongs to a
// processor without package unsafe. A random stripe would spread as well but move
// a cache line at every add. A ticket that the garbage collector takes is replaced
// by the next one.
type ticketPool struct {
	pool sync.Pool
	next atomic.Uint32
}

// tickets is one for the process because the processors are.
var tickets ticketPool

func (p *ticketPool) get() *ticket {
	if t, ok := p.pool.Get().(*ticket); ok {
		return t
	}
	return &ticket{stripe: p.next.Add(1) % stripes}
}

func (p *ticketPool) put(t *ticket) { p.pool.Put(t) }
