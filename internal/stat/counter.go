// Package stat counts and measures concurrently, for package metrics to show.
//
// The zero values are ready for use. Recording allocates nothing and takes no
// lock. Reading sums up while others record: a result contains all that was
// recorded before the call, and may or may not contain what was recorded during
// it.
package stat

import (
	"sync/atomic"

	"github.com/delqhi/cache/internal/percpu"
)

// Counter is a number that only grows. It must not be copied after its first use.
type Counter struct {
	cells [percpu.Count]cell
}

// cell has a cache line to itself.
type cell struct {
	n atomic.Uint64
	_ [56]byte
}

// Add adds n.
func (c *Counter) Add(n uint64) {
	t := percpu.Take()
	c.addBy(t, n)
	percpu.Give(t)
}

// addBy is Add for a caller that has a slot.
func (c *Counter) addBy(t *percpu.Slot, n uint64) {
	c.cells[t.Index%percpu.Count].n.Add(n)
}

// Load returns the sum.
func (c *Counter) Load() uint64 {
	var sum uint64
	for i := range c.cells {
		sum += c.cells[i].n.Load()
	}
	return sum
}
