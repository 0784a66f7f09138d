// Package metricstest checks implementations that package metrics leaves to its users:
// recorders, and snapshots whose counters must add up.
//
//	func TestRecorder(t *testing.T) {
//		if err := metricstest.CheckRecorder(func() metrics.Recorder { return New() }); err != nil {
//			t.Error(err)
//		}
//	}
package metricstest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/delqhi/cache/metrics"
)

// patience is how long a recorder may take before the check fails.
const patience = 10 * time.Second

// CheckRecorder checks that the recorders that newRecorder makes keep the contract of
// [metrics.Recorder]: the contexts that StartLoad returns are derived from those that it was
// given, every event is accepted, also one with values that a later version may add, ends may
// come from another goroutine and in any order, nothing blocks and nothing panics. A recorder
// that is a [metrics.RefreshRecorder] is checked as such, too. Each check uses a recorder of
// its own. The error joins all failures, nil if there is none. Run it under the race detector,
// too: it uses one recorder from many goroutines.
func CheckRecorder(newRecorder func() metrics.Recorder) error {
	var found []error
	for _, c := range checks {
		if err := run(c.check, newRecorder); err != nil {
			found = append(found, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(found...)
}

var checks = []struct {
	name  string
	check func(metrics.Recorder) error
}{
	{"the context of a load carries the caller's values", carriesValues},
	{"the context of a load ends with the caller's", endsWithCaller},
	{"the context of a load does not end by itself", staysAlive},
	{"a context that has ended is no obstacle", takesEndedContext},
	{"every event is taken", takesEveryEvent},
	{"a refresh outlives its reader", outlivesReader},
	{"loads overlap and end in any order", takesOverlappingLoads},
	{"goroutines use it at once", takesConcurrentUse},
}

// run turns panics and blocking into errors.
func run(check func(metrics.Recorder) error, newRecorder func() metrics.Recorder) error {
	done := make(chan error, 1)
	go func() {
		done <- guarded(func() error {
			r := newRecorder()
			if r == nil {
				return errors.New("there is no recorder: nil")
			}
			return check(r)
		})
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return fmt.Errorf("not done after %v: a method blocks", patience)
	}
}

func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panicked: %v", v)
		}
	}()
	return f()
}

var (
	aLoad   = metrics.LoadEvent{Cache: "users", Keys: 3}
	aResult = metrics.LoadResult{Duration: time.Millisecond, Found: 1, NotFound: 1}
	aRemote = metrics.RemoteEvent{Cache: "users", Op: "get", Keys: 3, Duration: time.Millisecond}
	aChange = metrics.StateEvent{Cache: "users", Part: metrics.Breaker, State: metrics.Open}
)

// start calls StartLoad and replaces nil results by what they stand for.
func start(ctx context.Context, r metrics.Recorder, e metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
	got, end := r.StartLoad(ctx, e)
	if got == nil {
		got = ctx
	}
	if end == nil {
		end = func(metrics.LoadResult) {}
	}
	return got, end
}

type contextKey struct{}

func carriesValues(r metrics.Recorder) error {
	ctx, end := start(context.WithValue(context.Background(), contextKey{}, "value"), r, aLoad)
	defer end(aResult)
	if ctx.Value(contextKey{}) != "value" {
		return errors.New("a value is lost: make the context from the one given")
	}
	return nil
}

func endsWithCaller(r metrics.Recorder) error {
	cause := errors.New("everyone has left")
	parent, cancel := context.WithCancelCause(context.Background())
	ctx, end := start(parent, r, aLoad)
	defer end(aResult)
	cancel(cause)
	select {
	case <-ctx.Done():
	case <-time.After(patience / 2):
		return errors.New("the caller's context was cancelled and the load's goes on")
	}
	if context.Cause(ctx) != cause {
		return fmt.Errorf("the cause is %v, want the caller's", context.Cause(ctx))
	}
	return nil
}

func staysAlive(r metrics.Recorder) error {
	ctx, end := start(context.Background(), r, aLoad)
	defer end(aResult)
	r.RemoteOperation(ctx, aRemote)
	r.StateChange(aChange)
	if ctx.Err() != nil {
		return fmt.Errorf("it ended before the load did: %w", ctx.Err())
	}
	if _, ok := ctx.Deadline(); ok {
		return errors.New("it has a deadline: the cache sets those")
	}
	return nil
}

func takesEndedContext(r metrics.Recorder) error {
	parent, cancel := context.WithCancel(context.Background())
	cancel()
	r.RemoteOperation(parent, aRemote)
	_, end := start(parent, r, aLoad)
	end(metrics.LoadResult{Outcome: metrics.Canceled})
	return nil
}

