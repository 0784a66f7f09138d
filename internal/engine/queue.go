package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/internal/writebehind"
	"github.com/delqhi/cache/strategy"
)

// Under WriteBehind, the source that a write goes to is a queue in Redis: see
// writethrough.go for the steps before and after it, and package internal/writebehind for
// the queue. A read that has to load checks the queue first, since the newest value may
// still be queued.

// queue is a cache's write-behind queue.
type queue struct {
	*writebehind.Queue
	c *Cache
}

func (c *Cache) startQueue(client store.Queue, prefix string) error {
	if c.policy.Write != strategy.ModeBehind {
		return nil
	}
	cfg := writebehind.Config{
		Queue: client, Prefix: prefix, Name: c.name, Apply: c.applyWrites,
		BatchSize: c.policy.BatchSize, BatchDelay: c.policy.BatchDelay, MaxAttempts: c.policy.MaxAttempts,
		Timeout: c.policy.HardTimeout, Report: c.reportWrites,
	}
	if c.sealer != nil {
		cfg.Hide = c.sealReason
	}
	q, err := writebehind.New(cfg)
	if err != nil {
		return fmt.Errorf("cache: New: %w", err)
	}
	c.queue = &queue{q, c}
	return nil
}

// enqueue queues changes: for a write-behind cache, this takes the place of the write to the
// source.
func (c *Cache) enqueue(ctx context.Context, changes []*Change) {
	writes := make([]writebehind.Write, 0, len(changes))
	queued := make([]*Change, 0, len(changes))
	for _, ch := range changes {
		var w writebehind.Write
		ch.srcErr = usercode.Call(func() (err error) {
			w, err = c.queuedWrite(ch)
			return err
		})
		if ch.srcErr == nil {
			writes, queued = append(writes, w), append(queued, ch)
		}
	}
	for i, err := range c.queue.Enqueue(ctx, writes) {
		if err != nil {
			queued[i].srcErr = c.queueFailed(ctx, err)
		}
	}
}

// queueFailed returns the error of an operation on the queue that failed.
func (c *Cache) queueFailed(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, writebehind.ErrFull):
		return fmt.Errorf("%w: the write-behind queue is full", errs.ErrOverload)
	case errors.Is(err, writebehind.ErrClosed):
		return errs.ErrClosed
	case errors.Is(err, writebehind.ErrBadID):
		return fmt.Errorf("%w: %w", errs.ErrInvalidOption, err)
	case errors.Is(err, writebehind.ErrDiscardOnly):
		return err
	}
	return c.writeFailed(ctx, err)
}

// queuedWrite returns the queue entry of a change.
func (c *Cache) queuedWrite(ch *Change) (w writebehind.Write, err error) {
	w = writebehind.Write{Key: c.encoded(ch.rk), Delete: ch.remove}
	if w.Meta, err = c.queuedKey(w.Key, ch.Key); err == nil {
		w.Value, err = c.sealQueued(ch, w.Meta)
	}
	return w, err
}

// queuedKey returns the form from which a key is decoded again: nil if its encoding in Redis is
// reversible. A key that would not decode to itself, such as one with text that is not UTF-8,
// is refused: the source would be given another key.
func (c *Cache) queuedKey(encoded string, key Key) ([]byte, error) {
	if c.types.Reversible() {
		return nil, nil
	}
	meta, err := QueuedKeys.Marshal(nil, c.types.Key(key))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnqueuableKey, err)
	}
	if _, err := c.dequeuedKey(encoded, meta); err != nil {
		return nil, errUnqueuableKey
	}
	return meta, nil
}

func (c *Cache) dequeuedKey(encoded string, meta []byte) (Key, error) {
	if c.types.Reversible() {
		key, ok := c.types.DecodeKey(encoded)
		if !ok {
			return nil, errUndecodableKey
		}
		return key, nil
	}
	key := c.types.NewKey()
	if err := json.Unmarshal(meta, key); err != nil {
		return key, err
	}
	if rk, err := c.keyOf(key); err != nil || c.encoded(rk) != encoded {
		return key, errUndecodableKey
	}
	return key, nil
}

