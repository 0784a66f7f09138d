package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/accord"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/metrics"
)

// life is how long a record is kept.
type life struct {
	fresh time.Duration // 0: without end
	stale time.Duration // the window after it, in which a strategy may still use it
	idle  time.Duration // how long it lives without being read, 0: as long as it lives
}

// physical is the lifetime of the Redis key, 0 without end.
func (l life) physical() time.Duration {
	if l.fresh == 0 {
		return l.idle
	}
	if d := l.fresh + l.stale; l.idle == 0 || d < l.idle {
		return d
	}
	return l.idle
}

// left is what lies before a record that begins its life now.
func (l life) left() time.Duration {
	if l.fresh == 0 {
		return forever
	}
	return l.fresh
}

// lifetime decides how long val is kept, strongest first: what the load asked
// for, the call, the source, the strategy. Only what the strategy chooses is
// spread by jitter. keep is false if the value is not to be kept at all.
func (c *Cache[K, V]) lifetime(key K, val V, o *callOptions, w wishes) (l life, keep bool, err error) {
	l.stale, l.idle = c.policy.StaleFor(), c.policy.Sliding
	switch {
	case w.skip:
		return l, false, nil
	case w.hasTTL:
		l.fresh = w.ttl
	case o.hasTTL:
		l.fresh = o.ttl
	default:
		if c.src.TTL != nil {
			if err := usercode.Do(func() { l.fresh = c.src.TTL(key, val) }); err != nil {
				return l, false, err
			}
		}
		if l.fresh == 0 {
			l.fresh = c.policy.Lifetime(c.rand())
			return l, true, nil
		}
	}
	if l.fresh <= 0 {
		return l, false, nil
	}
	if l.fresh < time.Millisecond {
		return l, false, fmt.Errorf("%w: a life of %v is shorter than 1 ms, the shortest in Redis", ErrInvalidOption, l.fresh)
	}
	if l.fresh > math.MaxInt64-l.stale {
		return l, false, fmt.Errorf("%w: a life of %v and a stale window of %v are too long together", ErrInvalidOption, l.fresh, l.stale)
	}
	l.fresh = l.fresh.Truncate(time.Millisecond)
	return l, true, nil
}

// encode makes the record of a value. now is the time of the key's node in µs.
func (c *Cache[K, V]) encode(rk string, val V, l life, now int64, s stamp, tags []string, etag string, cost uint32) ([]byte, error) {
	h := c.header(frame.Value, l, now, s)
	h.Tags, h.ETag = tags, etag
	h.Cost = cost
	return c.seal(rk, val, &h)
}

// costOfOlder is the cost of a value that is stored now, by the clock of the key's node, and was
// made of an older one: it began when that did.
func costOfOlder(old *frame.Header, now int64) uint32 {
	began, ok := old.Began()
	if !ok || old.Stored > now+accord.ClocksApart {
		return frame.OfOlder
	}
	return frame.CostOfOlder(now - began)
}

func (c *Cache[K, V]) seal(rk string, val V, h *frame.Header) ([]byte, error) {
	// As large as the last one was: records of one cache mostly are of about one size.
	buf := frame.AppendHeader(make([]byte, 0, min(max(int(c.recordSize.Load()), 256), maxRecordSpace)), h)
	c.signed(rk, buf)
	head := len(buf)
	buf, err := c.marshalRecord(rk, buf, val)
	if err == nil && len(buf) < head {
		err = errors.New("what it returns is shorter than what it was to append to")
	}
	if err != nil {
		return nil, fmt.Errorf("encode with %s: %w", c.codecName, err)
	}
	if size := len(buf) - head; size > c.maxValue {
		return nil, fmt.Errorf("%w: %d bytes encoded, and WithMaxValueSize allows %d", ErrTooLarge, size, c.maxValue)
	}
	if buf, err = frame.Finish(buf, 0, rk); err == nil {
		c.recordSize.Store(int64(len(buf)))
	}
	return buf, err
}

// maxRecordSpace bounds what is set aside for a record before it is known how large it is.
const maxRecordSpace = 16 << 10

