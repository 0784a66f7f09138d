package cache

import (
	"errors"
	"fmt"
	"time"

	"github.com/delqhi/cache/internal/engine"
)

// ReadOption changes one read: [SkipLocal], [SkipRemote], [AllowStale], [MaxAge], [Report],
// [With].
// Each is a LoadOption too.
type ReadOption interface {
	LoadOption
	readOption()
}

// WriteOption changes one write: [TTL], [KeepTTL], [Tags], [SkipRemote]. Each is a LoadOption
// too: it then applies to the value that the load stores.
type WriteOption interface {
	LoadOption
	writeOption()
}

// LoadOption changes one read that may load.
type LoadOption interface {
	applyCall(*callOptions)
}

// callOptions holds the options of one call.
type callOptions struct {
	engine.Options
	report *Info
	with   *perCall // of With; nil: none
	errs   []error
}

// noOptions are the options of a call without any.
var noOptions callOptions

// invalid returns the errors of all options, joined.
func (o *callOptions) invalid() error { return errors.Join(o.errs...) }

func (o *callOptions) mistake(format string, args ...any) {
	o.errs = append(o.errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalidOption}, args...)...))
}

// collect applies options of any kind; the last one of a kind wins.
func collect[O LoadOption](opts []O) (o callOptions, err error) {
	for _, opt := range opts {
		if any(opt) == nil {
			o.mistake("a call option is nil")
			continue
		}
		opt.applyCall(&o)
	}
	return o, o.invalid()
}

type skipLocal struct{}

func (skipLocal) readOption()              {}
func (skipLocal) applyCall(o *callOptions) { o.SkipLocal = true }

// SkipLocal makes a read bypass the local tier. The result still fills it. A LocalOnly
// cache then has no tier to read.
func SkipLocal() ReadOption { return skipLocal{} }

type allowStale struct{}

func (allowStale) readOption()              {}
func (allowStale) applyCall(o *callOptions) { o.AllowStale = true }

// AllowStale accepts a value whose fresh life is over, as long as a stale window of the
// strategy keeps it, without asking the source.
func AllowStale() ReadOption { return allowStale{} }

type maxAge time.Duration

func (maxAge) readOption() {}
func (d maxAge) applyCall(o *callOptions) {
	if d < 0 {
		o.mistake("MaxAge(%v) is negative: MaxAge(0) always loads", time.Duration(d))
	}
	o.MaxAge, o.HasMaxAge = time.Duration(d), true
}

// MaxAge accepts only a value stored at most d ago. MaxAge(0) always loads, and
// does not share a load that began earlier.
func MaxAge(d time.Duration) ReadOption { return maxAge(d) }

type report struct{ info *Info }

func (report) readOption() {}
func (r report) applyCall(o *callOptions) {
	if r.info == nil {
		o.mistake("Report needs an Info to fill in")
	}
	o.report = r.info
}

// Report fills in info with where the result came from, also when the read
// fails. It applies to one key: a batch refuses it.
func Report(info *Info) ReadOption { return report{info} }

type ttl time.Duration

func (ttl) writeOption() {}
func (d ttl) applyCall(o *callOptions) {
	if d > 0 && time.Duration(d) < time.Millisecond {
		o.mistake("TTL(%v) is shorter than 1 ms, the shortest life in Redis", time.Duration(d))
	}
	o.TTL, o.HasTTL = time.Duration(d), true
}

// TTL sets the lifetime of a value that this call stores to d, exactly: jitter spreads only
// lifetimes that the strategy chooses. Fractions of a millisecond are cut off. d ≤ 0
// means already over: nothing is stored and the old value is removed.
func TTL(d time.Duration) WriteOption { return ttl(d) }

type tags []string

func (tags) writeOption()               {}
func (t tags) applyCall(o *callOptions) { o.Tags = append([]string(nil), t...) }

// Tags stores the value with these tags, in addition to those of [Source].Tags and
// [Load.AddTags]; see [Cache.InvalidateTags].
func Tags(names ...string) WriteOption { return tags(names) }
