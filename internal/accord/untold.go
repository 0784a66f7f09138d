package accord

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/notice"
	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/internal/revoke"
	"github.com/delqhi/cache/internal/untold"
)

const (
	// maxUntold is how many keys and tags are remembered that Redis could not be told
	// of, or are to be told again: more than can be recent. Beyond it everything is
	// invalidated when Redis is back.
	maxUntold = 1 << 19

	// toldAtOnce is how many keys are told in one round trip.
	toldAtOnce = 256

	// What can't be told is tried again after these.
	tellFirst = 100 * time.Millisecond
	tellMost  = 5 * time.Second
	// tellSoon is the least time between two attempts where there is something new.
	tellSoon = 500 * time.Millisecond

	// farewellTime bounds the last attempt, at Close.
	farewellTime = 2 * time.Second
)

var errOvertaken = errors.New("accord: the logical clock changes faster than it can be read")

// Noted remembers a write or an invalidation that Redis has acknowledged, and that was
// sent after the local time sent: if Redis is another one soon, which may not know of it,
// it is told again.
func (a *Accord) Noted(it untold.Item, sent int64) {
	a.recent.Note(it, sent, now())
	if a.queue.Has(it.Key) {
		a.queue.Acknowledge(it.Key, sent, it.At, it.Token)
		a.Answers()
	}
}

// Untold takes a key whose write or invalidation Redis has not acknowledged. The local
// tier is not asked for it until Redis has been told, nor is what Redis has of it believed;
// see [Accord.Outdated].
func (a *Accord) Untold(it untold.Item) {
	if a.addItem(it) {
		a.cfg.Events.Overflowed()
	}
	a.start()
	a.nudge()
}

// UntoldMarks takes tags, or everything if there are none, that Redis did not
// acknowledge to be invalidated: what was written or loaded before the local time began.
// What this process has of it is dropped now. number is that of the notice, 0 if there was
// none.
func (a *Accord) UntoldMarks(tags []string, number uint64, began int64) {
	var numbers []uint64
	if number != 0 {
		numbers = []uint64{number}
	}
	if a.addMarks(subjects(aTag, tags), numbers, a.pastOf(began)) {
		a.cfg.Events.Overflowed()
	}
	a.flush()
	a.start()
	a.nudge()
}

// UntoldPattern takes a pattern whose keys were not all invalidated; the rest is as with
// UntoldMarks.
func (a *Accord) UntoldPattern(pattern string, numbers []uint64, began int64) {
	if a.addMarks(subjects(aPattern, []string{pattern}), numbers, a.pastOf(began)) {
		a.cfg.Events.Overflowed()
	}
	a.start()
	a.nudge()
}

// NotedPattern is Noted for a pattern, and OwnMarks includes it for tags.
func (a *Accord) NotedPattern(pattern string, sent int64) {
	s := subjects(aPattern, []string{pattern})
	a.recent.NoteMarks(s, nil, nil, sent, now())
	a.acknowledgedMarks(s, sent)
}

// To the queue, a pattern is as good as a tag: something without a key, of which the
// last one counts. They are told apart by their first byte.
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

// tellRecentAgain queues what this process has written lately. A session has begun: the
// one before may have ended because a replica took over, which may lack what its master
// had acknowledged. What was sent after the time safe is not told: see look. Nor are marks
// that Redis has.
func (a *Accord) tellRecentAgain(ctx context.Context, safe int64) {
	told := a.recent.Since(now(), safe)
	a.withoutMarked(ctx, &told)
	another := a.lineage.changed(now())
	covered := int64(never) // what was sent by then was of no use from then on
	if told.All {
		covered = told.Pasts[""].Since
		a.addMarks(nil, nil, told.Pasts[""])
	}
	for _, it := range told.Items {
		// What is to be told already is about something later.
		if _, ok := a.queue.Find(it.Key); !ok && it.Since > covered {
			it.Acked = !another
			a.addItem(it)
		}
	}
	for _, t := range told.Tags {
		if told.Pasts[t].Since > covered {
			a.addMarks([]string{t}, nil, told.Pasts[t])
		}
	}
	if a.queue.Len() > 0 {
		a.nudge()
	}
}

