package engine

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/metrics"
)

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
	part      uint8 // of its key; see Cache.part
	ans       result
	raw       frame.Frame
	err       error         // unavailable: the reason; failed: the load's error
	lease     frame.ID      // failed: the lease of that load
	hold      time.Duration // failed: for how long the source is not to be asked
	covers    bool          // failed: that applies only to callers that have a stale value
	now       int64         // the time of the key's node when Redis had answered, µs; 0: not known
	until     int64         // local time at which a tag or Clear ends it
	began     int64         // when the value began, by the clock of the node with the logical clock, µs; 0: not known
	before    int64         // how long before beforeAt that was at the most, µs, where it is not known by that clock
	beforeAt  int64         // the local time from which before counts
	left      time.Duration // remaining fresh life, negative after it; forever if it does not expire
	retention time.Duration // the same including the stale window
	age       time.Duration
	size      int // of the record

	// Of a record of another program; see remote_legacy.go.
	legacy    bool
	key       Key       // its key, if that is at hand
	adopted   *adoption // how long it has left, if that was asked already
	tagsKnown bool

	timed   bool // left, retention and age are known
	pending bool // expired: this process has replaced or invalidated it, and that is still pending
	gone    bool // expired, typeMismatch: for all programs that may read it
}

// intended reports whether a write of the key to the source is in flight.
func (f *decoded) intended() bool { return f.status == leased && f.raw.Kind == frame.Intent }

// stays reports whether a record that is not usable here stays until another one replaces it:
// it may be usable to processes with other strategies or versions, or a load may be in flight
// that is to replace it, and that began before the end of a delayed invalidation.
func (c *remote) stays(f *decoded) bool {
	if f.legacy {
		return false
	}
	switch f.status {
	case stale:
		return true
	case expired:
		return !f.gone || c.clockIn(f.part).AnyDelayed()
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

// decode decodes a record that the read r has returned; r may be nil if the record is not to be
// used as an answer. It never fails: anything other than an
// intact, fresh record of this cache has a status other than usable.
func (c *remote) decode(ctx context.Context, rk string, rec store.Record, r *coherence.Reading) (f decoded) {
	c.decodeTo(&f, ctx, rk, rec, r)
	return f
}

// decodeTo is decode into f, which is empty.
func (c *remote) decodeTo(f *decoded, ctx context.Context, rk string, rec store.Record, r *coherence.Reading) {
	f.part = c.part(rk)
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
	fr := &f.raw
	err := fr.Parse(rk, rec.Raw)
	switch {
	case errors.Is(err, frame.ErrForeign):
		if f.status = foreign; c.mayBeLegacy(rk, rec) {
			c.parseLegacy(ctx, rk, rec, f)
		}
		return
	case errors.Is(err, frame.ErrNewer):
		f.status = newer
		return
	case err != nil:
		f.status = corrupt
		return
	case fr.Kind == frame.Lease || fr.Kind == frame.Intent:
		if f.status = leased; !c.marked(rk, rec.Raw) {
			f.status = corrupt
		}
		return
	case fr.Version > c.valueVersion:
		f.raw = frame.Frame{}
		if f.status = newer; !c.marked(rk, rec.Raw) {
			f.status = corrupt
		}
		return
	case fr.Version != c.valueVersion || fr.Type != c.fingerprint:
		f.status, f.gone = typeMismatch, fr.Kind != frame.Value && fr.Kind != frame.Absence
		return
	}
	if !c.authentic(rk, rec.Raw, fr) {
		f.status, f.raw = corrupt, frame.Frame{}
		return
	}
	if fr.Kind == frame.Failure {
		c.parseFailure(ctx, rk, fr, f)
		return
	}
	f.until, f.size = math.MaxInt64, len(rec.Raw)
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
	f.status, fr.Payload = usable, nil // not to be kept with the value
	if over {
		f.status = stale
	}
}

func (c *remote) parseFailure(ctx context.Context, key string, fr *frame.Frame, f *decoded) {
	says, ok := fr.Failed()
	if !ok {
		f.status, f.raw = corrupt, frame.Frame{}
		return
	}
	f.status, f.lease, f.err, f.covers = failed, says.Lease, &peerLoadError{cache: c.name, text: says.Text}, says.Cover
	if says.NoStale {
		f.err = &noStaleError{f.err}
	}
	// If the clock has moved since, an invalidation may concern the key: then there is no hold.
	if fr.Fresh > 0 && !(version{fr.Epoch, fr.LogicalTime, f.part}).before(c.clockIn(f.part).Known()) {
		if c.date(ctx, key, f); f.timed {
			f.hold = max(f.left, 0)
		}
	}
}

// date computes how old the record is and how much of its life is left, by the clock
// of the node that holds it. If that time can't be had the record is still alive,
// since Redis kept it; it just is not put into the local tier.
func (c *remote) date(ctx context.Context, rk string, f *decoded) {
	h, now := &f.raw, f.now
	if now == 0 {
		if !c.client.OneNode() {
			f.beforeAt = local.Now()
		}
		var err error
		if now, err = c.client.Now(ctx, rk); err != nil {
			return
		}
		f.now = now
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
