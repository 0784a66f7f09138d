package cache

import (
	"cmp"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/internal/writebehind"
	"github.com/delqhi/cache/strategy"
)

// Under WriteBehind, the source that a write goes to is a queue in Redis: see
// writethrough.go for the steps before and after it, and package internal/writebehind for
// the queue. A read that has to load checks the queue first, since the newest value may
// still be queued.

// queue is a cache's write-behind queue.
type queue[K comparable, V any] struct {
	*writebehind.Queue
	c *Cache[K, V]
}

func (c *Cache[K, V]) chooseQueue(cfg *config) {
	if c.policy.Write != strategy.ModeBehind {
		return
	}
	if cfg.localOnly {
		cfg.mistake("strategy.WriteBehind() keeps writes in Redis, which a LocalOnly cache has not: write strategy.WriteThrough()")
	}
	if c.keys != nil && !c.keys.Reversible() {
		typ := reflect.TypeFor[K]()
		if err := checkType(queuedKeys, typ); err != nil {
			cfg.mistake("strategy.WriteBehind() keeps keys in its queue as JSON: %w", err)
		} else if hasInterface(typ, map[reflect.Type]bool{}) {
			cfg.mistake("strategy.WriteBehind() keeps keys in its queue as JSON, from which what an interface in a %v holds would come back as another type: give its field a type", typ)
		}
	}
}

func (c *Cache[K, V]) startQueue(prefix string) error {
	if c.policy.Write != strategy.ModeBehind {
		return nil
	}
	cfg := writebehind.Config{
		Queue: c.client, Prefix: prefix, Name: c.name, Apply: c.applyWrites,
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
	c.queue = &queue[K, V]{q, c}
	return nil
}

// enqueue queues changes: for a write-behind cache, this takes the place of the write to the
// source.
func (c *Cache[K, V]) enqueue(ctx context.Context, changes []*change[K, V]) {
	writes := make([]writebehind.Write, 0, len(changes))
	queued := make([]*change[K, V], 0, len(changes))
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
func (c *Cache[K, V]) queueFailed(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, writebehind.ErrFull):
		return fmt.Errorf("%w: the write-behind queue is full", ErrOverload)
	case errors.Is(err, writebehind.ErrClosed):
		return ErrClosed
	case errors.Is(err, writebehind.ErrBadID):
		return fmt.Errorf("%w: %w", ErrInvalidOption, err)
	case errors.Is(err, writebehind.ErrDiscardOnly):
		return err
	}
	return c.writeFailed(ctx, err)
}

// queuedWrite returns the queue entry of a change.
func (c *Cache[K, V]) queuedWrite(ch *change[K, V]) (w writebehind.Write, err error) {
	w = writebehind.Write{Key: c.encoded(ch.rk), Delete: ch.remove}
	if w.Meta, err = c.queuedKey(w.Key, ch.key); err == nil {
		w.Value, err = c.sealQueued(ch, w.Meta)
	}
	return w, err
}

// queuedKey returns the form from which a key is decoded again: nil if its encoding in Redis is
// reversible. A key that would not decode to itself, such as one with text that is not UTF-8,
// is refused: the source would be given another key.
func (c *Cache[K, V]) queuedKey(encoded string, key K) ([]byte, error) {
	if c.keys.Reversible() {
		return nil, nil
	}
	meta, err := queuedKeys.Marshal(nil, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnqueuableKey, err)
	}
	if _, err := c.dequeuedKey(encoded, meta); err != nil {
		return nil, errUnqueuableKey
	}
	return meta, nil
}

func (c *Cache[K, V]) dequeuedKey(encoded string, meta []byte) (key K, err error) {
	if c.keys.Reversible() {
		var ok bool
		if key, ok = c.keys.Decode(encoded); !ok {
			err = errUndecodableKey
		}
		return key, err
	}
	if err := json.Unmarshal(meta, &key); err != nil {
		return key, err
	}
	if rk, err := c.redisKey(key); err != nil || c.encoded(rk) != encoded {
		return key, errUndecodableKey
	}
	return key, nil
}

// queuedKeys is the codec of keys whose encoding is not reversible. It refuses types whose
// values would not decode to themselves.
var queuedKeys = codec.JSON()

