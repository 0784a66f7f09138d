package engine

import (
	"context"
	"slices"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
)

// The write path, the same for one key and for many:
//
//	1. validate and encode: an error in the input is reported before anything is
//	   sent;
//	2. take the token of the key's fence;
//	3. send the write to Redis, and notify the other processes in the same round
//	   trip;
//	4. at the acknowledgement, move the fence, so that loads and reads in flight no
//	   longer fill the local tier and later callers do not join them, and put the
//	   new value there in the same step, unless the fence was moved in between. Where
//	   the outcome is not known, drop the local value instead, bypass the local
//	   tier for the key from now on, and queue an invalidation that is retried
//	   until Redis and the other processes have it.

// Change is one key of a write.
type Change struct {
	Key     Key
	Val     Value
	rk      string
	at      int64
	fence   fence.Token
	keep    bool // false: the value's life is over already, or the change is a Delete
	deletes bool // that is so, rather than that the value can't be kept
	life    life
	left    time.Duration // of the life that it keeps, by KeepTTL; 0: none
	version version
	dated   bool          // stamp is that of the value that this one was derived from
	cost    time.Duration // how long the value took to make, from when the source was asked
	now     int64         // the time of the key's node before it was sent, µs; 0: not known
	sent    message.Sent
	claim   *fence.Claim // in a LocalOnly cache under a write strategy: takes the place of the intent
	id      frame.ID     // for the record, if it was made in advance
	frame   []byte
	many    *WritingMany // the memory of the write, if it is one of many keys
	tags    []string
	older   []string      // tags of the value that it was derived from, for one that has none of its own
	from    *frame.Header // of the record of that value, nil if there was none: it began when that did
	head    local.Head    // of entry
	entry   Held          // for the local tier, if the change takes effect; zero: none
	again   bool          // of an Update: another write was faster before, or seemed to be

	// Under a write strategy:
	remove bool           // a Delete: the key is to be deleted from the source
	intent store.CASToken // the intent that replaced the old value; see writethrough.go
	lost   bool           // another write has replaced the intent
	srcErr error          // of the source

	done bool  // refused before anything was sent
	Err  error // the outcome
}

// write runs every change of a call that began at the local time start; the outcome is in each err.
func (c *Cache) write(ctx context.Context, changes []*Change, start int64) {
	done := func(ch *Change) bool { return ch.done }
	if slices.ContainsFunc(changes, done) {
		changes = slices.DeleteFunc(slices.Clone(changes), done)
	}
	at := start
	if c.runsUserCode || !c.LocalOnly() { // which may have taken long
		at = local.Now()
	}
	for _, ch := range changes {
		if ch.at = at; c.inRedis { // else the fence is moved when the entry is stored, whatever came before
			ch.fence = c.fences.Token(c.encoded(ch.rk))
		}
		if ch.keep {
			ch.entry = c.changeEntry(ch, at)
		}
	}
	c.backend.apply(ctx, changes)
}

// validate checks the preconditions of every write and encodes the key.
func (c *Cache) validate(ctx context.Context, ch *Change) {
	c.validateAll(ctx, []*Change{ch})
}

// validateAll is validate for the changes of one call. ctx is checked once: if it ends while
// they are prepared, it has ended before the call for none of them, and changes that can't be
// sent to Redis are retried later.
func (c *Cache) validateAll(ctx context.Context, changes []*Change) {
	ended, open := ctx.Err(), false
	for _, ch := range changes {
		if ended != nil {
			ch.refuse(ended)
		} else if c.Closed() {
			ch.refuse(errs.ErrClosed)
		} else if rk, err := c.keyOf(ch.Key); err != nil {
			ch.refuse(err)
		} else {
			ch.rk, open = rk, true
		}
	}
	if open {
		c.backend.ready(ctx)
	}
}

// pointers returns pointers to the changes.
func pointers(changes []Change) []*Change {
	out := make([]*Change, len(changes))
	for i := range changes {
		out[i] = &changes[i]
	}
	return out
}

