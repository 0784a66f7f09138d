// Package percpu shards contended counters by processor: a counter that several processors
// write in turn costs each of them more than all the rest of a lookup in memory.
package percpu

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Count is the number of shards, a power of two. More would cost memory in every counter;
// processors that share a shard only share its cost.
const Count = 8

// Slot gives the use of a shard, though not exclusively.
type Slot struct {
	// Index is less than Count.
	Index uint32
}

// pool hands out slots, to each processor its own again and again: sync.Pool does that, and it
// is the only way to get something that belongs to a processor without package unsafe. A random
// shard would spread as well but move a cache line each time. A slot that the garbage collector
// takes is replaced by the next one.
type pool struct {
	tickets sync.Pool
	next    atomic.Uint32
}

// all is the pool of the process, because the processors are the process's. alone is the only
// slot where there is one processor.
var (
	all   pool
	alone *Slot
)

func init() {
	if runtime.NumCPU() == 1 {
		alone = new(Slot)
	}
}

// Take returns a slot, which is to be given back by [Give] soon. It takes no lock.
func Take() *Slot {
	if alone != nil {
		return alone
	}
	return all.get()
}

// Give gives a slot back.
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