func takesEveryEvent(r metrics.Recorder) error {
	const beyond = 255 // what a later version may add
	ctx := context.Background()
	for i, outcome := range []metrics.Outcome{
		metrics.Succeeded, metrics.Failed, metrics.TimedOut, metrics.Canceled, metrics.Panicked, metrics.Refused, beyond,
	} {
		_, end := start(ctx, r, metrics.LoadEvent{Cache: "users", Keys: 1, Refresh: i%2 == 1})
		end(metrics.LoadResult{Outcome: outcome})
		r.RemoteOperation(ctx, metrics.RemoteEvent{Cache: "users", Op: "a new operation", Keys: 1, Outcome: outcome})
	}
	for _, p := range []metrics.Part{metrics.Breaker, metrics.Listener, beyond} {
		for _, s := range []metrics.State{metrics.Closed, metrics.HalfOpen, metrics.Open, metrics.Up, metrics.Down, beyond} {
			r.StateChange(metrics.StateEvent{Cache: "users", Part: p, State: s})
		}
	}
	// Nothing, and more than anything.
	_, end := start(ctx, r, metrics.LoadEvent{})
	end(metrics.LoadResult{})
	r.RemoteOperation(ctx, metrics.RemoteEvent{})
	r.StateChange(metrics.StateEvent{})
	_, end = start(ctx, r, metrics.LoadEvent{Cache: "käse %s \"\n", Keys: math.MaxInt})
	end(metrics.LoadResult{Duration: math.MaxInt64, Found: math.MaxInt, NotFound: math.MaxInt})
	r.RemoteOperation(ctx, metrics.RemoteEvent{Cache: "\xff", Op: "\xff", Keys: math.MaxInt, Duration: math.MaxInt64})
	return nil
}

// outlivesReader checks recorders that are RefreshRecorders.
func outlivesReader(recorder metrics.Recorder) error {
	r, ok := recorder.(metrics.RefreshRecorder)
	if !ok {
		return nil
	}
	caller, leave := context.WithCancel(context.WithValue(context.Background(), contextKey{}, "caller"))
	cause := errors.New("the cache is closed")
	background, stop := context.WithCancelCause(context.WithValue(context.Background(), contextKey{}, "background"))
	defer stop(nil)
	for _, outcome := range []metrics.Outcome{metrics.Succeeded, metrics.Failed, metrics.Refused, metrics.Canceled, 255} {
		_, end := startRefresh(background, caller, r)
		end(outcome)
	}
	ctx, end := startRefresh(background, caller, r)
	defer end(metrics.Succeeded)
	leave()
	if ctx.Err() != nil {
		return fmt.Errorf("it ended with the reader: %w", ctx.Err())
	}
	if _, ok := ctx.Deadline(); ok {
		return errors.New("it has a deadline: the cache sets those")
	}
	if got := ctx.Value(contextKey{}); got != "background" {
		return fmt.Errorf("it does not come from the context given: a value is that of %v", got)
	}
	// A late start finds a context that has ended.
	late, end := startRefresh(background, caller, r)
	defer end(metrics.Failed)
	if late.Err() != nil {
		return fmt.Errorf("one that begins when the reader has gone is over: %w", late.Err())
	}
	stop(cause)
	select {
	case <-ctx.Done():
	case <-time.After(patience / 2):
		return errors.New("the cache was closed and the refresh goes on")
	}
	if context.Cause(ctx) != cause {
		return fmt.Errorf("the cause is %v, want the cache's", context.Cause(ctx))
	}
	return nil
}

// startRefresh calls StartRefresh and replaces nil results by what they stand for.
func startRefresh(ctx, caller context.Context, r metrics.RefreshRecorder) (context.Context, func(metrics.Outcome)) {
	got, end := r.StartRefresh(ctx, caller, metrics.RefreshEvent{Cache: "users"})
	if got == nil {
		got = ctx
	}
	if end == nil {
		end = func(metrics.Outcome) {}
	}
	return got, end
}

func takesOverlappingLoads(r metrics.Recorder) error {
	ctx := context.Background()
	_, first := start(ctx, r, aLoad)
	inner, second := start(ctx, r, aLoad)
	_, nested := start(inner, r, metrics.LoadEvent{Cache: "tasks", Keys: 1}) // a loader that reads another cache
	first(aResult)
	second(metrics.LoadResult{Outcome: metrics.Panicked})
	nested(aResult)
	return nil
}

func takesConcurrentUse(r metrics.Recorder) error {
	const goroutines, rounds = 16, 50
	errs := make(chan error, goroutines)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			errs <- guarded(func() error {
				for range rounds {
					ctx, end := start(context.Background(), r, aLoad)
					r.RemoteOperation(ctx, aRemote)
					r.StateChange(aChange)
					ended := make(chan error)
					go func() { // where the loader may have run
						ended <- guarded(func() error { end(aResult); return nil })
					}()
					if err := <-ended; err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
