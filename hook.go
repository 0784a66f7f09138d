package cache

import (
	"errors"

	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
)

func init() {
	hook.Store = func(open func() store.Store) any {
		return option(func(c *config) { c.open = open })
	}
	hook.Of = func(c any) hook.Parts { return c.(interface{ parts() hook.Parts }).parts() }
	hook.LeaseLife, hook.LeasePoll, hook.PollMost = leaseLife, leasePoll, pollMost
	hook.FailureLife, hook.DefaultTimeout = failureLife, defaultTimeout
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

func (c *Cache[K, V]) parts() hook.Parts {
	p := hook.Parts{
		Names: c.names, Coherence: c.coherence, Loads: c.flights.Len,
		Refreshes: c.refresher.len, Fence: c.fences.Token, Invalidation: c.invalidation, Version: c.valueVersion,
		NoLoads:      func() bool { return c.limit.places.TryAcquire(defaultLoadLimit) },
		NoFailures:   c.failures.none,
		PredictMiss:  func() { c.missPredictor.streak = 0 },
		PredictsMiss: func() bool { return c.missPredictor.misses.Load() >= c.missPredictor.streak },
	}
	if c.local != nil {
		p.Local = c.local
	}
	return p
}
