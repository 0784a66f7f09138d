package coherence

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

const (
	// maxPending is how many keys and tags can be pending or queued for replay: more than can
	// be recent. Beyond it, everything is invalidated when Redis is back.
	maxPending = 1 << 19

	// retryBatch is how many keys are retried in one round trip.
	retryBatch = 256

	// Backoff, at first and at most, between attempts to deliver.
	notifyFirst = 100 * time.Millisecond
	notifyMost  = 5 * time.Second
	// notifySoon is the minimum time between two attempts if something new is pending.
	notifySoon = 500 * time.Millisecond

	// flushOnCloseTime bounds the last attempt to deliver, in Close.
	flushOnCloseTime = 2 * time.Second
)

var errOvertaken = errors.New("coherence: the logical clock changes faster than it can be read")

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

// scheduleRetry queues a key whose write or invalidation Redis has not acknowledged. Until it
// has been delivered, the key is read past the local tier, and Redis's record of it is not
// trusted; see [Coordinator.Outdated].
func (a *Coordinator) scheduleRetry(it retryqueue.Item) {
	it.At = a.atLatest(&it)
	if a.addItem(it) {
		a.cfg.Events.Overflowed()
	}
	a.start()
	a.wakeUp()
}

// atLatest is the latest that the time of an operation may have been, 0 if it is not known.
func (a *Coordinator) atLatest(it *retryqueue.Item) int64 {
	if it.At == 0 {
		return 0
	}
	return it.At + a.cfg.Client.ClockError(it.Key)
}

// scheduleTombstones queues an invalidation of tags, or of everything if there are none, in this
// part, that Redis has not acknowledged: of records written or loaded before the local time began. The
// local tier is flushed now, unless it removes what has a tag. numbers are those of messages that
// stay open until Redis has it.
func (p *Part) scheduleTombstones(tags []string, numbers []uint64, began int64) {
	a := p.a
	if a.addTombstones(p.tagSubjects(tags), numbers, p.pastOf(began)) {
		a.cfg.Events.Overflowed()
	}
	if len(tags) > 0 && a.cfg.RemoveTagged != nil {
		a.cfg.RemoveTagged(tags)
		a.changedAny()
		a.wakeAll()
	} else {
		a.flush()
	}
	a.start()
	a.wakeUp()
}

// schedulePattern queues an invalidation by a pattern that did not reach all of its keys. The
// parameters are those of scheduleTombstones.
func (a *Coordinator) schedulePattern(pattern string, numbers []uint64, began int64) {
	if a.addTombstones(subjects(aPattern, []string{pattern}), numbers, a.parts[0].pastOf(began)) {
		a.cfg.Events.Overflowed()
	}
	a.start()
	a.wakeUp()
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

// replayAll is replayRecent for all parts: a session has begun.
func (a *Coordinator) replayAll(ctx context.Context, safe int64) {
	a.replay(ctx, a.recent.Since(now(), safe))
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

// maintain does the periodic work and the retries, until the coordinator is closed.
func (a *Coordinator) maintain() {
	first, touch := tick, false
	if len(a.parts) > 1 {
		// Processes that start together do not look at the clocks at the same moments; see touchByNode.
		first, touch = 1+rand.N(tick), rand.N(2) == 0
	}
	t := time.NewTicker(first)
	defer t.Stop()
	pause, next, last := notifyFirst, time.Time{}, time.Time{}
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	calm := store.Patient(a.ctx)
	lives := time.Now().Add(renewLifeFirst)
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-t.C:
			if first != tick {
				first = tick
				t.Reset(tick)
			}
			if !time.Now().Before(lives) {
				lives = time.Now().Add(a.renewLives(calm))
			}
			a.watermark(false)
			if a.cfg.Transport != None && a.inbox.Tick(now()) {
				a.missed()
			}
			for _, p := range a.parts {
				p.rest.note(p.Clock.Known(), now())
			}
			if touch = !touch; touch && a.Connected(now()) {
				a.touch(calm, touch)
			}
			if a.cfg.Transport == None {
				// No heartbeat finds out whether Redis is still a master: this read does.
				a.touch(a.ctx, touch)
			}
			a.firstLook()
			a.unverifyConnections()
		case <-a.woken:
			// A new invalidation may get through although an older one does not.
			if soon := last.Add(notifySoon); soon.Before(next) {
				next = soon
				retry.Reset(time.Until(soon))
			}
		case <-a.redisUp:
			pause, next = notifyFirst, time.Time{}
		case <-retry.C:
		}
		if a.queue.Len() == 0 || time.Now().Before(next) {
			continue
		}
		if a.notify(a.ctx) {
			pause, next = notifyFirst, time.Time{}
			continue
		}
		last = time.Now()
		next = last.Add(pause)
		retry.Reset(pause)
		pause = min(2*pause, notifyMost)
	}
}

