package outbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/delqhi/cache/metrics"
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
	Held        bool // this relay invalidates the cache; the next four are known there only
	Unavailable bool // rows wait because Redis did not acknowledge them

	Lag         time.Duration // the age of the oldest row that waits; 0 if the last look has found none
	Backlog     uint64        // rows that wait, as they were last counted: within 5 seconds, or later if counting takes long
	DeadLetters uint64        // dead letters in the table, likewise

	Applied   uint64        // rows that were acknowledged and removed
	Merged    uint64        // those of them that another row was applied for as well
	Replaced  uint64        // those of them whose value of Set took the place of the old one
	Waited    time.Duration // the sum of their ages; divided by Applied, the mean lag
	Postponed uint64        // attempts that Redis did not acknowledge
	Refused   uint64        // attempts of rows that failed otherwise
	Dead      uint64        // rows that this relay has made dead letters
}

// known is what the gauges of [CacheStats] are computed from.
type known struct {
	until  time.Time // the lease ends
	looked time.Time // the lag is of then
}

// Stats returns a snapshot. It does no I/O; [Outbox.Backlogs] asks the database. While the database
// does not answer, the lag of a row that waits grows on, until the lease has ended.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	s := r.stats
	s.Caches = make(map[string]CacheStats, len(r.stats.Caches))
	for name, c := range r.stats.Caches {
		k := r.known[name]
		switch {
		case !c.Held || !now.Before(k.until):
			c.Held, c.Unavailable, c.Lag, c.Backlog, c.DeadLetters = false, false, 0, 0, 0
		case c.Lag > 0:
			c.Lag += max(0, now.Sub(k.looked))
		}
		s.Caches[name] = c
	}
	return s
}

// Outboxes implements metrics.Relay, for the exporters and the dashboard: [Relay.Stats] for all
// targets. Before [Relay.Run] has begun they are what they are without a relay at work.
func (r *Relay) Outboxes() []metrics.Outbox {
	s := r.Stats()
	for _, t := range r.Targets {
		if !isNil(t) {
			s.Caches[t.Name()] = s.Caches[t.Name()] // shown before it has begun
		}
	}
	all := make([]metrics.Outbox, 0, len(s.Caches))
	for _, name := range slices.Sorted(maps.Keys(s.Caches)) {
		c := s.Caches[name]
		all = append(all, metrics.Outbox{
			Cache: name, Held: c.Held, Unavailable: c.Unavailable, Lag: c.Lag, Backlog: c.Backlog, DeadLetters: c.DeadLetters,
			Applied: c.Applied, Merged: c.Merged, Replaced: c.Replaced, Waited: c.Waited,
			Postponed: c.Postponed, Refused: c.Refused, Buried: c.Dead, DatabaseErrors: s.DatabaseErrors,
		})
	}
	return all
}

var _ metrics.Relay = (*Relay)(nil)

// note changes the figures. With them go the times that the gauges are computed from.
func (r *Relay) note(f func(*Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stats.Caches == nil {
		r.stats.Caches, r.known = map[string]CacheStats{}, map[string]known{}
	}
	f(&r.stats)
}

const (
	countEvery    = 5 * time.Second // at most; and 20 polls
	countsAtPolls = 20
)

// count counts the rows of the caches that this run holds, from time to time: it reads all of them
// from an index.
func (n *run) count(ctx context.Context) error {
	began := time.Now()
	if began.Before(n.counted) {
		return nil
	}
	held := n.active()
	if len(held) > 0 {
		s := n.Outbox.statement().add("SELECT cache, state, COUNT(*) FROM " + n.Outbox.table + " WHERE cache IN ")
		in(s, names(held)).add(" GROUP BY cache, state")
		counts, err := n.readCounts(ctx, s)
		if err != nil {
			return fmt.Errorf("count: %w", err)
		}
		n.note(func(s *Stats) {
			for _, name := range held {
				c := s.Caches[name]
				c.Backlog, c.DeadLetters = counts[name][0], counts[name][1]
				s.Caches[name] = c
			}
		})
	}
	took := time.Since(began)
	n.counted = began.Add(took + max(min(countEvery, countsAtPolls*n.poll), 20*took)) // a twentieth of the time at most
	return nil
}

// readCounts returns for each cache how many rows wait, and how many are dead letters.
func (n *run) readCounts(ctx context.Context, s *statement) (map[string][2]uint64, error) {
	rows, err := n.DB.QueryContext(ctx, s.text.String(), s.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := map[string][2]uint64{}
	for rows.Next() {
		var name []byte
		var state, number int64
		if err := rows.Scan(&name, &state, &number); err != nil {
			return nil, err
		}
		c := counts[string(name)]
		if state == 0 {
			c[0] += uint64(number)
		} else {
			c[1] += uint64(number)
		}
		counts[string(name)] = c
	}
	return counts, rows.Err()
}
