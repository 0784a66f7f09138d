package engine

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
)

// A value that a caller writes is as new as the write. But the version of the logical clock
// that this process knows before the write is sent may be older, by the delay of a message,
// or by a second while it is disconnected from notifications:
//
//	1. another process invalidates everything, or a tag
//	2. a value is written, with the version from before 1
//	3. readers take it for older than the tombstone of 1
//
// So the clock is read before the write takes effect. If there was a tombstone that this
// process did not know, the record gets the version that was read.
//
// With one node, the clock is read in the same round trip, before the write, and the record
// is then exchanged; by compare-and-set, so that a later write is not undone. With several
// nodes, commands to two of them have no order, and reading the clock takes a round trip of
// its own. It must not be sent concurrently with the write:
//
//  1. a value is written
//  2. another process invalidates everything: the value is invalid
//  3. the clock is read. The reply includes the tombstone of 2 as if it were from before 1,
//     and the value is valid again
//
// The version is one from before the write: a tombstone that comes between the two applies to
// it. A loaded value is as old as the beginning of its load, and a derived value as old as the
// one that it was derived from: these keep the version that they have.

// clockRead is a read of the logical clock that goes with a write.
type clockRead struct {
	coherence.EpochRead
	reply store.Reply

	// failed, with several nodes, has the parts whose clock could not be read before the write; nothing
	// is read beside it then.
	failed map[uint8]error
}

// beside reports whether the clock is read in the same round trip as the write.
func (look *clockRead) beside() bool { return look != nil && look.failed == nil }

// end takes the reply, and returns the version that it has.
func (look *clockRead) end(ctx context.Context, c *remote, part uint8) (s version, ok bool) {
	s.part = part
	s.epoch, s.time, ok = c.coherence.Part(part).EndEpochReadBeside(ctx, look.EpochRead, look.reply)
	return s, ok
}

// readClock returns the clock read that is to go with changes, nil if none of them needs one. With
// several nodes it reads the clock at once, and puts the version into cmds, which are not sent
// yet; what it returns then is nil, or has the failed ones.
func (c *remote) readClock(ctx context.Context, changes []*Change, cmds []store.Command) *clockRead {
	if !slices.ContainsFunc(changes, (*Change).hasOwnVersion) {
		return nil
	}
	if c.client.OneNode() {
		return &clockRead{EpochRead: c.coherence.Part(0).BeginEpochRead(local.Now())}
	}
	versions, failed := c.readClocks(ctx, changes)
	for i, ch := range changes {
		if !ch.hasOwnVersion() || len(cmds[i].Frame) == 0 {
			continue
		}
		s, ok := versions[c.part(ch.rk)]
		if !ok { // this process may have been notified meanwhile
			s, ok = c.knownVersion(ch.rk)
		}
		if !ok || !c.outdated(ch, s) {
			continue // the version that is known already is kept
		}
		if frm, err := c.encodeValue(frame.NewID(), ch.rk, ch.Val, ch.life, ch.now, s, ch.tags, "", c.recordCost(ch)); err == nil {
			cmds[i].Frame = frm
			c.setVersion(ch, frm, s)
		}
	}
	if failed == nil {
		return nil
	}
	return &clockRead{failed: failed}
}

// readClocks reads the logical clocks of the parts of changes that have their own versions. Those that
// can't be read are in failed, which is nil if there are none.
func (c *remote) readClocks(ctx context.Context, changes []*Change) (versions map[uint8]version, failed map[uint8]error) {
	var parts []uint8
	var looks []clockRead
	var cmds []store.Command
	for _, ch := range changes {
		if part := c.part(ch.rk); ch.hasOwnVersion() && !slices.Contains(parts, part) {
			parts = append(parts, part)
			looks = append(looks, clockRead{EpochRead: c.coherence.Part(part).BeginEpochRead(local.Now())})
			cmds = append(cmds, c.clockCommand(part))
		}
	}
	versions = make(map[uint8]version, len(parts))
	for i, reply := range c.client.Do(ctx, cmds) {
		looks[i].reply = reply
		if s, ok := looks[i].end(ctx, c, parts[i]); ok {
			versions[parts[i]] = s
			continue
		}
		if failed == nil {
			failed = make(map[uint8]error)
		}
		failed[parts[i]] = cmp.Or(reply.Err, errClockUnread)
	}
	return versions, failed
}

