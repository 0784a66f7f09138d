package engine

import (
	"errors"

	"github.com/delqhi/cache/internal/hook"
)

func init() {
	hook.LeaseLife, hook.LeasePoll, hook.PollMost = leaseLife, leasePoll, pollMost
	hook.FailureLife = failureLife
	hook.ReleaseGrace, hook.CloseGrace, hook.StatsEvery = releaseGrace, closeGrace, statsEvery
	hook.QueueFactor, hook.RefreshesAtOnce = queueFactor, refreshesAtOnce
	hook.AskAgain, hook.MissStreak = askAgain, missStreak
	hook.ErrHardTimeout, hook.ErrSoftTimeout, hook.ErrWaitsForItself = errHardTimeout, errSoftTimeout, errWaitsForItself
	hook.IsPeerLoadError, hook.IsAbsentError = isPeerLoadError, isAbsentError
}

func isPeerLoadError(err error) bool {
	var e *peerLoadError
	return errors.As(err, &e)
}

func isAbsentError(err error) bool {
	var e *absentError
	return errors.As(err, &e)
}

// Parts returns the cache's parts, for tests.
func (c *Cache) Parts() hook.Parts {
	p := hook.Parts{
		Names: c.names, Loads: c.flights.Len,
		Refreshes: c.refresher.len, Fence: c.fences.Token, Invalidation: c.invalidation, Version: c.valueVersion,
		NoLoads:    func() bool { return c.limit.free.Load() == c.limit.most/queueFactor },
		NoFailures: c.failures.none,
	}
	p.Coherence = c.validity
	if r, ok := c.backend.(*remote); ok {
		p.PredictMiss = func() { r.missPredictor.streak = 0 }
		p.PredictsMiss = func() bool { return r.missPredictor.misses.Load() >= r.missPredictor.streak }
	}
	return p
}
