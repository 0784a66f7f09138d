package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/strategy"
)

// Under a write strategy, the source is written first.
//
//	WriteThrough
//	1. an intent replaces the record in Redis: the fills of loads in flight fail, and
//	   later loads wait for its end;
//	2. the source is written;
//	3. the value replaces the intent, by compare-and-set. If another write came in
//	   between, it is not known which of the two the source applied last: the key is
//	   removed.
//
//	WriteBehind is WriteThrough with a queue in the place of the source.
//
//	WriteAround, and every Delete
//	1. the source is written;
//	2. the key is removed, and with it the leases of loads that may have read the
//	   source before.
//
// Writing the source and then a SET would not be correct:
//
//	1. writer A writes the source
//	2. writer B writes the source, and SETs its value
//	3. writer A SETs its value: the source has B's
//
// If the source fails, its value is not known: the key is removed. If Redis fails
// after the source succeeded, the caller gets an error that says so, and the invalidation
// is retried later.

// toSource reports whether writes go to the source.
func (c *Cache) toSource() bool { return c.policy.Write != strategy.ModeCache }

// writeSource writes changes to the source. ctx is the caller's: if it ends, the source's
// functions see that, and decide themselves what to do.
func (c *Cache) writeSource(ctx context.Context, changes []*Change) {
	if held := intended(changes); len(held) > 0 {
		// A read of one of these keys waits for the end of its intent.
		ctx = c.entering(ctx, held...)
		defer leaving(ctx)
	}
	if c.queue != nil {
		c.enqueue(ctx, changes)
		return
	}
	var sets []*Change
	var singles []*Change
	for _, ch := range changes {
		switch {
		case ch.remove || c.src.StoreMany == nil || !c.types.Findable(ch.Key) || len(changes) == 1 && c.src.Store != nil:
			singles = append(singles, ch)
		default:
			sets = append(sets, ch)
		}
	}
	if len(sets) > 0 {
		c.storeMany(ctx, sets)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, loadsAtOnce)
	for i, ch := range singles {
		if i == len(singles)-1 {
			ch.srcErr = c.storeOne(ctx, ch) // the last one, or the only one, here
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ch.srcErr = c.storeOne(ctx, ch)
		})
	}
	wg.Wait()
}

func (c *Cache) storeOne(ctx context.Context, ch *Change) error {
	return theirs(usercode.Contained(func() error {
		switch {
		case ch.remove && c.src.Delete == nil:
			return errNoSourceDelete
		case ch.remove:
			return c.src.Delete(ctx, ch.Key)
		case c.src.Store != nil:
			return c.src.Store(ctx, ch.Key, ch.Val)
		}
		return c.src.StoreMany(ctx, []Key{ch.Key}, []Value{ch.Val})
	}))
}

var errNoSourceDelete = fmt.Errorf("cache: Delete under a write strategy needs Source.Delete: %w", errors.ErrUnsupported)

func (c *Cache) storeMany(ctx context.Context, changes []*Change) {
	keys, vals := make([]Key, len(changes)), make([]Value, len(changes))
	for i, ch := range changes {
		keys[i], vals[i] = ch.Key, ch.Val
	}
	err := usercode.Contained(func() error { return c.src.StoreMany(ctx, keys, vals) })
	single := c.eachOf(err)
	for _, ch := range changes {
		if ch.srcErr = err; single != nil {
			ch.srcErr = single(ch.Key)
		}
		ch.srcErr = theirs(ch.srcErr)
	}
}

// eachOf returns a function that gives the error of each key if err of a StoreMany has the errors
// of single keys and is not the value of a panic; else nil.
func (c *Cache) eachOf(err error) func(Key) error {
	if err == nil || usercode.Panicked(err) {
		return nil
	}
	if of, n := c.types.Single(err); n > 0 {
		return of
	}
	return nil
}

// intend puts intents in the place of the records that will be replaced, for changes that have
// none yet, and keeps them alive until stop is called.
func (c *remote) intend(ctx context.Context, changes []*Change) (stop func()) {
	if c.policy.Write == strategy.ModeAround {
		return func() {}
	}
	life := leaseFor(len(changes))
	var cmds []store.Command
	var asked []*Change
	for _, ch := range changes {
		if ch.frame != nil && ch.intent.State == store.Missing {
			cmds = append(cmds, c.intentCommand(store.Set, ch.rk, life))
			asked = append(asked, ch)
		}
	}
	for i, reply := range c.coherence.Send(ctx, cmds) {
		if reply.Err == nil {
			asked[i].intent = store.TokenOf(cmds[i].Frame)
		} // else commit removes the key
	}
	var held []store.Command
	for _, ch := range changes {
		if ch.intent.State == store.Found {
			held = append(held, store.Command{Op: store.Extend, Key: ch.rk, Seen: ch.intent, TTL: life})
		}
	}
	return c.extend(ctx, life, held)
}

// intended returns the Redis keys of changes that hold intents, or claims.
func intended(changes []*Change) (rks []string) {
	for _, ch := range changes {
		if ch.intent.State == store.Found || ch.claim != nil {
			rks = append(rks, ch.rk)
		}
	}
	return rks
}

func (c *remote) intentCommand(op store.Op, rk string, life time.Duration) store.Command {
	return store.Command{Op: op, Key: rk, Frame: c.signed(rk, frame.AppendIntent(nil, frame.NewID())), TTL: life}
}

// commitCommand is the command that makes Redis agree with the source.
func (c *remote) commitCommand(ch *Change) store.Command {
	switch {
	case !ch.keep || ch.srcErr != nil:
	case !c.toSource():
		return store.Command{Op: store.Set, Key: ch.rk, Frame: ch.frame, TTL: ch.life.physical()}
	case ch.intent.State == store.Found && !ch.lost && c.policy.Write != strategy.ModeAround:
		return store.Command{Op: store.CompareAndSet, Key: ch.rk, Frame: ch.frame, TTL: ch.life.physical(), Seen: ch.intent}
	}
	return store.Command{Op: store.Delete, Key: ch.rk}
}

// commit sends the changes to Redis, and notifies the other processes in the same round trip.
func (c *remote) commit(ctx context.Context, changes []*Change) {
	for len(changes) > 0 {
		cmds, room := commandsFor(changes)
		for i, ch := range changes {
			cmds[i] = c.commitCommand(ch)
			if cmds[i].Op == store.Delete {
				ch.entry = Held{}
			}
		}
		look := c.readClock(ctx, changes, cmds)
		replies := c.execAndNotify(ctx, look, changes, cmds, room)
		if look != nil && look.reply.Err != nil {
			leave(changes)
		}
		c.updateVersions(ctx, look, changes, cmds, replies)
		var lost []*Change
		for i, reply := range replies {
			ch := changes[i]
			took := cmds[i].Op != store.CompareAndSet || reply.OK
			c.complete(ctx, ch, &cmds[i], took, reply.Err)
			if reply.Err == nil && !took {
				ch.lost = true
				lost = append(lost, ch)
			}
			if ch.srcErr != nil {
				ch.Err = ch.srcErr
			}
		}
		changes = lost
	}
}