// encodeKept makes the record of a value that takes the place of another and
// inherits its deadline, its tags unless it has its own, and its logical time: it was
// made of that value, and began when that did. With a stamp of its own it would outlive an
// invalidation that the other has not survived:
//
//  1. a value is read, with tag t
//  2. t is invalidated
//  3. the value is changed and stored; what it was made of is gone
func (c *Cache[K, V]) encodeKept(rk string, val V, old *frame.Header, tags []string, now int64) ([]byte, error) {
	h := *old
	if h.Fresh > 0 {
		end := h.Stored + int64(min(h.Fresh, math.MaxInt64/2))
		h.Fresh = uint64(max(end-now, 1))
	}
	h.Stored, h.Cost = now, costOfOlder(old, now)
	h.ID, h.ETag = frame.NewID(), "" // it is not what the tag was of any more
	if len(tags) > 0 {
		h.Tags = tags
	}
	return c.seal(rk, val, &h)
}

// encodeAbsence makes the record that there is no such thing. Its payload names
// the errors of NotFoundTTL's list that the source's answer matched, by their
// texts: places in the list may change from one program to the next.
func (c *Cache[K, V]) encodeAbsence(rk string, reasons []error, l life, now int64, s stamp, cost time.Duration) ([]byte, error) {
	h := c.header(frame.Absence, l, now, s)
	h.Cost = frame.CostOf(cost.Microseconds())
	buf := c.signed(rk, frame.AppendHeader(make([]byte, 0, 192), &h))
	return frame.Finish(c.appendSealed(rk, buf, appendReasons(nil, reasons)), 0, rk)
}

// maxReason bounds what is passed on of a failed load's error.
const maxReason = 1024

// encodeFailure makes the record that the load of a lease or lock has failed. hold is how
// long the source is not to be asked again, in all processes; 0: only those who wait take
// it for theirs. replaces is what a lock's load was to replace. Where values
// are sealed, what the error says, which may quote them, is not passed on.
func (c *Cache[K, V]) encodeFailure(key string, lease frame.ID, e failure, hold time.Duration, replaces string, now int64) ([]byte, error) {
	failed := frame.Failed{Lease: lease, NoStale: !coverable(e.err), Cover: e.cover}
	if _, sealed := c.codec.(codec.KeyBound); !sealed {
		text := usercode.Text(e.err)
		failed.Text = strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
	}
	h := c.header(frame.Failure, life{fresh: hold}, now, e.stamp)
	h.ETag = replaces
	buf := c.signed(key, frame.AppendHeader(nil, &h))
	return frame.Finish(c.appendSealed(key, buf, failed.Append(nil)), 0, key)
}

func (c *Cache[K, V]) header(kind frame.Kind, l life, now int64, s stamp) frame.Header {
	return frame.Header{
		Kind: kind, ID: frame.NewID(), Limit: math.MaxInt64,
		Version: c.version, Type: c.fingerprint, Era: s.era, Stamp: s.time,
		Stored: now, Fresh: uint64(l.fresh.Microseconds()), Stale: uint64(l.stale.Microseconds()),
	}
}

// A holder is a codec that can say whether what an interface holds comes back.
type holder interface{ CheckHeld(v any) error }

// holds returns the codec if the values of a type are held by an interface. A codec sees such
// a value without it, and can't tell.
func holds(cd codec.Codec, t reflect.Type) holder {
	if h, ok := cd.(holder); ok && t.Kind() == reflect.Interface {
		return h
	}
	return nil
}

func (c *Cache[K, V]) checkHeld(val V) error {
	if c.held == nil {
		return nil
	}
	return c.held.CheckHeld(val)
}

// marshal encodes a value. What the codec or a method of the value does wrong is an error.
func (c *Cache[K, V]) marshal(rk string, dst []byte, val V) (out []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			out, err = dst, usercode.Panic(v)
		}
		err = usercode.Checked(err)
	}()
	if err := c.checkHeld(val); err != nil {
		return dst, err
	}
	if kb, ok := c.codec.(codec.KeyBound); ok {
		return kb.MarshalFor(rk, dst, val)
	}
	return c.codec.Marshal(dst, val)
}

func (c *Cache[K, V]) unmarshal(rk string, data []byte) (val V, err error) {
	err = c.unmarshalTo(&val, rk, data)
	return val, err
}

