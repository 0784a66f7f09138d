package metrics

import (
	"context"
	"slices"
)

// RefreshRecorder is a [Recorder] that is also told of refreshes behind a reader's back:
// ahead of an entry's end, or because the reader got a stale value. They outlive the
// reader, whose context they therefore don't have; this is the place to tie the one to
// the other. What comes with a refresh, a load and operations on Redis, is told by the
// methods of Recorder as always.
type RefreshRecorder interface {
	Recorder

	// StartRefresh is told before the refresh of one key begins, by the goroutine that
	// carries it out. caller is the context of the reader: it may have ended, and only
	// its values are of interest. The context that comes back is that of the refresh; it
	// must come from ctx, not from caller, and nil stands for ctx. The function that
	// comes back is called once, when the refresh has ended: Succeeded also if the source
	// has no such thing, Refused if another process was found to be at it. nil stands for
	// one that does nothing.
	StartRefresh(ctx, caller context.Context, refresh RefreshEvent) (context.Context, func(Outcome))
}

// RefreshEvent is a refresh of one key behind a reader's back.
type RefreshEvent struct {
	Cache string // the cache's name
}

// StartRefresh tells those that are told of refreshes.
func (f *fanout) StartRefresh(ctx, caller context.Context, refresh RefreshEvent) (context.Context, func(Outcome)) {
	var ends []func(Outcome)
	for _, r := range f.all {
		told, ok := r.(RefreshRecorder)
		if !ok {
			continue
		}
		next, end := told.StartRefresh(ctx, caller, refresh)
		if next != nil {
			ctx = next
		}
		if end != nil {
			ends = append(ends, end)
		}
	}
	return ctx, func(o Outcome) {
		for _, end := range slices.Backward(ends) {
			end(o)
		}
	}
}

var _ RefreshRecorder = (*fanout)(nil)
