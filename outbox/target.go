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

var (
	_ Target        = (*cache.Cache[int64, string])(nil)
	_ Keyed[string] = (*cache.Cache[string, string])(nil)
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

// apply invalidates an item in all targets of its cache.
func (i item) apply(ctx context.Context, targets []Target) error {
	var failed []error
	for _, t := range targets {
		if err := i.applyTo(ctx, t); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == 1 {
		return failed[0]
	}
	return errors.Join(failed...)
}

// applyTo makes an error of a target's panic: it concerns one row, and not the relay.
func (i item) applyTo(ctx context.Context, t Target) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("outbox: the target panicked: %v", p)
		}
	}()
	switch i.kind {
	case key:
		return t.InvalidateEncoded(ctx, i.name)
	case tag:
		return t.InvalidateTags(ctx, i.name)
	case pattern:
		_, err := t.InvalidatePattern(ctx, i.name)
		return err
	case everything:
		return t.Clear(ctx)
	}
	return fmt.Errorf("outbox: this version does not know %v", i.kind)
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
