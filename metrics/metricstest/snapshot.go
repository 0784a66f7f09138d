package metricstest

import (
	"errors"
	"fmt"

	"github.com/delqhi/cache/metrics"
)

// CheckSnapshot checks that the counters of s add up as documented at [metrics.Snapshot]. It is
// meant for a cache at rest: while requests and loads are in flight, and in a difference that
// began while they were, the counters of beginnings and of ends differ. The error joins all
// equations that do not hold.
func CheckSnapshot(s metrics.Snapshot) error {
	var found []error
	must := func(ok bool, format string, args ...any) {
		if !ok {
			found = append(found, fmt.Errorf(format, args...))
		}
	}
	must(s.StaleHits <= s.Hits(), "%d stale hits of %d hits", s.StaleHits, s.Hits())
	must(s.AbsentHits <= s.Hits(), "%d absent hits of %d hits", s.AbsentHits, s.Hits())
	must(s.Refreshes <= s.Loads, "%d refreshes of %d loads", s.Refreshes, s.Loads)
	must(s.Misses() == s.Loads-s.Refreshes+s.Coalesced+s.Awaited+s.Unloaded,
		"%d misses, but %d loads without %d refreshes, %d coalesced, %d awaited and %d without a load",
		s.Misses(), s.Loads, s.Refreshes, s.Coalesced, s.Awaited, s.Unloaded)
	must(s.NotFound+s.LoadErrors <= s.Loads, "%d not found and %d failed of %d loads", s.NotFound, s.LoadErrors, s.Loads)
	must(s.LoadPanics <= s.LoadErrors, "%d panics of %d failed loads", s.LoadPanics, s.LoadErrors)
	must(s.Load.Count <= s.Loads, "%d calls of loaders for %d keys", s.Load.Count, s.Loads)
	must(s.StaleCovers <= s.Misses(), "%d stale covers of %d misses", s.StaleCovers, s.Misses())
	must(s.Fallbacks <= s.MissUnavailable, "%d fallbacks of %d requests without Redis", s.Fallbacks, s.MissUnavailable)
	must(s.MissUndecodable <= s.Undecodable, "%d misses by %d undecodable records", s.MissUndecodable, s.Undecodable)
	must(s.Breaker == metrics.Closed || s.Breaker == metrics.HalfOpen || s.Breaker == metrics.Open,
		"the breaker is %v", s.Breaker)
	must(s.Listener == metrics.Closed || s.Listener == metrics.Up || s.Listener == metrics.Down,
		"the listener is %v", s.Listener)
	for name, h := range map[string]metrics.Histogram{
		"Get": s.Get, "GetMany": s.GetMany, "Set": s.Set, "Delete": s.Delete, "Load": s.Load, "Remote": s.Remote,
	} {
		var sum uint64
		for _, n := range h.Counts {
			sum += n
		}
		must(sum == h.Count, "histogram %s has %d durations in its buckets and counts %d", name, sum, h.Count)
	}
	return errors.Join(found...)
}
