package client

import (
	"cmp"
	"context"
	"github.com/delqhi/cache/internal/store"
	"sync"
	"time"
)

// A call of many commands is carried out in pieces: the duration of one round trip for all of
// them would grow with their number, and any timeout is too short for enough of them. A piece
// is bounded by the number of its commands and by the bytes that are sent and expected back.
// Several are in flight at a time, as many as a window of bytes allows. The window opens while
// pieces come back quickly, and closes when they come back slowly, so that the bytes in flight
// take a small part of the timeout, on any link.
const (
	// pieceMost is the maximum number of commands in a piece, and piecesAtOnce of pieces in
	// flight: together not more than the number of messages that may arrive before one that was
	// sent earlier.
	pieceMost    = 256
	piecesAtOnce = 4
	// pieceBytes is the maximum size of a piece, not counting its last command.
	pieceBytes = 1 << 20
	// The initial, the minimum and the maximum window.
	windowFirst = 256 << 10
	windowLeast = 16 << 10
	windowMost  = 16 << 20
	// commandBytes is the overhead of a command, in addition to its key and its record.
	commandBytes = 64
)

// window is the number of bytes that the pieces of calls may have in flight.
type window struct {
	mu    sync.Mutex // guards the fields below
	size  int        // 0: windowFirst
	moved time.Time
}

func (w *window) bytes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return cmp.Or(w.size, windowFirst)
}

// adapt adjusts the window to the duration of a piece: once for all pieces that were in flight
// together, and it opens only if the window was what kept the piece small. A timeout closes it;
// other failures say nothing about the link.
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

// cut returns the end of a piece of cmds that begins at from, its size, and whether the window
// is the reason that it is no larger. A unit of commands is not split.
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

// piece is the result of one piece.
type piece struct {
	bytes   int
	full    bool // the window kept it from being larger
	began   time.Time
	took    time.Duration
	failure error // why none of its commands was answered
}

// failuresMost is how many pieces may fail in sequence, each begun after the failure of the one
// before, until the rest of their call is given up: then the endpoint does not answer, rather
// than the time being too short.
const failuresMost = 2

// pieces carries out the commands of a call in pieces.
func (g *Client) pieces(ctx context.Context, cmds []store.Command) []store.Reply {
	replies := make([]store.Reply, len(cmds))
	done := make(chan piece, piecesAtOnce)
	underway, bytes, failures := 0, 0, 0
	var failedAt time.Time
	var failure error
	look := cmds[0].Shared // its answer must be from before the commands that follow it: no other piece beside the first
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

// piece carries out one piece. The error says that none of its commands was answered, and that
// the caller's context is not the reason.
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