// housekeeping does what has to be done from time to time, until the accord ends.
func (a *Accord) housekeeping() {
	t := time.NewTicker(beat)
	defer t.Stop()
	pause, next, last := tellFirst, time.Time{}, time.Time{}
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	touch := false
	lives := time.Now().Add(renewLifeFirst)
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-t.C:
			if !time.Now().Before(lives) {
				lives = time.Now().Add(a.renewLives(a.ctx))
			}
			a.tally(false)
			if a.cfg.Transport != None && a.inbox.Tick(now()) {
				a.missed()
			}
			if touch = !touch; touch && a.Hearing(now()) {
				// Everybody's look leaves a mark in Redis, by which it is noticed if
				// Redis goes back in time. See remote.Epoch.
				_ = a.AskMarks(a.ctx, nil)
			}
			if a.cfg.Transport == None && a.used.Swap(false) {
				// No pulse finds out whether Redis is still a master: this takes one.
				_ = a.AskMarks(a.ctx, nil)
			}
			a.firstLook()
			a.doubtConnections()
		case <-a.nudged:
			// What is new may be told although something older can't be.
			if soon := last.Add(tellSoon); soon.Before(next) {
				next = soon
				retry.Reset(time.Until(soon))
			}
		case <-a.answers:
			pause, next = tellFirst, time.Time{}
		case <-retry.C:
		}
		if a.queue.Len() == 0 || time.Now().Before(next) {
			continue
		}
		if a.tell(a.ctx) {
			pause, next = tellFirst, time.Time{}
			continue
		}
		last = time.Now()
		next = last.Add(pause)
		retry.Reset(pause)
		pause = min(2*pause, tellMost)
	}
}

// tally publishes up to where this process's notices have been published.
func (a *Accord) tally(closing bool) {
	n, due := a.Outbox.Tally(closing)
	if !due {
		return
	}
	ctx := a.ctx
	if err := a.cfg.Guard.Publish(ctx, remote.Tell{Channel: a.cfg.Names.Channel, Message: string(n.Append(nil))}); err != nil {
		a.Outbox.Again()
	}
}

// tell tells all that is untold, and reports whether nothing is left of it. What fails
// does not keep the rest from being told, unless nothing can be.
func (a *Accord) tell(ctx context.Context) bool {
	told := 0
	var failed []untold.Batch
	for {
		b := a.queue.Take(toldAtOnce)
		if b.Empty() {
			break
		}
		f := a.tellBatch(ctx, &b, &told)
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
		a.settleMarks() // of what was told beside it
	}
	if told > 0 {
		a.cfg.Events.Redone(told)
	}
	if a.queue.Len() > 0 {
		return false
	}
	a.failure.Store(nil)
	return true
}

// failedToTell notes why something could not be told.
func (a *Accord) failedToTell(err error) {
	if err != nil {
		a.failure.Store(&err)
	}
}

