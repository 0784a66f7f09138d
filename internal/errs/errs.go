// Package errs holds the sentinel errors that several packages return and the
// root exports under the same names, so that errors.Is sees one error wherever
// it came from.
package errs

import "errors"

var (
	// ErrInvalidOption: an invalid argument.
	ErrInvalidOption = errors.New("cache: invalid option")

	// ErrClosed: used after Close.
	ErrClosed = errors.New("cache: closed")

	// ErrUnavailable: Redis did not answer, or refused.
	ErrUnavailable = errors.New("cache: redis unavailable")

	// ErrMiss: no value, and no way to load it.
	ErrMiss = errors.New("cache: miss")

	// ErrNotFound: the source has no value.
	ErrNotFound = errors.New("cache: not found")

	// ErrOverload: too many loads, or too many queued writes.
	ErrOverload = errors.New("cache: overload")

	// ErrTooLarge: an encoded value exceeds its bound.
	ErrTooLarge = errors.New("cache: value too large")
)
