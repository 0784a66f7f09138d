package engine

import (
	"context"
	"encoding/binary"
	"math"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/strategy"
)

// A replacement is the record of a value that is to take the place of exactly the one that Redis
// holds now, at a time that is not known yet, and in a process that need not be this one. The value
// is to become true in between, at the commit of a transaction, say:
//
//  1. A transaction changes a row. A replacement is encoded for its key: it names the record that
//     is there, R, and has the version of the logical clock.
//  2. The transaction commits.
//  3. The replacement is put in the place of R, by compare-and-set.
//
// Whatever replaces or invalidates the entry after step 1 either removes R or gives it another id,
// by every policy, and then step 3 fails; or it is an invalidation of a tag or of everything, which
// applies to the replacement by its version. So a change that is committed after that of step 2,
// and that invalidates the key in whatever way, is never followed by the older value: its
// invalidation comes after step 1, as its commit does, and comes either before step 3, which then
// fails, or after it, and removes the value.
//
// An empty key has no id, and what was invalidated while it was empty can't be seen afterwards.
// There is no replacement then; nor for a lease, whose load may be about to end.

const (
	replacementVersion = 1
	replacementHead    = 1 + 8 + store.TokenLen // the version, the end of the record in µs or 0, and the token
)

// EncodeReplacement returns the replacement of what Redis holds under a key by a value. It is nil if
// there is nothing that could be replaced, or Redis does not answer, or by its options and the
// strategy the value is not to be kept.
func (c *Cache) EncodeReplacement(ctx context.Context, key Key, val Value, o *Options) ([]byte, error) {
	ch := Change{Key: key, Val: val}
	if c.validate(ctx, &ch); ch.done {
		return nil, c.Explain("encode replacement", ch.Err)
	}
	var err error
	if ch.life, ch.keep, err = c.lifetime(key, val, o, &noDirectives); err == nil {
		ch.tags, err = c.tagsOf(key, val, o, &noDirectives)
	}
	var r []byte
	if err == nil && ch.keep {
		r, err = c.backend.encodeReplacement(ctx, &ch)
	}
	return r, c.Explain("encode replacement", err)
}

// Replace puts a replacement of EncodeReplacement in the place of what it replaces. ok is false if
// that is not there any more, or the replacement is not one that this cache could read now: nothing
// has changed then.
func (c *Cache) Replace(ctx context.Context, encoded string, replacement []byte) (ok bool, err error) {
	if err = c.Usable(ctx); err == nil {
		start := local.Now()
		if ok, err = c.backend.replace(ctx, c.prefix+encoded, replacement); ok {
			c.stats.wrote(&c.stats.sets, err)
			c.stats.setHist.Record(since(start))
		}
	}
	return ok, c.Explain("replace", err)
}

func (c *remote) encodeReplacement(ctx context.Context, ch *Change) ([]byte, error) {
	seen, ok := c.replaceable(ctx, ch)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// Encoded in any case: whether a value is refused does not depend on what Redis holds.
	frm, err := c.encodeValue(frame.NewID(), ch.rk, ch.Val, ch.life, ch.now, ch.version, ch.tags, "", c.costOf(ch.rk, 0))
	if err != nil || !ok {
		return nil, err
	}
	var end int64
	if d := ch.life.physical(); d > 0 {
		end = ch.now + min(d.Microseconds(), math.MaxInt64-ch.now)
	}
	r := make([]byte, 0, replacementHead+len(frm))
	r = append(r, replacementVersion)
	r = binary.BigEndian.AppendUint64(r, uint64(end))
	r = append(r, seen.Token...)
	return append(r, frm...), nil
}

// replaceable reads what is to be replaced, and dates the change.
func (c *remote) replaceable(ctx context.Context, ch *Change) (seen store.CASToken, ok bool) {
	if c.queue != nil || c.policy.Write == strategy.ModeAround {
		return seen, false // what is queued is newer than the source; around the cache, values come from loads only
	}
	// Not as a read whose answer is to be trusted: the compare-and-set decides.
	reply := c.client.Do(ctx, []store.Command{{Op: store.GetHeader, Key: ch.rk}})[0]
	if reply.Err != nil || reply.Record.State != store.Found {
		return seen, false
	}
	seen = reply.Record.CASToken()
	h, err := frame.ReadHead(reply.Record.Raw)
	if err != nil || h.Kind != frame.Value && h.Kind != frame.Absence || h.Version > c.valueVersion {
		return seen, false
	}
	if ch.now, err = c.client.Now(ctx, ch.rk); err == nil {
		ch.version, err = c.version(ctx, ch.rk)
	}
	return seen, err == nil
}

func (c *remote) replace(ctx context.Context, rk string, r []byte) (bool, error) {
	if len(r) <= replacementHead || r[0] != replacementVersion {
		return false, nil
	}
	end, frm := int64(binary.BigEndian.Uint64(r[1:])), r[replacementHead:]
	f := c.decode(ctx, rk, store.Record{State: store.Found, Raw: frm}, nil)
	if f.status != usable || f.raw.Kind != frame.Value || !f.timed {
		return false, nil // over, of another version of the program, damaged, or of unknown age
	}
	now, err := c.client.Now(ctx, rk)
	if err != nil {
		return false, c.writeFailed(ctx, err)
	}
	ch := &Change{rk: rk, keep: true, dated: true, now: now, frame: frm}
	cmd := store.Command{Op: store.CompareAndSet, Key: rk, Frame: frm, Seen: store.CASToken{State: store.Found, Token: string(r[9:replacementHead])}}
	if end != 0 {
		if cmd.TTL = time.Duration(end-now) * time.Microsecond; cmd.TTL < time.Millisecond {
			return false, nil
		}
		cmd.TTL = cmd.TTL.Truncate(time.Millisecond)
	}
	c.beginSwap(ch)
	c.notify(ch, &cmd)
	reply := c.coherence.Send(ctx, []store.Command{cmd})[0]
	c.complete(ctx, ch, &cmd, reply.OK, reply.Err)
	return reply.OK && ch.Err == nil, ch.Err
}

// A LocalOnly cache has no entries that another process could replace.

func (c *localOnly) encodeReplacement(context.Context, *Change) ([]byte, error) { return nil, nil }

func (c *localOnly) replace(context.Context, string, []byte) (bool, error) { return false, nil }
