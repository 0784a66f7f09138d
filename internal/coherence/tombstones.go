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
	ask := func(p *Part, tags []string) bool {
		known := p.Clock.Known()
		m, err := a.cfg.Client.ReadClock(ctx, p.names, p.Claim(), tags)
		if err != nil {
			return false
		}
		p.noteRepair(&m, known)
		all := noted(&m, m.Epoch.All)
		if len(a.parts) == 1 && told.All && told.Tombstones[""].In(all) {
			told.All = false
		}
		if len(a.parts) > 1 {
			s := p.allSubject()
			has[s] = told.Tombstones[s].In(all)
		}
		for i, s := range p.tagSubjectsOf(tags) {
			has[s] = told.Tombstones[s].In(noted(&m, m.Tags[i]))
		}
		return true
	}
	tags, all, _ := a.tagsAndPatterns(told.Tags)
	for i, p := range a.parts {
		if len(tags[i]) == 0 && (all[i] || told.All && len(a.parts) == 1) {
			ask(p, nil)
		}
		for some := range slices.Chunk(tags[i], askedAtOnce) {
			if !ask(p, some) {
				break
			}
		}
	}
	told.Tags = slices.DeleteFunc(told.Tags, func(t string) bool { return has[t] })
}

// askedAtOnce bounds the tags of one request or one step.
const askedAtOnce = 1000
