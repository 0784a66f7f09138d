package coherence

import (
	"context"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// A change of Redis begins with Send, or with a method of the invalidator, and ends with the one
// of EndWrite, EndPattern and EndTombstones that takes its outcome. What Redis has acknowledged
// is replayed if a failover may have lost it. What it has not is queued, to be retried until
// Redis and the other processes have it; until then the local tier does not answer for what it
// concerns, and a record of Redis that it concerns is not trusted.

// Send runs commands that change keys. Notifications of them that this process receives are
// recognised as its own writes.
func (a *Coordinator) Send(ctx context.Context, cmds []store.Command) []store.Reply {
	for i := range cmds {
		if cmds[i].Op != store.GetHeader {
			a.ownBegin(&cmds[i])
		}
	}
	replies := a.cfg.Client.Do(ctx, cmds)
	for i := range replies {
		if cmds[i].Op != store.GetHeader {
			a.ownEnd(&cmds[i], &replies[i])
		}
	}
	return replies
}

// EndWrite takes the outcome of a write or an invalidation of a key that was sent after the
// local time sent. If err is not nil, it is retried as an invalidation, since by then there may
// be a newer value; it.Numbers are those of messages that stay open until then.
func (a *Coordinator) EndWrite(it retryqueue.Item, sent int64, err error) {
	if err != nil {
		it.Token = ""
		a.scheduleRetry(it)
		return
	}
	it.Numbers = nil
	a.noted(it, sent)
}

// EndPattern is EndWrite for an invalidation by a pattern. numbers are those of messages that
// stay open if err is not nil.
func (a *Coordinator) EndPattern(pattern string, numbers []uint64, sent int64, err error) {
	if err != nil {
		a.schedulePattern(pattern, numbers, sent)
		return
	}
	a.notedPattern(pattern, sent)
}

// EndTombstones is EndWrite for an invalidation of tags, or of everything if there are none, in the
// part of l: m is
// what Redis answered, and l was begun before it was sent. When it returns nil, no entry that the
// invalidation concerns is served any more.
func (a *Coordinator) EndTombstones(ctx context.Context, tags []string, m logicalclock.Reading, numbers []uint64, l EpochRead, err error) error {
	if err != nil {
		l.part.scheduleTombstones(tags, numbers, l.at)
		return err
	}
	return l.part.ownTombstones(ctx, tags, nil, m, l)
}