// encodeChange decides how long a value is kept and encodes it.
func (c *Cache) encodeChange(ctx context.Context, ch *Change, o *Options) {
	if ch.done {
		return
	}
	var err error
	if ch.life, ch.keep, err = c.lifetime(ch.Key, ch.Val, o, &noDirectives); err == nil {
		if ch.tags, err = c.tagsOf(ch.Key, ch.Val, o, &noDirectives); len(ch.tags) == 0 {
			ch.tags = ch.older
		}
	}
	if err != nil {
		ch.refuse(err)
		return
	}
	ch.inherit()
	ch.deletes = !ch.keep
	c.backend.encode(ctx, ch)
}

func (ch *Change) refuse(err error) {
	ch.done, ch.Err = true, err
}

// writeFailed is the error of a write that Redis did not acknowledge.
func (c *Cache) writeFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.unavailable(err)
}

// Writing is the memory of a write of one key. When the write has returned, it is to be made zero, and
// may be used again.
type Writing struct {
	change Change
	all    [1]*Change
}

// Set stores a value.
func (c *Cache) Set(ctx context.Context, w *Writing, key Key, val Value, o *Options) error {
	w.change.Key, w.change.Val = key, val
	w.all[0] = &w.change
	c.setAll(ctx, w.all[:], o)
	return c.Explain("set", w.change.Err)
}

func (c *Cache) setAll(ctx context.Context, all []*Change, o *Options) {
	start := local.Now()
	c.validateAll(ctx, all)
	if o.KeepTTL {
		c.keepLives(ctx, all, o)
	}
	if o.SkipRemote {
		c.backend.setApart(ctx, all, o)
	} else {
		c.backend.together(ctx, all)
		for _, ch := range all {
			c.encodeChange(ctx, ch, o)
		}
		c.write(ctx, all, start)
	}
	for _, ch := range all {
		c.stats.wrote(&c.stats.sets, ch.Err)
	}
	c.stats.setHist.Record(since(start))
}

// Delete removes the keys of changes; the outcome is in each.
func (c *Cache) Delete(ctx context.Context, changes []Change) {
	start := local.Now()
	all := pointers(changes)
	c.validateAll(ctx, all)
	for _, ch := range all {
		ch.remove, ch.deletes = true, true
		if c.toSource() && c.src.Delete == nil && !ch.done {
			ch.refuse(errNoSourceDelete)
		}
		c.backend.encode(ctx, ch)
	}
	c.write(ctx, all, start)
	for _, ch := range all {
		c.stats.wrote(&c.stats.deletes, ch.Err)
	}
	c.stats.deleteHist.Record(since(start))
}

// SetIfAbsent stores a value if its key has none.
func (c *Cache) SetIfAbsent(ctx context.Context, key Key, val Value, o *Options) (bool, error) {
	start := local.Now()
	stored, err := c.setIfAbsent(ctx, key, val, o)
	if stored || err != nil {
		c.stats.wrote(&c.stats.sets, err)
	}
	c.stats.setHist.Record(since(start))
	return stored, c.Explain("set if absent", err)
}

// setIfAbsent stores the value if the key has none: a known absence, another
// program's bytes and a lease count as none.
func (c *Cache) setIfAbsent(ctx context.Context, key Key, val Value, o *Options) (bool, error) {
	ch := Change{Key: key, Val: val}
	c.validate(ctx, &ch)
	c.encodeChange(ctx, &ch, o)
	if ch.done {
		return false, ch.Err
	}
	if c.toSource() && c.within(ctx, ch.rk) {
		return false, errWaitsForItself
	}
	return c.backend.setIfAbsent(ctx, &ch)
}

// drop removes the local entry of a change. It is a deletion if the change is, or writes a value
// whose life is over.
func (c *Cache) drop(ch *Change) {
	if ch.deletes && ch.Err == nil {
		c.local.Delete(c.encoded(ch.rk))
		return
	}
	c.local.Remove(c.encoded(ch.rk))
}

// changeEntry is the local entry of a written value.
func (c *Cache) changeEntry(ch *Change, at int64) Held {
	ans := result{val: ch.Val, info: Info{Tags: ch.tags}}
	e := c.localEntry(ch.Key, &ch.head, &ans, at, freshness{remaining: ch.life.timeLeft(), fresh: ch.life.fresh, size: len(ch.frame)}, ch.version)
	c.putInOutage(e, local.Reached, at, ch.version)
	return e
}
