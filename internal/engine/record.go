package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/delqhi/cache/metrics"
)

// life is the lifetime of a record.
type life struct {
	fresh time.Duration // 0: does not expire
	stale time.Duration // the stale window after it, in which a strategy may still use the value
	idle  time.Duration // how long the record is kept without being read; 0: for its whole life
}

// physical is the TTL of the Redis key; 0: it does not expire.
func (l life) physical() time.Duration {
	if l.fresh == 0 {
		return l.idle
	}
	if d := l.fresh + l.stale; l.idle == 0 || d < l.idle {
		return d
	}
	return l.idle
}

// timeLeft is the remaining fresh life of a record that is stored now.
func (l life) timeLeft() time.Duration {
	if l.fresh == 0 {
		return forever
	}
	return l.fresh
}

// lifetime decides how long val is kept, in order of precedence: by the load's
// directives, the call, the source, the strategy. Only a lifetime that the strategy
// chooses is spread by jitter. keep is false if the value is not to be kept at all.
func (c *Cache) lifetime(key Key, val Value, o *Options, w loadDirectives) (l life, keep bool, err error) {
	l.stale, l.idle = c.policy.StaleFor(), c.policy.Sliding
	switch {
	case w.skip:
		return l, false, nil
	case w.hasTTL:
		l.fresh = w.ttl
	case o.HasTTL:
		l.fresh = o.TTL
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
		return l, false, fmt.Errorf("%w: a life of %v is shorter than 1 ms, the shortest in Redis", errs.ErrInvalidOption, l.fresh)
	}
	if l.fresh > math.MaxInt64-l.stale {
		return l, false, fmt.Errorf("%w: a life of %v and a stale window of %v are too long together", errs.ErrInvalidOption, l.fresh, l.stale)
	}
	l.fresh = l.fresh.Truncate(time.Millisecond)
	return l, true, nil
}

// encodeValue encodes a value as a record. now is the time of the key's node in µs.
func (c *remote) encodeValue(rk string, val Value, l life, now int64, s stamp, tags []string, etag string, cost uint32) ([]byte, error) {
	h := c.header(frame.Value, l, now, s)
	h.Tags, h.ETag = tags, etag
	h.Cost = cost
	return c.seal(rk, val, &h)
}

// costOf is the cost of a value that took so long. The time that it is dated by may be ahead of
// the clock of the key's node: the value is not to count as one that began later than it did,
// or an invalidation that came after it would spare it.
func (c *remote) costOf(rk string, took time.Duration) uint32 {
	return frame.CostOf(max(took.Microseconds(), 0) + c.client.ClockError(rk))
}

// costOfOlder is the cost of a value that is stored now, by the clock of the key's node, and was
// derived from an older one: it began when that did.
func costOfOlder(old *frame.Header, now int64) uint32 {
	began, ok := old.Began()
	if !ok || old.Stored > now+invalidation.ClocksApart {
		return frame.OfOlder
	}
	return frame.CostOfOlder(now - began)
}

func (c *remote) seal(rk string, val Value, h *frame.Header) ([]byte, error) {
	// As large as the last one: the records of one cache are mostly of similar size.
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
		return nil, fmt.Errorf("%w: %d bytes encoded, and WithMaxValueSize allows %d", errs.ErrTooLarge, size, c.maxValue)
	}
	if buf, err = frame.Finish(buf, 0, rk); err == nil {
		c.recordSize.Store(int64(len(buf)))
	}
	return buf, err
}

// maxRecordSpace bounds the space reserved for a record before its size is known.
const maxRecordSpace = 16 << 10

// encodeKept encodes a value that replaces another one and inherits its deadline, its
// tags unless it has its own, and its version: it was derived from that value, and began
// when that did. With a version of its own it would survive an invalidation that the old
// value has not survived:
//
//  1. a value is read, with tag t
//  2. t is invalidated
//  3. the value is changed and stored; the value that it was derived from is invalid
func (c *remote) encodeKept(rk string, val Value, old *frame.Header, tags []string, now int64) ([]byte, error) {
	h := *old
	if h.Fresh > 0 {
		end := h.Stored + int64(min(h.Fresh, math.MaxInt64/2))
		h.Fresh = uint64(max(end-now, 1))
	}
	h.Stored, h.Cost = now, costOfOlder(old, now)
	h.ID, h.ETag = frame.NewID(), "" // the ETag was that of the old value
	if len(tags) > 0 {
		h.Tags = tags
	}
	return c.seal(rk, val, &h)
}

