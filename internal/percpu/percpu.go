// Package percpu shards contended counters by processor: a counter that several processors
// write in turn costs each of them more than all the rest of a lookup in memory.
package percpu

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Count is how many stripes there are, a power of two. More would cost memory in
// everything that is divided; processors that share a stripe only share its cost.
const Count = 8

// Slot is the right to use a stripe, though not alone.
type Slot struct {
	// Index is less than Count.
	Index uint32
}

// pool hands out tickets, to each processor its own again and again: that is what
// sync.Pool does, and the only way to get at something that belongs to a processor
// without package unsafe. A random stripe would spread as well but move a cache line each
// time. A ticket that the garbage collector takes is replaced by the next one.
type pool struct {
	tickets sync.Pool
	next    atomic.Uint32
}

// The one of the process, because the processors are. alone is the only ticket where
// there is one processor.
var (
	all   pool
	alone *Slot
)

func init() {
	if runtime.NumCPU() == 1 {
		alone = new(Slot)
	}
}

// Take returns a ticket, which is to be given back by [Give] soon. It takes no lock.
func Take() *Slot {
	if alone != nil {
		return alone
	}
	return all.get()
}

// Give gives a ticket back.
func Give(t *Slot) {
	if alone == nil {
		all.put(t)
	}
}

func (p *pool) get() *Slot {
	if t, ok := p.tickets.Get().(*Slot); ok {
		return t
	}
	return &Slot{Index: p.next.Add(1) % Count}
}

func (p *pool) put(t *Slot) { p.tickets.Put(t) }
