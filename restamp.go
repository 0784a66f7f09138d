package cache

import (
	"context"
	"math"
	"slices"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
)

// What a caller writes is as new as the write. But what is known of the logical clock
// before it is sent may be older, by the time that a message takes, or where nothing is
// heard by a second:
//
//	1. another process marks everything, or a tag
//	2. a value is written, with the clock from before 1
//	3. readers take it for older than the mark
//
// So the clock is read before the write is carried out. If there was a mark that this process
// did not know, the record has the time that was read.
//
// Where there is one node, the look goes in the same round trip, before the write, and the
// record is then exchanged; by compare-and-set, so that it does not undo a later write. Where
// there are several, what is sent to two of them has no order, and the look takes a round
// trip of its own. It must not go beside the write:
//
//  1. a value is written
//  2. another process marks everything: the value is gone
//  3. the look is answered. It tells of the mark of 2 as if it were from before 1, and the
//     value comes back
//
// The time is one from before the write: a mark that comes between the two hits it. A load
// is as old as its beginning, and so is what was made of an older value: they keep the
// stamp that they have.

// clockLook is a look at the logical clock beside a write.
type clockLook struct {
	coherence.EpochRead
	reply store.Reply
}

// look returns the look that is to go with changes, nil if none of them needs one. Where there
// are several nodes it looks at once, and gives the time to cmds, which are not sent yet.
func (c *Cache[K, V]) look(ctx context.Context, changes []*change[K, V], cmds []store.Command) *clockLook {
	if !slices.ContainsFunc(changes, (*change[K, V]).stampsItself) {
		return nil
	}
	look := &clockLook{EpochRead: c.coherence.BeginEpochRead()}
	if c.client.OneNode() {
		return look
	}
	look.reply = c.client.Do(ctx, []store.Command{c.lookCommand()})[0]
	var s stamp
	var ok bool
	if s.era, s.time, ok = c.coherence.EndEpochReadBeside(ctx, look.EpochRead, look.reply); !ok {
		return nil // the clock that is known is good for a record that goes sooner
	}
	for i, ch := range changes {
		if !ch.stampsItself() || len(cmds[i].Frame) == 0 || !c.outdated(ch, s) {
			continue
		}
		if frm, err := c.encode(ch.rk, ch.val, ch.life, ch.now, s, ch.tags, "", ch.recordCost()); err == nil {
			cmds[i].Frame = frm
			c.stamped(ch, frm, s)
		}
	}
	return nil
}

func (c *Cache[K, V]) lookCommand() store.Command {
	return store.Command{Op: store.Get, Key: c.names.Epoch, Shared: true}
}

// stamped gives a change the record that has the time s.
func (c *Cache[K, V]) stamped(ch *change[K, V], frm []byte, s stamp) {
	ch.frame, ch.stamp = frm, s
	if ch.entry != nil {
		ch.entry = c.changeEntry(ch, ch.at)
	}
}

// stampsItself reports whether the change stores a value that is as new as the change.
func (ch *change[K, V]) stampsItself() bool { return ch.keep && !ch.dated && ch.stamp.era != 0 }

// execReadingClock is exec with a look, unless it is nil.
func (c *Cache[K, V]) execReadingClock(ctx context.Context, look *clockLook, cmds []store.Command) []store.Reply {
	if look == nil {
		return c.exec(ctx, cmds)
	}
	replies := c.exec(ctx, append(append(make([]store.Command, 0, 1+len(cmds)), c.lookCommand()), cmds...))
	look.reply = replies[0]
	return replies[1:]
}

// restampAgain is how often a record is exchanged in whose place loads put something.
const restampAgain = 4

// restamp gives the records of changes that took effect the time of the look, if they would
// else be taken for older than they are. replies are those to cmds.
func (c *Cache[K, V]) restamp(ctx context.Context, look *clockLook, changes []*change[K, V], cmds []store.Command, replies []store.Reply) {
	if look == nil {
		return
	}
	var s stamp
	var ok bool
	if s.era, s.time, ok = c.coherence.EndEpochReadBeside(ctx, look.EpochRead, look.reply); !ok {
		return
	}
	var open []int
	seen := make([]store.CASToken, 0, 1)
	for i, ch := range changes {
		if ch.stampsItself() && replies[i].Err == nil && replies[i].OK && len(cmds[i].Frame) > 0 && c.outdated(ch, s) {
			open, seen = append(open, i), append(seen, store.TokenOf(cmds[i].Frame))
		}
	}
	for try := 0; len(open) > 0 && try < restampAgain; try++ {
		open, seen = c.exchangeStamps(ctx, s, changes, cmds, open, seen, try > 0)
	}
}

