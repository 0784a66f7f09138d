package metrictable

import (
	"cmp"
	"slices"

	"github.com/delqhi/cache/metrics"
)

// OfOutbox returns the metrics of an outbox, as [Of] those of a cache. What only the relay at work
// knows has no series elsewhere, so that a sum or a maximum over all processes is right.
func OfOutbox(o *metrics.Outbox) []Metric {
	known := func(n uint64) []Series {
		if !o.Held {
			return nil
		}
		return only(n)
	}
	return []Metric{
		{"cache_outbox_held", "cache.outbox.held", "1", Gauge, "Whether the relay of this process is at work on the cache; one of all is.", nil, only(bit(o.Held))},
		{"cache_outbox_lag_seconds", "cache.outbox.lag", "s", Seconds, "The age of the oldest row of the outbox that waits; 0 if there is none, and absent where the relay is not at work.", nil, known(uint64(o.Lag))},
		{"cache_outbox_backlog", "cache.outbox.backlog", "{row}", Gauge, "Rows of the outbox that wait, likewise.", nil, known(o.Backlog)},
		{"cache_outbox_dead_letters", "cache.outbox.dead_letters", "{row}", Gauge, "Rows of the outbox that were refused too often, likewise.", nil, known(o.DeadLetters)},
		{"cache_outbox_unavailable", "cache.outbox.unavailable", "1", Gauge, "Whether rows of the outbox wait because Redis does not acknowledge them, likewise.", nil, known(bit(o.Unavailable))},

		{"cache_outbox_applied_total", "cache.outbox.applied", "{row}", Counter, "Rows of the outbox that were applied and removed.", nil, only(o.Applied)},
		{"cache_outbox_merged_total", "cache.outbox.merged", "{row}", Counter, "Of these: rows that another row was applied for as well.", nil, only(o.Merged)},
		{"cache_outbox_replaced_total", "cache.outbox.replaced", "{row}", Counter, "Of these: rows whose value took the place of the old one.", nil, only(o.Replaced)},
		{"cache_outbox_wait_seconds_total", "cache.outbox.wait", "s", SecondsCounter, "The sum of the ages of the rows of the outbox that were applied.", nil, only(uint64(o.Waited))},
		{"cache_outbox_postponed_total", "cache.outbox.postponed", "{attempt}", Counter, "Attempts to apply a row of the outbox that Redis did not acknowledge.", nil, only(o.Postponed)},
		{"cache_outbox_refused_total", "cache.outbox.refused", "{attempt}", Counter, "Attempts to apply a row of the outbox that failed otherwise.", nil, only(o.Refused)},
		{"cache_outbox_buried_total", "cache.outbox.buried", "{row}", Counter, "Rows of the outbox that became dead letters.", nil, only(o.Buried)},
		{"cache_outbox_database_errors_total", "cache.outbox.database.errors", "{look}", Counter, "Looks at the database that failed, by the relay that has the cache.", nil, only(o.DatabaseErrors)},
	}
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Outboxes returns those of all relays, ordered by name; what several have of one cache is added.
func Outboxes(relays []metrics.Relay) []metrics.Outbox {
	var all []metrics.Outbox
	for _, r := range relays {
		for _, o := range r.Outboxes() {
			at, found := slices.BinarySearchFunc(all, o.Cache, func(o metrics.Outbox, name string) int { return cmp.Compare(o.Cache, name) })
			if found {
				all[at] = all[at].Add(o)
			} else {
				all = slices.Insert(all, at, o)
			}
		}
	}
	return all
}
