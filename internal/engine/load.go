package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/usercode"
)

// loadAndFill loads from the source, as soon as the load limit allows, and fills the results.
// Leases are kept alive meanwhile, also while it is queued: others wait for this load. If the
// source loads one by one, each key is filled when its own load has ended.
func (c *Cache) loadAndFill(ctx context.Context, j Loader, o *Options, ls []*inflightLoad) {
	if len(ls) == 0 {
		return
	}
	stop := c.backend.keepAlive(ctx, ls)
	defer stop()
	if j.HasMany() && (len(ls) > 1 || !j.HasOne()) {
		// Keys that can't be found in the map that LoadMany returns are loaded one by one.
		findable := func(l *inflightLoad) bool { return c.types.Findable(l.key) }
		batch := slices.DeleteFunc(slices.Clone(ls), func(l *inflightLoad) bool { return !findable(l) })
		if len(batch) > 0 {
			c.limited(ctx, o, batch, func(leave func()) bool {
				return c.loadMany(c.entering(ctx, redisKeys(batch)...), j, o, batch, leave)
			})
			if len(batch) == len(ls) {
				stop()
			}
			c.fill(ctx, o, batch)
		}
		ls = slices.DeleteFunc(slices.Clone(ls), findable)
	}
	c.loadEach(ctx, j, o, ls)
}

func redisKeys(ls []*inflightLoad) []string {
	rks := make([]string, len(ls))
	for i, l := range ls {
		rks[i] = l.rk
	}
	return rks
}

// limited runs a call of a loader for ls, if the load limit has a slot for it. If load returns
// left true, the loader goes on without its callers and releases the slot itself.
func (c *Cache) limited(ctx context.Context, o *Options, ls []*inflightLoad, load func(leave func()) (left bool)) {
	if err := c.limit.enter(ctx, o.background); err != nil {
		c.refuse(o, err, ls...)
		return
	}
	left := false
	defer func() {
		if !left {
			c.limit.leave()
		}
	}()
	left = load(c.limit.leave)
}

// refuse ends loads for which the load limit has no slot.
func (c *Cache) refuse(o *Options, err error, ls ...*inflightLoad) {
	for _, l := range ls {
		l.res = loaded{err: err, refused: true}
	}
	if !o.refresh {
		c.stats.unloaded.Add(uint64(len(ls)))
	}
}

func (c *Cache) loadMany(ctx *callContext, j Loader, o *Options, ls []*inflightLoad, leave func()) (left bool) {
	h := &ctx.handle
	h.begin(c, nil)
	call := new(loadCall)
	call.init(local.Now(), c.stats, len(ls), o.refresh)
	keys := make([]Key, len(ls))
	for i, l := range ls {
		keys[i] = l.key
	}
	unasked := c.unasked(j)
	began := local.Now()
	los := make([]*leftover, len(ls))
	for i, l := range ls {
		los[i] = &l.rest
		l.rest.ready.Add(1)
	}
	vals, err, left := contained(ctx, c.closing, func() (Found, error) { return j.LoadMany(call.begin(ctx, c.name), keys) }, func(vals Found, err error) {
		leave()
		leaving(ctx)
		w, single := h.end(), c.keyed(ctx, err)
		for i, key := range keys {
			res := resultOf(vals, err, single, key, began)
			res.settle(w, nil, nil)
			c.fillLate(o, los[i], res)
		}
	})
	if err = ended(ctx, err, left); left {
		for i, l := range ls {
			l.left, l.res = los[i], loaded{err: theirs(err), began: began, left: true, directives: h.soFar()}
		}
		call.done(err, 0, 0)
		return true
	}
	leaving(ctx)
	w, found, absent := h.end(), 0, 0
	// If the cache has ended the load, keys that a BatchError does not name are not absent:
	// the loader may not have got to them. keyed then returns nil.
	single := c.keyed(ctx, err)
	for _, l := range ls {
		l.res = resultOf(vals, err, single, l.key, began)
		l.res.settle(w, nil, nil)
		switch {
		case l.res.err == nil:
			found++
		case c.absence(l.res.err) != nil:
			absent++
		}
	}
	call.done(err, found, absent)
	unasked.fill(vals, ls, w, began)
	return false
}

// keyed returns a function that gives the error of each key, if err of a LoadMany has the errors
// of single keys; nil if it applies to all keys.
func (c *Cache) keyed(ctx context.Context, err error) func(Key) error {
	if err == nil || ctx.Err() != nil || usercode.Panicked(err) {
		return nil
	}
	of, _ := c.types.Single(err)
	return of
}

// resultOf returns the result of a LoadMany for one key.
func resultOf(vals Found, err error, single func(Key) error, key Key, began int64) (res loaded) {
	ok := false
	if vals.Get != nil {
		res.val, ok = vals.Get(key)
	}
	if !ok {
		if res.err = err; single != nil {
			res.err = single(key)
		}
		if res.err = theirs(res.err); res.err == nil {
			res.err = errs.ErrNotFound
		}
	}
	res.began = began
	return res
}

// settle applies the directives of the loader to its result.
func (r *loaded) settle(w *loadDirectives, old *decoded, clone cloner) {
	r.directives = w
	if r.err == errNotModified && old != nil {
		// The old value begins a new life, and keeps its ETag and tags.
		r.val, r.err = old.ans.val, nil
		if old.ans.held && clone != nil { // the local tier shares it with other readers
			r.val, r.err = clone(old.ans.val)
		}
		kept := *w
		kept.etag = cmp.Or(w.etag, old.raw.ETag)
		if len(w.tags) == 0 {
			kept.tags = old.ans.info.Tags
		}
		r.directives = &kept
	}
}

// ended returns the error of a load: that of its loader, and the cause if the cache ended it.
func ended(ctx context.Context, err error, left bool) error {
	switch {
	case left:
		return leftAlone(ctx)
	case err == usercode.ErrGoexit:
		err = errEndedGoroutine
	}
	if err != nil && ctx.Err() != nil {
		// If the cache has ended the load, add the cause to the loader's error.
		if cause := causeOf(ctx); cause == errs.ErrClosed || cause == errHardTimeout {
			err = fmt.Errorf("%w: %w", cause, err)
		}
	}
	return err
}
