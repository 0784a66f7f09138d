package coherence

import (
	"context"
	"slices"

	"github.com/delqhi/cache/internal/retryqueue"
)

// noted records a write or an invalidation that Redis has acknowledged, and that was sent after
// the local time sent: if a failover to a server that may lack it follows soon, it is replayed.
func (a *Coordinator) noted(it retryqueue.Item, sent int64) {
	a.recent.Note(it, sent, now())
	a.Of(it.Key).use()
	if a.queue.Has(it.Key) {
		a.queue.Acknowledge(it.Key, sent, a.atLatest(&it), it.Token)
		a.RedisUp()
	}
}

// notedPattern is noted for a pattern. For tags, applyOwnTombstones does the same.
func (a *Coordinator) notedPattern(pattern string, sent int64) {
	s := subjects(aPattern, []string{pattern})
	a.recent.NoteTombstones(s, nil, nil, sent, now())
	a.use()
	a.acknowledgedTombstones(s, sent)
}

// replayRecent queues this process's recent writes of keys of this part. There is a suspicion to
// settle: a replica may have been promoted, which may lack writes that its master had acknowledged.
// Writes sent after the time safe are not replayed; see look. Nor are tombstones that Redis has.
//
// A pattern concerns keys of all parts. It is queued once for the reasons by which it may have been
// lost, of which there are as many as reasons; from then on it is pending, or Redis has it.
func (p *Part) replayRecent(ctx context.Context, safe int64, reasons uint64) {
	a := p.a
	told := a.recent.Since(now(), safe)
	if len(a.parts) == 1 {
		a.replay(ctx, told)
		return
	}
	told.Items = slices.DeleteFunc(told.Items, func(it retryqueue.Item) bool { return a.Of(it.Key) != p })
	told.Tags = slices.DeleteFunc(told.Tags, func(t string) bool {
		u := parseSubject(t)
		return u.kind == aPattern && a.patternsOf.Load() >= reasons || u.kind != aPattern && u.part != p.of
	})
	a.withoutTombstoned(ctx, &told)
	p.replayTombstones(ctx, &told)
	a.queueReplay(told) // what can be delivered now, the caller delivers
	for {
		last := a.patternsOf.Load()
		if last >= reasons || a.patternsOf.CompareAndSwap(last, reasons) {
			return
		}
	}
}

// replayTombstones makes the tombstones of this part that a replay has, and removes them from it. They
// are not queued unless that fails: a record is not held against an invalidation in the queue that
// Redis has acknowledged once, and another goroutine may have taken what is queued, and wait for a
// node that has another part.
func (p *Part) replayTombstones(ctx context.Context, told *retryqueue.Replay) {
	a, made := p.a, 0
	again := func(tags, subjects []string) {
		pasts := make([]retryqueue.Past, len(subjects))
		for i, s := range subjects {
			pasts[i] = told.Pasts[s]
		}
		open, err := p.tombstonesLate(ctx, tags, pasts)
		if err == nil {
			made += len(subjects)
			return
		}
		a.notifyFailed(err)
		for i, s := range subjects {
			pasts[i].Acked = !a.serverID.changed(now())
			a.addTombstones([]string{s}, open, pasts[i])
			open = nil
		}
	}
	tags, all, patterns := a.tagsAndPatterns(told.Tags)
	if all[p.of] {
		again(nil, []string{p.allSubject()})
	}
	for some := range slices.Chunk(tags[p.of], askedAtOnce) {
		again(some, p.tagSubjects(some))
	}
	told.Tags = subjects(aPattern, patterns)
	if made > 0 {
		p.use()
		a.deliveredAny.Add(1)
		a.cfg.Events.Retried(made)
	}
}

// tombstonesLate makes tombstones of tags, or of everything in this part, whose invalidation was
// requested at the times pasts. It returns the number of a message that may or may not have been
// published, if any.
func (p *Part) tombstonesLate(ctx context.Context, tags []string, pasts []retryqueue.Past) (open []uint64, err error) {
	before := make([]int64, len(pasts))
	for i, past := range pasts {
		before[i] = p.a.date(ctx, p.names.Epoch, past)
	}
	l := p.beginLook()
	marks, open, err := p.a.invalidator.InvalidateTagsLate(ctx, p.of, tags, before)
	if err != nil {
		p.unreadable(err)
		return open, err
	}
	return open, p.ownTombstones(ctx, tags, pasts, marks, l)
}

func (a *Coordinator) replay(ctx context.Context, told retryqueue.Replay) {
	a.withoutTombstoned(ctx, &told)
	a.queueReplay(told)
	if a.queue.Len() > 0 {
		a.wakeUp()
	}
}

func (a *Coordinator) queueReplay(told retryqueue.Replay) {
	another := a.serverID.changed(now())
	covered := int64(never) // writes sent by then are covered by an invalidation of everything
	past := func(subject string) retryqueue.Past {
		p := told.Pasts[subject]
		p.Acked = !another
		return p
	}
	if told.All {
		covered = past("").Since
		a.addTombstones(nil, nil, past(""))
	}
	for _, it := range told.Items {
		// A key that is queued already is queued for a later operation.
		if _, ok := a.queue.Find(it.Key); !ok && it.Since > covered {
			it.Acked = !another
			a.addItem(it)
		}
	}
	for _, t := range told.Tags {
		if past(t).Since > covered {
			a.addTombstones([]string{t}, nil, past(t))
		}
	}
}
