package cache

import (
	"context"
	"fmt"
	"slices"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/usercode"
)

// loadAndFill asks the source, as soon as the load limit lets it, and fills what it said.
// Leases are kept alive meanwhile: others wait for this load, wherever it waits. Where the
// source loads one by one, each key is filled when its own load has ended.
func (c *Cache[K, V]) loadAndFill(ctx context.Context, j *job[K, V], o *callOptions, ls []*loading[K, V]) {
	if len(ls) == 0 {
		return
	}
	stop := c.keepAlive(ctx, ls)
	defer stop()
	switch {
	case len(ls) == 1 && j.one != nil:
		c.loadSingle(ctx, j.one, o, ls[0])
		stop()
		c.fill(ctx, o, ls)
	case j.many != nil:
		one := j.one
		if one == nil {
			one = oneOf(j.many)
		}
		// Keys that can't be found in what a load of many returns are loaded one by one.
		findable := func(l *loading[K, V]) bool { return findable(l.call.Key) }
		batch := slices.DeleteFunc(slices.Clone(ls), func(l *loading[K, V]) bool { return !findable(l) })
		if len(batch) > 0 {
			c.limited(ctx, o, batch, func() { c.loadMany(c.entering(ctx, redisKeys(batch)...), j, o, batch) })
			if len(batch) == len(ls) {
				stop()
			}
			c.fill(ctx, o, batch)
		}
		c.loadEach(ctx, one, o, slices.DeleteFunc(slices.Clone(ls), findable))
	default:
		c.loadEach(ctx, j.one, o, ls)
	}
}

// loadEach loads one by one, and fills each key when its own load has ended.
func (c *Cache[K, V]) loadEach(ctx context.Context, one LoadFunc[K, V], o *callOptions, ls []*loading[K, V]) {
	ended := make(chan *loading[K, V], len(ls))
	go func() {
		slots := make(chan struct{}, loadsAtOnce)
		for _, l := range ls {
			slots <- struct{}{}
			go func() {
				l.res.err = errEndedGoroutine // unless it returns, or panics
				defer func() { <-slots; ended <- l }()
				defer usercode.Recover(&l.res.err)
				c.loadSingle(ctx, one, o, l)
			}()
		}
	}()
	for left := len(ls); left > 0; {
		some := []*loading[K, V]{<-ended}
		for more := true; more; {
			select {
			case l := <-ended:
				some = append(some, l)
			default:
				more = false
			}
		}
		left -= len(some)
		c.fill(ctx, o, some)
	}
}

func (c *Cache[K, V]) loadSingle(ctx context.Context, one LoadFunc[K, V], o *callOptions, l *loading[K, V]) {
	c.limited(ctx, o, []*loading[K, V]{l}, func() { l.res = c.loadOne(c.entering(ctx, l.rk), one, l.call.Key, l.old, o.refresh) })
}

func redisKeys[K comparable, V any](ls []*loading[K, V]) []string {
	rks := make([]string, len(ls))
	for i, l := range ls {
		rks[i] = l.rk
	}
	return rks
}

// limited runs a call of a loader for ls, if the load limit has a place for it.
func (c *Cache[K, V]) limited(ctx context.Context, o *callOptions, ls []*loading[K, V], load func()) {
	if err := c.limit.enter(ctx, o.behind); err != nil {
		for _, l := range ls {
			l.res = loaded[V]{err: err, refused: true}
		}
		if !o.refresh {
			c.stats.unloaded.Add(uint64(len(ls)))
		}
		return
	}
	defer c.limit.leave()
	load()
}

// loadOne calls a loader. old is what is to be replaced, nil if there is nothing.
// refresh is for the metrics: no read waits for it.
func (c *Cache[K, V]) loadOne(ctx context.Context, one LoadFunc[K, V], key K, old *found[V], refresh bool) (res loaded[V]) {
	if old != nil && old.ans.absent != nil {
		old = nil // that there is no such thing is nothing to keep
	}
	ctx, h := withHandle(ctx, old, c.clone)
	call := c.stats.newLoad(1, refresh)
	res.err, res.began = errEndedGoroutine, local.Now() // unless it returns, or panics
	defer func() {
		leaving(ctx)
		res.settle(h.end(), old, c.clone)
		found, absent := 0, 0
		switch {
		case res.err == nil:
			found = 1
		case c.absence(res.err) != nil:
			absent = 1
		}
		call.done(res.err, found, absent)
	}()
	res.err = protect(ctx, func() (err error) {
		res.val, err = one(call.begin(ctx, c.name), key)
		return err
	})
	res.err = theirs(res.err)
	return res
}

func (c *Cache[K, V]) loadMany(ctx context.Context, j *job[K, V], o *callOptions, ls []*loading[K, V]) {
	ctx, h := withHandle[V](ctx, nil, nil)
	call := c.stats.newLoad(len(ls), o.refresh)
	keys := make([]K, len(ls))
	for i, l := range ls {
		keys[i] = l.call.Key
	}
	var vals map[K]V
	var single *BatchError[K] // what LoadMany says of single keys
	byKey := false
	err, began := errEndedGoroutine, local.Now()
	defer func() {
		leaving(ctx)
		w, found, absent := h.end(), 0, 0
		for _, l := range ls {
			var ok bool
			if l.res.val, ok = vals[l.call.Key]; !ok {
				if l.res.err = err; byKey {
					l.res.err = usercode.Checked(single.For(l.call.Key))
				}
				if l.res.err = theirs(l.res.err); l.res.err == nil {
					l.res.err = ErrNotFound
				}
			}
			l.res.began = began
			l.res.settle(w, nil, nil)
			switch {
			case l.res.err == nil:
				found++
			case c.absence(l.res.err) != nil:
				absent++
			}
		}
		call.done(err, found, absent)
	}()
	err = protect(ctx, func() (err error) {
		vals, err = j.many(call.begin(ctx, c.name), keys)
		return err
	})
	// What was ended from here may not have got to the keys that it does not name.
	if err != nil && ctx.Err() == nil && !usercode.Panicked(err) {
		single, byKey = usercode.As[*BatchError[K]](err)
	}
}

// settle takes what the load asked for, beside what it returned.
func (r *loaded[V]) settle(w wishes, old *found[V], clone cloner[V]) {
	r.wishes = w
	if r.err == errNotModified && old != nil {
		// The old value begins a new life, with what is known of it.
		r.val, r.err = old.ans.val, nil
		if old.ans.held && clone != nil { // others have it, and go on having it
			r.val, r.err = clone(old.ans.val)
		}
		if w.etag == "" {
			r.wishes.etag = old.raw.ETag
		}
		if len(w.tags) == 0 {
			r.wishes.tags = old.ans.info.Tags
		}
	}
}

// protect calls a loader on a goroutine of its own: neither a panic nor the end of that
// goroutine costs more than the load.
func protect(ctx context.Context, load func() error) error {
	err := usercode.Contained(load)
	if err == usercode.ErrGoexit {
		err = errEndedGoroutine
	}
	if err != nil && ctx.Err() != nil {
		// The load was ended from here: say why, beside what it made of it.
		if cause := context.Cause(ctx); cause == ErrClosed || cause == errHardTimeout {
			err = fmt.Errorf("%w: %w", cause, err)
		}
	}
	return err
}