// watermark publishes the number up to which this process's messages have been published. It is
// needed by those who can't be sure that none is lost alone, even if this process can: another
// path may lead there.
func (a *Coordinator) watermark(closing bool) {
	if closing && a.queue.Len() > 0 {
		a.Outbox.Lose()
	}
	n, due := a.Outbox.Watermark(closing)
	if !due {
		return
	}
	ctx := a.ctx
	if err := invalidation.Publish(ctx, a.cfg.Client, a.cfg.Names, &n); err != nil {
		a.Outbox.Unpublished(&n)
	}
}

// notify delivers all pending invalidations, and reports whether none is left. A failed one
// does not keep the others from being delivered, unless nothing gets through.
func (a *Coordinator) notify(ctx context.Context) bool {
	a.notifyTaken(ctx, func() retryqueue.Batch { return a.queue.Take(retryBatch) })
	if a.queue.Len() > 0 {
		return false
	}
	a.failure.Store(nil)
	return true
}

// notifyKeys is notify for keys of this part, and reports whether none of those is left that no other
// call has taken.
func (p *Part) notifyKeys(ctx context.Context) bool {
	return p.a.notifyTaken(ctx, func() retryqueue.Batch {
		return p.a.queue.TakeKeys(retryBatch, func(key string) bool { return p.a.Of(key) == p })
	})
}

// notifyTaken delivers what take takes from the queue, until that is nothing. It reports whether all of it
// was delivered.
func (a *Coordinator) notifyTaken(ctx context.Context, take func() retryqueue.Batch) bool {
	a.notifying.Add(1)
	defer a.notifying.Add(-1)
	told := 0
	var failed []retryqueue.Batch
	for {
		b := take()
		if b.Empty() {
			break
		}
		f := a.notifyBatch(ctx, &b, &told)
		if f.Empty() {
			continue
		}
		failed = append(failed, f)
		if len(f.Items) > 0 && len(f.Items) == len(b.Items) {
			break
		}
	}
	for _, f := range failed {
		a.queue.Return(f)
	}
	if len(failed) > 0 {
		a.completeTombstones() // for what was delivered beside it
	}
	if told > 0 {
		a.cfg.Events.Retried(told)
	}
	return len(failed) == 0
}

// doByNode carries out commands, those of each node by themselves: where one node does not answer in
// time, there are answers of the others.
func (a *Coordinator) doByNode(ctx context.Context, cmds []store.Command) []store.Reply {
	if len(a.parts) == 1 || len(cmds) < 2 {
		return a.cfg.Client.Do(ctx, cmds)
	}
	of := map[string][]int{}
	for i := range cmds {
		node := a.nodeOf(cmds[i].Key)
		of[node] = append(of[node], i)
	}
	replies := make([]store.Reply, len(cmds))
	var wg sync.WaitGroup
	for _, at := range of {
		wg.Go(func() {
			some := make([]store.Command, len(at))
			for j, i := range at {
				some[j] = cmds[i]
			}
			for j, r := range a.cfg.Client.Do(ctx, some) {
				replies[at[j]] = r
			}
		})
	}
	wg.Wait()
	return replies
}

