package client

import (
	"context"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// wait collects the replies to batches that other goroutines send, for a caller that arrived at
// start. replies are those to the commands that the caller sent itself, nil if it sent none.
func (t *batcher) wait(ctx context.Context, start time.Time, seats []slot, replies []store.Reply) ([]store.Reply, error) {
	for i := range seats {
		s := &seats[i]
		if s.batch == nil || i > 0 && s.batch == seats[i-1].batch && !seats[i-1].early {
			continue
		}
		if !s.wait(ctx, start, t.client) {
			if err := ended(ctx, true); err != nil {
				return nil, err
			}
			return nil, &TimeoutError{After: t.client.timeout}
		}
	}
	return collect(seats, replies), nil
}

// wait waits for a reply, for a caller that arrived at start. It returns false if ctx or the caller's
// time ended before.
func (s *slot) wait(ctx context.Context, start time.Time, g *Client) bool {
	tr := s.batch
	if ended := ctx.Done(); ended == nil { // the caller's time is not over before there is progress
		<-tr.progress
	} else {
		select {
		case <-tr.progress:
		case <-ended:
			return tr.over()
		}
	}
	if tr.late == nil {
		return true
	}
	if tr.first != nil {
		if r := &tr.first[s.at]; r.Err == nil && !r.Cut {
			s.early = true
			return true
		}
	}
	return waitFor(ctx, tr.late, g.waits.soon(start).Done(), start.Add(g.timeout))
}

// over reports whether there is the result.
func (tr *batch) over() bool {
	tr.line.mu.Lock()
	defer tr.line.mu.Unlock()
	return tr.ended
}

// collect returns the replies of slots, in addition to those that are in replies already.
func collect(seats []slot, replies []store.Reply) []store.Reply {
	if replies == nil {
		var filled bool
		if replies, filled = room(seats); filled {
			return replies
		}
	}
	for i, s := range seats {
		switch {
		case s.batch == nil:
		case s.early:
			replies[i] = s.batch.first[s.at]
		case s.batch.err != nil:
			replies[i].Err = s.batch.err
		default:
			replies[i] = s.batch.replies[s.at]
		}
	}
	return replies
}

// room returns memory for the replies of slots: that of their batch, if they are in one. There, the
// replies are in it already where no command is shared.
func room(seats []slot) (replies []store.Reply, filled bool) {
	tr, from := seats[0].batch, seats[0].place
	for i := range seats {
		if s := &seats[i]; s.batch != tr || s.early || s.place != from+i || tr.err != nil {
			return make([]store.Reply, len(seats)), false
		}
	}
	if tr.out != nil {
		return tr.out[from:][:len(seats):len(seats)], false
	}
	return tr.replies[from:][:len(seats):len(seats)], true
}
