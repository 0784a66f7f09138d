package strategy

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/usercode"
)

// maxEntries is far beyond what fits into memory: a number above it is a slip.
const maxEntries = 1 << 30

func (c *compiler) mistake(format string, args ...any) {
	c.mistakes = append(c.mistakes, fmt.Errorf("%w: "+format, append([]any{errs.ErrInvalidOption}, args...)...))
}

// checkAlone reports what is invalid by itself, whatever else is in the list, and whether
// nothing is.
func (c *compiler) checkAlone(s setting) bool {
	before := len(c.mistakes)
	switch s.kind {
	case lru, tinyLFU:
		switch {
		case s.n <= 0:
			c.mistake("%v: the number of entries must be positive; leave it out for no local tier", s)
		case s.n > maxEntries:
			c.mistake("%v: no memory holds so many entries: write at most %v", s, setting{kind: s.kind, n: maxEntries})
		}
	case localBytes:
		if s.n <= 0 {
			c.mistake("%v: the number of bytes must be positive; leave it out for no bound", s)
		}
	case localTTL:
		c.checkPositive(s, "leave it out for the default")
	case localDuringOutage:
		c.checkPositive(s, "leave it out for a local tier that is not used during an outage")
	case ttl:
		c.checkPositive(s, "write strategy.Forever() for no end")
		c.checkResolution(s)
	case sliding:
		c.checkPositive(s, "leave it out for none")
		c.checkResolution(s)
	case softTimeout:
		c.checkPositive(s, "leave it out for none, or write strategy.StaleWhileRevalidate(d) to wait for nothing")
	case hardTimeout:
		c.checkPositive(s, "a load needs an end: write a longer one, or leave it out for the default")
	case staleWhileRevalidate, staleIfError, retryAfter, errorTTL, notFoundTTL:
		if s.d < 0 {
			c.mistake("%v: must not be negative: write %v for none", s, s.with(0))
		}
		c.checkResolution(s)
		c.checkErrors(s)
	case jitter:
		if !(s.x >= 0 && s.x < 1) { // so that NaN is out
			c.mistake("%v: write a fraction from 0 to below 1: strategy.Jitter(0.1) ends lives up to a tenth early", s)
		}
	case refreshAhead:
		if !(s.x > 0 && s.x < 1) {
			c.mistake("%v: write a fraction between 0 and 1: strategy.RefreshAhead(0.8) refreshes after four fifths of the life; leave it out for none", s)
		}
	case earlyExpiration:
		if !(s.x > 0 && s.x <= math.MaxFloat64) {
			c.mistake("%v: write a positive number: strategy.EarlyExpiration(1) is usual; leave it out for none", s)
		}
	case writeBehind:
		c.checkBehind(s)
	case batchLoads:
		c.checkBatchLoads(s)
	case audit:
		if !(s.x > 0 && s.x <= 1) {
			c.mistake("%v: write a fraction above 0 and at most 1: strategy.Audit(0.0001) looks at one local hit in ten thousand; leave it out for none", s)
		}
	}
	return len(c.mistakes) == before
}

func (c *compiler) checkPositive(s setting, otherwise string) {
	if s.d <= 0 {
		c.mistake("%v: must be positive: %s", s, otherwise)
	}
}

// checkResolution refuses fractions of a millisecond, which Redis would cut off.
func (c *compiler) checkResolution(s setting) {
	if s.d <= 0 || s.d%time.Millisecond == 0 {
		return
	}
	const why = "Redis keeps whole milliseconds"
	below := s.d.Truncate(time.Millisecond)
	switch {
	case below == 0:
		c.mistake("%v: %s: write %v or more", s, why, s.with(time.Millisecond))
	case below > math.MaxInt64-time.Millisecond:
		c.mistake("%v: %s: write %v", s, why, s.with(below))
	default:
		c.mistake("%v: %s: write %v or %v", s, why, s.with(below), s.with(below+time.Millisecond))
	}
}

