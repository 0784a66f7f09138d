package local

// frequency is how often a key was used, at most maxUses, in the lowest bits, and the period of
// a clock in which that was so.
type frequency uint16

const (
	usesBits = 4
	maxUses  = 1<<usesBits - 1

	// perPeriod is the length of a period, for each node.
	perPeriod = 14
)

// clock divides additions and uses into periods. From one to the next, frequencies are halved:
// not all of them at once, but each when it is looked at.
type clock struct {
	period uint16 // wraps around, after so long that no frequency is left that matters
	counts int    // in this period
}

// count counts an addition or a use.
func (c *clock) count(nodes int) {
	if c.counts++; c.counts >= perPeriod*max(nodes, 1) {
		c.counts = 0
		c.period++
	}
}

// frequency is a number of uses in the current period.
func (c *clock) frequency(uses int) frequency {
	return frequency(c.period<<usesBits | uint16(min(uses, maxUses)))
}

// uses is what is left of a frequency.
func (c *clock) uses(f frequency) int {
	periods := (c.period - uint16(f>>usesBits)) & (1<<(16-usesBits) - 1)
	return int(f&maxUses) >> min(periods, usesBits)
}
