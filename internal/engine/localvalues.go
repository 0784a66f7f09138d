package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// localValues is the backend of a cache with LocalValues: the entries of the local tier are its only
// data, as without Redis, and the tier is kept coherent as in front of Redis.
//
// There is no record for a value in Redis, not even a marker without a payload. A marker could say
// that some process has the value of a key, which no other process could use. Nor is it needed to
// keep the result of a load from hiding a change, since a record of Redis is not what the result
// is compared with. The claim of the key is; see package fence. A load keeps nothing, in the tier
// or elsewhere, once a message about its key, or a flush, has taken the claim away:
//
//	process A                                  process B
//	1. claims the key
//	2. reads the source: the old value
//	                                           3. writes the source
//	                                           4. invalidates the key: DEL and PUBLISH
//	5. the message: the entry is dropped, and the claim is lost
//	6. the value is returned to the caller of 1, and not kept
//
//	1.–4. as above
//	5. the value is kept: the claim holds
//	6. the message: the entry is dropped. If it does not come, the validity of the tier ends
//	   HeartbeatTimeout after 4, at the latest; see package coherence
//
//	1.–2. as above
//	3. the connection breaks, and the messages are lost
//	4. the next session becomes valid: everything is flushed, and the claim is lost
//	5. the value is not kept
//
// Two Sets of a key at a time leave one value at most, and none that a message was received about:
//
//	process A                                  process B
//	1. Set a: claims the key, and publishes    2. Set b: claims the key, and publishes
//	3. the message of 2: the claim is lost
//	                                           4. the message of 1: the claim is lost
//	5. a is acknowledged, and not kept         6. b is acknowledged, and not kept
//
// Where one of the messages comes later than its acknowledgement, it drops the entry. Then the next
// reader of each process asks the source.
//
// While notifications are not received, nothing is kept, since nothing would take the claim away; with
// strategy.LocalDuringOutage it is kept for a time, and marked: see outage. The logical clock is then
// not asked for: an entry that is dated too early only ends sooner.
//
//  1. no session; a load begins at t, and claims its key
//  2. another process invalidates the key
//  3. the load ends, and is kept until t+d
//  4. the next session becomes valid: everything is flushed. Had 3 come later, the claim would
//     have been lost
//
// An Update begins with what the source has even then, and Touch needs Redis.
//
// A change is published together with a DEL of the key. A server that executes that is a master;
// and if the fleet changes over from values in Redis, process by process, it removes those.
type localValues struct {
	*localOnly
	remote *remote // the connection to Redis and to the other processes
}

var _ backend = (*localValues)(nil)

func newLocalValues(c *Cache, cfg *Config) *localValues {
	c.fences.WithClaims()
	c.chooseOwnCopy()
	v := &localValues{localOnly: &localOnly{Cache: c}, remote: newRemote(c, cfg)}
	v.localOnly.tell = v.tell
	return v
}

func (c *localValues) ready(ctx context.Context) (waited bool) { return c.remote.ready(ctx) }

func (c *localValues) mayUseLocal(rk string, now int64) bool { return c.remote.mayUseLocal(rk, now) }

// learn learns nothing: read asks Redis for the tombstones of tags that are not known.
func (c *localValues) learn([]string) bool { return false }

func (c *localValues) since(rk string, at int64) int64 { return c.remote.since(rk, at) }

func (c *localValues) version(ctx context.Context, rk string) (version, error) {
	return c.remote.version(ctx, rk)
}

func (c *localValues) sync(ctx context.Context) (why, err error) { return c.remote.sync(ctx) }

func (c *localValues) listener() metrics.State { return c.remote.listener() }

func (c *localValues) close() { c.remote.close() }

// read answers lookups whose local entries have tags of which the tombstones were not known, and
// counts the others as misses, or serves them stale.
func (c *localValues) read(ctx context.Context, s *Scratch, j Loader, o *Options) {
	if !o.SkipLocal && !o.SkipRemote && c.learnTags(ctx, s.items) {
		c.readLocal(ctx, s.items, o)
		c.refreshDue(ctx, s.items, j, o)
	}
	for i := range s.items {
		it := &s.items[i]
		if it.done {
			continue
		}
		is := notFound
		switch {
		case o.SkipRemote:
		case !c.remote.coherence.LocalValidFor(it.rk, it.at):
			is, it.remoteErr = unavailable, c.noTier()
		case c.remote.coherence.Pending(it.rk):
			is, it.pendingErr = expired, c.unavailable(coherence.ErrPending)
		}
		if is == notFound && !o.SkipLocal {
			_, is = c.lookLocal(it.key, it.rk, it.at)
		}
		if c.localStale(it, o); !c.serveStale(ctx, it, j, o) {
			c.countMiss(is, o)
		}
	}
}

// noTier is why the local tier can't answer.
func (c *localValues) noTier() error {
	if c.Closed() {
		return errs.ErrClosed
	}
	return c.unavailable(errNoLocal)
}