// unmarshalTo is unmarshal into val, which is empty. A decoder that panics can't read the
// record, like one that returns an error.
func (c *Cache[K, V]) unmarshalTo(val *V, rk string, data []byte) (err error) {
	defer usercode.Recover(&err)
	switch k := c.codec.(type) {
	case codec.KeyBound:
		return k.UnmarshalFor(rk, data, val)
	case interface{ UnmarshalOwned([]byte, any) error }:
		// The reply was read for this call alone: the value may keep it.
		return k.UnmarshalOwned(data, val)
	}
	return c.codec.Unmarshal(data, val)
}

// outcome says what a key in Redis holds for this cache.
type outcome uint8

const (
	nothing outcome = iota // no key
	usable                 // a value or an absence, in its life
	stale                  // a value past its life, in its stale window
	expired                // ours, but over
	leased                 // someone is loading
	failed                 // someone's load has failed
	other                  // of another type, codec or older version
	newer                  // of a newer version: not ours to replace
	foreign                // not a record of this library
	unasked                // Redis could not be asked
	damaged                // a record of this library that is broken or can't be decoded
)

// found is a decoded record.
type found[V any] struct {
	outcome outcome
	ans     answer[V]
	raw     frame.Header
	err     error         // unasked: why; failed: what the load said
	lease   frame.ID      // failed: whose load
	hold    time.Duration // failed: for how long the source is not to be asked
	covers  bool          // failed: that concerns only those who have a stale value
	until   int64         // local time at which a tag or Clear ends it
	began   int64         // when the value began, by the clock of the node that has the logical one, µs; 0: not known
	before  int64         // how long ago that was, µs, where it is not known by that clock
	left    time.Duration // of its fresh life, negative after it; forever without end
	keep    time.Duration // what is left with its stale window
	age     time.Duration
	size    int  // of the record
	timed   bool // left, keep and age are known
	pending bool // expired: this process has replaced or invalidated it, and Redis does not know yet
	gone    bool // expired, other: to all who may read it
}

// intended reports whether somebody is writing the key to the source.
func (f *found[V]) intended() bool { return f.outcome == leased && f.raw.Kind == frame.Intent }

// stays reports whether what is not usable here stays until something takes its place: it may
// be of use to others, whose strategies or versions are not the same, or a load may be under
// way that is to replace it, and that began before its end was over.
func (c *Cache[K, V]) stays(f *found[V]) bool {
	switch f.outcome {
	case stale:
		return true
	case expired:
		return !f.gone || c.ages.AnyDelayed()
	case other:
		return !f.gone
	}
	return false
}

// past is how long ago the fresh life ended.
func (f *found[V]) past() time.Duration { return max(-f.left, 0) }

// leftAfter is what is left of the fresh life some time later.
func (f *found[V]) leftAfter(d time.Duration) time.Duration {
	if f.left == forever {
		return forever
	}
	return f.left - d
}

const forever = time.Duration(math.MaxInt64)

// decode reads a record. It never fails: whatever is not a whole, living record
// of this cache is an outcome other than usable.
func (c *Cache[K, V]) decode(ctx context.Context, rk string, rec remote.Record) (f found[V]) {
	c.decodeTo(&f, ctx, rk, rec)
	return f
}

// decodeTo is decode into f, which is empty.
func (c *Cache[K, V]) decodeTo(f *found[V], ctx context.Context, rk string, rec remote.Record) {
	if c.parse(f, ctx, rk, rec); f.outcome == damaged {
		c.stats.undecodable.Add(1)
	}
	if (f.outcome == usable || f.outcome == stale) && c.accord != nil && c.accord.Outdated(ctx, rk, rec, f.raw.Tags) {
		f.outcome, f.pending = expired, true
	}
}