// outdated reports whether a record with the stamp of ch is hit by a mark from before s.
func (c *Cache[K, V]) outdated(ch *change[K, V], s stamp) bool {
	switch {
	case s.era != ch.stamp.era:
		return true
	case s.time <= ch.stamp.time:
		return false
	case len(ch.tags) > 0:
		return true // of which tags the marks were is not known yet
	}
	v, until := c.clock.Judge(ch.stamp.era, ch.stamp.time, 0, nil, local.Now())
	return v != logicalclock.Valid || until != math.MaxInt64
}

// exchangeStamps exchanges the records of the open changes for ones with the time s. seen is
// what it replaces: the record itself, or what a load has put in its place that took it for
// outdated; then tell is true. It returns those to be tried once more, of which that has come
// to light. Whatever else is there is newer:
//
//  1. a value is written, and deleted, by whomever
//  2. a load begins: its lease is in the place of nothing
//  3. the value would come back in the place of that lease
func (c *Cache[K, V]) exchangeStamps(ctx context.Context, s stamp, changes []*change[K, V], cmds []store.Command, open []int, seen []store.CASToken, tell bool) (again []int, then []store.CASToken) {
	var swaps []store.Command
	var of []int
	var told []uint64
	for j, i := range open {
		ch := changes[i]
		frm, err := c.encode(ch.rk, ch.val, ch.life, ch.now, s, ch.tags, "", ch.recordCost())
		if err != nil {
			continue // as it was encoded before, it can be again
		}
		swap := store.Command{Op: store.CompareAndSet, Key: ch.rk, Frame: frm, TTL: ch.life.physical(), Seen: seen[j]}
		n := uint64(0)
		if tell { // those who wait for the lease
			swap.Notify, n = invalidation.NotifyOf(c.coherence.Outbox, c.names, message.Invalidated, c.encoded(ch.rk))
		}
		swaps, of, told = append(swaps, swap), append(of, i), append(told, n)
	}
	var gets []store.Command
	for j, reply := range c.exec(ctx, swaps) {
		i := of[j]
		switch {
		case reply.Err == nil && reply.OK:
			cmds[i].Frame = swaps[j].Frame
			c.stamped(changes[i], swaps[j].Frame, s)
			c.coherence.Outbox.Done(told[j])
			continue
		case reply.Err == nil:
			c.coherence.Outbox.Skip(told[j])
			again = append(again, i)
			gets = append(gets, store.Command{Op: store.Get, Key: changes[i].rk, Most: mostOfLoads})
		default:
			c.coherence.Outbox.Skip(told[j]) // a lease is no news
		}
	}
	open, again = again, nil
	for j, reply := range c.client.Do(ctx, gets) {
		own := store.TokenOf(cmds[open[j]].Frame)
		if reply.Err == nil && c.leftByLoadOver(ctx, gets[j].Key, reply.Record, own) {
			again, then = append(again, open[j]), append(then, reply.Record.Seen())
		}
	}
	return again, then
}

// mostOfLoads is more than what a load puts in the place of a record.
const mostOfLoads = 4096

// leftByLoadOver reports whether a record is the lease of a load that has replaced what was
// seen, or what that load has left of its failure.
func (c *Cache[K, V]) leftByLoadOver(ctx context.Context, rk string, rec store.Record, seen store.CASToken) bool {
	if rec.State != store.Found {
		return false
	}
	h, err := frame.ReadHead(rec.Raw)
	if err != nil || h.Kind != frame.Lease && h.Kind != frame.Failure {
		return false
	}
	switch f := c.decode(ctx, rk, rec); f.status {
	case leased:
		return tookOver(f.raw.ID, seen)
	case failed:
		return tookOver(f.lease, seen)
	}
	return false
}
