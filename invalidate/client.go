package invalidate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/redis/go-redis/v9"
)

// Client invalidates entries of a cache without being one: for a consumer of a database's
// changes, or an administrative job. Its invalidations reach Redis and every process that uses
// the cache, as if one of those processes had made them. It is safe for concurrent use. The
// Redis client stays its owner's to close.
type Client struct {
	name   string
	prefix string
	policy Policy

	store   *client.Client
	revoker *invalidation.Invalidator

	mu    sync.Mutex           // guards known
	known []logicalclock.Known // by part
}

// clientTimeout bounds each operation on Redis. No request of a user waits for it.
const clientTimeout = time.Second

// ClientOption configures a [Client]. Of several of one kind the last one holds.
type ClientOption interface{ apply(*Client) }

type clientOption func(*Client)

func (f clientOption) apply(c *Client) { f(c) }

// Prefix is the prefix that was given to the cache by cache.WithPrefix. The default is none.
func Prefix(p string) ClientOption { return clientOption(func(c *Client) { c.prefix = p }) }

// WithPolicy sets what becomes of invalidated entries. The default is [Immediate].
func WithPolicy(p Policy) ClientOption { return clientOption(func(c *Client) { c.policy = p }) }

// NewClient returns a client for the cache of this name. It does no I/O. The error
// joins all mistakes, each of which wraps cache.ErrInvalidOption: a nil rdb, a
// name that no cache can have, a nil option, an invalid [Policy].
func NewClient(rdb redis.UniversalClient, name string, opts ...ClientOption) (*Client, error) {
	c := &Client{name: name}
	var mistakes []error
	mistake := func(text string) {
		mistakes = append(mistakes, fmt.Errorf("%w: invalidate.NewClient: %s", errs.ErrInvalidOption, text))
	}
	if usercode.IsNil(rdb) {
		mistake("the Redis client is nil")
	}
	if !validName(name) {
		mistake(fmt.Sprintf("%q can't be the name of a cache: it is not empty, and without ':', white space and control characters", name))
	}
	for _, o := range opts {
		if o == nil {
			mistake("an option is nil")
			continue
		}
		o.apply(c)
	}
	if err := c.policy.Validate(); err != nil {
		mistakes = append(mistakes, fmt.Errorf("invalidate.NewClient: %w", err))
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	st, err := redisstore.NewRedis(rdb)
	if err != nil {
		return nil, fmt.Errorf("%w: invalidate.NewClient: %w", errs.ErrInvalidOption, err)
	}
	c.store = client.New(st, clientTimeout)
	names := store.NewNames(c.prefix, name).In(st.Database())
	parts := names.Parted(c.store.Clustered())
	c.known = make([]logicalclock.Known, len(parts))
	c.revoker = &invalidation.Invalidator{
		Store: c.store, Names: names, Parts: parts, Policy: invalidation.Policy{Mode: invalidation.Mode(c.policy.mode), Delay: c.policy.delay},
		Outbox: message.NewOutboxOf(message.NewSender(), len(parts)), Known: c.lastKnown,
	}
	return c, nil
}

func (c *Client) lastKnown(part uint8) logicalclock.Known {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[part]
}

// validName reports what cache.New accepts as a name.
func validName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool {
		return r == ':' || unicode.IsSpace(r) || unicode.IsControl(r)
	})
}

// Name returns the name of the cache.
func (c *Client) Name() string { return c.name }

// Invalidate invalidates keys, encoded as [Key] does, in Redis and in every process that has
// them. Keys that do not exist are no error.
//
// The error joins what Redis did not acknowledge; it matches cache.ErrUnavailable, unless it is
// that of ctx. Whether those keys were invalidated is not known, and nothing is retried later:
// call again.
func (c *Client) Invalidate(ctx context.Context, encodedKeys ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer c.tally(ctx)
	failed := 0
	var first error
	for _, out := range c.revoker.Keys(ctx, encodedKeys) {
		c.open(out.Open)
		if out.Err != nil {
			failed++
			first = cmp.Or(first, out.Err)
		}
	}
	if first == nil {
		return nil
	}
	return c.failed(ctx, fmt.Sprintf("%d of %d keys", failed, len(encodedKeys)), first)
}