func (c *Cache[K, V]) parse(f *found[V], ctx context.Context, rk string, rec remote.Record) {
	switch rec.State {
	case remote.Missing:
		return
	case remote.WrongType:
		f.outcome = foreign
		return
	}
	fr, err := frame.Parse(rk, rec.Raw)
	switch {
	case errors.Is(err, frame.ErrForeign):
		f.outcome = foreign
		return
	case errors.Is(err, frame.ErrNewer):
		f.outcome = newer
		return
	case err != nil:
		f.outcome = damaged
		return
	case fr.Kind == frame.Lease || fr.Kind == frame.Intent:
		if f.outcome, f.raw = leased, fr.Header; !c.marked(rk, rec.Raw) {
			f.outcome = damaged
		}
		return
	case fr.Version > c.version:
		if f.outcome = newer; !c.marked(rk, rec.Raw) {
			f.outcome = damaged
		}
		return
	case fr.Version != c.version || fr.Type != c.fingerprint:
		f.outcome, f.raw, f.gone = other, fr.Header, fr.Kind != frame.Value && fr.Kind != frame.Absence
		return
	}
	if !c.authentic(rk, rec.Raw, &fr) {
		f.outcome = damaged
		return
	}
	if fr.Kind == frame.Failure {
		c.parseFailure(ctx, rk, &fr, f)
		return
	}
	f.raw, f.until, f.size = fr.Header, math.MaxInt64, len(rec.Raw)
	c.date(ctx, rk, f)
	// What was revoked lazily is over, whatever the time is. Where the time is not known, what
	// was revoked with a delay is: its key may outlast it; see stay.
	over := f.timed && f.left <= 0 || fr.Limit <= 0 || !f.timed && fr.Limit != math.MaxInt64
	if over && (!f.timed || f.keep <= 0 || fr.Kind == frame.Absence || c.policy.StaleFor() == 0) {
		f.outcome = expired
		return
	}
	f.ans.info = Info{Tier: metrics.Remote, Age: f.age, Tags: fr.Tags, Absent: fr.Kind == frame.Absence}
	if f.left != forever {
		f.ans.info.TTL = max(f.left, 0)
	}
	if fr.Kind == frame.Absence {
		reasons, ok := c.parseReasons(fr.Payload)
		if !ok {
			f.outcome = damaged
			return
		}
		f.ans.absent = &absentError{cache: c.name, reasons: reasons}
		f.outcome = usable
		return
	}
	if err := c.unmarshalRecord(&f.ans.val, rk, rec.Raw, fr.Payload); err != nil {
		f.outcome = damaged
		return
	}
	f.outcome = usable
	if over {
		f.outcome = stale
	}
}

func (c *Cache[K, V]) parseFailure(ctx context.Context, key string, fr *frame.Frame, f *found[V]) {
	says, ok := fr.Failed()
	if !ok {
		f.outcome = damaged
		return
	}
	f.raw = fr.Header
	f.outcome, f.lease, f.err, f.covers = failed, says.Lease, &elsewhereError{cache: c.name, text: says.Text}, says.Cover
	if says.NoStale {
		f.err = &uncoverableError{f.err}
	}
	// What was invalidated since is not known to be of no concern to it.
	if fr.Fresh > 0 && !(stamp{fr.Era, fr.Stamp}).before(c.ages.Known()) {
		if c.date(ctx, key, f); f.timed {
			f.hold = max(f.left, 0)
		}
	}
}

// date works out how old the record is and what is left of its life, in the time
// of the node that holds it. Where that can't be had the record still is alive,
// since Redis kept it; it just is not taken into the local tier.
func (c *Cache[K, V]) date(ctx context.Context, rk string, f *found[V]) {
	h := &f.raw
	now, err := c.remote.Now(ctx, rk)
	if err != nil {
		return
	}
	f.timed = true
	// A record from before a failover may be dated by another clock: it can't be
	// younger than nothing, and can't have more than its whole life before it.
	f.age = max(time.Duration(now-h.Stored)*time.Microsecond, 0)
	if began, ok := h.Began(); ok && h.Stored <= now+accord.ClocksApart {
		if f.began = max(began, 0); !c.remote.OneNode() {
			f.began, f.before = 0, now-f.began
		}
	}
	f.left, f.keep = forever, forever
	if h.Fresh > 0 {
		f.left = microseconds(h.Fresh) - f.age
		f.keep = f.left + min(microseconds(h.Stale), math.MaxInt64-max(f.left, 0))
	}
	switch {
	case h.Limit <= 0:
		f.left = min(f.left, 0)
	case h.Limit != math.MaxInt64:
		left := time.Duration(min(h.Limit-now, math.MaxInt64/1000)) * time.Microsecond
		f.left, f.keep = min(f.left, left), min(f.keep, left)
	}
}

