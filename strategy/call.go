package strategy

import (
	"errors"
	"math"
	"time"
)

// wholeCache says of the kinds of strategies that one call can't have for itself why not, by
// their slots.
var wholeCache = [kinds]string{
	lru:               "all entries share one local tier: write it in WithStrategy, and cache.SkipLocal for a call that reads past it",
	localBytes:        "all entries share one local tier: write it in WithStrategy",
	localTTL:          "an entry of the local tier answers other calls too: write it in WithStrategy, or cache.MaxAge(d) for how old a value this call takes",
	localDuringOutage: "what is kept for this call answers others too: write it in WithStrategy, or cache.MaxAge(d) for how old a value this call takes",
	sliding:           "every reader has to prolong by the same idle time: write it in WithStrategy",
	refreshAhead:      "every reader has to find the same entries due: write it in WithStrategy, or cache.MaxAge(d) for how old a value this call takes",
	earlyExpiration:   "every reader has to find the same entries due: write it in WithStrategy, or cache.MaxAge(d) for how old a value this call takes",
	batchLoads:        "one call of LoadMany serves the loads of many calls: write it in WithStrategy",
	audit:             "the hits of all calls are looked at alike: write it in WithStrategy",
	writeThrough:      "the writes of a key have one order only if all go the same way: write it in WithStrategy",
}

// ForCall returns the policy of one call: p, with the strategies of the list in the places of
// its own. Possible are those that concern a single read and its load: [TTL], [Forever],
// [Jitter], [StaleWhileRevalidate], [StaleIfError], [RetryAfter], [SoftTimeout], [HardTimeout],
// [ErrorTTL], and [NotFoundTTL] without errors. All others are refused, as is what could have
// no effect: a stale window that is longer than that of p, since nothing is kept for so long.
// The error joins all mistakes, each with the remedy; it wraps cache.ErrInvalidOption.
func (p *Policy) ForCall(list ...Strategy) (Policy, error) {
	var c compiler
	for i, s := range list {
		c.add(i, s)
	}
	q := *p
	for _, slot := range c.order {
		s := *c.held[slot]
		switch slot {
		case ttl:
			q.TTL = s.d // 0 in Forever's setting
		case jitter:
			q.Jitter = s.x
		case staleWhileRevalidate:
			q.StaleWhileRevalidate = s.d
		case staleIfError:
			q.StaleIfError = s.d
		case retryAfter:
			q.RetryAfter = s.d
		case softTimeout:
			q.SoftTimeout = s.d
		case hardTimeout:
			q.HardTimeout, q.Abandons = s.d, true
		case errorTTL:
			q.ErrorTTL = s.d
		case notFoundTTL:
			if s.also != nil {
				c.mistake("%v: which errors mean absence has to be the same for all readers of what is remembered: write them in WithStrategy, and %v here", s, setting{kind: notFoundTTL, d: s.d})
				continue
			}
			q.NotFoundTTL = s.d
		default:
			c.mistake("%v: not for one call: %s", s, wholeCache[slot])
		}
	}
	c.checkCall(p, &q)
	if len(c.mistakes) > 0 {
		return Policy{}, errors.Join(c.mistakes...)
	}
	return q, nil
}

// checkCall reports what could have no effect in q, the policy of a call of a cache with the
// policy p. What is without effect only because of another strategy of the call is none: lists
// are put together in several places.
func (c *compiler) checkCall(p, q *Policy) {
	for _, slot := range []kind{staleWhileRevalidate, staleIfError} {
		s, ok := c.get(slot)
		switch {
		case !ok || s.d <= p.StaleFor():
		case p.StaleFor() == 0:
			c.mistake("%v: the cache keeps no stale values: write a window in WithStrategy, for this call or all", s)
		default:
			c.mistake("%v: the cache keeps stale values for %v: write at most that, or a longer window in WithStrategy", s, p.StaleFor())
		}
	}
	c.checkCallWait(q)
	if s, ok := c.get(softTimeout); ok {
		_, window := c.get(staleIfError)
		switch {
		case p.StaleIfError == 0 && !window:
			c.mistake("%v: there is no stale value to fall back on: add strategy.StaleIfError(d), here or in WithStrategy", s)
		case s.d >= q.HardTimeout:
			c.mistake("%v: must be below %v, which ends the load: write a shorter one", s, setting{kind: hardTimeout, d: q.HardTimeout})
		}
	}
	if s, ok := c.get(retryAfter); ok && s.d > 0 && p.StaleFor() == 0 {
		c.mistake("%v: there is no stale value to answer with meanwhile: write strategy.ErrorTTL(%v) to repeat the error", s, s.d)
	}
	if s, ok := c.get(ttl); ok {
		if most := (math.MaxInt64 - p.StaleFor()).Truncate(time.Millisecond); s.d > most {
			c.mistake("%v: too long together with a stale window of %v: write at most %v", s, p.StaleFor(), s.with(most))
		}
	}
}

// checkCallWait reports timeouts of a call that end before a batch of loads begins.
func (c *compiler) checkCallWait(q *Policy) {
	for _, slot := range []kind{softTimeout, hardTimeout} {
		if s, ok := c.get(slot); ok && q.BatchLoads > 0 && s.d <= q.BatchWait {
			c.mistake("%v: ends before the load begins, which waits for others as %v says: write a longer one", s, setting{kind: batchLoads, n: int64(q.BatchLoads), d: q.BatchWait})
		}
	}
}