// QueuedKeys is the codec of keys whose encoding is not reversible. It refuses types whose
// values would not decode to themselves.
var QueuedKeys = codec.JSON()

// dequeued returns the key of a queued write, and its value unless it is a Delete. A panic of
// the decoder is an error.
func (c *Cache) dequeued(w *writebehind.Write) (key Key, val Value, err error) {
	err = usercode.Call(func() (err error) {
		if key, err = c.dequeuedKey(w.Key, w.Meta); err == nil {
			val, err = c.openQueued(c.prefix+w.Key, w.Delete, w.Value, w.Meta)
		}
		return err
	})
	return key, val, err
}

var (
	errUndecodableKey = errors.New("cache: a queued key can't be decoded")
	errUnqueuableKey  = fmt.Errorf("%w: strategy.WriteBehind() keeps keys in its queue as JSON, and this one does not come back from that as it is", errs.ErrInvalidOption)
)

// applyWrites writes a batch of the queue to the source.
func (c *Cache) applyWrites(ctx context.Context, batch []writebehind.Entry) []error {
	failed := make([]error, len(batch))
	var many []int // indexes in batch of the entries in vals
	var keys []Key // their keys
	var vals []Value
	usercode.Each(len(batch), func(i int) {
		e := &batch[i]
		ch := Change{rk: c.prefix + e.Key, remove: e.Delete}
		var err error
		if ch.Key, ch.Val, err = c.dequeued(&e.Write); err != nil {
			failed[i] = fmt.Errorf("%w: %w", writebehind.ErrPermanent, err)
			return
		}
		if !e.Delete && c.src.StoreMany != nil {
			many, keys, vals = append(many, i), append(keys, ch.Key), append(vals, ch.Val)
			return
		}
		if failed[i] = ctx.Err(); failed[i] == nil {
			failed[i] = c.storeOne(ctx, &ch)
		}
	}, func(i int, err error) { failed[i] = fmt.Errorf("%w: %w", writebehind.ErrPermanent, err) })
	if len(vals) == 0 {
		return failed
	}
	err := ctx.Err()
	if err == nil {
		err = usercode.Contained(func() error { return c.src.StoreMany(ctx, keys, vals) })
	}
	single := c.eachOf(err)
	for j, i := range many {
		if failed[i] = err; single != nil {
			failed[i] = single(keys[j])
		}
	}
	return failed
}

// statsEvery is the maximum age of the backlog in the metrics.
const statsEvery = time.Second

func (c *Cache) reportWrites(r writebehind.Report) {
	c.stats.applied.Add(uint64(r.Applied))
	c.stats.applyErrors.Add(uint64(r.Failed))
	c.stats.deadLetters.Add(uint64(r.Dead))
	if r.Dead > 0 || r.Failed > 0 || r.Applied > 0 {
		c.reports.Applied(r.Dead, r.Failed > 0, r.Err)
	}
}

// lookAtQueue updates the backlog in the metrics, in the background.
func (c *Cache) lookAtQueue() {
	if c.queue == nil || !c.refresher.throttle("", statsEvery) {
		return
	}
	c.refresher.run(func() {
		if s, err := c.queue.Stats(c.refresher.ctx); err == nil {
			c.stats.backlog.Store(int64(s.Depth))
			c.stats.backlogAge.Store(int64(s.Lag))
			c.stats.dead.Store(int64(s.Dead))
		}
	})
}

// QueueFirst returns a loader that checks the queue before it calls j.
func (c *Cache) QueueFirst(j Loader) Loader {
	if c.queue == nil || j == nil {
		return j
	}
	return &queueLoader{Loader: j, c: c}
}

// queueLoader checks the queue before it loads.
type queueLoader struct {
	Loader
	c *Cache
}

func (l *queueLoader) Load(ctx context.Context, key Key) (Value, error) {
	newest := l.c.pendingWrites(ctx, []Key{key})
	if w, ok := newest(key); ok {
		if w.gone {
			return nil, errs.ErrNotFound
		}
		return w.val, nil
	}
	return l.Loader.Load(ctx, key)
}

