package redisstore

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// With Subscription.ByKey, a store sends its commands on the lanes of the session, so that the
// server remembers each key of which this process gets a record, at the time at which it has it:
//
//   - GET, MGET and GETRANGE read the keys.
//   - A script that stores a record, or finds one, reads its key again, as the last thing that it
//     does: a change, also one of its own, makes the server forget the key. A SET that also returns
//     what it finds is no read.
//   - What asks for a lease is followed by a GET of the key.
//
// So from then on a change is reported. The reply and the report come over two connections, in any
// order: the fence of a key, which a reader takes before it asks, has moved if the report was first.
//
// Lanes are not set to NOLOOP, which would save the reports of own changes. It also hides what the
// server removes while it carries out a command of the lane, such as a key that it evicts to make
// room, and what another cache of this client changes.
//
// What no lane could carry out goes by the client itself, and is reported as a change afterwards.
// The reader may have kept a record of it by then, and drops it. There is no moment from which it
// would stay:
//
//  1. a GET goes by the client; the server does not remember it
//  2. the record enters the local tier
//  3. another process stores another one, and is not reported
//  4. the report of 1 drops the record
//
// The lanes are in use from before Subscribed. What was asked for otherwise was asked for before
// that, with a fence that the flush moves which follows.
type tracks []tracked

// tracked is a session whose lanes are used, for a subscriber.
type tracked struct {
	session *session
	member  *subscriber
}

// track has the store use the lanes of a session, for a subscriber.
func (s *Redis) track(m *subscriber, of *session) {
	if of.key.byKey {
		s.changeTracks(func(t tracks) tracks { return append(t, tracked{of, m}) })
	}
}

// untrack ends that.
func (s *Redis) untrack(m *subscriber) {
	s.changeTracks(func(t tracks) tracks {
		return slices.DeleteFunc(t, func(t tracked) bool { return t.member == m })
	})
}

func (s *Redis) changeTracks(f func(tracks) tracks) {
	for {
		last := s.tracks.Load()
		var next tracks
		if last != nil {
			next = slices.Clone(*last)
		}
		at := &next
		if next = f(next); len(next) == 0 {
			at = nil
		}
		if at == nil && last == nil || s.tracks.CompareAndSwap(last, at) {
			return
		}
	}
}

func (t tracks) do(ctx context.Context, s *Redis, cmds []store.Command) []store.Reply {
	var replies []store.Reply
	if s.cluster == nil {
		replies = t[0].session.conns[0].do(ctx, cmds)
	} else {
		replies = t.split(ctx, s, cmds)
	}
	t.mend(ctx, s, cmds, replies)
	return replies
}

// split sends each command on a lane of its node, of a session that tracks its key.
func (t tracks) split(ctx context.Context, s *Redis, cmds []store.Command) []store.Reply {
	of := map[*listenConn][]int{}
	replies := make([]store.Reply, len(cmds))
	for i := range cmds {
		addr, slot := s.Endpoint(cmds[i].Key), store.SlotOf(cmds[i].Key)
		at := slices.IndexFunc(t, func(t tracked) bool { return t.session.key.node == addr && t.member.l.Slots.HasSlot(slot) })
		if at < 0 {
			replies[i].Err = errNoLane
			continue
		}
		c := t[at].session.conns[0]
		of[c] = append(of[c], i)
	}
	var wg sync.WaitGroup
	for c, at := range of {
		if len(at) == len(cmds) {
			return c.do(ctx, cmds)
		}
		wg.Go(func() {
			some := make([]store.Command, len(at))
			for j, i := range at {
				some[j] = cmds[i]
			}
			for j, r := range c.do(ctx, some) {
				replies[at[j]] = r
			}
		})
	}
	wg.Wait()
	return replies
}

// do sends commands on a lane.
func (c *listenConn) do(ctx context.Context, cmds []store.Command) []store.Reply {
	l, err := c.take(ctx, false)
	if err != nil {
		return failed(cmds, err)
	}
	// Without the caller's deadline: see lanes.
	patient := context.WithoutCancel(ctx)
	own := c.session.store
	if ctx.Done() == nil || !own.HonorsDeadline() { // the caller itself does not wait for longer
		defer c.put(l)
		return l.store.Do(patient, cmds)
	}
	answers := make(chan []store.Reply, 1)
	if !own.background(func(context.Context) {
		replies := l.store.Do(patient, cmds)
		c.put(l)
		answers <- replies
	}) {
		c.put(l)
		return failed(cmds, errNoLane)
	}
	select {
	case replies := <-answers:
		return replies
	case <-ctx.Done():
		return failed(cmds, ctx.Err())
	}
}

