package cache

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/metrics"
)

// The errors that a program distinguishes with errors.Is. No message of this
// package contains a key or a value.
var (
	// ErrMiss: the cache has no value, and the read had no way to load it.
	ErrMiss = errors.New("cache: miss")

	// ErrNotFound: the source says that the value does not exist. A loader returns
	// it (wrapped or not) to say so; a read returns it, also from the cache,
	// for as long as strategy.NotFoundTTL says.
	ErrNotFound = errors.New("cache: not found")

	// ErrClosed: the cache was closed.
	ErrClosed = errs.ErrClosed

	// ErrInvalidOption: an argument of New or of a call is invalid.
	ErrInvalidOption = errs.ErrInvalidOption

	// ErrUnavailable: Redis could not be read or written; the reason is wrapped.
	// The error of a read without a loader matches ErrMiss as well.
	ErrUnavailable = errs.ErrUnavailable

	// ErrOverload: more loads are waiting than WithLoadLimit allows, or the write-behind
	// queue is full.
	ErrOverload = errors.New("cache: overload")

	// ErrTooLarge: the encoded value exceeds WithMaxValueSize. Nothing was sent.
	ErrTooLarge = errors.New("cache: value too large")
)

// PanicError is the error of a call into user code that panicked: a loader, a function of
// [Source], a codec, a text marshaler of keys or the function given to [Cache.Update].
// Value is the value of the panic and Stack its stack trace. Such an error never counts as
// an answer, whatever Value is: a loader that panics with [ErrNotFound] has failed. If
// Value is an error, errors.Is and errors.As find it.
type PanicError = usercode.PanicError

// BatchError is the error of an operation on several keys: the error of each key
// that failed. Keys that are not in it succeeded.
type BatchError[K comparable] struct {
	Errs map[K]error // never empty in an error of this package
}

// For returns the error of one key, nil if there is none. It may be called on a
// nil BatchError.
func (e *BatchError[K]) For(key K) error {
	if e == nil {
		return nil
	}
	return e.Errs[key]
}

// Error counts the keys and quotes the distinct errors, never a key. It may be called on a
// nil BatchError.
func (e *BatchError[K]) Error() string {
	if e == nil || len(e.Errs) == 0 {
		return "cache: no keys failed"
	}
	distinct := map[string]struct{}{}
	for _, err := range e.Unwrap() {
		distinct[usercode.Text(err)] = struct{}{}
	}
	texts := slices.Sorted(maps.Keys(distinct))
	const most = 3
	if n := len(texts); n > most {
		texts = append(texts[:most], fmt.Sprintf("and %d more", n-most))
	}
	return fmt.Sprintf("cache: %d keys failed: %s", len(e.Errs), strings.Join(texts, "; "))
}

// Unwrap returns the distinct errors, so that errors.Is and errors.As look into
// each. It may be called on a nil BatchError.
func (e *BatchError[K]) Unwrap() []error {
	if e == nil {
		return nil
	}
	var out []error
	seen := make(map[any]bool, 1)
	for _, err := range e.Errs {
		if err == nil {
			continue
		}
		err = usercode.Checked(err)
		// Errors of a comparable type are deduplicated by identity; others are all kept.
		if id, ok := identity(err); ok {
			if seen[id] {
				continue
			}
			seen[id] = true
		}
		out = append(out, err)
	}
	return out
}

// keyByKey returns a function that gives the error of each key if err, of a function of the
// source for many keys, is a *[BatchError] and not the value of a panic; else nil.
func keyByKey[K comparable](err error) func(K) error {
	single, _ := usercode.As[*BatchError[K]](err)
	if single == nil || len(single.Errs) == 0 || usercode.Panicked(err) {
		return nil
	}
	return func(key K) error { return usercode.Checked(single.For(key)) }
}

// batchError returns failed as an error, nil if it is empty.
func batchError[K comparable](failed map[K]error) error {
	if len(failed) == 0 {
		return nil
	}
	return &BatchError[K]{Errs: failed}
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
// context is not wrapped.
type unavailableError struct{ err error }

func (e *unavailableError) Error() string   { return "redis unavailable: " + e.err.Error() }
func (e *unavailableError) Unwrap() []error { return []error{ErrUnavailable, e.err} }

// missError is a miss whose reason is that Redis could not be asked.
type missError struct{ err error }

func (e *missError) Error() string   { return "miss: " + e.err.Error() }
func (e *missError) Unwrap() []error { return []error{ErrMiss, e.err} }

// absentError is the answer that a value does not exist. It matches ErrNotFound, the
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
	out := append([]error{ErrNotFound}, e.reasons...)
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
// example the bare ErrMiss of a loader that reads another cache. It is returned to the caller
// unchanged.
type theirError struct{ err error }

func (e *theirError) Error() string { return usercode.Text(e.err) }
func (e *theirError) Unwrap() error { return e.err }

// theirs marks an error that user code has returned.
func theirs(err error) error {
	if err == ErrMiss || err == ErrClosed {
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

// unsupported returns the error of an operation that this cache is not configured for.
func unsupported(what string) error {
	return fmt.Errorf("cache: %s: %w", what, errors.ErrUnsupported)
}

// identity returns err as a map key if its dynamic type is comparable.
func identity(err error) (any, bool) {
	return err, err != nil && reflect.ValueOf(err).Comparable()
}

// findable reports whether a key equals itself. NaN does not, nor does a key that contains
// it: such a key can't be found in a map, and is not kept in the local tier.
func findable[K comparable](k K) bool { return equal(k, k) }

func equal[T comparable](a, b T) bool { return a == b }
