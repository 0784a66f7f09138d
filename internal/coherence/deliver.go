package coherence

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// retryBatch is how many keys are retried in one round trip.
const retryBatch = 256

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
	a.invalidator.Together(len(items), invalidation.KeysPerMessage, func(i int) string { return a.encoded(items[i].Key) }, func(some []int, keys []string) {
		tell, msg := a.invalidator.NotifyOf(message.Invalidated, keys...)
		err := a.cfg.Client.Publish(ctx, tell)
		msg.Resolve(err == nil, nil)
		if err != nil {
			a.notifyFailed(err)
		}
		for _, i := range some {
			if err != nil {
				failed.Items = append(failed.Items, items[i])
			} else {
				a.delivered(items[i], false, sent, done)
				told++
			}
		}
	})
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