// failed returns the replies to commands that have an error in common.
func failed(cmds []store.Command, err error) []store.Reply {
	replies := make([]store.Reply, len(cmds))
	for i := range replies {
		replies[i].Err = err
	}
	return replies
}

// mend sends by the client what no lane has carried out, and reports it.
func (t tracks) mend(ctx context.Context, s *Redis, cmds []store.Command, replies []store.Reply) {
	if ctx.Err() != nil {
		return
	}
	var again []int
	for i := range replies {
		if replies[i].Err != nil && undone(&cmds[i], replies[i].Err) {
			again = append(again, i)
		}
	}
	if len(again) == 0 {
		return
	}
	some := make([]store.Command, len(again))
	for j, i := range again {
		some[j] = cmds[i]
	}
	var changed []string
	for j, r := range s.untracked(ctx, some) {
		c := &some[j]
		if len(cmds) > 1 && c.Op == store.Get {
			r.HideType()
		}
		if c.Op == store.GetHeader && r.Err == nil {
			// It may be to find out whether a record that is kept is still there.
			r = store.Reply{Err: errNoLane}
		}
		if replies[again[j]] = r; mayKeep(c, &r) {
			changed = append(changed, c.Key)
		}
	}
	if len(changed) > 0 {
		for _, t := range t {
			t.member.changed(changed)
		}
	}
}

// undone reports whether a command that has failed on a lane was certainly not carried out, or only
// reads.
func undone(c *store.Command, err error) bool {
	switch {
	case errors.Is(err, errNoLane), errors.Is(err, errBroken), refusedForNow(err), redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "ASK"):
		return true
	case errors.Is(err, redis.ErrClosed), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted): // no connection was had
		return true
	}
	var network net.Error
	return (c.Op == store.Get || c.Op == store.GetHeader) && (errors.As(err, &network) || errors.Is(err, io.EOF))
}

// mayKeep reports whether the caller of a command may keep a record from now on. None keeps a lease;
// to report it would wake those who wait for its end.
func mayKeep(c *store.Command, r *store.Reply) bool {
	switch {
	case r.Err != nil:
		return false
	case c.Op == store.Get || c.Op == store.SetNX && !r.OK:
		return r.Record.State == store.Found && !store.IsLease(r.Record.Raw)
	}
	return true
}

// doReading is Do on a lane. A SetNX without a message is mostly a lease, which is stored: it is followed
// by a GET of its key, which costs less than a script, and if that finds another record than the SetNX
// has stored or found, the SetNX is sent once more, as a script. The end of a lease must be reported:
//
//  1. process A asks for the lease of k, and loads
//  2. process B invalidates k, which removes the lease
//  3. a reader of A that comes after that must not share the load; it would if the fence of k had not
//     moved
func (s *Redis) doReading(ctx context.Context, cmds []store.Command) []store.Reply {
	forms := asReads(cmds)
	var plain []int // the SetNX that are followed by a GET
	for i := range forms {
		if forms[i].Op == store.SetNX && !forms[i].Tracked {
			plain = append(plain, i)
		}
	}
	if len(plain) == 0 {
		return s.untracked(ctx, forms)
	}
	for _, i := range plain {
		forms = append(forms, store.Command{Op: store.Get, Key: forms[i].Key})
	}
	replies := s.untracked(ctx, forms)
	replies, gets := replies[:len(cmds)], replies[len(cmds):]
	var some []store.Command
	var again []int
	for j, i := range plain {
		r, got := &replies[i], &gets[j]
		switch {
		case r.Err != nil, r.Record.State == store.WrongType:
		case got.Err == nil && r.OK && cmds[i].IsOwn(got.Record):
		case got.Err == nil && !r.OK && got.Record.State == store.Found && !cmds[i].IsOwn(got.Record):
			r.Record = got.Record
		default:
			c := cmds[i]
			c.ByScript, c.Tracked = true, true
			some, again = append(some, c), append(again, i)
		}
	}
	if len(some) > 0 {
		for j, r := range s.untracked(ctx, some) {
			replies[again[j]] = r
		}
	}
	return replies
}

// asReads returns commands in the forms that read their keys, but for a SetNX without a message; see
// doReading.
func asReads(cmds []store.Command) []store.Command {
	if !slices.ContainsFunc(cmds, func(c store.Command) bool { return c.Op != store.Get && c.Op != store.GetHeader }) {
		return cmds
	}
	cmds = slices.Clone(cmds)
	for i := range cmds {
		if c := &cmds[i]; c.Op != store.SetNX || c.Notifies() {
			c.ByScript, c.Tracked = adds(c), true
		}
	}
	return cmds
}