// encodeAbsence encodes the record that a value does not exist. Its payload names
// the errors of NotFoundTTL's list that the source's answer matched, by their
// texts: positions in the list may change from one program to the next.
func (c *remote) encodeAbsence(rk string, reasons []error, l life, now int64, s stamp, cost time.Duration) ([]byte, error) {
	h := c.header(frame.Absence, l, now, s)
	h.Cost = c.costOf(rk, cost)
	buf := c.signed(rk, frame.AppendHeader(make([]byte, 0, 192), &h))
	return frame.Finish(c.appendSealed(rk, buf, appendReasons(nil, reasons)), 0, rk)
}

// maxReason bounds how much of a failed load's error text is passed on, in bytes.
const maxReason = 1024

// encodeFailure encodes the record that the load of a lease or lock has failed. hold is how
// long the source is not to be asked again, in all processes; 0: only loads that are waiting
// take the failure as their own. replaces identifies the record that a lock's load was to
// replace. If values are sealed, the error's text, which may quote them, is not passed on.
func (c *remote) encodeFailure(key string, lease frame.ID, e failure, hold time.Duration, replaces string, now int64) ([]byte, error) {
	failed := frame.Failed{Lease: lease, NoStale: !allowsStaleValue(e.err), Cover: e.cover}
	if _, sealed := c.codec.(codec.KeyBound); !sealed {
		text := usercode.Text(e.err)
		failed.Text = strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
	}
	h := c.header(frame.Failure, life{fresh: hold}, now, e.stamp)
	h.ETag = replaces
	buf := c.signed(key, frame.AppendHeader(nil, &h))
	return frame.Finish(c.appendSealed(key, buf, failed.Append(nil)), 0, key)
}

func (c *remote) header(kind frame.Kind, l life, now int64, s stamp) frame.Header {
	return frame.Header{
		Kind: kind, ID: frame.NewID(), Limit: math.MaxInt64,
		Version: c.valueVersion, Type: c.fingerprint, Era: s.era, Stamp: s.time,
		Stored: now, Fresh: uint64(l.fresh.Microseconds()), Stale: uint64(l.stale.Microseconds()),
	}
}

// A holder is a codec that can tell whether the value in an interface survives a round trip.
type holder interface{ CheckHeld(v any) error }

// holds returns the codec if t is an interface type. A codec is given only the dynamic value,
// without the interface, and so can't tell by itself.
func holds(cd codec.Codec, t reflect.Type) holder {
	if h, ok := cd.(holder); ok && t.Kind() == reflect.Interface {
		return h
	}
	return nil
}

func (c *Cache) checkHeld(val Value) error {
	if c.held == nil {
		return nil
	}
	return c.held.CheckHeld(c.types.Elem(val))
}

// marshal encodes a value. A panic of the codec or of a method of the value is an error.
func (c *Cache) marshal(rk string, dst []byte, val Value) (out []byte, err error) {
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
		return kb.MarshalFor(rk, dst, c.types.Elem(val))
	}
	return c.codec.Marshal(dst, c.types.Elem(val))
}

func (c *Cache) unmarshal(rk string, data []byte) (val Value, err error) {
	val = c.types.NewValue()
	return val, c.unmarshalTo(val, rk, data)
}

// unmarshalTo is unmarshal into val, which is empty. A decoder that panics counts as one that
// returns an error.
func (c *Cache) unmarshalTo(val Value, rk string, data []byte) (err error) {
	defer usercode.Recover(&err)
	switch k := c.codec.(type) {
	case codec.KeyBound:
		return k.UnmarshalFor(rk, data, val)
	case interface{ UnmarshalOwned([]byte, any) error }:
		// The reply was read for this call alone, so the value may retain it.
		return k.UnmarshalOwned(data, val)
	}
	return c.codec.Unmarshal(data, val)
}

// status classifies, for this cache, what a key in Redis holds.
type status uint8

const (
	notFound     status = iota // no key
	usable                     // a fresh value or absence
	stale                      // a value past its fresh life, in its stale window
	expired                    // a record of this cache whose life is over
	leased                     // a load is in flight
	failed                     // a load has failed
	typeMismatch               // a record of another type, codec or older version
	newer                      // a record of a newer version, which this cache must not replace
	foreign                    // not a record of this library
	unavailable                // Redis could not be asked
	corrupt                    // a record of this library that is broken or can't be decoded
)

// decoded is a decoded record.
type decoded struct {
	status    status
	space     Value // what the value is decoded into; nil: a new one
	ans       result
	raw       frame.Header
	err       error         // unavailable: the reason; failed: the load's error
	lease     frame.ID      // failed: the lease of that load
	hold      time.Duration // failed: for how long the source is not to be asked
	covers    bool          // failed: that applies only to callers that have a stale value
	until     int64         // local time at which a tag or Clear ends it
	began     int64         // when the value began, by the clock of the node with the logical clock, µs; 0: not known
	before    int64         // how long ago that was, µs, where it is not known by that clock
	left      time.Duration // remaining fresh life, negative after it; forever if it does not expire
	retention time.Duration // the same including the stale window
	age       time.Duration
	size      int  // of the record
	timed     bool // left, retention and age are known
	pending   bool // expired: this process has replaced or invalidated it, and that is still pending
	gone      bool // expired, typeMismatch: for all programs that may read it
}

