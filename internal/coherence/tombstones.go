package coherence

import (
	"context"
	"slices"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/retryqueue"
)

// answered returns Redis's answer to an invalidation by tag, or of everything.
func answered(m *logicalclock.Reading) []retryqueue.Tombstone {
	if len(m.Tags) == 0 {
		return []retryqueue.Tombstone{noted(m, m.Epoch.All)}
	}
	out := make([]retryqueue.Tombstone, len(m.Tags))
	for i, t := range m.Tags {
		out[i] = noted(m, t)
	}
	return out
}

func noted(m *logicalclock.Reading, t logicalclock.Tombstone) retryqueue.Tombstone {
	u := retryqueue.Tombstone{Epoch: m.Epoch.ID, Hard: t.Hard, Soft: t.Soft, Next: t.Next}
	if t.Dated() {
		u.Before = t.When
	}
	return u
}

// withoutTombstoned removes from told the tags, or the invalidation of everything, whose tombstones
// Redis still has. Another invalidation, at a later time, would remove what other processes
// have stored since:
//
//  1. the first operation of this process is a Clear, before the server identity is known
//  2. other processes store values
//  3. this process reads. It opens a connection for that, and makes sure that Redis has not
//     lost the Clear
//
// Redis is asked in any case: what it has lost can't be known here.
func (a *Coordinator) withoutTombstoned(ctx context.Context, told *retryqueue.Replay) {
	if !told.All && len(told.Tags) == 0 {
		return
	}
	has := map[string]bool{}
	ask := func(tags []string) bool {
		m, err := a.cfg.Client.ReadClock(ctx, a.cfg.Names, a.Claim(), tags)
		if err != nil {
			return false
		}
		if told.All && told.Tombstones[""].In(noted(&m, m.Epoch.All)) {
			told.All = false
		}
		for i, t := range tags {
			has[aTag+t] = told.Tombstones[aTag+t].In(noted(&m, m.Tags[i]))
		}
		return true
	}
	tags, _ := tagsAndPatterns(told.Tags)
	if len(tags) == 0 {
		ask(nil)
	}
	for some := range slices.Chunk(tags, askedAtOnce) {
		if !ask(some) {
			break
		}
	}
	told.Tags = slices.DeleteFunc(told.Tags, func(t string) bool { return has[t] })
}

// askedAtOnce bounds the tags of one request or one step.
const askedAtOnce = 1000