var errClockUnread = errors.New("the logical clock could not be read")

// checkVersions reads the clocks once more that could not be read before changes that took effect. A
// change has failed if there was a tombstone that its record does not know: it may have come before the
// change, and then readers take the record for older. A clock that still can't be read fails nothing:
// its node may be down, and that of the key is not.
func (c *remote) checkVersions(ctx context.Context, look *clockRead, changes []*Change, cmds []store.Command, replies []store.Reply) {
	var doubtful []*Change
	var at []int
	for i, ch := range changes {
		if look.failed[c.part(ch.rk)] != nil && ch.tookVersion(&cmds[i], &replies[i]) {
			doubtful, at = append(doubtful, ch), append(at, i)
		}
	}
	if len(doubtful) == 0 {
		return
	}
	versions, _ := c.readClocks(ctx, doubtful)
	for j, ch := range doubtful {
		part := c.part(ch.rk)
		if s, ok := versions[part]; ok && c.outdated(ch, s) {
			replies[at[j]].Err = look.failed[part]
		}
	}
}

// tookVersion reports whether a change has stored a record with a version of its own.
func (ch *Change) tookVersion(cmd *store.Command, reply *store.Reply) bool {
	return ch.hasOwnVersion() && reply.Err == nil && reply.OK && len(cmd.Frame) > 0
}

func (c *remote) clockCommand(part uint8) store.Command {
	return store.Command{Op: store.Get, Key: c.coherence.Names(part).Epoch, Shared: true}
}

// setVersion sets a change's record to one with the version s.
func (c *remote) setVersion(ch *Change, frm []byte, s version) {
	ch.frame, ch.version = frm, s
	if ch.entry.Head != nil {
		ch.entry = c.changeEntry(ch, ch.at)
	}
}

// hasOwnVersion reports whether the change stores a value that is as new as the change.
func (ch *Change) hasOwnVersion() bool { return ch.keep && !ch.dated && ch.version.epoch != 0 }

// execReadingClock is exec, preceded by the clock read unless look is nil. room is the memory of cmds
// and a place before them, or nil.
func (c *remote) execReadingClock(ctx context.Context, look *clockRead, cmds, room []store.Command) []store.Reply {
	if !look.beside() {
		return c.coherence.Send(ctx, cmds)
	}
	if room == nil {
		room = append(make([]store.Command, 1, 1+len(cmds)), cmds...)
	}
	room[0] = c.clockCommand(0)
	replies := c.coherence.Send(ctx, room)
	look.reply = replies[0]
	return replies[1:]
}

// updateAgain is how many times the exchange is tried for a record that loads keep replacing.
const updateAgain = 4

// updateVersions gives the records of changes that took effect the version that look has read, if
// they would otherwise be taken for older than they are. replies are those to cmds.
func (c *remote) updateVersions(ctx context.Context, look *clockRead, changes []*Change, cmds []store.Command, replies []store.Reply) {
	if look == nil {
		return
	}
	if !look.beside() {
		c.checkVersions(ctx, look, changes, cmds, replies)
		return
	}
	s, ok := look.end(ctx, c, 0) // there is one node, and one part
	if !ok {
		return
	}
	var open []int
	seen := make([]store.CASToken, 0, 1)
	for i, ch := range changes {
		if ch.tookVersion(&cmds[i], &replies[i]) && c.outdated(ch, s) {
			open, seen = append(open, i), append(seen, store.TokenOf(cmds[i].Frame))
		}
	}
	for try := 0; len(open) > 0 && try < updateAgain; try++ {
		open, seen = c.exchangeVersions(ctx, s, changes, cmds, replies, open, seen, try > 0)
	}
}