// tellBatch tells a batch, settles what was told, and returns the rest.
func (a *Accord) tellBatch(ctx context.Context, b *untold.Batch, told *int) (failed untold.Batch) {
	done := untold.Batch{}
	if b.All || len(b.Tags) > 0 {
		rest, err := a.tellMarks(ctx, b)
		if err != nil {
			a.failedToTell(err)
			failed.All, failed.Tags, failed.Numbers = rest.All, rest.Tags, append(b.Numbers, rest.Numbers...)
		} else {
			done.All, done.Tags = b.All, b.Tags
			a.Outbox.GiveUp(b.Numbers...)
		}
		if *told += len(b.Tags) - len(rest.Tags); b.All && !rest.All {
			*told++
		}
	}
	heads := make([]remote.Command, len(b.Items))
	for i, it := range b.Items {
		heads[i] = remote.Command{Op: remote.Head, Key: it.Key}
	}
	var quiet []untold.Item // of which others are to be told alone
	var cmds []remote.Command
	var items []untold.Item
	var numbers []uint64
	for i, reply := range a.cfg.Guard.Do(ctx, heads) {
		it := b.Items[i]
		if reply.Err != nil {
			a.failedToTell(reply.Err)
			failed.Items = append(failed.Items, it)
			continue
		}
		if it.Token != "" && reply.Record.Seen().Token == it.Token {
			// What was acknowledged is there: nothing was lost.
			a.Outbox.GiveUp(it.Numbers...)
			done.Items = append(done.Items, it)
			continue
		}
		if reply.Record.State == remote.Missing || a.newer(ctx, &it, reply.Record) {
			// Nothing to remove. Others may still have what was there before.
			quiet = append(quiet, it)
			continue
		}
		cmd := remote.Command{Op: remote.Release, Key: it.Key, Seen: reply.Record.Seen()}
		var n uint64
		cmd.Tell, n = revoke.Tell(a.Outbox, a.cfg.Names, notice.Dropped, a.encoded(it.Key))
		cmds, items, numbers = append(cmds, cmd), append(items, it), append(numbers, n)
	}
	*told += a.tellQuietly(ctx, quiet, &done, &failed)
	for i, reply := range a.cfg.Guard.Do(ctx, cmds) {
		switch {
		case reply.Err == nil && reply.OK:
			a.Outbox.Done(numbers[i])
			a.told(items[i], &done)
			*told++
		case reply.Err == nil:
			// Somebody was faster: look again.
			a.Outbox.GiveUp(numbers[i])
			failed.Items = append(failed.Items, items[i])
		default:
			a.failedToTell(reply.Err)
			a.Outbox.Failed(numbers[i])
			items[i].Numbers = append(items[i].Numbers, numbers[i])
			failed.Items = append(failed.Items, items[i])
		}
	}
	a.delivered.Add(1)
	a.queue.Settle(done)
	a.settleMarks()
	return failed
}

// tellQuietly tells others, in common messages, of keys where Redis has nothing to remove:
// reads may be waiting for it. It returns of how many.
func (a *Accord) tellQuietly(ctx context.Context, items []untold.Item, done, failed *untold.Batch) (told int) {
	for some := range slices.Chunk(items, revoke.KeysPerNotice) {
		keys := make([]string, len(some))
		for i, it := range some {
			keys[i] = a.encoded(it.Key)
		}
		tell, n := revoke.Tell(a.Outbox, a.cfg.Names, notice.Dropped, keys...)
		if err := a.cfg.Guard.Publish(ctx, tell); err != nil {
			a.failedToTell(err)
			a.Outbox.GiveUp(n)
			failed.Items = append(failed.Items, some...)
			continue
		}
		a.Outbox.Done(n)
		for _, it := range some {
			a.told(it, done)
		}
		told += len(some)
	}
	return told
}

func (a *Accord) encoded(redisKey string) string { return redisKey[len(a.cfg.Names.Data):] }