// hasInterface reports whether a key type contains an interface.
func hasInterface(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	if t.Kind() == reflect.Interface {
		return true
	}
	switch reflect.New(t).Interface().(type) {
	case json.Marshaler, encoding.TextMarshaler:
		return false
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Array:
		return hasInterface(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if hasInterface(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

// dequeued returns the key of a queued write, and its value unless it is a Delete. A panic of
// the decoder is an error.
func (c *Cache[K, V]) dequeued(w *writebehind.Write) (key K, val V, err error) {
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
	errUnqueuableKey  = fmt.Errorf("%w: strategy.WriteBehind() keeps keys in its queue as JSON, and this one does not come back from that as it is", ErrInvalidOption)
)

// applyWrites writes a batch of the queue to the source.
func (c *Cache[K, V]) applyWrites(ctx context.Context, batch []writebehind.Entry) []error {
	errs := make([]error, len(batch))
	vals := make(map[K]V, len(batch))
	var many []int // indexes in batch of the entries in vals
	var keys []K   // their keys
	usercode.Each(len(batch), func(i int) {
		e := &batch[i]
		ch := change[K, V]{rk: c.prefix + e.Key, remove: e.Delete}
		var err error
		if ch.key, ch.val, err = c.dequeued(&e.Write); err != nil {
			errs[i] = fmt.Errorf("%w: %w", writebehind.ErrPermanent, err)
			return
		}
		if !e.Delete && c.src.StoreMany != nil {
			vals[ch.key] = ch.val
			many, keys = append(many, i), append(keys, ch.key)
			return
		}
		if errs[i] = ctx.Err(); errs[i] == nil {
			errs[i] = c.storeOne(ctx, &ch)
		}
	}, func(i int, err error) { errs[i] = fmt.Errorf("%w: %w", writebehind.ErrPermanent, err) })
	if len(vals) == 0 {
		return errs
	}
	err := ctx.Err()
	if err == nil {
		err = usercode.Contained(func() error { return c.src.StoreMany(ctx, vals) })
	}
	single := keyByKey[K](err)
	for j, i := range many {
		if errs[i] = err; single != nil {
			errs[i] = single(keys[j])
		}
	}
	return errs
}

// statsEvery is the maximum age of the backlog in the metrics.
const statsEvery = time.Second

func (c *Cache[K, V]) reportWrites(r writebehind.Report) {
	c.stats.applied.Add(uint64(r.Applied))
	c.stats.applyErrors.Add(uint64(r.Failed))
	c.stats.deadLetters.Add(uint64(r.Dead))
	if r.Dead > 0 || r.Failed > 0 || r.Applied > 0 {
		c.reports.applied(r.Dead, r.Failed > 0, r.Err)
	}
}

// lookAtQueue updates the backlog in the metrics, in the background.
func (c *Cache[K, V]) lookAtQueue() {
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

// queueFirst returns a loader that checks the queue before it calls j.
func (c *Cache[K, V]) queueFirst(j *loader[K, V]) *loader[K, V] {
	if c.queue == nil || j == nil {
		return j
	}
	out := &loader[K, V]{}
	if one := j.one; one != nil {
		out.one = func(ctx context.Context, key K) (v V, err error) {
			vals, gone := c.pendingWrites(ctx, []K{key})
			if v, ok := vals[key]; ok {
				return v, nil
			}
			if gone[key] {
				return v, ErrNotFound
			}
			return one(ctx, key)
		}
	}
	if many := j.many; many != nil {
		out.many = func(ctx context.Context, keys []K) (map[K]V, error) {
			vals, gone := c.pendingWrites(ctx, keys)
			var rest []K
			for _, k := range keys {
				if _, ok := vals[k]; !ok && !gone[k] {
					rest = append(rest, k)
				}
			}
			if len(rest) == 0 {
				return vals, nil
			}
			loaded, err := many(ctx, rest)
			for k, v := range loaded {
				if _, ok := vals[k]; !ok && !gone[k] {
					vals[k] = v
				}
			}
			return vals, err
		}
	}
	return out
}

// pendingWrites returns the newest values that are queued for the source, and the keys
// whose deletion is queued. If Redis can't be asked both are empty, and the source is asked,
// which may not have the queued writes yet.
func (c *Cache[K, V]) pendingWrites(ctx context.Context, keys []K) (vals map[K]V, gone map[K]bool) {
	vals, gone = map[K]V{}, map[K]bool{}
	encoded := make([]string, 0, len(keys))
	byEncoded := make(map[string]K, len(keys))
	for _, k := range keys {
		if rk, err := c.redisKey(k); err == nil {
			encoded = append(encoded, c.encoded(rk))
			byEncoded[c.encoded(rk)] = k
		}
	}
	newest, err := c.queue.Newest(ctx, encoded)
	if err != nil {
		return vals, gone
	}
	for enc, e := range newest {
		k := byEncoded[enc]
		if e.Delete {
			gone[k] = true
		} else if _, v, err := c.dequeued(&e.Write); err == nil {
			vals[k] = v
		}
	}
	return vals, gone
}

// DeadLetter is a write of a write-behind cache that the source has rejected for good.
type DeadLetter[K comparable, V any] struct {
	ID       string // for ReplayDeadLetters and DiscardDeadLetters
	Key      K
	Value    V
	Deleted  bool      // the write is a Delete, without a value
	Attempts int       // number of attempts
	At       time.Time // time of the last attempt, by Redis's clock
	Reason   string    // text of the source's error at that attempt
	Err      error     // why Key or Value can't be decoded; nil for most
}

// DeadLetters lists at most limit writes that the source has rejected for good
// (strategy.MaxAttempts times, or with a permanent error), the oldest first, of all
// processes. A key has at most one dead letter: a later write removes it. Without
// strategy.WriteBehind the error wraps [errors.ErrUnsupported].
func (c *Cache[K, V]) DeadLetters(ctx context.Context, limit int) ([]DeadLetter[K, V], error) {
	if err := c.queueUsable(ctx); err != nil {
		return nil, c.explain("dead letters", err)
	}
	letters, err := c.queue.DeadLetters(ctx, limit)
	out := make([]DeadLetter[K, V], 0, len(letters))
	for _, l := range letters {
		d := DeadLetter[K, V]{ID: l.ID, Deleted: l.Delete, Attempts: l.Attempts, At: l.At}
		var err error
		d.Reason, err = c.openReason(l.Key, l.Error)
		d.Key, d.Value, d.Err = c.dequeued(&writebehind.Write{Key: l.Key, Delete: l.Delete, Value: l.Value, Meta: l.Meta})
		d.Err = cmp.Or(d.Err, err)
		out = append(out, d)
	}
	if err != nil {
		err = c.explain("dead letters", c.queueFailed(ctx, err))
	}
	return out, err
}

// ReplayDeadLetters queues dead letters again, all of them if no ids are given, and returns
// how many it queued; dead letters that no longer exist, since their keys were written, are
// no error. The error matches [ErrOverload] if the queue is full, and [ErrInvalidOption] if
// an id does not have the form of an ID. If it is not known whether a later write has been
// applied, a dead letter can only be discarded, and replaying it is an error. The other
// errors are those of [Cache.DeadLetters].
func (c *Cache[K, V]) ReplayDeadLetters(ctx context.Context, ids ...string) (int, error) {
	return c.replay(ctx, "replay dead letters", func(q *queue[K, V]) (int, error) { return q.Replay(ctx, ids...) })
}

// DiscardDeadLetters deletes dead letters, all of them if no ids are given, and returns how
// many there were. The error matches [ErrInvalidOption] if an id does not have the form of an
// ID. The other errors are those of [Cache.DeadLetters].
func (c *Cache[K, V]) DiscardDeadLetters(ctx context.Context, ids ...string) (int, error) {
	return c.replay(ctx, "discard dead letters", func(q *queue[K, V]) (int, error) { return q.Discard(ctx, ids...) })
}

func (c *Cache[K, V]) replay(ctx context.Context, what string, f func(*queue[K, V]) (int, error)) (int, error) {
	if err := c.queueUsable(ctx); err != nil {
		return 0, c.explain(what, err)
	}
	n, err := f(c.queue)
	if err != nil {
		err = c.explain(what, c.queueFailed(ctx, err))
	}
	return n, err
}

func (c *Cache[K, V]) queueUsable(ctx context.Context) error {
	if c.queue == nil {
		return unsupported("dead letters of a cache without strategy.WriteBehind")
	}
	return c.usable(ctx)
}