// outdated reports whether a tombstone from before s applies to a record with the stamp of ch.
func (c *remote) outdated(ch *Change, s version) bool {
	switch {
	case s.epoch != ch.version.epoch:
		return true
	case s.time <= ch.version.time:
		return false
	case len(ch.tags) > 0:
		return true // the tags of the tombstones are not known yet
	}
	v, until := c.clockIn(ch.version.part).Validate(ch.version.epoch, ch.version.time, 0, nil, local.Now())
	return v != logicalclock.Valid || until != math.MaxInt64
}

// exchangeVersions replaces the records of the open changes by ones with the version s. seen is
// what it replaces: the record itself, or the record of a load that took it for outdated and
// has replaced it; then tell is true. It returns the changes that such a load turns out to
// have replaced, which are to be tried once more. Any other record is newer:
//
//  1. a value is written, and deleted, by any client
//  2. a load begins: its lease was put into an empty key
//  3. replacing that lease would bring the value back
//
// A change whose record may or may not have been replaced has failed: readers would not find what it
// has stored.
func (c *remote) exchangeVersions(ctx context.Context, s version, changes []*Change, cmds []store.Command, replies []store.Reply, open []int, seen []store.CASToken, tell bool) (again []int, then []store.CASToken) {
	var swaps []store.Command
	var of []int
	var messages []message.Sent
	for j, i := range open {
		ch := changes[i]
		frm, err := c.encodeValue(frame.NewID(), ch.rk, ch.Val, ch.life, ch.now, s, ch.tags, "", c.recordCost(ch))
		if err != nil {
			continue // not expected: the same value was encoded before
		}
		swap := store.Command{Op: store.CompareAndSet, Key: ch.rk, Frame: frm, TTL: ch.life.physical(), Seen: seen[j]}
		var sent message.Sent
		if tell { // wakes the loads that wait for the lease
			swap.Notify, sent = c.invalidator.NotifyOf(message.Invalidated, c.encoded(ch.rk))
		}
		swaps, of, messages = append(swaps, swap), append(of, i), append(messages, sent)
	}
	var gets []store.Command
	for j, reply := range c.coherence.Send(ctx, swaps) {
		i, took := of[j], reply.Err == nil && reply.OK
		messages[j].Resolve(took, nil) // replacing a lease invalidates nothing: no need to repeat it
		switch {
		case took:
			cmds[i].Frame = swaps[j].Frame
			c.setVersion(changes[i], swaps[j].Frame, s)
		case reply.Err != nil:
			replies[i].Err = reply.Err
		default:
			again = append(again, i)
			gets = append(gets, store.Command{Op: store.Get, Key: changes[i].rk, Most: mostOfLoads})
		}
	}
	open, again = again, nil
	for j, reply := range c.client.Do(ctx, gets) {
		own := store.TokenOf(cmds[open[j]].Frame)
		switch {
		case reply.Err != nil:
			replies[open[j]].Err = reply.Err
		case c.leftByLoadOver(ctx, gets[j].Key, reply.Record, own):
			again, then = append(again, open[j]), append(then, reply.Record.CASToken())
		}
	}
	return again, then
}

// mostOfLoads is more than the size in bytes of a lease or a failure record.
const mostOfLoads = 4096

// leftByLoadOver reports whether a record is the lease of a load that has replaced the record
// in seen, or the failure record of that load.
func (c *remote) leftByLoadOver(ctx context.Context, rk string, rec store.Record, seen store.CASToken) bool {
	if rec.State != store.Found {
		return false
	}
	h, err := frame.ReadHead(rec.Raw)
	if err != nil || h.Kind != frame.Lease && h.Kind != frame.Failure {
		return false
	}
	switch f := c.decode(ctx, rk, rec, nil); f.status {
	case leased:
		return tookOver(f.raw.ID, seen)
	case failed:
		return tookOver(f.lease, seen)
	}
	return false
}