// tellMarks tells the tags, patterns, and everything, of a batch. rest are those that could
// not be told, and the numbers of notices that may or may not have been published. A
// pattern that can't be gone through, for which SCAN may be refused for good, keeps nothing
// else from being told, and is not told as often as it is tried.
func (a *Accord) tellMarks(ctx context.Context, b *untold.Batch) (rest untold.Batch, err error) {
	tags, patterns := tagsAndPatterns(b.Tags)
	pasts := make(map[string]untold.Past, len(b.Tags))
	for i, t := range b.Tags {
		pasts[t] = b.Pasts[i]
	}
	mark := func(tags []string, pasts []untold.Past) bool {
		before := make([]int64, len(pasts))
		for i, p := range pasts {
			before[i] = a.date(ctx, a.cfg.Names.Epoch, p)
		}
		l := a.beginLook()
		marks, n, failed := a.revoke.MarkLate(ctx, tags, before)
		if failed != nil {
			a.unreadable(failed)
			rest.Numbers = append(rest.Numbers, n)
		} else {
			failed = a.ownMarks(ctx, tags, pasts, marks, l)
		}
		err = cmp.Or(err, failed)
		return failed == nil
	}
	if b.All {
		rest.All = !mark(nil, []untold.Past{b.Past})
	}
	// In steps, each of which is short for Redis and has a time of its own.
	for some := range slices.Chunk(tags, askedAtOnce) {
		of := make([]untold.Past, len(some))
		for i, t := range some {
			of[i] = pasts[aTag+t]
		}
		if !mark(some, of) {
			rest.Tags = append(rest.Tags, subjects(aTag, some)...)
		}
	}
	for _, p := range patterns {
		past := pasts[aPattern+p]
		m, failed := a.revoke.PatternAgain(ctx, p, a.cfg.Quote, func(key string, rec remote.Record) bool {
			it := untold.Item{Key: key, At: a.date(ctx, key, past), Acked: past.Acked}
			return a.newer(ctx, &it, rec) || it.Acked && a.endsInTime(it.At, rec)
		})
		if failed != nil {
			err = cmp.Or(err, failed)
			rest.Tags, rest.Numbers = append(rest.Tags, aPattern+p), append(rest.Numbers, m.Open...)
			continue
		}
		a.dropMatching(p)
	}
	return rest, err
}

// told is called when Redis and the others know of a key. What this process has of it
// is dropped before its local tier is used for it again.
func (a *Accord) told(it untold.Item, done *untold.Batch) {
	a.Outbox.GiveUp(it.Numbers...)
	a.drop(it.Key[len(a.cfg.Names.Data):])
	done.Items = append(done.Items, it)
}

// newer reports whether a record is of a write or a load that began after a time of
// Redis's clock, so that an invalidation from then does not concern it. If that clock has
// gone back since, records may be from the future: then nobody knows.
func (a *Accord) newer(ctx context.Context, it *untold.Item, rec remote.Record) bool {
	if rec.State != remote.Found {
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
		// Redis could not be asked for the time. By now it can, it seems.
		if at = a.date(ctx, it.Key, untold.Past{Since: it.Since}); at == 0 {
			return false
		}
	}
	if it.Acked {
		// What was acknowledged is there in all likelihood: a record of about that time
		// is rather one that came after it than one that a failover brought back.
		at -= aboutThen
	}
	if began <= at {
		return false
	}
	now, err := a.cfg.Guard.Now(ctx, it.Key)
	return err == nil && h.Stored <= now+ClocksApart
}

// endsInTime reports whether a record that was there at an invalidation ends when the cache's
// policy has it: Redis has not lost that.
func (a *Accord) endsInTime(at int64, rec remote.Record) bool {
	h, err := frame.ReadHead(rec.Raw)
	if rec.State != remote.Found || err != nil || h.Kind != frame.Value && h.Kind != frame.Absence {
		return false
	}
	switch a.cfg.Policy.Mode {
	case revoke.Lazy:
		return h.Limit <= 0
	case revoke.Delayed:
		// It was dated when the key was found.
		return at != 0 && h.Limit-at-ClocksApart <= a.cfg.Policy.Delay.Microseconds()
	}
	return false
}

// aboutThen is by how much, in µs, two processes that write at the same time may date
// what they write apart, by the time of an operation and by their estimates of Redis's
// clock.
const aboutThen = 250_000

// ClocksApart is how far two processes' estimates of Redis's clock may differ, in µs.
const ClocksApart = 1_000_000

// farewell tells what can still be told.
func (a *Accord) farewell() {
	ctx, cancel := context.WithTimeout(a.ctx, farewellTime)
	defer cancel()
	if a.queue.Len() > 0 {
		a.tell(ctx)
	}
	a.tally(true)
}
