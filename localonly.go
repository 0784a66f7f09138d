package cache

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/glob"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/revoke"
)

// A LocalOnly cache has no record in Redis to compare with. Its compare-and-set
// is the key's fence: a value is stored only if nothing has moved the key since
// it was looked at.

func (c *Cache[K, V]) setIfAbsentLocal(ctx context.Context, ch *change[K, V]) (bool, error) {
	enc := c.encoded(ch.rk)
	if c.toSource() {
		defer c.solos.lock(enc)()
	}
	for {
		at := local.Now()
		f := c.fences.Token(enc)
		if e, ok := c.local.Get(ch.key, at); ok && (e.Meta == nil || !e.Meta.Absent && c.lives(e.Meta, at)) {
			return false, nil
		}
		if c.toSource() {
			changes := []*change[K, V]{ch}
			ch.at, ch.fence = at, c.fences.Move(enc)
			if ch.keep {
				ch.entry = c.changeEntry(ch, at)
			}
			c.finish(ctx, changes)
			return ch.err == nil, ch.err
		}
		if !ch.keep {
			return true, nil
		}
		if c.local.Swap(ch.key, enc, c.changeEntry(ch, at), f) {
			return true, nil
		}
	}
}

func (c *Cache[K, V]) updateLocal(ctx context.Context, ch *change[K, V], f func(V, bool) (V, error), o *callOptions) (ok bool, err error) {
	enc := c.encoded(ch.rk)
	if c.toSource() {
		defer c.solos.lock(enc)()
	}
	at := local.Now()
	token := c.fences.Token(enc)
	var old V
	e, known := c.local.Get(ch.key, at)
	have := known && (e.Meta == nil || !e.Meta.Absent && c.lives(e.Meta, at))
	kept := have
	switch {
	case have:
		if old = e.Value; c.clone != nil {
			if old, have = c.clone(old); !have {
				return false, errUncopied
			}
		}
	case !known && c.job != nil:
		if old, have, err = c.loadForUpdate(ctx, ch.key); err != nil {
			return false, err
		}
	}
	if ch.val, err = f(old, have); err != nil {
		return false, err
	}
	c.stage(ctx, ch, o)
	if ch.done {
		return false, ch.err
	}
	if c.toSource() {
		if !c.fences.Valid(enc, token) {
			return false, nil
		}
		if kept && !o.hasTTL && e.Expires != math.MaxInt64 {
			ch.life.fresh = time.Duration(e.Expires - at)
		}
		ch.at, ch.fence = at, c.fences.Move(enc)
		if ch.keep {
			ch.entry = c.changeEntry(ch, at)
		}
		c.finish(ctx, []*change[K, V]{ch})
		return ch.err == nil, ch.err
	}
	if !ch.keep {
		if !c.fences.Valid(enc, token) {
			return false, nil
		}
		c.local.Remove(enc)
		return true, nil
	}
	next := c.changeEntry(ch, at)
	if kept && !o.hasTTL {
		next.Deadline, next.Expires = e.Deadline, e.Expires
	}
	return c.local.Swap(ch.key, enc, next, token), nil
}

// changeEntry is the local entry of a written value.
func (c *Cache[K, V]) changeEntry(ch *change[K, V], at int64) *local.Entry[V] {
	ans := answer[V]{val: ch.val, info: Info{Tags: ch.tags}}
	return c.localEntry(&ans, at, aging{left: ch.life.left(), fresh: ch.life.fresh, size: len(ch.frame)}, ch.stamp)
}

// revokeLocal makes one key invalid by the invalidator's policy.
func (c *Cache[K, V]) revokeLocal(key K, enc string) {
	switch {
	case c.invalid.Mode == revoke.Delayed:
		c.shorten(key, enc, local.Now()+int64(c.invalid.Delay), false)
	case c.invalid.Mode == revoke.Lazy && c.policy.StaleFor() > 0:
		c.shorten(key, enc, local.Now(), true)
	default:
		c.local.Remove(enc)
	}
}

// shorten ends the fresh life of an entry at a local time, and with it its use as a
// stale one, unless that is to be kept. Loads under way lose.
func (c *Cache[K, V]) shorten(key K, enc string, end int64, keepStale bool) {
	for {
		f := c.fences.Move(enc)
		e, ok := c.local.Any(key)
		if !ok {
			return
		}
		short := &local.Entry[V]{Value: e.Value, Stored: e.Stored, Meta: e.Meta, Expires: min(e.Expires, end), Deadline: min(e.Deadline, end)}
		if e.Meta != nil && !keepStale {
			m := *e.Meta
			m.Stale = min(m.Stale, end)
			short.Meta = &m
		}
		if c.local.Swap(key, enc, short, f) {
			return
		}
	}
}

// revokeMatching makes the keys invalid that match a pattern.
func (c *Cache[K, V]) revokeMatching(ctx context.Context, pattern string) (n int64) {
	match := glob.Compile(pattern).Match
	at := local.Now()
	c.local.Range(func(k K, e *local.Entry[V]) bool {
		ch := change[K, V]{key: k}
		var err error
		if ch.rk, err = c.redisKey(k); err == nil && (at < e.Deadline || e.Meta != nil && at < e.Meta.Stale) && match(c.encoded(ch.rk)) {
			c.revokeLocal(k, c.encoded(ch.rk))
			n++
		}
		return ctx.Err() == nil
	})
	return n
}

// revokeAllLocal makes everything invalid.
func (c *Cache[K, V]) revokeAllLocal() {
	if c.invalid.Mode == revoke.Immediate {
		c.local.Flush()
		return
	}
	c.local.Range(func(k K, _ *local.Entry[V]) bool {
		if rk, err := c.redisKey(k); err == nil {
			c.revokeLocal(k, c.encoded(rk))
		}
		return true
	})
}

// keyLocks lets one caller at a time work on a key: where there is no Redis to agree
// by, and the source is written before it is known whose write counts.
type keyLocks struct {
	mu    sync.Mutex // guards what follows
	byKey map[string]*keyLock
}

type keyLock struct {
	turn  chan struct{} // holds a token while nobody works on the key
	users int           // guarded by keyLocks.mu
}

// lock waits for the key and returns what releases it.
func (l *keyLocks) lock(key string) (unlock func()) {
	l.mu.Lock()
	if l.byKey == nil {
		l.byKey = map[string]*keyLock{}
	}
	k := l.byKey[key]
	if k == nil {
		k = &keyLock{turn: make(chan struct{}, 1)}
		k.turn <- struct{}{}
		l.byKey[key] = k
	}
	k.users++
	l.mu.Unlock()
	<-k.turn
	return func() {
		k.turn <- struct{}{}
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.byKey, key)
		}
	}
}
