package metrics

import "time"

// Relay is what exporters and the dashboard show of an outbox: an *outbox.Relay, of the module
// outbox.
type Relay interface {
	// Outboxes returns one Outbox for each cache of the relay, ordered by name. It does no I/O.
	Outboxes() []Outbox
}

// Outbox is what a relay has counted of one cache since it was made, and how far it is. Of the
// relays of a cache one is at work at a time: only that one knows the gauges, which are 0 elsewhere.
type Outbox struct {
	Cache string // the name of the cache

	Held        bool          // this relay is at work on the cache
	Unavailable bool          // gauge: rows wait because Redis does not acknowledge them
	Lag         time.Duration // gauge: the age of the oldest row that waits; 0 if there is none
	Backlog     uint64        // gauge: rows that wait, as they were last counted, within seconds
	DeadLetters uint64        // gauge: rows that were refused too often, likewise

	Applied        uint64        // rows that were acknowledged and removed
	Merged         uint64        // of these: rows that another row was applied for as well
	Replaced       uint64        // of these: rows whose value took the place of the old one
	Waited         time.Duration // the sum of their ages when they were applied
	Postponed      uint64        // attempts that Redis did not acknowledge
	Refused        uint64        // attempts that failed otherwise
	Buried         uint64        // rows that became dead letters
	DatabaseErrors uint64        // looks at the database that failed, of all caches of the relay
}

// Add returns what two relays have counted of a cache, as if they were one: the sum of the counters,
// and of the gauges the greater ones.
func (o Outbox) Add(other Outbox) Outbox {
	o.Held = o.Held || other.Held
	o.Unavailable = o.Unavailable || other.Unavailable
	o.Lag = max(o.Lag, other.Lag)
	o.Backlog = max(o.Backlog, other.Backlog)
	o.DeadLetters = max(o.DeadLetters, other.DeadLetters)
	o.Applied += other.Applied
	o.Merged += other.Merged
	o.Replaced += other.Replaced
	o.Waited += other.Waited
	o.Postponed += other.Postponed
	o.Refused += other.Refused
	o.Buried += other.Buried
	o.DatabaseErrors += other.DatabaseErrors
	return o
}
