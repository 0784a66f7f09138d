package cache

import (
	"context"
	"math"

	"github.com/delqhi/cache/internal/accord"
	"github.com/delqhi/cache/internal/ages"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/notice"
	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/internal/revoke"
)

// What a caller writes is as new as the write. But what is known of the logical clock
// before it is sent may be older, by the time that a notice takes, or where nothing is
// heard by a second:
//
//	1. another process marks everything, or a tag
//	2. a value is written, with the clock from before 1
//	3. readers take it for older than the mark
//
// So the clock is read in the same round trip, before the write is carried out. If there
// was a mark that this process did not know, the record is exchanged for one that has the
// time that was read; by compare-and-set, so that it does not undo a later write.
//
// The time is one from before the write: a mark that comes between the two hits it. A load
// is as old as its beginning, and so is what was made of an older value: they keep the
// stamp that they have.

// clockLook is a look at the logical clock beside a write.
type clockLook struct {
	accord.Look
	reply remote.Reply
}

// lookBeside returns the look that goes with changes, nil if none of them needs one.
func (c *Cache[K, V]) lookBeside(changes []*change[K, V]) *clockLook {
	for _, ch := range changes {
		if ch.stampsItself() {
			return &clockLook{Look: c.accord.BeginLook()}
		}
	}
	return nil
}

// stampsItself reports whether the change stores a value that is as new as the change.
func (ch *change[K, V]) stampsItself() bool { return ch.keep && !ch.dated && ch.stamp.era != 0 }

// carryOutLooking is carryOut with a look, unless it is nil. Where there are several nodes,
// the one that has the clock holds nothing up but the look.
func (c *Cache[K, V]) carryOutLooking(ctx context.Context, look *clockLook, cmds []remote.Command) []remote.Reply {
	if look == nil {
		return c.carryOut(ctx, cmds)
	}
	get := remote.Command{Op: remote.Get, Key: c.names.Epoch, Shared: true}
	if c.remote.OneNode() {
		replies := c.carryOut(ctx, append(append(make([]remote.Command, 0, 1+len(cmds)), get), cmds...))
		look.reply = replies[0]
		return replies[1:]
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		look.reply = c.remote.Do(ctx, []remote.Command{get})[0]
	}()
	replies := c.carryOut(ctx, cmds)
	<-done
	return replies
}

// restampAgain is how often a record is exchanged that others write over.
const restampAgain = 4

// restamp gives the records of changes that took effect the time of the look, if they would
// else be taken for older than they are. replies are those to cmds.
func (c *Cache[K, V]) restamp(ctx context.Context, look *clockLook, changes []*change[K, V], cmds []remote.Command, replies []remote.Reply) {
	if look == nil {
		return
	}
	var s stamp
	var ok bool
	if s.era, s.time, ok = c.accord.EndLookBeside(ctx, look.Look, look.reply); !ok {
		return
	}
	var open []int
	seen := make([]remote.Seen, 0, 1)
	for i, ch := range changes {
		if ch.stampsItself() && replies[i].Err == nil && replies[i].OK && len(cmds[i].Frame) > 0 && c.outdated(ch, s) {
			open, seen = append(open, i), append(seen, remote.SeenToken(cmds[i].Frame))
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
	v, until := c.ages.Judge(ch.stamp.era, ch.stamp.time, 0, nil, local.Now())
	return v != ages.Good || until != math.MaxInt64
}

// exchangeStamps exchanges the records of the open changes for ones with the time s. It
// returns those to be tried once more, since a load took the record for outdated and put
// its lease in the place. Whatever else has taken it is newer.
func (c *Cache[K, V]) exchangeStamps(ctx context.Context, s stamp, changes []*change[K, V], cmds []remote.Command, open []int, seen []remote.Seen, tell bool) (again []int, then []remote.Seen) {
	var swaps []remote.Command
	var of []int
	var told []uint64
	for j, i := range open {
		ch := changes[i]
		frm, err := c.encode(ch.rk, ch.val, ch.life, ch.now, s, ch.tags, "", ch.cost)
		if err != nil {
			continue // as it was encoded before, it can be again
		}
		swap := remote.Command{Op: remote.Swap, Key: ch.rk, Frame: frm, TTL: ch.life.physical(), Seen: seen[j]}
		n := uint64(0)
		if tell { // those who wait for the lease
			swap.Tell, n = revoke.Tell(c.accord.Outbox, c.names, notice.Dropped, c.encoded(ch.rk))
		}
		swaps, of, told = append(swaps, swap), append(of, i), append(told, n)
	}
	var heads []remote.Command
	for j, reply := range c.carryOut(ctx, swaps) {
		i := of[j]
		switch {
		case reply.Err == nil && reply.OK:
			ch := changes[i]
			cmds[i].Frame, ch.frame, ch.stamp = swaps[j].Frame, swaps[j].Frame, s
			if ch.entry != nil {
				ch.entry = c.changeEntry(ch, ch.at)
			}
			c.accord.Outbox.Done(told[j])
			continue
		case reply.Err == nil:
			c.accord.Outbox.GiveUp(told[j])
			again = append(again, i)
			heads = append(heads, remote.Command{Op: remote.Head, Key: changes[i].rk})
		default:
			c.accord.Outbox.GiveUp(told[j]) // a lease is no news
		}
	}
	open, again = again, nil
	for j, reply := range c.remote.Do(ctx, heads) {
		if reply.Err != nil || reply.Record.State != remote.Found {
			continue
		}
		if h, err := frame.ReadHead(reply.Record.Raw); err == nil && (h.Kind == frame.Lease || h.Kind == frame.Failure) {
			again, then = append(again, open[j]), append(then, reply.Record.Seen())
		}
	}
	return again, then
}
