package client

import (
	"cmp"
	"context"
	"github.com/delqhi/cache/internal/store"
	"sync"
	"time"
)

// A batch of many commands is carried out in pieces: one round trip for all of them would
// last for as long as they are many, and any timeout is too short for enough of them. A
// piece is bounded by its commands and by the bytes that are sent and expected back. Some
// are under way at a time, as many as a window of bytes lets. It opens while pieces come
// back quickly, and closes when they come slowly, so that what is under way takes a small
// part of the timeout, on whatever link.
const (
	// pieceMost is how many commands a piece has, and piecesAtOnce how many are under way:
	// together not more than the messages that may arrive before one that was sent earlier.
	pieceMost    = 256
	piecesAtOnce = 4
	// pieceBytes is how large a piece is, but for its last command.
	pieceBytes = 1 << 20
	// The window at first, at least and at most.
	windowFirst = 256 << 10
	windowLeast = 16 << 10
	windowMost  = 16 << 20
	// commandBytes is what a command takes beside its key and its record.
	commandBytes = 64
)

// window is how many bytes the pieces of batches may have under way.
type window struct {
	mu    sync.Mutex // guards what follows
	size  int        // 0: windowFirst
	moved time.Time
}

func (w *window) bytes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return cmp.Or(w.size, windowFirst)
}

// adapt moves the window by how long a piece took, which began at a time: once for all that
// were under way together, and further only where it was what kept the piece small. That
// there was no time for an answer closes it; other failures say nothing of the link.
func (w *window) adapt(p *piece, timeout time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.began.Before(w.moved) {
		return
	}
	size := cmp.Or(w.size, windowFirst)
	switch {
	case isTimeout(p.failure) || p.failure == nil && p.took > timeout/3:
		size = max(size/2, windowLeast)
	case p.failure == nil && p.took < timeout/16 && p.full:
		size = min(2*size, windowMost)
	default:
		return
	}
	w.size, w.moved = size, time.Now()
}

// cut returns where a piece of cmds ends that begins at from, how large it is, and whether
// the window is the reason that it is no larger. What goes with a command stays with it.
func (g *Client) cut(cmds []store.Command, from int) (to, bytes int, full bool) {
	window := g.window.bytes() / piecesAtOnce
	for to = from; to < len(cmds); {
		next, size := min(to+cmds[to].Unit(), len(cmds)), 0
		for i := to; i < next; i++ {
			c := &cmds[i]
			size += commandBytes + len(c.Key) + len(c.Frame) + len(c.Notify.Message) + g.sizes.expected(c)
		}
		if large := bytes+size > min(window, pieceBytes); to > from && (large || next-from > pieceMost) {
			return to, bytes, large && window < pieceBytes
		}
		to, bytes = next, bytes+size
	}
	return to, bytes, bytes > window
}

// piece is the outcome of one.
type piece struct {
	bytes   int
	full    bool // the window has kept it from being larger
	began   time.Time
	took    time.Duration
	failure error // none of its commands was answered, for this reason
}

// failuresMost is how many pieces fail, none of them begun before the one before had
// failed, until the rest of their batch is given up: then there is no answer, and not too
// little time.
const failuresMost = 2

// pieces carries out a batch in pieces.
func (g *Client) pieces(ctx context.Context, cmds []store.Command) []store.Reply {
	replies := make([]store.Reply, len(cmds))
	done := make(chan piece, piecesAtOnce)
	underway, bytes, failures := 0, 0, 0
	var failedAt time.Time
	var failure error
	look := cmds[0].Shared // whose answer is to be from before what goes with it: no piece beside the first
	end := func() {
		p := <-done
		look = false
		g.window.adapt(&p, g.timeout)
		underway--
		bytes -= p.bytes
		switch {
		case p.failure == nil:
			failures = 0
		case failures == 0 || !p.began.Before(failedAt):
			failures++
			failure, failedAt = p.failure, time.Now()
		}
	}
	for from := 0; from < len(cmds); {
		to, size, full := g.cut(cmds, from)
		for underway > 0 && (look || underway == piecesAtOnce || failures > 0 || bytes+size > g.window.bytes()) {
			end()
			to, size, full = g.cut(cmds, from)
		}
		err := ctx.Err()
		if failures >= failuresMost {
			err = cmp.Or(err, failure)
		}
		if err != nil {
			for i := from; i < len(cmds); i++ {
				replies[i].Err = err
			}
			break
		}
		underway++
		bytes += size
		some, answers := cmds[from:to:to], replies[from:to:to]
		began := time.Now()
		go func() {
			p := piece{bytes: size, full: full, began: began}
			p.failure = g.piece(ctx, some, answers)
			p.took = time.Since(began)
			done <- p
		}()
		from = to
	}
	for underway > 0 {
		end()
	}
	return replies
}

// piece carries out one piece. The error is that none of its commands was answered, and
// the caller is not the reason.
func (g *Client) piece(ctx context.Context, cmds []store.Command, replies []store.Reply) error {
	start := time.Now()
	got, err := g.sendBatch(ctx, cmds, true, g.timeout, nil)
	if err != nil {
		for i := range replies {
			replies[i].Err = err
		}
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	var failure error
	answered := false
	for i := range got {
		replies[i] = got[i]
		if got[i].Err == nil || endpointErr(got[i].Err) == nil {
			answered = true
		}
		if got[i].Err != nil {
			replies[i].Err = g.explain(ctx, start, got[i].Err)
			failure = replies[i].Err
		}
	}
	if answered || ctx.Err() != nil {
		return nil
	}
	return failure
}
