package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
)

// route says what a change of a table's row invalidates.
type route struct {
	client *invalidate.Client
	column string                            // has the key
	tags   func(row map[string]any) []string // may be nil
}

// consumer invalidates what events say has changed.
type consumer struct {
	routes map[string]route // by table; others are of no concern
	pause  time.Duration    // after a failure of Redis
	failed func(error)      // is called for each
}

// work is what a batch of events invalidates in the cache of one table.
type work struct {
	everything bool
	keys, tags map[string]bool
}

// handle invalidates for a batch of messages, each thing once. A nil error means that Redis has
// acknowledged everything: the caller confirms its position then, and not before. While Redis is
// unavailable it tries again until ctx ends. A message that can't be understood is an error: what
// it should have invalidated is not known, so that going on would leave old values.
func (c *consumer) handle(ctx context.Context, batch [][]byte) error {
	all := map[string]*work{}
	for i, value := range batch {
		e, ok, err := parse(value)
		if err == nil && ok {
			err = c.add(all, e)
		}
		if err != nil {
			return fmt.Errorf("message %d of the batch: %w", i, err)
		}
	}
	for _, table := range slices.Sorted(maps.Keys(all)) {
		for {
			err := all[table].do(ctx, c.routes[table].client)
			if err == nil {
				break
			}
			if !errors.Is(err, cache.ErrUnavailable) {
				return err
			}
			c.failed(err)
			select {
			case <-ctx.Done():
				return errors.Join(ctx.Err(), err)
			case <-time.After(c.pause):
			}
		}
	}
	return nil
}

// add notes what an event invalidates. A row that has moved, from one key or tag to another,
// invalidates both.
func (c *consumer) add(all map[string]*work, e event) error {
	r, ok := c.routes[e.Source.Table]
	if !ok {
		return nil
	}
	w := all[e.Source.Table]
	if w == nil {
		w = &work{keys: map[string]bool{}, tags: map[string]bool{}}
		all[e.Source.Table] = w
	}
	if e.Op == "t" {
		w.everything = true
		return nil
	}
	if e.Before == nil && e.After == nil {
		return fmt.Errorf("an event of %s without a row", e.Source.Table)
	}
	for _, row := range []map[string]any{e.Before, e.After} {
		if row == nil {
			continue
		}
		key, err := encode(row[r.column])
		if err != nil {
			return fmt.Errorf("column %s of %s: %w", r.column, e.Source.Table, err)
		}
		w.keys[key] = true
		if r.tags == nil {
			continue
		}
		for _, tag := range r.tags(row) {
			w.tags[tag] = true
		}
	}
	return nil
}

// encode returns a key in the form that the cache gives it.
func encode(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return invalidate.Key(v), nil
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			return "", errors.New("not an integer")
		}
		return invalidate.Key(n), nil
	}
	return "", fmt.Errorf("a key is an integer or a string, not %T", v)
}

func (w *work) do(ctx context.Context, c *invalidate.Client) error {
	if w.everything {
		return c.Clear(ctx) // with all keys and tags beside it
	}
	return errors.Join(
		c.Invalidate(ctx, slices.Sorted(maps.Keys(w.keys))...),
		c.InvalidateTags(ctx, slices.Sorted(maps.Keys(w.tags))...),
	)
}