func (c *compiler) checkErrors(s setting) {
	for i, err := range s.errors() {
		switch {
		case err == nil:
			c.mistake("%v: error %d is nil, which would make successes absent: leave it out", s, i+1)
		case !usercode.Usable(err):
			c.mistake("%v: error %d can't be compared with others: %w", s, i+1, usercode.Checked(err))
		case usercode.Is(err, context.Canceled), usercode.Is(err, context.DeadlineExceeded):
			c.mistake("%v: error %d is the end of a context, which does not say that there is nothing: leave it out", s, i+1)
		}
	}
}

func (c *compiler) checkBehind(s setting) {
	if s.empty {
		c.mistake("%v: a WriteBehindOption is empty: make it with BatchSize, BatchDelay or MaxAttempts", s)
	}
	if s.hasSize && s.size <= 0 {
		c.mistake("%v: the size of a batch must be positive: write strategy.BatchSize(1) for single writes", s)
	}
	if s.hasDelay && s.delay < 0 {
		c.mistake("%v: the delay of a batch must not be negative: write strategy.BatchDelay(0) to wait for nothing", s)
	}
	if s.hasAttempts && s.attempts <= 0 {
		c.mistake("%v: there must be an attempt: write strategy.MaxAttempts(1) to try once", s)
	}
}

func (c *compiler) checkBatchLoads(s setting) {
	switch {
	case s.n < 2:
		c.mistake("%v: a call for fewer than two keys is no batch: write at least 2, or leave it out", s)
	case s.n > maxEntries:
		c.mistake("%v: no source is asked for so many keys at once: write at most %v", s, setting{kind: s.kind, n: maxEntries, d: s.d})
	}
	if s.d <= 0 {
		c.mistake("%v: the wait for more keys must be positive: some milliseconds at most are usual", s)
	}
}

// checkCombination reports contradictions, and strategies without effect, in p. Checks that
// depend on a strategy that is itself invalid are left out: their result would be a guess.
func (c *compiler) checkCombination(p *Policy) {
	for _, check := range []struct {
		on    []kind // the slots that it judges
		check func(*Policy)
	}{
		{[]kind{localBytes, lru}, c.checkLocalBytes},
		{[]kind{localTTL, lru}, c.checkLocalTTL},
		{[]kind{localDuringOutage, lru}, c.checkLocalDuringOutage},
		{[]kind{sliding, ttl}, c.checkSliding},
		{[]kind{refreshAhead, ttl}, c.checkRefreshAhead},
		{[]kind{earlyExpiration, ttl}, c.checkEarlyExpiration},
		{[]kind{ttl, staleWhileRevalidate, staleIfError}, c.checkSum},
		{[]kind{softTimeout, staleIfError}, c.checkSoftTimeout},
		{[]kind{softTimeout, hardTimeout}, c.checkTimeouts},
		{[]kind{retryAfter, staleWhileRevalidate, staleIfError}, c.checkRetryAfter},
		{[]kind{batchLoads, softTimeout, hardTimeout}, c.checkBatchWait},
		{[]kind{audit, lru}, c.checkAudit},
	} {
		if !c.anyBroken(check.on) {
			check.check(p)
		}
	}
}

func (c *compiler) anyBroken(slots []kind) bool {
	for _, k := range slots {
		if c.broken[k] {
			return true
		}
	}
	return false
}

func (c *compiler) checkLocalBytes(p *Policy) {
	if s, ok := c.get(localBytes); ok && p.LocalEntries == 0 {
		c.mistake("%v: there is no local tier: add strategy.LRU(n) or strategy.TinyLFU(n)", s)
	}
}

func (c *compiler) checkLocalTTL(p *Policy) {
	if s, ok := c.get(localTTL); ok && p.LocalEntries == 0 {
		c.mistake("%v: there is no local tier: add strategy.LRU(n) or strategy.TinyLFU(n)", s)
	}
}

