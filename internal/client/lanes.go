package client

import (
	"context"
	"errors"
	"github.com/delqhi/cache/internal/store"
	"time"
)

// No small record waits for a large one, or fails with it. An operation that is known to be
// large is sent by itself: it shares no round trip, delays no other, and large operations take
// half of the client's connections at most. Where the size is not known, a read that shares its
// round trip asks for no more than largeRecord bytes if large records were seen recently, or if
// too few records were seen so far; a record that is cut is then read in full by itself. Where
// no large record is expected this would cost more than it gains, and a batch of reads is one
// MGET; should it take long, the same reads are sent once more with the bound, and a caller
// whose reply is in that answer does not wait for the first.

const (
	// mixedFor is how long after a large record others are expected.
	mixedFor = 10 * time.Minute
	// smallEnough is how many records that are not large must have been seen before others are
	// expected to be as small.
	smallEnough = 256
	// batchReply is the expected size of the answer to a shared round trip, in bytes.
	batchReply = 1 << 20
	// cutSize is the size assumed for a record of which only the beginning was read.
	cutSize = 4 * largeRecord
)

// mixed reports whether large records were seen recently among the small ones.
func (s *sizes) mixed() bool {
	last := s.last.Load()
	return last != 0 && int64(time.Since(started))-last < int64(mixedFor)
}

// bound is how many bytes of a record a read in a shared round trip asks for; 0: all.
func (s *sizes) bound() int {
	if s.small.Load() < smallEnough || s.mixed() {
		return largeRecord
	}
	return 0
}

// reads is the maximum number of reads in a shared round trip.
func (s *sizes) reads() int {
	mean := s.mean.Load()
	if mean == 0 {
		return batchMost
	}
	return int(min(max(batchReply/mean, batchedMost), batchMost))
}

// anyLarge reports whether a command stores a large record or is known to read one.
func (s *sizes) anyLarge(cmds []store.Command) bool {
	known := s.large.Load() != nil
	for i := range cmds {
		c := &cmds[i]
		if len(c.Frame) >= largeRecord || known && (c.Op == store.Get || c.Op == store.SetNX) && s.of(c.Key) > 0 {
			return true
		}
	}
	return false
}

// ErrNoPlace is the error of a large operation that was not sent, or that had too little time
// left when it was sent, because other large operations were in flight: it says nothing about
// Redis.
var ErrNoPlace = errors.New("too much that is large is on its way to or from Redis")

// alone carries out a large operation, for a call that began at start: including the time since
// start, it takes no longer than the timeout. It keeps its place until it has ended, even if
// its caller leaves: otherwise callers that leave early would pile up large operations in
// flight.
func (g *Client) alone(ctx context.Context, cmds []store.Command, start time.Time) ([]store.Reply, error) {
	left := func() time.Duration { return g.timeout - time.Since(start) }
	waited := false
	select {
	case g.wide <- struct{}{}:
	default:
		waited = true
		t := time.NewTimer(left())
		defer t.Stop()
		select {
		case g.wide <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.C:
			return nil, ErrNoPlace
		}
	}
	replies, err := g.sendBatch(ctx, cmds, true, left(), func() { <-g.wide })
	if !waited {
		return replies, err
	}
	inTime := func(err error) error {
		if err != nil && ctx.Err() == nil && isTimeout(err) {
			return ErrNoPlace
		}
		return err
	}
	for i := range replies {
		replies[i].Err = inTime(replies[i].Err)
	}
	return replies, inTime(err)
}

// readTogether carries out reads that may share a round trip.
func (g *Client) readTogether(ctx context.Context, cmds []store.Command, now time.Time) ([]store.Reply, error) {
	asked := cmds
	if g.sizes.mixed() {
		asked = bounded(cmds)
	}
	replies, err := g.reads.do(ctx, asked, now)
	if err != nil {
		return nil, err
	}
	var whole []store.Command
	for i := range replies {
		if replies[i].Cut {
			c := cmds[i]
			c.Most = 0
			whole = append(whole, c)
		}
	}
	if len(whole) == 0 {
		return replies, nil
	}
	got, err := g.alone(ctx, whole, now)
	out := make([]store.Reply, len(replies)) // other callers may have the same slice
	copy(out, replies)
	for i := range out {
		switch {
		case !out[i].Cut:
		case err != nil:
			out[i] = store.Reply{Err: err}
		default:
			out[i], got = got[0], got[1:]
			out[i].HideType()
		}
	}
	return out, nil
}

// bounded returns the reads with a bound on how much of each record they ask for.
func bounded(cmds []store.Command) []store.Command {
	out := make([]store.Command, len(cmds))
	for i, c := range cmds {
		if !c.Shared {
			c.Most = largeRecord
		}
		out[i] = c
	}
	return out
}

// overtake sends the reads of a slow batch once more, with bounds, in case a large record in it
// is the reason.
func (t *batcher) overtake(tr *batch) {
	g := t.client
	g.background(func() {
		defer tr.line.overtaken()
		if err := g.begin(tr.ctx); err != nil {
			return
		}
		cmds := bounded(tr.cmds)
		replies, err := run(g, tr.ctx, nil, g.timeout, func(ctx context.Context) ([]store.Reply, error) {
			defer g.ended.Add(1)
			return g.store.Do(ctx, cmds), nil
		})
		if err == nil {
			g.sizes.note(cmds, replies)
			tr.line.early(tr, replies)
		}
	})
}

// early publishes the replies to bounded reads of a batch, unless it has ended.
func (l *endpointQueue) early(tr *batch, replies []store.Reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !tr.ended && tr.late == nil {
		tr.first, tr.late = replies, make(chan struct{})
		close(tr.progress)
	}
}

// slowestLocked returns a batch whose reads are to be sent once more now, and the time until
// others may have to be; 0 if there is none.
func (l *endpointQueue) slowestLocked(now time.Time) (tr *batch, in time.Duration) {
	for _, slow := range l.open {
		if !l.mayOvertake(slow) {
			continue
		}
		left := max(tooLong, 4*l.shortest) - now.Sub(slow.sent)
		switch {
		case left > 0:
		case l.overtaking:
			left = tooLong
		default:
			tr = slow
			tr.overtaken, l.overtaking = true, true
			continue
		}
		if in == 0 || left < in {
			in = left
		}
	}
	return tr, in
}

// mayOvertake reports whether the reads of a batch are in flight, and may be sent once more.
func (l *endpointQueue) mayOvertake(tr *batch) bool {
	return !tr.sent.IsZero() && !tr.overtaken && !tr.bounded && len(tr.cmds) > 1 && l.batcher == &l.batcher.client.reads
}

func (l *endpointQueue) overtaken() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.overtaking = false
}