// learnTags reads the tombstones that entries of lookups need and that are not known. It reports
// whether there were any.
func (c *localValues) learnTags(ctx context.Context, items []Lookup) bool {
	var tags partTags
	for i := range items {
		if it := &items[i]; !it.done {
			c.addUnknown(&tags, it.key, it.rk, it.at)
		}
	}
	learned := false
	for part, of := range tags {
		if c.remote.coherence.Part(part).FetchTombstones(ctx, of) == nil {
			learned = true
		}
	}
	return learned
}

// partTags are tags by part.
type partTags map[uint8][]string

// addUnknown adds what unknownTags returns, and reports whether that is anything.
func (c *localValues) addUnknown(to *partTags, key Key, rk string, at int64) bool {
	tags := c.unknownTags(key, rk, at)
	if len(tags) == 0 {
		return false
	}
	if *to == nil {
		*to = partTags{}
	}
	part := c.part(rk)
	(*to)[part] = append((*to)[part], tags...)
	return true
}

// learnFor reads the tombstones that the entries of changes need and that are not known. What is
// not known then is refused: an entry that may be of use is not to pass for one that is not there.
func (c *localValues) learnFor(ctx context.Context, changes []*Change) {
	at := local.Now()
	var tags partTags
	var of []*Change
	for _, ch := range changes {
		if !ch.done && c.addUnknown(&tags, ch.Key, ch.rk, at) {
			of = append(of, ch)
		}
	}
	for part, tags := range tags {
		err := c.remote.coherence.Part(part).FetchTombstones(ctx, tags)
		for _, ch := range of {
			if err != nil && c.part(ch.rk) == part {
				ch.refuse(c.writeFailed(ctx, err))
			}
		}
	}
}

// lives finds the lives of entries that have tags of which the tombstones were not known.
func (c *localValues) lives(ctx context.Context, changes []*Change) {
	c.learnFor(ctx, changes)
	now := local.Now()
	for _, ch := range changes {
		if !ch.done {
			ch.left, _ = c.localLife(ch.Key, ch.rk, now)
		}
	}
}

// unknownTags returns the tags of the entry of a key if it may answer, once their tombstones are
// known.
func (c *localValues) unknownTags(key Key, rk string, at int64) []string {
	if !c.mayUseLocal(rk, at) {
		return nil
	}
	e, ok := c.local.Peek(key)
	if ok && at < e.Deadline && e.Meta != nil && c.localValidity(e.Meta, at) == logicalclock.Unknown {
		return e.Meta.Tags
	}
	return nil
}

// inspect finds nothing of keys of which only the encoding is known: Redis has no values.
func (c *localValues) inspect(ctx context.Context, rk string) (Value, Info, error) {
	return c.localOnly.inspect(ctx, rk)
}

// acquire is that of localOnly. A load whose result can't be kept waits for no other: no message
// would end the wait.
func (c *localValues) acquire(ctx context.Context, at int64, o *Options, ls []*inflightLoad) (again bool) {
	var failed [store.Parts]error // by part
	var apart [store.Parts]bool   // Redis does not answer, which was not known yet
	var tags partTags             // a refresh has read nothing before
	for _, l := range ls {
		part := c.part(l.rk)
		switch {
		case c.outage.unheard(l.rk, at):
			l.version = c.lastVersion(l.rk)
		case o.SkipRemote: // without asking Redis, if need be: an entry with tags is then invalid from the start
			l.version, _ = c.knownVersion(l.rk)
		default:
			if failed[part] == nil && !apart[part] {
				var err error
				if l.version, err = c.version(ctx, l.rk); err != nil && c.keepsApart(l.rk, err) {
					apart[part] = true
				} else {
					failed[part] = err
				}
			}
			if apart[part] {
				l.version = c.lastVersion(l.rk)
			} else if failed[part] == nil && !o.SkipLocal {
				c.addUnknown(&tags, l.key, l.rk, at)
			}
		}
	}
	for part, tags := range tags {
		_ = c.remote.coherence.Part(part).FetchTombstones(ctx, tags) // if it fails, the entries do not answer
	}
	c.claim(local.Now(), o, ls, func(l *inflightLoad) error {
		err := failed[c.part(l.rk)]
		switch {
		case err != nil:
			return err
		case c.outage.unheard(l.rk, local.Now()):
		case !c.mayUseLocal(l.rk, local.Now()):
			return errNoLocal
		}
		return nil
	})
	return false
}

