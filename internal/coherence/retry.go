package coherence

import (
	"cmp"
	"context"
	"errors"
	"slices"
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
	a.use()
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

// scheduleTombstones queues an invalidation of tags, or of everything if there are none, that
// Redis has not acknowledged: of records written or loaded before the local time began. The
// local tier is flushed now, unless it removes what has a tag. numbers are those of messages that
// stay open until Redis has it.
func (a *Coordinator) scheduleTombstones(tags []string, numbers []uint64, began int64) {
	if a.addTombstones(subjects(aTag, tags), numbers, a.pastOf(began)) {
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
	if a.addTombstones(subjects(aPattern, []string{pattern}), numbers, a.pastOf(began)) {
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

// The queue treats a pattern like a tag: it is not about one key, and its latest invalidation
// counts. The first byte distinguishes the two.
const (
	aTag     = "t"
	aPattern = "p"
)

func subjects(kind string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = kind + n
	}
	return out
}

func tagsAndPatterns(subjects []string) (tags, patterns []string) {
	for _, s := range subjects {
		if s[:1] == aTag {
			tags = append(tags, s[1:])
		} else {
			patterns = append(patterns, s[1:])
		}
	}
	return tags, patterns
}

// replayRecent queues this process's recent writes. A session has begun, or there is a suspicion
// to settle: a replica may have been promoted, which may lack writes that its master had
// acknowledged. Writes sent after the time safe are not replayed; see look. Nor are tombstones
// that Redis has.
func (a *Coordinator) replayRecent(ctx context.Context, safe int64) {
	told := a.recent.Since(now(), safe)
	a.withoutTombstoned(ctx, &told)
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
	if a.queue.Len() > 0 {
		a.wakeUp()
	}
}

// maintain does the periodic work and the retries, until the coordinator is closed.
func (a *Coordinator) maintain() {
	t := time.NewTicker(tick)
	defer t.Stop()
	pause, next, last := notifyFirst, time.Time{}, time.Time{}
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	calm := store.Patient(a.ctx)
	touch := false
	lives := time.Now().Add(renewLifeFirst)
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-t.C:
			if !time.Now().Before(lives) {
				lives = time.Now().Add(a.renewLives(calm))
			}
			a.watermark(false)
			if a.cfg.Transport != None && a.inbox.Tick(now()) {
				a.missed()
			}
			a.rest.note(a.Clock.Known(), now())
			if touch = !touch; touch && a.Connected(now()) && a.touches(now()) && a.FetchTombstones(calm, nil) != nil {
				a.use() // try again
			}
			if a.cfg.Transport == None && a.used.Swap(false) {
				// No heartbeat finds out whether Redis is still a master: this read does.
				_ = a.FetchTombstones(a.ctx, nil)
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
	a.notifying.Add(1)
	defer a.notifying.Add(-1)
	told := 0
	var failed []retryqueue.Batch
	for {
		b := a.queue.Take(retryBatch)
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
	if a.queue.Len() > 0 {
		return false
	}
	a.failure.Store(nil)
	return true
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
	for i, reply := range a.cfg.Client.Do(ctx, heads) {
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
	for i, reply := range a.cfg.Client.Do(ctx, cmds) {
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
// the others from being delivered, and its message is not published at each attempt.
func (a *Coordinator) notifyTombstones(ctx context.Context, b *retryqueue.Batch) (rest retryqueue.Batch, err error) {
	tags, patterns := tagsAndPatterns(b.Tags)
	pasts := make(map[string]retryqueue.Past, len(b.Tags))
	for i, t := range b.Tags {
		pasts[t] = b.Pasts[i]
	}
	mark := func(tags []string, pasts []retryqueue.Past) bool {
		before := make([]int64, len(pasts))
		for i, p := range pasts {
			before[i] = a.date(ctx, a.cfg.Names.Epoch, p)
		}
		l := a.beginLook()
		marks, open, failed := a.invalidator.InvalidateTagsLate(ctx, tags, before)
		if failed != nil {
			a.unreadable(failed)
			rest.Numbers = append(rest.Numbers, open...)
		} else {
			failed = a.ownTombstones(ctx, tags, pasts, marks, l)
		}
		err = cmp.Or(err, failed)
		return failed == nil
	}
	if b.All {
		rest.All = !mark(nil, []retryqueue.Past{b.Past})
	}
	// In steps, each of which is short for Redis and has its own time.
	for some := range slices.Chunk(tags, askedAtOnce) {
		of := make([]retryqueue.Past, len(some))
		for i, t := range some {
			of[i] = pasts[aTag+t]
		}
		if !mark(some, of) {
			rest.Tags = append(rest.Tags, subjects(aTag, some)...)
		}
	}
	for _, p := range patterns {
		past, sent := pasts[aPattern+p], now()
		executed := past.Acked || a.serverID.changed(sent) // by a server at least
		m, failed := a.invalidator.PatternAgain(ctx, p, a.cfg.Quote, func(key string, rec store.Record) bool {
			it := retryqueue.Item{Key: key, At: a.date(ctx, key, past), Acked: past.Acked}
			return a.newer(ctx, &it, rec) || executed && a.endsInTime(it.At, rec)
		})
		if failed != nil {
			err = cmp.Or(err, failed)
			rest.Tags, rest.Numbers = append(rest.Tags, aPattern+p), append(rest.Numbers, m.Open...)
			continue
		}
		if m.Keys > 0 || !past.Acked { // see delivered
			a.recent.NoteTombstones(subjects(aPattern, []string{p}), nil, []retryqueue.Past{past}, sent, now())
		}
		a.dropMatching(p)
	}
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