// intended reports whether a write of the key to the source is in flight.
func (f *decoded) intended() bool { return f.status == leased && f.raw.Kind == frame.Intent }

// stays reports whether a record that is not usable here stays until another one replaces it:
// it may be usable to processes with other strategies or versions, or a load may be in flight
// that is to replace it, and that began before the end of a delayed invalidation.
func (c *remote) stays(f *decoded) bool {
	switch f.status {
	case stale:
		return true
	case expired:
		return !f.gone || c.clock.AnyDelayed()
	case typeMismatch:
		return !f.gone
	}
	return false
}

// past returns how long ago the fresh life ended.
func (f *decoded) past() time.Duration { return max(-f.left, 0) }

// leftAfter returns the remaining fresh life after a further d.
func (f *decoded) leftAfter(d time.Duration) time.Duration {
	if f.left == forever {
		return forever
	}
	return f.left - d
}

const forever = time.Duration(math.MaxInt64)

// decode decodes a record that the read r has returned; r may be nil if the record is not to be
// used as an answer. It never fails: anything other than an
// intact, fresh record of this cache has a status other than usable.
func (c *remote) decode(ctx context.Context, rk string, rec store.Record, r *coherence.Reading) (f decoded) {
	c.decodeTo(&f, ctx, rk, rec, r)
	return f
}

// decodeTo is decode into f, which is empty.
func (c *remote) decodeTo(f *decoded, ctx context.Context, rk string, rec store.Record, r *coherence.Reading) {
	if c.parse(f, ctx, rk, rec); f.status == corrupt {
		c.stats.undecodable.Add(1)
	}
	if (f.status == usable || f.status == stale) && c.coherence.Outdated(ctx, r, rk, rec, f.raw.Tags) {
		f.status, f.pending = expired, true
	}
}

func (c *remote) parse(f *decoded, ctx context.Context, rk string, rec store.Record) {
	switch rec.State {
	case store.Missing:
		return
	case store.WrongType:
		f.status = foreign
		return
	}
	fr, err := frame.Parse(rk, rec.Raw)
	switch {
	case errors.Is(err, frame.ErrForeign):
		f.status = foreign
		return
	case errors.Is(err, frame.ErrNewer):
		f.status = newer
		return
	case err != nil:
		f.status = corrupt
		return
	case fr.Kind == frame.Lease || fr.Kind == frame.Intent:
		if f.status, f.raw = leased, fr.Header; !c.marked(rk, rec.Raw) {
			f.status = corrupt
		}
		return
	case fr.Version > c.valueVersion:
		if f.status = newer; !c.marked(rk, rec.Raw) {
			f.status = corrupt
		}
		return
	case fr.Version != c.valueVersion || fr.Type != c.fingerprint:
		f.status, f.raw, f.gone = typeMismatch, fr.Header, fr.Kind != frame.Value && fr.Kind != frame.Absence
		return
	}
	if !c.authentic(rk, rec.Raw, &fr) {
		f.status = corrupt
		return
	}
	if fr.Kind == frame.Failure {
		c.parseFailure(ctx, rk, &fr, f)
		return
	}
	f.raw, f.until, f.size = fr.Header, math.MaxInt64, len(rec.Raw)
	c.date(ctx, rk, f)
	// A lazily invalidated record is over, whatever the time is. Where the time is not known,
	// one that was invalidated with a delay is over as well: its key may outlast it; see stay.
	over := f.timed && f.left <= 0 || fr.Limit <= 0 || !f.timed && fr.Limit != math.MaxInt64
	if over && (!f.timed || f.retention <= 0 || fr.Kind == frame.Absence || c.policy.StaleFor() == 0) {
		f.status = expired
		return
	}
	f.ans.info = Info{Tier: metrics.Remote, Age: f.age, Tags: fr.Tags, Absent: fr.Kind == frame.Absence}
	if f.left != forever {
		f.ans.info.TTL = max(f.left, 0)
	}
	if fr.Kind == frame.Absence {
		reasons, ok := c.parseReasons(fr.Payload)
		if !ok {
			f.status = corrupt
			return
		}
		f.ans.absent = &absentError{cache: c.name, reasons: reasons}
		f.status = usable
		return
	}
	if f.ans.val = f.space; f.ans.val == nil {
		f.ans.val = c.types.NewValue()
	}
	if err := c.unmarshalRecord(f.ans.val, rk, rec.Raw, fr.Payload); err != nil {
		f.status = corrupt
		return
	}
	f.status = usable
	if over {
		f.status = stale
	}
}

