package engine

import (
	"context"
	"math"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
)

// An Update under a write strategy is atomic over all processes with LocalValues, although there
// is no record that two of them could compare with: it holds a lock in Redis, from before the
// source is asked until it is written. What this process holds is not used:
//
//  1. process A holds the lock, writes the source, tells the others, and releases the lock
//  2. process B gets it; the message of 1 has not arrived
//  3. the entry of B is that from before 1
//
// The lock is a lease, as a load has with values in Redis: if its process dies, it ends soon. If its
// process is suspended for longer, the source's own means have to order the two writes.

// updateOnce is that of localOnly, under a write strategy behind the lock.
func (c *localValues) updateOnce(ctx context.Context, ch *Change, f Func, o *Options) (ok bool, err error) {
	if !c.toSource() {
		return c.updateHere(ctx, ch, f, o)
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if c.Closed() {
		return false, errs.ErrClosed
	}
	if c.own == nil {
		return false, errNoOwnCopy
	}
	unlock, err := c.lock(ctx, ch.rk)
	if err != nil {
		return false, err
	}
	defer unlock()
	if c.loader == nil {
		return c.updateHere(ctx, ch, f, o)
	}
	s, err := c.version(ctx, ch.rk)
	if err != nil {
		return false, c.writeFailed(ctx, err)
	}
	claim, _ := c.fences.ClaimLoadSince(c.fences.Place(c.encoded(ch.rk)), s.time, local.Now(), math.MinInt64, true, nil)
	return c.updateClaimed(ctx, ch, f, o, Held{}, s, claim)
}

// updateHere is updateOnce of what this process has.
func (c *localValues) updateHere(ctx context.Context, ch *Change, f Func, o *Options) (ok bool, err error) {
	ch.done, ch.Err = false, nil
	if c.learnFor(ctx, []*Change{ch}); ch.done {
		return false, ch.Err
	}
	return c.localOnly.updateOnce(ctx, ch, f, o)
}

// lock waits for the lock of a key, and keeps it until unlock is called.
func (c *localValues) lock(ctx context.Context, rk string) (unlock func(), err error) {
	enc := c.encoded(rk)
	w := c.remote.coherence.Wait(enc)
	defer w.Close()
	for {
		cmd := store.Command{Op: store.SetNX, Key: c.remote.lockKey(rk), Frame: frame.AppendLease(nil, frame.NewID()), TTL: leaseLife}
		held := store.TokenOf(cmd.Frame)
		// Not abandoned with the caller: a lock that it does not know of would have to expire.
		reply := c.remote.client.Do(context.WithoutCancel(ctx), []store.Command{cmd})[0]
		switch {
		case reply.Err != nil:
			return nil, c.writeFailed(ctx, reply.Err)
		case reply.OK:
			stop := c.remote.extend(context.WithoutCancel(ctx), leaseLife, []store.Command{{Op: store.Extend, Key: cmd.Key, Seen: held, TTL: leaseLife}})
			return func() {
				stop()
				free := store.Command{Op: store.CompareAndDelete, Key: cmd.Key, Seen: held, Notify: c.remote.invalidator.LoadedOf(cmd.Key, enc)}
				c.remote.client.Do(context.Background(), []store.Command{free})
				c.remote.coherence.Wake(enc) // the message is for other processes
			}, nil
		case c.remote.mustSign(cmd.Key, reply.Record):
			sign := c.remote.coherence.SignLease(cmd.Key, reply.Record)
			if signed := c.remote.client.Do(context.WithoutCancel(ctx), []store.Command{sign})[0]; signed.Err == nil && !signed.OK {
				continue // it was released meanwhile
			}
		}
		t := time.NewTimer(leasePoll)
		select {
		case <-w.C:
		case <-t.C:
		case <-ctx.Done():
			err = ctx.Err()
		case <-c.refresher.ctx.Done():
			err = errs.ErrClosed
		}
		t.Stop()
		if err != nil {
			return nil, err
		}
	}
}