// encode gives a change its logical time, unless it has one.
//
// It may be older than the write by the delay of a message, and then a tombstone that came before
// the write ends the entry. That costs one load.
func (c *localValues) encode(ctx context.Context, ch *Change) {
	if ch.done || !ch.keep || ch.dated {
		return
	}
	var err error
	began := local.Now()
	if ch.version, err = c.remote.writeVersion(ctx, ch.rk); err == nil {
		return
	}
	if c.toSource() && ctx.Err() == nil {
		ch.keep = false // the source is written all the same
		return
	}
	ch.refuse(c.writeFailed(ctx, err))
	c.remote.coherence.EndWrite(retryqueue.Item{Key: ch.rk, Since: began}, began, err)
	c.remote.completeLocal(ch)
}

// setApart stores values here, and tells no other process.
func (c *localValues) setApart(ctx context.Context, changes []*Change, o *Options) {
	c.remote.setApart(ctx, changes, o)
}

// renew renews the lives that values have in this process.
func (c *localValues) renew(ctx context.Context, changes []*Change) {
	c.learnFor(ctx, changes)
	for _, ch := range changes {
		if ch.done {
			continue
		}
		if c.mayUseLocal(ch.rk, local.Now()) {
			ch.Err = c.renewEntry(ch)
		} else {
			ch.Err = c.noTier()
		}
	}
}

// apply writes changes to the source, under a write strategy, tells the other processes, and brings
// the tier in line. All of that takes place behind claims: a message about a key that comes
// meanwhile is about a change of which it is not known whether it came before this one.
func (c *localValues) apply(ctx context.Context, changes []*Change) {
	for _, ch := range changes {
		switch {
		case ch.claim != nil || ch.remove:
		case c.toSource():
			ch.claim = c.fences.ClaimWrite(c.encoded(ch.rk), false)
		case ch.keep:
			ch.claim = c.fences.ClaimSet(c.encoded(ch.rk))
		}
	}
	defer func() {
		for _, ch := range changes {
			ch.claim.End(nil)
		}
	}()
	if c.toSource() {
		c.writeSource(ctx, changes)
		// Once the source has a value, the others must be told even if the caller is gone.
		ctx = context.WithoutCancel(ctx)
	}
	c.tell(ctx, changes)
	for _, ch := range changes {
		if ch.srcErr != nil {
			ch.Err = ch.srcErr
		}
		c.complete(ch)
	}
}

// tell tells the other processes that keys have changed. What they could not be told is retried.
func (c *localValues) tell(ctx context.Context, changes []*Change) {
	encoded := make([]string, len(changes))
	for i, ch := range changes {
		encoded[i] = c.encoded(ch.rk)
	}
	at := local.Now()
	for i, out := range c.remote.invalidator.Keys(ctx, encoded) {
		ch := changes[i]
		if ch.Err = nil; out.Err != nil {
			ch.Err = c.writeFailed(ctx, out.Err)
		} else {
			c.stats.sent.Add(1)
		}
		c.remote.coherence.EndWrite(retryqueue.Item{Key: ch.rk, At: out.At, Since: at, Numbers: out.Open}, at, out.Err)
	}
}

// complete brings the tier in line with the outcome of a change.
func (c *localValues) complete(ch *Change) {
	defer c.failures.forget(ch.rk) // after the fence has moved; see remember
	if ch.Err != nil || ch.entry.Head == nil || ch.claim == nil || c.policy.Write == strategy.ModeAround {
		c.drop(ch)
		return
	}
	switch c.local.Fill(ch.Key, c.encoded(ch.rk), ch.entry, ch.claim, local.Now()) {
	case local.Refused:
		// A later Set has replaced the entry from before. An invalidation that took the claim away
		// need not have removed that: it may concern other keys. And of two writes to the source,
		// it is not known which one the source applied last.
		if c.toSource() || !ch.claim.Outdone() {
			c.drop(ch)
		}
	case local.Closed:
		if !c.toSource() {
			ch.Err = errs.ErrClosed
		}
	}
}

var errSetIfAbsent = fmt.Errorf("cache: SetIfAbsent of a cache with LocalValues: no process knows whether another one has the value: %w", errors.ErrUnsupported)

func (c *localValues) setIfAbsent(context.Context, *Change) (bool, error) {
	return false, errSetIfAbsent
}

func (c *localValues) invalidate(ctx context.Context, changes []*Change) {
	c.remote.invalidate(ctx, changes)
}

func (c *localValues) invalidateLater(ch *Change) { c.remote.invalidateLater(ch) }

// invalidatePattern returns how many keys of this process matched.
func (c *localValues) invalidatePattern(ctx context.Context, pattern string) (int64, error) {
	n := c.invalidateMatching(pattern)
	// Which drops the keys once more: a load that began before the others were told may have
	// filled the tier.
	_, err := c.remote.invalidatePattern(ctx, pattern)
	return n, err
}

func (c *localValues) invalidatePatternLater(pattern string) {
	c.remote.invalidatePatternLater(pattern)
}

func (c *localValues) mark(ctx context.Context, tags []string) error {
	return c.remote.mark(ctx, tags)
}

func (c *localValues) markLater(tags []string) error { return c.remote.markLater(tags) }