func (c *remote) parseFailure(ctx context.Context, key string, fr *frame.Frame, f *decoded) {
	says, ok := fr.Failed()
	if !ok {
		f.status = corrupt
		return
	}
	f.raw = fr.Header
	f.status, f.lease, f.err, f.covers = failed, says.Lease, &peerLoadError{cache: c.name, text: says.Text}, says.Cover
	if says.NoStale {
		f.err = &noStaleError{f.err}
	}
	// If the clock has moved since, an invalidation may concern the key: then there is no hold.
	if fr.Fresh > 0 && !(stamp{fr.Era, fr.Stamp}).before(c.clock.Known()) {
		if c.date(ctx, key, f); f.timed {
			f.hold = max(f.left, 0)
		}
	}
}

// date computes how old the record is and how much of its life is left, by the clock
// of the node that holds it. If that time can't be had the record is still alive,
// since Redis kept it; it just is not put into the local tier.
func (c *remote) date(ctx context.Context, rk string, f *decoded) {
	h := &f.raw
	now, err := c.client.Now(ctx, rk)
	if err != nil {
		return
	}
	f.timed = true
	// A record from before a failover may be dated by another clock: its age can't be
	// negative, and it can't have more than its whole life left.
	f.age = max(time.Duration(now-h.Stored)*time.Microsecond, 0)
	if began, ok := h.Began(); ok && h.Stored <= now+invalidation.ClocksApart {
		if f.began = max(began, 0); !c.client.OneNode() {
			f.began, f.before = 0, now+c.client.ClockError(rk)-f.began
		}
	}
	f.left, f.retention = forever, forever
	if h.Fresh > 0 {
		f.left = microseconds(h.Fresh) - f.age
		f.retention = f.left + min(microseconds(h.Stale), math.MaxInt64-max(f.left, 0))
	}
	switch {
	case h.Limit <= 0:
		f.left = min(f.left, 0)
	case h.Limit != math.MaxInt64:
		left := time.Duration(min(c.invalidation.Limit(h.Limit, now)-now, math.MaxInt64/1000)) * time.Microsecond
		f.left, f.retention = min(f.left, left), min(f.retention, left)
	}
}

// freshness is the age and the lifetime of a value.
type freshness struct {
	age       time.Duration
	remaining time.Duration // of the fresh life; forever if it does not expire
	fresh     time.Duration // the whole fresh life, 0 if it does not expire
	cost      time.Duration // of loading the value, 0 if not known
	etag      string
	size      int   // of the record, 0 if there is none
	began     int64 // as in decoded
}

// aging returns the freshness of a record that is timed.
func (f *decoded) aging() freshness {
	cost := f.raw.Cost
	if f.raw.Older() { // then it is not the cost of a load
		cost = 0
	}
	return freshness{f.age, f.left, microseconds(f.raw.Fresh), time.Duration(cost) * time.Microsecond, f.raw.ETag, f.size, f.began}
}

func microseconds(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/1000)) * time.Microsecond
}

// localEntry makes the local tier's entry of a result. at is the local time
// before the value was requested or sent, so that the entry ends no later than
// the record does.
func (c *Cache) localEntry(ans *result, at int64, g freshness, s stamp) Held {
	e := Held{Head: &local.Head{Stored: at - int64(g.age), Deadline: math.MaxInt64, Expires: math.MaxInt64}, Value: ans.val}
	if g.remaining != forever {
		e.Expires = later(at, g.remaining)
	}
	e.Deadline = e.Expires
	idle := c.policy.Sliding
	switch {
	case idle == 0 || c.slidesLocally && ans.absent != nil:
	case c.slidesLocally:
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
			e.Deadline, e.Expires = math.MinInt64, math.MinInt64 // expired from the start: no read returns it
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
				e.Meta.Size += footprint(c.types.Elem(ans.val))
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

// staleUntil returns when a local entry that was stored or read at the local time at can no
// longer be served stale: without Redis, its idle time ends it as well.
func (c *Cache) staleUntil(expires, at int64) int64 {
	until := later(expires, c.policy.StaleFor())
	if c.slidesLocally {
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

// localInfo returns the Info of a local entry.
func localInfo(e Held, at int64) Info {
	info := Info{Tier: metrics.Local, Age: max(time.Duration(at-e.Stored), 0)}
	if e.Expires != math.MaxInt64 {
		info.TTL = time.Duration(e.Expires - at)
	}
	if e.Meta != nil {
		info.Absent, info.Tags = e.Meta.Absent, e.Meta.Tags
	}
	return info
}
