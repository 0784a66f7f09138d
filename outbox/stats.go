package outbox

import (
	"maps"
	"time"
)

// Stats is what a relay has counted since it was made, and how far it is. It can be encoded as
// JSON.
type Stats struct {
	Caches         map[string]CacheStats // by name, those of the targets
	Notifications  uint64                // calls of Listen's wake
	DatabaseErrors uint64                // looks at the database that failed
}

// CacheStats is the part of [Stats] of one cache. Rows are counted by the relay that applied them.
type CacheStats struct {
	Held        bool // this relay invalidates the cache; Lag and Unavailable are known there only
	Unavailable bool // rows wait because Redis did not acknowledge them

	Lag time.Duration // the age of the oldest row that was to be applied, at the last look; 0 if there was none

	Applied   uint64        // rows that were acknowledged and removed
	Merged    uint64        // those of them that another row was applied for as well
	Replaced  uint64        // those of them whose value of Set took the place of the old one
	Waited    time.Duration // the sum of their ages; divided by Applied, the mean lag
	Postponed uint64        // attempts that Redis did not acknowledge
	Refused   uint64        // attempts of rows that failed otherwise
	Dead      uint64        // rows that have become dead letters
}

// Stats returns a snapshot. It does no I/O; [Outbox.Backlogs] asks the database.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	if s.Caches = maps.Clone(r.stats.Caches); s.Caches == nil {
		s.Caches = map[string]CacheStats{}
	}
	return s
}

func (r *Relay) note(f func(*Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stats.Caches == nil {
		r.stats.Caches = map[string]CacheStats{}
	}
	f(&r.stats)
}
