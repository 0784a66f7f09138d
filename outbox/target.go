package outbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
)

// Target is what a [Relay] invalidates: a *cache.Cache, or an *invalidate.Client by [Client]. Its
// methods must be safe for concurrent use. An error that matches cache.ErrUnavailable says that
// the row is to wait, cache.ErrClosed that the target is gone, and any other that the row is
// refused.
type Target interface {
	Cache
	InvalidateEncoded(ctx context.Context, encoded ...string) error
	InvalidateTags(ctx context.Context, tags ...string) error
	InvalidatePattern(ctx context.Context, pattern string) (int64, error)
	Clear(ctx context.Context) error
}

// Replacer is a [Target] that applies the values of [Set]: a *cache.Cache. For one that is none the
// keys are invalidated. ReplaceEncoded puts a value in the place of the entry that it was encoded
// for, and if that is not there any more, invalidates the key.
type Replacer interface {
	ReplaceEncoded(ctx context.Context, encoded string, replacement []byte) (bool, error)
}

var (
	_ Target                 = (*cache.Cache[int64, string])(nil)
	_ Replacer               = (*cache.Cache[int64, string])(nil)
	_ Valued[string, []byte] = (*cache.Cache[string, []byte])(nil)
)

// Client returns a client as a [Target], for a relay in a process without the cache. A nil client
// is refused by [Relay.Run].
func Client(c *invalidate.Client) Target {
	if c == nil {
		return nil
	}
	return client{c}
}

type client struct{ *invalidate.Client }

// InvalidateEncoded implements [Target].
func (c client) InvalidateEncoded(ctx context.Context, encoded ...string) error {
	return c.Invalidate(ctx, encoded...)
}

// item is what is to be invalidated, once for all rows that say so.
type item struct {
	cache string
	kind  kind
	name  string // the encoded key, the tag or the pattern
}

// apply invalidates an item in all targets of its cache, or puts a value in its place. replaced:
// the value is in the place of the old one in all of them.
func (i item) apply(ctx context.Context, targets []Target, value []byte) (replaced bool, err error) {
	var failed []error
	replaced = true
	for _, t := range targets {
		ok, err := i.applyTo(ctx, t, value)
		if err != nil {
			failed = append(failed, err)
		}
		replaced = replaced && ok
	}
	if len(failed) == 1 {
		return replaced, failed[0]
	}
	return replaced, errors.Join(failed...)
}

// applyTo makes an error of a target's panic: it concerns one row, and not the relay.
func (i item) applyTo(ctx context.Context, t Target, value []byte) (replaced bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("outbox: the target panicked: %v", p)
		}
	}()
	switch i.kind {
	case key:
		if r, ok := t.(Replacer); ok && value != nil {
			return r.ReplaceEncoded(ctx, i.name, value)
		}
		return false, t.InvalidateEncoded(ctx, i.name)
	case tag:
		return false, t.InvalidateTags(ctx, i.name)
	case pattern:
		_, err := t.InvalidatePattern(ctx, i.name)
		return false, err
	case everything:
		return false, t.Clear(ctx)
	}
	return false, fmt.Errorf("outbox: this version does not know %v", i.kind)
}

// outcome is what became of an item.
type outcome int

const (
	untried outcome = iota
	acknowledged
	unavailable // the row waits
	refused     // the row may become a dead letter
	closed      // this process can't apply it
	interrupted // by the end of the relay
)

// judge tells failures apart. What Redis does not acknowledge concerns all rows, and is no reason
// to give one of them up.
func judge(ctx context.Context, err error) outcome {
	switch {
	case err == nil:
		return acknowledged
	case ctx.Err() != nil:
		return interrupted
	case errors.Is(err, cache.ErrClosed):
		return closed
	case errors.Is(err, cache.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable
	default:
		return refused
	}
}
