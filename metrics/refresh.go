package metrics

import (
	"context"
	"slices"
)

// RefreshRecorder is a [Recorder] that also receives background refreshes: ahead of an entry's
// end, or because a reader got a stale value. They outlive the reader and therefore don't have
// its context; this interface can link the two. The load and the operations on Redis of a
// refresh are reported by the methods of Recorder as always.
type RefreshRecorder interface {
	Recorder

	// StartRefresh is called before the refresh of one key begins, by the goroutine that
	// carries it out. caller is the context of the reader: it may have ended, and only its
	// values are of interest. The context that is returned is that of the refresh; it must be
	// derived from ctx, not from caller, and nil stands for ctx. The function that is returned
	// is called once, when the refresh has ended: Succeeded also if the source does not have
	// the value, Refused if another process was already refreshing it. nil stands for one that
	// does nothing.
	StartRefresh(ctx, caller context.Context, refresh RefreshEvent) (context.Context, func(Outcome))
}

// RefreshEvent is a background refresh of one key.
type RefreshEvent struct {
	Cache string // the cache's name
}

// StartRefresh calls the recorders that are RefreshRecorders.
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
