package cache

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/usercode"
)

// The errors that a program distinguishes with errors.Is. No message of this
// package contains a key or a value.
var (
	// ErrMiss: the cache has no value, and the read had no way to load it.
	ErrMiss = errs.ErrMiss

	// ErrNotFound: the source says that the value does not exist. A loader returns
	// it (wrapped or not) to say so; a read returns it, also from the cache,
	// for as long as strategy.NotFoundTTL says.
	ErrNotFound = errs.ErrNotFound

	// ErrClosed: the cache was closed.
	ErrClosed = errs.ErrClosed

	// ErrInvalidOption: an argument of New or of a call is invalid.
	ErrInvalidOption = errs.ErrInvalidOption

	// ErrUnavailable: Redis could not be read or written; the reason is wrapped.
	// The error of a read without a loader matches ErrMiss as well.
	ErrUnavailable = errs.ErrUnavailable

	// ErrOverload: more loads are waiting than WithLoadLimit allows, or the write-behind
	// queue is full.
	ErrOverload = errs.ErrOverload

	// ErrTooLarge: the encoded value exceeds WithMaxValueSize. Nothing was sent.
	ErrTooLarge = errs.ErrTooLarge
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

// batchError returns failed as an error, nil if it is empty.
func batchError[K comparable](failed map[K]error) error {
	if len(failed) == 0 {
		return nil
	}
	return &BatchError[K]{Errs: failed}
}

// identity returns err as a map key if its dynamic type is comparable.
func identity(err error) (any, bool) {
	return err, err != nil && reflect.ValueOf(err).Comparable()
}

// findable reports whether a key equals itself. NaN does not, nor does a key that contains
// it: such a key can't be found in a map, and is not kept in the local tier.
func findable[K comparable](k K) bool { return equal(k, k) }

func equal[T comparable](a, b T) bool { return a == b }
