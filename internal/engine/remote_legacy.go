package engine

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/metrics"
)

// A cache with codec.Legacy reads what other programs have stored under its keys. Such a record
// has no id, no logical time, no tags and no date. What is known of it is how long its key has
// left, and with StoredFor when it was stored, at the earliest.
//
//   - It is read again and again, from Redis, and never filled into the local tier: its writer does
//     not notify of its changes.
//
//   - It is no record that a load may leave in its place until it fills. Such a fill compares the
//     record with what its load has seen, and two records of another program may be equal:
//
//     1. a load sees the record x, and asks the source, which answers y
//     2. the source changes; the other program stores the new value, which is x
//     3. the fill finds x, and replaces it by y
//
//     So the lease of the load takes its place, and whatever comes after replaces the lease.
//
//   - An Update, which does compare, compares all of its bytes: records of another program may agree
//     in their first ones. Where they agree in all, so does what the Update was made of.
type legacyCodec interface {
	Inner() codec.Codec
	DecodeLegacy(data []byte, v any) error
	StoredFor() time.Duration // 0: not known
	TagsBySource() bool
}

// mayBeLegacy reports whether a record is one of another program that is to be decoded.
func (c *remote) mayBeLegacy(rk string, rec store.Record) bool {
	return c.legacy != nil && rec.State == store.Found && frame.IsForeign(rec.Raw) && strings.HasPrefix(rk, c.prefix)
}

// tokenOf returns the token by which a record is replaced.
func (c *remote) tokenOf(rk string, rec store.Record) store.CASToken {
	if c.mayBeLegacy(rk, rec) {
		return rec.WholeToken()
	}
	return rec.CASToken()
}

// adoption is the answer to the question how long a record has left. at is a local time from before
// that was asked: what is computed by a time from after it takes the record for younger than it is
// by the time in between, and so, maybe, for one from after an invalidation that came before it.
type adoption struct {
	store.Reply
	at int64
}

// adoptCommand returns the command that reads how long a record has left. One whose lifetime says
// nothing of its age lives no longer than a value that is stored now.
func (c *remote) adoptCommand(rk string, rec store.Record) store.Command {
	cmd := store.Command{Op: store.Adopt, Key: rk, Seen: rec.WholeToken()}
	if c.legacy.StoredFor() == 0 {
		cmd.TTL = c.policy.Lifetime(0)
	}
	return cmd
}

// adoptAll is the first step of decoding n records, in one request for all of them: it returns a
// reply for each that may be one of another program, nil if there are fewer than two.
func (c *remote) adoptAll(ctx context.Context, n int, record func(i int) (rk string, reply *store.Reply)) (adopted map[int]*adoption) {
	if c.legacy == nil {
		return nil
	}
	var cmds []store.Command
	var of []int
	for i := range n {
		if rk, reply := record(i); reply.Err == nil && c.mayBeLegacy(rk, reply.Record) {
			cmds, of = append(cmds, c.adoptCommand(rk, reply.Record)), append(of, i)
		}
	}
	if len(cmds) < 2 {
		return nil
	}
	adopted = make(map[int]*adoption, len(cmds))
	at := local.Now()
	for j, reply := range c.client.Do(ctx, cmds) {
		adopted[of[j]] = &adoption{reply, at}
	}
	return adopted
}

// parseLegacy decodes a record of another program. What can't be decoded is foreign.
func (c *remote) parseLegacy(ctx context.Context, rk string, rec store.Record, f *decoded) {
	f.status = foreign
	adopted := f.adopted
	if adopted == nil {
		at := local.Now()
		adopted = &adoption{c.client.Do(ctx, []store.Command{c.adoptCommand(rk, rec)})[0], at}
	}
	now, err := c.client.Now(ctx, rk)
	switch {
	case adopted.Err != nil:
		f.status, f.err = unavailable, adopted.Err
		return
	case err != nil:
		f.status, f.err = unavailable, err
		return
	case !adopted.OK || adopted.Left == 0:
		return // something else has taken its place, or it is over
	}
	f.left, f.age = adopted.Left, forever
	if f.left < 0 {
		f.left = forever
	}
	if whole := c.legacy.StoredFor(); whole > 0 {
		if f.left > whole {
			return // it was stored in another way, so that its age is not known
		}
		f.age = whole - f.left
		// Its writer may have asked the source long before it stored the answer.
		f.before, f.beforeAt = (f.age+max(c.policy.HardTimeout, 0)).Microseconds()+c.client.ClockError(rk), adopted.at
		if c.client.OneNode() {
			f.began = f.beganBy(now)
		}
	}
	if f.ans.val = f.space; f.ans.val == nil {
		f.ans.val = c.types.NewValue()
	}
	if err := usercode.Call(func() error { return c.legacy.DecodeLegacy(rec.Raw, f.ans.val) }); err != nil {
		return
	}
	var tags []string
	if tags, f.tagsKnown, err = c.legacyTags(rk, f); err != nil {
		return
	}
	f.timed, f.legacy, f.retention, f.until, f.size = true, true, f.left, math.MaxInt64, len(rec.Raw)
	f.raw.Header = frame.Header{
		Kind: frame.Value, Limit: math.MaxInt64, Version: c.valueVersion, Type: c.fingerprint,
		Stored: now, Cost: frame.OfOlder, Tags: tags,
	}
	f.ans.info = Info{Tier: metrics.Remote, Age: f.age, Tags: tags}
	if f.left != forever {
		f.raw.Fresh, f.ans.info.TTL = uint64(f.left.Microseconds()), f.left
	}
	f.status = usable
}

// legacyTags returns the tags of a value of another program. ok is false if they are not known.
func (c *remote) legacyTags(rk string, f *decoded) (tags []string, ok bool, err error) {
	if !c.legacy.TagsBySource() {
		return nil, false, nil
	}
	if c.src.Tags == nil {
		return nil, true, nil
	}
	key := f.key
	if key == nil {
		if key, ok = c.types.DecodeKey(c.encoded(rk)); !ok {
			return nil, false, nil
		}
	}
	tags, err = c.tagsOf(key, f.ans.val, &Options{}, &noDirectives)
	return tags, err == nil, err
}

// validateLegacy is validateOne for a record of another program. The version that it was held
// against becomes its own: what is made of it is as good as it, and no better.
func (c *remote) validateLegacy(ctx context.Context, f *decoded) bool {
	c.findBegan(ctx, f)
	v, s := c.clockIn(f.part).ValidateForeign(f.began, f.raw.Tags, f.tagsKnown)
	if v == logicalclock.Unknown {
		return false
	}
	f.raw.Epoch, f.raw.LogicalTime = s.Epoch, s.Clock
	c.applyValidity(f, v, math.MaxInt64)
	return true
}

// dropReplaced removes the local entry of a key for which Redis holds a record of another program:
// whatever the entry is, that has replaced it.
func (c *remote) dropReplaced(key Key, rk string) {
	if _, ok := c.local.Get(key, local.Now()); ok {
		c.local.Remove(c.encoded(rk))
	}
}

// ReadsOthers reports whether a codec reads the records of other programs.
func ReadsOthers(cd codec.Codec) bool {
	_, ok := cd.(legacyCodec)
	return ok
}