// aging is how old something is, and how long it lives.
type aging struct {
	age   time.Duration
	left  time.Duration // of its fresh life; forever without end
	fresh time.Duration // the whole of it, 0 without end
	cost  time.Duration // of loading it, 0 if not known
	etag  string
	size  int   // of the record, 0 if there is none
	began int64 // as in found
}

// aging is that of a record that is timed.
func (f *found[V]) aging() aging {
	cost := f.raw.Cost
	if f.raw.Older() { // of nothing that a load would cost
		cost = 0
	}
	return aging{f.age, f.left, microseconds(f.raw.Fresh), time.Duration(cost) * time.Microsecond, f.raw.ETag, f.size, f.began}
}

func microseconds(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/1000)) * time.Microsecond
}

// localEntry makes the local tier's entry of an answer. at is the local time
// before the value was asked for or sent, so that the entry ends no later than
// the record does.
func (c *Cache[K, V]) localEntry(ans *answer[V], at int64, g aging, s stamp) *local.Entry[V] {
	e := &local.Entry[V]{Value: ans.val, Stored: at - int64(g.age), Deadline: math.MaxInt64, Expires: math.MaxInt64}
	if g.left != forever {
		e.Expires = later(at, g.left)
	}
	e.Deadline = e.Expires
	idle := c.policy.Sliding
	switch {
	case idle == 0 || c.remote == nil && ans.absent != nil:
	case c.remote == nil:
		e.Deadline = min(e.Deadline, later(at, idle))
	default:
		e.Deadline = min(e.Deadline, later(at, idle/touches)) // see touch
	}
	if limit := c.localTTL; limit > 0 {
		e.Deadline = min(e.Deadline, later(at, c.policy.Spread(limit, c.rand())))
	}
	if c.clone != nil && ans.absent == nil {
		var err error
		if e.Value, err = c.clone(ans.val); err != nil {
			e.Deadline, e.Expires = math.MinInt64, math.MinInt64 // nobody gets it
		}
	}
	window := c.policy.StaleFor()
	if ans.absent != nil || len(ans.info.Tags) > 0 || window > 0 || c.refreshesAhead() || g.etag != "" || c.policy.LocalBytes > 0 {
		e.Meta = &local.Meta{Tags: ans.info.Tags, ETag: g.etag, Era: s.era, Stamp: s.time, Began: g.began, Stale: e.Expires}
		if window > 0 && e.Expires != math.MaxInt64 {
			e.Meta.Stale = c.staleUntil(e.Expires, at)
		}
		if c.policy.LocalBytes > 0 {
			if e.Meta.Size = int64(g.size) + entryOverhead; g.size == 0 {
				e.Meta.Size += footprint(ans.val)
			}
		}
		if ans.absent == nil && c.refreshesAhead() {
			e.Meta.Fresh, e.Meta.Cost = g.fresh, g.cost
		}
		if ans.absent != nil {
			e.Meta.Absent = true
			e.Meta.Reasons = ans.absent.texts()
		}
	}
	return e
}

// staleUntil is when a local entry is of no use any more as a stale one, that was stored or
// read at a time: without Redis, its idle time ends it as well.
func (c *Cache[K, V]) staleUntil(expires, at int64) int64 {
	until := later(expires, c.policy.StaleFor())
	if c.remote == nil && c.policy.Sliding > 0 {
		until = min(until, later(at, c.policy.Sliding))
	}
	return until
}

// later adds a positive d without overflow.
func later(at int64, d time.Duration) int64 {
	if at > 0 && int64(d) > math.MaxInt64-at {
		return math.MaxInt64
	}
	return at + int64(d)
}

// localInfo is what is known of a local entry.
func localInfo[V any](e *local.Entry[V], at int64) Info {
	info := Info{Tier: metrics.Local, Age: max(time.Duration(at-e.Stored), 0)}
	if e.Expires != math.MaxInt64 {
		info.TTL = time.Duration(e.Expires - at)
	}
	if e.Meta != nil {
		info.Absent, info.Tags = e.Meta.Absent, e.Meta.Tags
	}
	return info
}
