package ctl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
)

// The outcomes of a read of a record.
const (
	hit  = "hit"
	old  = "stale" // a hit only where stale values are allowed, else a miss
	miss = "miss"
	wait = "wait" // a load is in flight, and readers wait for it
)

// The kinds of what a key holds.
const (
	kindNothing = "nothing"
	kindForeign = "foreign"
	kindNewer   = "newer"
	kindCorrupt = "corrupt"
)

var kindNames = map[frame.Kind]string{
	frame.Value: "value", frame.Absence: "absence", frame.Lease: "lease", frame.Failure: "failure", frame.Intent: "intent",
}

// record is a record of a cache, judged as a process of the fleet judges it.
type record struct {
	Kind    string   `json:"kind"`
	Read    string   `json:"read"`              // hit, stale, miss or wait
	Reasons []string `json:"reasons,omitempty"` // why it is no hit
	Notes   []string `json:"notes,omitempty"`
	Size    int      `json:"size"` // bytes

	TTLSecs   *float64 `json:"redis_ttl_seconds,omitempty"` // of the key in Redis; left out: none
	AgeSecs   *float64 `json:"age_seconds,omitempty"`
	FreshSecs *float64 `json:"fresh_seconds,omitempty"` // remaining; negative: since when it is over; left out: for ever
	StaleSecs *float64 `json:"stale_seconds,omitempty"` // remaining time as a stale value after that
	LoadSecs  *float64 `json:"load_seconds,omitempty"`  // how long the load took
	Version   *uint32  `json:"version,omitempty"`       // of cache.WithVersion
	Type      string   `json:"type,omitempty"`          // fingerprint of codec and type
	Tags      []text   `json:"tags,omitempty"`
	ETag      text     `json:"etag,omitempty"`
	Error     text     `json:"error,omitempty"` // of a failed load

	frame frame.Frame
	now   int64
	cause string // the first reason, in a word
}

// because adds a reason why the record is no hit. cause is the same in a word, for statistics.
func (r *record) because(outcome, cause, format string, args ...any) {
	r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...))
	if r.cause == "" {
		r.cause = cause
	}
	if r.Read != miss {
		r.Read = outcome
	}
}

func (r *record) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func seconds(d time.Duration) *float64 {
	s := math.Round(d.Seconds()*1000) / 1000
	return &s
}

// parseRecord judges what a key holds by itself, without the logical clock; now is the time of
// its node.
func parseRecord(key string, rec store.Record, now int64) *record {
	r := &record{Read: hit, Size: len(rec.Raw), now: now}
	switch rec.State {
	case store.Missing:
		r.Kind = kindNothing
		r.because(miss, kindNothing, "there is no record")
		return r
	case store.WrongType:
		r.Kind = kindForeign
		r.because(miss, kindForeign, "the key is no string, and so not of this library: a load replaces it")
		return r
	}
	var err error
	r.frame, err = frame.Parse(key, rec.Raw)
	f := &r.frame
	switch {
	case errors.Is(err, frame.ErrForeign):
		r.Kind = kindForeign
		r.because(miss, kindForeign, "the bytes are not of this library: a load replaces them")
		return r
	case errors.Is(err, frame.ErrNewer):
		r.Kind = kindNewer
		r.because(miss, kindNewer, "it is of a newer version of this library than this program's: programs with the same version read it")
		return r
	case err != nil:
		r.Kind = kindCorrupt
		r.because(miss, kindCorrupt, "its checksum is wrong: it was damaged, cut off, or moved here from another key")
		return r
	}
	r.Kind = kindNames[f.Kind]
	if f.Kind == frame.Lease || f.Kind == frame.Intent {
		r.readLease()
		return r
	}
	r.Version, r.Type = &f.Version, fmt.Sprintf("%016x", f.Type)
	age := micros(max(now-f.Stored, 0))
	r.AgeSecs = seconds(age)
	r.Tags, r.ETag = texts(f.Tags), text(f.ETag)
	if f.Kind == frame.Failure {
		r.readFailure()
		return r
	}
	if began, ok := f.Began(); ok && !f.Older() && began < f.Stored {
		r.LoadSecs = seconds(micros(f.Stored - began))
	}
	r.readLife(age)
	return r
}

func (r *record) readLease() {
	if r.frame.Kind == frame.Intent {
		r.because(wait, "write", "a write to the source is in flight: readers and other writers wait for it")
		return
	}
	r.because(wait, "load", "a load is in flight: readers wait for it")
	if since, second, ok := r.frame.Since(); ok {
		if r.AgeSecs = seconds(micros(max(r.now-since, 0))); second {
			r.note("it has replaced an older lease, whose load may still be in flight")
		}
	}
}

func (r *record) readFailure() {
	failed, ok := r.frame.Failed()
	if !ok {
		r.Kind = kindCorrupt
		r.because(miss, kindCorrupt, "it is a failure whose contents can't be read: of an encrypted cache, or damaged")
		return
	}
	r.Error = text(failed.Text)
	r.because(miss, "failure", "a load has failed: those that waited for it get its error")
	if r.frame.Fresh > 0 {
		if left := life(r.frame.Fresh) - micros(max(r.now-r.frame.Stored, 0)); left > 0 {
			r.FreshSecs = seconds(left)
			r.because(miss, "failure", "the source is not asked again for %s", span(left))
		}
	}
}

func life(us uint64) time.Duration { return micros(int64(min(us, math.MaxInt64))) }