func (c *compiler) checkLocalDuringOutage(p *Policy) {
	if s, ok := c.get(localDuringOutage); ok && p.LocalEntries == 0 {
		c.mistake("%v: there is no local tier: add strategy.LRU(n) or strategy.TinyLFU(n)", s)
	}
}

func (c *compiler) checkSliding(p *Policy) {
	s, ok := c.get(sliding)
	if !ok || p.TTL > s.d {
		return
	}
	life, given := c.get(ttl)
	switch {
	case p.TTL == 0:
		c.mistake("%v: contradicts %v, which keeps what is not read: write strategy.TTL(d) for the longest life", s, life)
	case given:
		c.mistake("%v: does nothing, since %v ends every entry sooner: write a shorter time or a longer strategy.TTL(d)", s, life)
	default:
		c.mistake("%v: does nothing, since the default %v ends every entry sooner: add a longer strategy.TTL(d)", s, setting{kind: ttl, d: p.TTL})
	}
}

func (c *compiler) checkRefreshAhead(p *Policy) {
	if s, ok := c.get(refreshAhead); ok && p.TTL == 0 {
		c.mistake("%v: contradicts strategy.Forever(), which has no end to refresh ahead of: write strategy.TTL(d)", s)
	}
}

func (c *compiler) checkEarlyExpiration(p *Policy) {
	if s, ok := c.get(earlyExpiration); ok && p.TTL == 0 {
		c.mistake("%v: contradicts strategy.Forever(), which has no end to be early for: write strategy.TTL(d)", s)
	}
}

// checkSum bounds what Redis keeps an entry for. A sum that fits into a Duration
// fits into a point in time too: 292 years after now, in microseconds of Unix
// time, are a thousandth of what an int64 holds.
func (c *compiler) checkSum(p *Policy) {
	most := (math.MaxInt64 - p.TTL).Truncate(time.Millisecond)
	for _, slot := range []kind{staleWhileRevalidate, staleIfError} {
		if s, _ := c.get(slot); s.d > most {
			c.mistake("%v: too long together with a TTL of %v: write at most %v", s, p.TTL, s.with(most))
		}
	}
}

func (c *compiler) checkSoftTimeout(p *Policy) {
	if s, ok := c.get(softTimeout); ok && p.StaleIfError == 0 {
		c.mistake("%v: there is no stale value to fall back on: add strategy.StaleIfError(d)", s)
	}
}

func (c *compiler) checkTimeouts(p *Policy) {
	s, ok := c.get(softTimeout)
	if !ok || s.d < p.HardTimeout {
		return
	}
	if hard, given := c.get(hardTimeout); given {
		c.mistake("%v: must be below %v, which ends the load: write a shorter one", s, hard)
		return
	}
	c.mistake("%v: must be below the default %v, which ends the load: write a shorter one, or add a longer strategy.HardTimeout(d)",
		s, setting{kind: hardTimeout, d: p.HardTimeout})
}

func (c *compiler) checkRetryAfter(p *Policy) {
	if s, ok := c.get(retryAfter); ok && s.d > 0 && p.StaleFor() == 0 {
		c.mistake("%v: there is no stale value to answer with meanwhile: add strategy.StaleIfError(d), or write strategy.ErrorTTL(%v) to repeat the error", s, s.d)
	}
}

func (c *compiler) checkBatchWait(p *Policy) {
	s, ok := c.get(batchLoads)
	if !ok {
		return
	}
	if s.d >= p.HardTimeout {
		c.mistake("%v: waits until %v has ended the loads: write a shorter wait", s, setting{kind: hardTimeout, d: p.HardTimeout})
	}
	if p.SoftTimeout > 0 && s.d >= p.SoftTimeout {
		c.mistake("%v: waits until %v has answered with stale values: write a shorter wait", s, setting{kind: softTimeout, d: p.SoftTimeout})
	}
}

func (c *compiler) checkAudit(p *Policy) {
	if s, ok := c.get(audit); ok && p.LocalEntries == 0 {
		c.mistake("%v: there is no local tier: add strategy.LRU(n) or strategy.TinyLFU(n)", s)
	}
}