// notifyFailed records why an invalidation could not be delivered.
func (a *Coordinator) notifyFailed(err error) {
	if err != nil {
		a.failure.Store(&err)
	}
}

// notifyBatch delivers a batch, settles what was delivered, and returns the rest.
func (a *Coordinator) notifyBatch(ctx context.Context, b *retryqueue.Batch, told *int) (failed retryqueue.Batch) {
	done := retryqueue.Batch{}
	if b.All || len(b.Tags) > 0 {
		rest, err := a.notifyTombstones(ctx, b)
		if err != nil {
			a.notifyFailed(err)
			failed.All, failed.Tags, failed.Numbers = rest.All, rest.Tags, append(b.Numbers, rest.Numbers...)
		} else {
			done.All, done.Tags = b.All, b.Tags
			a.Outbox.Skip(b.Numbers...)
		}
		if *told += len(b.Tags) - len(rest.Tags); b.All && !rest.All {
			*told++
		}
	}
	sent := now()
	heads := make([]store.Command, len(b.Items))
	for i, it := range b.Items {
		heads[i] = store.Command{Op: store.GetHeader, Key: it.Key}
	}
	var quiet []retryqueue.Item // nothing to remove from Redis: only to publish
	var cmds []store.Command
	var items []retryqueue.Item
	var messages []message.Sent
	for i, reply := range a.doByNode(ctx, heads) {
		it := b.Items[i]
		if reply.Err != nil {
			a.notifyFailed(reply.Err)
			failed.Items = append(failed.Items, it)
			continue
		}
		if it.Token != "" && reply.Record.CASToken().Token == it.Token {
			// Redis holds the record that it acknowledged: nothing was lost.
			a.Outbox.Skip(it.Numbers...)
			done.Items = append(done.Items, it)
			continue
		}
		if reply.Record.State == store.Missing || a.newer(ctx, &it, reply.Record) {
			// Nothing to remove. Other processes may still hold the previous value.
			quiet = append(quiet, it)
			continue
		}
		cmd := store.Command{Op: store.CompareAndDelete, Key: it.Key, Seen: reply.Record.CASToken()}
		var msg message.Sent
		cmd.Notify, msg = a.invalidator.NotifyOf(message.Invalidated, a.encoded(it.Key))
		cmds, items, messages = append(cmds, cmd), append(items, it), append(messages, msg)
	}
	*told += a.notifyQuietly(ctx, quiet, sent, &done, &failed)
	for i, reply := range a.doByNode(ctx, cmds) {
		it := items[i]
		it.Numbers = append(it.Numbers, messages[i].Resolve(reply.OK, reply.Err)...)
		a.notifyFailed(reply.Err)
		if reply.Err == nil && reply.OK {
			a.delivered(it, true, sent, &done)
			*told++
			continue
		}
		// Without an error, another client has changed the key meanwhile: read it again.
		failed.Items = append(failed.Items, it)
	}
	if !done.Empty() {
		a.use()
		a.deliveredAny.Add(1) // first: what is no longer pending has been counted
	}
	a.queue.Settle(done)
	a.completeTombstones()
	return failed
}

// notifyQuietly publishes messages, for many keys each, for keys of which Redis has nothing to
// remove: readers may be waiting for them. It returns the number of keys. sent is a local time before
// Redis was asked for them.
func (a *Coordinator) notifyQuietly(ctx context.Context, items []retryqueue.Item, sent int64, done, failed *retryqueue.Batch) (told int) {
	for some := range slices.Chunk(items, invalidation.KeysPerMessage) {
		keys := make([]string, len(some))
		for i, it := range some {
			keys[i] = a.encoded(it.Key)
		}
		tell, msg := a.invalidator.NotifyOf(message.Invalidated, keys...)
		err := a.cfg.Client.Publish(ctx, tell)
		msg.Resolve(err == nil, nil)
		if err != nil {
			a.notifyFailed(err)
			failed.Items = append(failed.Items, some...)
			continue
		}
		for _, it := range some {
			a.delivered(it, false, sent, done)
		}
		told += len(some)
	}
	return told
}