// InvalidatePattern invalidates the keys that match a Redis glob, and returns how many there
// were. The pattern is matched against the encoded key, without prefix and name; see
// [QuotePattern]. Every master of a cluster is scanned; errors are as with [Client.Invalidate],
// and all keys that could be invalidated were. Over a decorated client whose kind can't be
// determined (see cache.New) it does nothing, and the error wraps [errors.ErrUnsupported].
func (c *Client) InvalidatePattern(ctx context.Context, pattern string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := c.store.Unknown(); err != nil {
		return 0, fmt.Errorf("invalidate: pattern of %q: %w", c.name, err)
	}
	defer c.tally(ctx)
	m, err := c.revoker.Pattern(ctx, pattern, keys.QuotePattern)
	c.open(m.Open)
	if err != nil {
		return m.Keys, c.failed(ctx, "pattern", err)
	}
	return m.Keys, nil
}

// InvalidateTags invalidates the entries of tags, in the same short time for any number of
// entries. An empty tag is an error that wraps cache.ErrInvalidOption; others are as with
// [Client.Invalidate]. No tags is no error.
func (c *Client) InvalidateTags(ctx context.Context, tags ...string) error {
	if slices.Contains(tags, "") {
		return fmt.Errorf("invalidate: tags of %q: %w: a tag is empty", c.name, errs.ErrInvalidOption)
	}
	if len(tags) == 0 {
		return nil
	}
	// Many tags are set in several steps, each of which is short for Redis.
	var first error
	for some := range slices.Chunk(tags, tagsAtOnce) {
		first = cmp.Or(first, c.mark(ctx, "tags", some)) // the others are tried all the same
	}
	return first
}

const tagsAtOnce = 1000

// Clear invalidates all entries of the cache, and of no other, in the same short time for any
// number of entries. Errors are as with [Client.Invalidate].
func (c *Client) Clear(ctx context.Context) error { return c.mark(ctx, "clear", nil) }

func (c *Client) mark(ctx context.Context, what string, tags []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer c.tally(ctx)
	failed := make([]error, len(c.known))
	c.revoker.EachPart(func(part uint8) { failed[part] = c.markPart(ctx, part, tags) })
	if err := cmp.Or(failed...); err != nil {
		return c.failed(ctx, what, err)
	}
	return nil
}

func (c *Client) markPart(ctx context.Context, part uint8, tags []string) error {
	marks, open, err := c.revoker.InvalidateTags(ctx, part, tags)
	c.mu.Lock()
	defer c.mu.Unlock()
	known := &c.known[part]
	if err != nil {
		c.open(open)
		if errors.Is(err, logicalclock.ErrNoClock) {
			*known = logicalclock.Known{} // the reply for it was invalid
		}
		return err
	}
	if e := marks.Epoch; e.ID != known.Epoch || e.Tick > known.Tick {
		*known = logicalclock.Known{Epoch: e.ID, Tick: e.Tick, Clock: e.Clock}
	}
	return nil
}

// Close waits for operations in flight, and makes later calls return cache.ErrClosed. It may be
// called more than once, and always returns nil.
func (c *Client) Close() error {
	c.store.Close()
	return nil
}

// open takes numbers of messages that may not have been published. They are not retried: processes
// are told, and drop their whole local tiers, or those of the parts of the keys that it concerns.
func (c *Client) open(numbers []uint64) { c.revoker.Outbox.GiveUp(numbers...) }

// tally publishes the number up to which subscribers should have received messages.
func (c *Client) tally(ctx context.Context) { c.revoker.Watermark(ctx, false) }

func (c *Client) failed(ctx context.Context, what string, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, client.ErrClosed):
		return errs.ErrClosed
	}
	return fmt.Errorf("invalidate: %s of %q: %w: %w", what, c.name, errs.ErrUnavailable, err)
}
