package strategy

import (
	"math"
	"time"

	"github.com/delqhi/cache/internal/usercode"
)

// Lifetime is how long a value without a life of its own is fresh: the TTL, shortened by
// [Policy.Spread]. 0 is without end. rnd is a random number in [0, 1).
func (p *Policy) Lifetime(rnd float64) time.Duration { return p.Spread(p.TTL, rnd) }

// Spread shortens a life d by a whole number of milliseconds, from none to the fraction of d
// that Jitter allows, all equally likely for a rnd that is uniform in [0, 1). A positive d
// stays positive: at least 1 ms of it is left, or all of a shorter one. A d that is not
// positive is returned as it is.
func (p *Policy) Spread(d time.Duration, rnd float64) time.Duration {
	most := int64(float64(d.Milliseconds()) * p.Jitter)
	if most <= 0 || !(rnd > 0) {
		return d
	}
	// One more than the maximum, so that the full cut is as likely as any other.
	cut := min(int64(min(rnd, 1)*float64(most+1)), most)
	return max(d-time.Duration(cut)*time.Millisecond, min(d, time.Millisecond))
}

// ShouldRefresh reports whether a fresh entry that is being read is to be refreshed already:
// because it has lived the fraction of RefreshAhead, or by the random decision of
// EarlyExpiration. age is how long ago it was stored, fresh its whole fresh life (0: without
// end, which is never refreshed), cost how long it took to load (0: not known, which leaves
// EarlyExpiration without effect), rnd a random number in [0, 1), drawn for this read. rnd
// matters only if p.EarlyExpiration is not 0.
func (p *Policy) ShouldRefresh(age, fresh, cost time.Duration, rnd float64) bool {
	if fresh <= 0 {
		return false
	}
	if p.RefreshAhead > 0 && float64(age) >= p.RefreshAhead*float64(fresh) {
		return true
	}
	if p.EarlyExpiration > 0 && cost > 0 {
		// XFetch: now - delta*beta*ln(U) >= expiry. U is in (0, 1], so that its
		// logarithm is finite; 1-rnd is.
		early := -float64(cost) * p.EarlyExpiration * math.Log(1-rnd)
		return float64(age)+early >= float64(fresh)
	}
	return false
}

// StaleFor is how long after its fresh life a value may still be of use, and
// Redis keeps it: the longer of the two windows, 0 without one.
func (p *Policy) StaleFor() time.Duration { return max(p.StaleWhileRevalidate, p.StaleIfError) }

// AllowsStale reports whether a value may be returned although its fresh life ended the time
// past ago: in the window of StaleWhileRevalidate always, in that of StaleIfError only if the
// load failed or took longer than the SoftTimeout. The windows end before their last instant,
// as Redis's keys do. A negative past counts as 0.
func (p *Policy) AllowsStale(past time.Duration, failed bool) bool {
	past = max(past, 0)
	return past < p.StaleWhileRevalidate || failed && past < p.StaleIfError
}

// Absence returns those of NotFoundErrors that a load's error matches, by errors.Is: with any
// of them the error means that the value does not exist. It is nil for a nil error.
func (p *Policy) Absence(err error) []error {
	if err == nil {
		return nil
	}
	var matched []error
	for _, e := range p.NotFoundErrors {
		if usercode.Is(err, e) {
			matched = append(matched, e)
		}
	}
	return matched
}
