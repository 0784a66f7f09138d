package engine

import (
	"context"

	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/metrics"
)

// A fault of a recorder must not affect the operation that is reported: it is called in the
// middle of it, sometimes by the cache's own goroutines. A call that panics has no effect.

// recorder calls the program's recorder.
type recorder struct{ metrics.Recorder }

func (r recorder) StartLoad(ctx context.Context, load metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
	var inner context.Context
	var end func(metrics.LoadResult)
	if usercode.Do(func() { inner, end = r.Recorder.StartLoad(ctx, load) }) != nil {
		return ctx, nil
	}
	if end == nil {
		return inner, nil
	}
	return inner, func(res metrics.LoadResult) { apart(func() { end(res) }) }
}

func (r recorder) RemoteOperation(ctx context.Context, op metrics.RemoteEvent) {
	apart(func() { r.Recorder.RemoteOperation(ctx, op) })
}

func (r recorder) StateChange(change metrics.StateEvent) {
	apart(func() { r.Recorder.StateChange(change) })
}

// refreshRecorder is a recorder of refreshes as well.
type refreshRecorder struct {
	recorder
	refreshes metrics.RefreshRecorder
}

func (r refreshRecorder) StartRefresh(ctx, caller context.Context, refresh metrics.RefreshEvent) (context.Context, func(metrics.Outcome)) {
	var inner context.Context
	var end func(metrics.Outcome)
	if usercode.Do(func() { inner, end = r.refreshes.StartRefresh(ctx, caller, refresh) }) != nil {
		return ctx, nil
	}
	if end == nil {
		return inner, nil
	}
	return inner, func(o metrics.Outcome) { apart(func() { end(o) }) }
}

// protectRecorder wraps r so that its panics are contained.
func protectRecorder(r metrics.Recorder) metrics.Recorder {
	if r == metrics.Recorder(metrics.Discard{}) {
		return r
	}
	if refreshes, ok := r.(metrics.RefreshRecorder); ok {
		return refreshRecorder{recorder{r}, refreshes}
	}
	return recorder{r}
}

// apart calls f so that neither a panic nor runtime.Goexit ends the calling goroutine.
func apart(f func()) {
	_ = usercode.Contained(func() error {
		f()
		return nil
	})
}