func (l *queueLoader) LoadMany(ctx context.Context, keys []Key) (Found, error) {
	newest := l.c.pendingWrites(ctx, keys)
	var rest []Key
	for _, k := range keys {
		if _, ok := newest(k); !ok {
			rest = append(rest, k)
		}
	}
	var loaded Found
	var err error
	if len(rest) > 0 {
		loaded, err = l.Loader.LoadMany(ctx, rest)
	}
	return Found{Get: func(key Key) (Value, bool) {
		if w, ok := newest(key); ok || loaded.Get == nil {
			return w.val, ok && !w.gone
		}
		return loaded.Get(key)
	}}, err
}

// pendingWrite is the newest write of a key that is queued for the source.
type pendingWrite struct {
	val  Value
	gone bool // a Delete
}

// pendingWrites returns a function that looks up the newest write of a key that is queued for
// the source. If Redis can't be asked there are none, and the source is asked, which may not
// have the queued writes yet.
func (c *Cache) pendingWrites(ctx context.Context, keys []Key) func(Key) (pendingWrite, bool) {
	encoded := make([]string, 0, len(keys))
	for _, k := range keys {
		if rk, err := c.keyOf(k); err == nil {
			encoded = append(encoded, c.encoded(rk))
		}
	}
	newest, err := c.queue.Newest(ctx, encoded)
	writes := map[string]pendingWrite{}
	if err == nil {
		for enc, e := range newest {
			if e.Delete {
				writes[enc] = pendingWrite{gone: true}
			} else if _, v, err := c.dequeued(&e.Write); err == nil {
				writes[enc] = pendingWrite{val: v}
			}
		}
	}
	return func(k Key) (w pendingWrite, ok bool) {
		if len(writes) == 0 {
			return w, false
		}
		rk, err := c.keyOf(k)
		if err != nil {
			return w, false
		}
		w, ok = writes[c.encoded(rk)]
		return w, ok
	}
}

// DeadLetter is a write that the source has rejected for good.
type DeadLetter struct {
	writebehind.DeadLetter
	Key    Key   // nil if it can't be decoded
	Value  Value // likewise, and of a Delete
	Reason string
	Err    error // why Key or Value can't be decoded
}

// DeadLetters lists at most limit dead letters.
func (c *Cache) DeadLetters(ctx context.Context, limit int) ([]DeadLetter, error) {
	if err := c.queueUsable(ctx); err != nil {
		return nil, c.Explain("dead letters", err)
	}
	letters, err := c.queue.DeadLetters(ctx, limit)
	out := make([]DeadLetter, 0, len(letters))
	for _, l := range letters {
		d := DeadLetter{DeadLetter: l}
		var err error
		d.Reason, err = c.openReason(l.Key, l.Error)
		d.Key, d.Value, d.Err = c.dequeued(&writebehind.Write{Key: l.Key, Delete: l.Delete, Value: l.Value, Meta: l.Meta})
		d.Err = cmp.Or(d.Err, err)
		out = append(out, d)
	}
	if err != nil {
		err = c.Explain("dead letters", c.queueFailed(ctx, err))
	}
	return out, err
}

// ReplayDeadLetters queues dead letters again, all of them if no ids are given.
func (c *Cache) ReplayDeadLetters(ctx context.Context, ids ...string) (int, error) {
	return c.replay(ctx, "replay dead letters", func(q *queue) (int, error) { return q.Replay(ctx, ids...) })
}

// DiscardDeadLetters deletes dead letters, all of them if no ids are given.
func (c *Cache) DiscardDeadLetters(ctx context.Context, ids ...string) (int, error) {
	return c.replay(ctx, "discard dead letters", func(q *queue) (int, error) { return q.Discard(ctx, ids...) })
}

func (c *Cache) replay(ctx context.Context, what string, f func(*queue) (int, error)) (int, error) {
	if err := c.queueUsable(ctx); err != nil {
		return 0, c.Explain(what, err)
	}
	n, err := f(c.queue)
	if err != nil {
		err = c.Explain(what, c.queueFailed(ctx, err))
	}
	return n, err
}

func (c *Cache) queueUsable(ctx context.Context) error {
	if c.queue == nil {
		return Unsupported("dead letters of a cache without strategy.WriteBehind")
	}
	return c.Usable(ctx)
}