// readLife judges a value or an absence by its times.
func (r *record) readLife(age time.Duration) {
	f := &r.frame
	if f.Stored > r.now+invalidation.ClocksApart {
		r.note("it was stored by a clock that is %s ahead of this server's: the server's clock was set back, or another server had it before", span(micros(f.Stored-r.now)))
	}
	fresh, kept := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	if f.Fresh > 0 {
		fresh = life(f.Fresh) - age
		kept = fresh + min(life(f.Stale), math.MaxInt64-max(fresh, 0))
		if fresh <= 0 {
			r.because(old, "at its end", "its life of %s ended %s", span(life(f.Fresh)), ago(-fresh))
		}
	}
	switch {
	case f.Limit <= 0:
		r.because(old, "invalidated by key", "it was invalidated, and may be used only as a stale value (invalidate.Lazy)")
		fresh = min(fresh, 0)
	case f.Limit != math.MaxInt64 && f.Limit <= r.now:
		left := -micros(r.now - f.Limit)
		r.because(miss, "invalidated by key", "it was invalidated with a delay (invalidate.Delayed) that ended %s", ago(-left))
		fresh, kept = min(fresh, left), min(kept, left)
	case f.Limit != math.MaxInt64:
		left := micros(f.Limit - r.now)
		r.note("it was invalidated with a delay (invalidate.Delayed), and is over in %s", span(left))
		fresh, kept = min(fresh, left), min(kept, left)
	}
	if fresh != math.MaxInt64 {
		r.FreshSecs = seconds(fresh)
	}
	if f.Stale > 0 && kept != math.MaxInt64 {
		r.StaleSecs = seconds(max(kept-max(fresh, 0), 0))
	}
	switch {
	case r.Read != old:
	case f.Kind == frame.Absence:
		r.because(miss, "stale", "an absence is not used as a stale one")
	case kept <= 0 && f.Stale > 0:
		r.because(miss, "stale", "the time in which it could be used as a stale value is over, too")
	case kept <= 0:
		r.because(miss, "stale", "it has no time in which it could be used as a stale value")
	case f.Stale == 0 && f.Fresh > 0:
		r.because(miss, "stale", "it has no time in which it could be used as a stale value")
	default:
		r.note("it is used as a stale value by processes with strategy.StaleWhileRevalidate or StaleIfError, for another %s", spanOrEver(kept))
	}
}

func spanOrEver(d time.Duration) string {
	if d == math.MaxInt64 {
		return "unlimited time"
	}
	return span(d)
}

// judge judges a value or an absence by the logical clock of its key: by Clear and tags.
func (r *record) judge(ctx context.Context, s *session, key string, l *clocks) error {
	f := &r.frame
	if r.Kind != "value" && r.Kind != "absence" {
		return nil
	}
	names, c := l.of(key)
	marks, err := s.tombstones(ctx, names, c, f.Tags)
	if err != nil {
		return err
	}
	began := int64(0)
	if at, ok := f.Began(); ok && f.Stored <= r.now+invalidation.ClocksApart {
		began = max(at, 0)
	}
	switch {
	case c.state == clockMissing:
		r.because(miss, "of a lost clock", "the cache's logical clock is missing (evicted, flushed, or lost with a server): the next use begins another one, to which no record of before belongs")
		return nil
	case c.state == clockDamaged:
		r.because(miss, "of a lost clock", "the cache's logical clock can't be read: the next use begins another one, to which no record of before belongs")
		return nil
	case f.Epoch != c.epoch.ID:
		r.because(miss, "of a lost clock", "it belongs to a logical clock that was lost (evicted, flushed, or lost with a server)")
		return nil
	case f.LogicalTime > c.epoch.Clock:
		r.because(miss, "of a lost clock", "it is later than the cache's logical clock, which has gone back: a server with older data took over")
	case len(f.Tags) > 0 && c.tagged && !c.hash:
		r.because(miss, "by a lost tag", "the invalidations of tags were lost, so that no record of before with tags is valid")
	case len(f.Tags) > 0 && f.LogicalTime < c.epoch.LowWatermark:
		r.because(miss, "by a lost tag", "it has tags, and was loaded before %s: older invalidations of tags are no longer known, since there were too many, or they were lost", at(c, c.epoch.LowWatermark))
	}
	r.apply(c, c.epoch.All, began, "before Clear", "Clear")
	for i, m := range marks {
		r.apply(c, m, began, "by tag", "invalidating the tag "+quote(f.Tags[i]))
	}
	return nil
}

// at is a logical time as people say it.
func at(c *clock, logicalTime int64) string {
	if d := c.since(logicalTime); d >= time.Second {
		return span(d) + " ago"
	}
	return "this moment"
}

func (r *record) apply(c *clock, m logicalclock.Tombstone, began int64, cause, what string) {
	e := c.judge(m, r.frame.LogicalTime, began)
	switch e.validity {
	case logicalclock.Invalid:
		r.because(miss, cause, "%s, %s, came after it was loaded", what, ago(c.since(e.at)))
	case logicalclock.Stale:
		if r.Kind == "absence" || r.frame.Stale == 0 && r.frame.Fresh > 0 {
			r.because(miss, cause, "%s, %s, made it stale (invalidate.Lazy), and it has no time in which it could be used as such", what, ago(c.since(e.at)))
		} else {
			r.because(old, cause, "%s, %s, made it stale (invalidate.Lazy)", what, ago(c.since(e.at)))
		}
	}
	if e.due > 0 {
		r.note("%s, with a delay (invalidate.Delayed), ends it in %s", what, span(micros(e.due-c.now)))
	}
}

// absenceReasons returns the texts of the errors that an absence stands for, if they can be read.
func absenceReasons(payload []byte) (list []string, ok bool) {
	for len(payload) > 0 {
		n, w := binary.Uvarint(payload)
		if w <= 0 || n > uint64(len(payload)-w) {
			return nil, false
		}
		list = append(list, string(payload[w:w+int(n)]))
		payload = payload[w+int(n):]
	}
	return list, true
}
