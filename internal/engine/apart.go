package engine

import (
	"context"
	"errors"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/local"
)

// Calls apart from Redis (SkipRemote) ask and change the local tier and the source only. In a
// LocalOnly cache all calls do, and the option has no effect.
//
// A read may fill the local tier although it has no lease: the fence is taken before the load,
// and whatever other processes write or invalidate from then on moves it. Loads are shared among
// calls of this kind only, so that none waits for Redis, and none that was to fill Redis does
// not.

var errNoLocal = errors.New("the local tier is not in use: it is not certain that notifications of other processes are received, or one of this process is pending")

// readApart answers lookups without asking Redis.
func (c *remote) readApart(ctx context.Context, s *Scratch, j Loader, o *Options) {
	for i := range s.items {
		it := &s.items[i]
		if it.done {
			continue
		}
		if c.localStale(it, o); !c.serveStale(ctx, it, j, o) {
			c.countMiss(notFound, o)
		}
	}
}

// acquireApart lets loads begin that fill the local tier only.
func (c *remote) acquireApart(ls []*inflightLoad) {
	for _, l := range ls {
		l.apart = true
		if c.outage.unheard(l.rk, local.Now()) {
			c.keepInOutage(l)
			continue
		}
		c.coherence.ReceiveAll()
		l.state, l.fence = fillLocal, c.fences.Token(c.encoded(l.rk))
		// If it is not known, an entry with tags is invalid from the start.
		l.version, _ = c.knownVersion(l.rk)
		if c.local != nil && !c.mayUseLocal(l.rk, local.Now()) {
			l.state = fillNone
		}
	}
}

// setApart stores values in the local tier only.
func (c *remote) setApart(ctx context.Context, changes []*Change, o *Options) {
	c.coherence.AwaitAll(ctx)
	for _, ch := range changes {
		if ch.done {
			continue
		}
		var err error
		if ch.life, ch.keep, err = c.lifetime(ch.Key, ch.Val, o, &noDirectives); err == nil {
			ch.tags, err = c.tagsOf(ch.Key, ch.Val, o, &noDirectives)
		}
		if ch.inherit(); err != nil {
			ch.Err = err
			continue
		}
		var known bool
		ch.version, known = c.knownVersion(ch.rk)
		ch.at = local.Now()
		enc := c.encoded(ch.rk)
		apart := c.outage.unheard(ch.rk, ch.at)
		if apart {
			ch.version = c.lastVersion(ch.rk)
		}
		switch {
		case !apart && (!c.mayUseLocal(ch.rk, ch.at) || !known && len(ch.tags) > 0):
			ch.Err = c.unavailable(errNoLocal)
		case !ch.keep:
			ch.deletes = true
			c.drop(ch)
		default:
			e := c.changeEntry(ch, ch.at)
			if apart {
				how := local.Apart
				if !c.inRedis { // there is no value that it might hide
					how = local.Reached
				}
				c.putInOutage(e, how, ch.at, ch.version)
			}
			if c.local.Set(ch.Key, enc, e, local.Now()) == local.Closed {
				ch.Err = errs.ErrClosed
			}
		}
		c.failures.forget(ch.rk)
	}
}

// setApart is any Set.
func (c *localOnly) setApart(ctx context.Context, changes []*Change, o *Options) {
	for _, ch := range changes {
		c.encodeChange(ctx, ch, o)
	}
	c.write(ctx, changes, local.Now())
}
