package cache

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/usercode"
)

// load asks the source, as soon as the load limit lets it, and keeps the leases alive
// meanwhile: others wait for this load, wherever it waits.
func (c *Cache[K, V]) load(ctx context.Context, j *job[K, V], o *callOptions, ls []*loading[K, V]) {
	stop := c.keepAlive(ctx, ls)
	defer stop()
	if len(ls) == 1 && j.one != nil {
		c.limited(ctx, o, ls, func() { ls[0].res = c.loadOne(ctx, j.one, ls[0].call.Key, ls[0].old, o.refresh) })
		return
	}
	if many := j.many; many != nil {
		batch := slices.DeleteFunc(slices.Clone(ls), func(l *loading[K, V]) bool { return !findable(l.call.Key) })
		if len(batch) > 0 {
			c.limited(ctx, o, batch, func() { c.loadMany(ctx, j, o, batch) })
		}
		if len(batch) == len(ls) {
			return
		}
		// Others can't be found in what a load of many returns.
		j = &job[K, V]{one: j.one}
		if j.one == nil {
			j.one = oneOf(many)
		}
		ls = slices.DeleteFunc(slices.Clone(ls), func(l *loading[K, V]) bool { return findable(l.call.Key) })
	}
	for _, l := range ls {
		l.res.err = errEndedGoroutine // unless its load returns, or panics
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, loadsAtOnce)
	for _, l := range ls {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c.limited(ctx, o, []*loading[K, V]{l}, func() { l.res = c.loadOne(ctx, j.one, l.call.Key, l.old, o.refresh) })
		})
	}
	wg.Wait()
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
	err, began := errEndedGoroutine, local.Now()
	defer func() {
		w, found, absent := h.end(), 0, 0
		for _, l := range ls {
			var ok bool
			if l.res.val, ok = vals[l.call.Key]; !ok {
				if l.res.err = err; err == nil {
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