func (a *Coordinator) encoded(redisKey string) string { return redisKey[len(a.cfg.Names.Data):] }

// notifyTombstones delivers a batch's tags, patterns, and invalidation of everything. rest
// holds those that failed, and the numbers of messages that may or may not have been published.
// A pattern whose keys can't be scanned, for which SCAN may be refused for good, does not keep
// the others from being delivered, and its message is not published at each attempt. Nor does a
// part whose clock can't be reached keep the others: what is left is what that part lacks.
func (a *Coordinator) notifyTombstones(ctx context.Context, b *retryqueue.Batch) (rest retryqueue.Batch, err error) {
	tags, all, patterns := a.tagsAndPatterns(b.Tags)
	pasts := make(map[string]retryqueue.Past, len(b.Tags))
	for i, t := range b.Tags {
		pasts[t] = b.Pasts[i]
	}
	var mu sync.Mutex // guards rest and err, while the parts are told
	mark := func(p *Part, tags []string, pasts []retryqueue.Past) bool {
		open, failed := p.tombstonesLate(ctx, tags, pasts)
		mu.Lock()
		defer mu.Unlock()
		rest.Numbers = append(rest.Numbers, open...)
		err = cmp.Or(err, failed)
		return failed == nil
	}
	left := func(subjects ...string) {
		mu.Lock()
		defer mu.Unlock()
		rest.Tags = append(rest.Tags, subjects...)
	}
	var due []*Part
	for i, p := range a.parts {
		if b.All || all[i] || len(tags[i]) > 0 {
			due = append(due, p)
		}
	}
	tell := func(p *Part) error {
		several := len(a.parts) > 1
		switch {
		case b.All && !several:
			rest.All = !mark(p, nil, []retryqueue.Past{b.Past})
		case b.All:
			past := b.Past
			past.At = 0 // by the clock of another node
			if !mark(p, nil, []retryqueue.Past{past}) {
				a.pendAll(p, past.Since)
				left(p.allSubject())
			}
		}
		if all[p.of] && !mark(p, nil, []retryqueue.Past{pasts[p.allSubject()]}) {
			left(p.allSubject())
		}
		// In steps, each of which is short for Redis and has its own time.
		for some := range slices.Chunk(tags[p.of], askedAtOnce) {
			subjects := p.tagSubjects(some)
			of := make([]retryqueue.Past, len(some))
			for i, s := range subjects {
				of[i] = pasts[s]
			}
			if !mark(p, some, of) {
				left(subjects...)
			}
		}
		return nil
	}
	if len(due) > 0 {
		a.eachPart(due, tell)
	}
	for _, pat := range patterns {
		past, sent := pasts[aPattern+pat], now()
		executed := past.Acked || a.serverID.changed(sent) // by a server at least
		m, failed := a.invalidator.PatternAgain(ctx, pat, a.cfg.Quote, func(key string, rec store.Record) bool {
			it := retryqueue.Item{Key: key, At: a.date(ctx, key, past), Acked: past.Acked}
			return a.newer(ctx, &it, rec) || executed && a.endsInTime(it.At, rec)
		})
		if failed != nil {
			err = cmp.Or(err, failed)
			rest.Tags, rest.Numbers = append(rest.Tags, aPattern+pat), append(rest.Numbers, m.Open...)
			continue
		}
		if m.Keys > 0 || !past.Acked { // see delivered
			a.recent.NoteTombstones(subjects(aPattern, []string{pat}), nil, []retryqueue.Past{past}, sent, now())
		}
		a.dropMatching(pat)
	}
	slices.Sort(rest.Tags)
	rest.Tags = slices.Compact(rest.Tags) // everything of a part may have been due twice
	return rest, err
}

