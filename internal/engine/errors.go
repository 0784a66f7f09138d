package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/metrics"
)

// Explain adds to an error of the cache itself the cache's name and the operation. Errors of
// a loader, including another cache's, and of the caller's context are returned unchanged.
func (c *Cache) Explain(op string, err error) error {
	switch e := err.(type) {
	case *theirError:
		return e.err
	case *unavailableError, *missError:
		return &opError{cache: c.name, op: op, tier: metrics.Remote, err: err}
	}
	if err == errs.ErrMiss || err == errs.ErrClosed {
		return &opError{cache: c.name, op: op, err: err}
	}
	return err
}

// opError adds to an error the cache, the operation and the tier in which it failed.
type opError struct {
	cache string
	op    string
	tier  metrics.Tier
	err   error
}

func (e *opError) Error() string {
	if e.tier == metrics.None {
		return fmt.Sprintf("cache %q: %s: %v", e.cache, e.op, e.err)
	}
	return fmt.Sprintf("cache %q: %s: %v: %v", e.cache, e.op, e.tier, e.err)
}

func (e *opError) Unwrap() error { return e.err }

// unavailableError wraps an error of the remote tier. An error of the caller's own
// context is not wrapped. Its text says what to do if the reason does not pass by itself.
type unavailableError struct {
	err    error
	misfit store.Misfit
}

func (e *unavailableError) Error() string {
	text := "redis unavailable: " + e.err.Error()
	if e.misfit != store.Fits {
		text += ": " + e.misfit.Problem() + ": " + e.misfit.Remedy()
	}
	return text
}

func (e *unavailableError) Unwrap() []error { return []error{errs.ErrUnavailable, e.err} }

// missError is a miss whose reason is that Redis could not be asked.
type missError struct{ err error }

func (e *missError) Error() string   { return "miss: " + e.err.Error() }
func (e *missError) Unwrap() []error { return []error{errs.ErrMiss, e.err} }

// absentError is the answer that a value does not exist. It matches errs.ErrNotFound, the
// loader's error, and those errors of strategy.NotFoundTTL that the loader's error matched,
// also when the answer comes from the cache.
type absentError struct {
	cache   string
	err     error   // the loader's; nil when the answer comes from the cache
	reasons []error // of NotFoundTTL's list
}

func (e *absentError) Error() string {
	if e.err != nil {
		return fmt.Sprintf("cache %q: not found: %v", e.cache, e.err)
	}
	return fmt.Sprintf("cache %q: not found", e.cache)
}

func (e *absentError) Unwrap() []error {
	out := append([]error{errs.ErrNotFound}, e.reasons...)
	if e.err != nil {
		out = append(out, e.err)
	}
	return out
}

// peerLoadError is the failure of another process's load that this one has waited
// for. Only the error's text is passed on, not the error itself.
type peerLoadError struct{ cache, text string }

func (e *peerLoadError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("cache %q: the load failed in another process", e.cache)
	}
	return fmt.Sprintf("cache %q: the load failed in another process: %s", e.cache, e.text)
}

// theirError is an error of user code that could be mistaken for one of this cache: for
// example the bare errs.ErrMiss of a loader that reads another cache. It is returned to the caller
// unchanged.
type theirError struct{ err error }

func (e *theirError) Error() string { return usercode.Text(e.err) }
func (e *theirError) Unwrap() error { return e.err }

// theirs marks an error that user code has returned.
func theirs(err error) error {
	if err == errs.ErrMiss || err == errs.ErrClosed {
		return &theirError{err}
	}
	return err
}

// noStaleError marks a failure for which no stale value may be served: see Load.NoStale.
type noStaleError struct{ err error }

func (e *noStaleError) Error() string { return e.err.Error() }
func (e *noStaleError) Unwrap() error { return e.err }

func allowsStaleValue(err error) bool {
	_, no := err.(*noStaleError)
	return !no
}

// Unsupported returns the error of an operation that this cache is not configured for.
func Unsupported(what string) error {
	return fmt.Errorf("cache: %s: %w", what, errors.ErrUnsupported)
}

// unavailable returns the error of a remote operation that failed, other than by the
// end of the caller's context.
func (c *Cache) unavailable(err error) error {
	if errors.Is(err, client.ErrClosed) || c.Closed() && errors.Is(err, context.Canceled) {
		return errs.ErrClosed // Close has canceled the operation
	}
	e := &unavailableError{err: err}
	if c.misfit != nil {
		e.misfit = c.misfit(err)
	}
	if e.misfit == store.Replica { // which passes, if another server takes over
		e.misfit = store.Fits
	}
	return e
}

// notKept reports a loaded value that is valid but could not be kept.
func (c *Cache) notKept(err error) {
	if errors.Is(err, errs.ErrUnavailable) {
		return // reported already
	}
	c.stats.notKept.Add(1)
	c.reports.NotKept(err)
}