// delivered is called when Redis and the other processes have received a key's invalidation, which
// was sent after the local time sent, and may have removed a record. The key is dropped before the local
// tier is used for it again. Redis may lose what it has received late, like anything else, so that it is
// noted before it is settled:
//
//  1. this process writes a key; Redis does not answer in time
//  2. the key's old record is removed late, at a master whose replica has been promoted already
//  3. this process finds the new master, which has the old record: the removal is to be replayed
//
// What is replayed, and has removed nothing, stays noted for as long as it is already: one suspicion after
// the other would keep it for ever.
func (a *Coordinator) delivered(it retryqueue.Item, removed bool, sent int64, done *retryqueue.Batch) {
	if removed || !it.Acked {
		a.recent.NoteLate(it, sent, now())
	}
	a.Outbox.Skip(it.Numbers...)
	a.drop(it.Key[len(a.cfg.Names.Data):])
	done.Items = append(done.Items, it)
}

// newer reports whether a record is of a write or a load that began after the invalidation's
// time, by Redis's clock, so that the invalidation does not affect it. If that clock has been
// set back since, records may be dated in the future: then the answer is no.
func (a *Coordinator) newer(ctx context.Context, it *retryqueue.Item, rec store.Record) bool {
	if rec.State != store.Found {
		return false
	}
	h, err := frame.ReadHead(rec.Raw)
	if err != nil || h.Kind != frame.Value && h.Kind != frame.Absence {
		return false
	}
	began, ok := h.Began()
	switch {
	case it.Acked && h.Older():
		began = h.Stored
	case !ok:
		return false
	}
	at := it.At
	if at == 0 {
		// Redis's clock could not be read at the time. It may be readable by now.
		if at = a.date(ctx, it.Key, retryqueue.Past{Since: it.Since}); at == 0 {
			return false
		}
	}
	if it.Acked {
		// The acknowledged write is still in Redis in all likelihood: a record of about that
		// time more likely came after it than back with a failover.
		at -= clockSlack
	}
	if began <= at {
		return false
	}
	now, err := a.cfg.Client.Now(ctx, it.Key)
	return err == nil && h.Stored <= now+invalidation.ClocksApart
}

// endsInTime reports whether a record that existed at the invalidation expires when the cache's
// policy requires: Redis has not lost that invalidation.
func (a *Coordinator) endsInTime(at int64, rec store.Record) bool {
	h, err := frame.ReadHead(rec.Raw)
	if rec.State != store.Found || err != nil || h.Kind != frame.Value && h.Kind != frame.Absence {
		return false
	}
	switch a.cfg.Policy.Mode {
	case invalidation.Lazy:
		return h.Limit <= 0
	case invalidation.Delayed:
		// The invalidation was dated when the key was found.
		return at != 0 && h.Limit-at-invalidation.ClocksApart <= a.cfg.Policy.Delay.Microseconds()
	}
	return false
}

// clockSlack is by how much, in µs, the dates of two concurrent writes of different processes
// may differ, due to the duration of an operation and to their estimates of Redis's clock.
const clockSlack = 250_000

// closePoll is how often Close looks whether another goroutine has delivered what it took.
const closePoll = time.Millisecond

// flushOnClose delivers what still can be delivered.
func (a *Coordinator) flushOnClose() {
	ctx, cancel := context.WithTimeout(a.ctx, flushOnCloseTime)
	defer cancel()
	for a.queue.Len() > 0 {
		// Another goroutine may be delivering some. The end of Close would cancel that, and what
		// it does not get through is to be tried again.
		busy := a.notifying.Load() > 0
		if a.notify(ctx) || !busy {
			break
		}
		t := time.NewTimer(closePoll)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		if t.Stop(); ctx.Err() != nil {
			break
		}
	}
	a.watermark(true)
}
