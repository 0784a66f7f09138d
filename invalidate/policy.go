package invalidate

import (
	"fmt"
	"time"

	"github.com/delqhi/cache/internal/errs"
)

// Policy is what an invalidated entry becomes. The zero value is [Immediate].
// Policies are comparable with ==.
type Policy struct {
	mode  Mode
	delay time.Duration
}

// Mode is the kind of a [Policy].
type Mode uint8

// The modes, each named for its constructor.
const (
	ModeImmediate Mode = iota
	ModeDelayed
	ModeLazy
)

// Immediate removes an entry at once.
func Immediate() Policy { return Policy{} }

// Delayed lets an entry live for d more, or for what is left of its life if that
// is less, by Redis's own timer, so that it happens even if this process is gone by
// then. A value that is written meanwhile is not removed. d is in whole milliseconds, at
// least one, and at most 100 years: see [Policy.Validate].
func Delayed(d time.Duration) Policy { return Policy{mode: ModeDelayed, delay: d} }

// Lazy removes nothing: the entry is stale, and the next reader has the source asked.
func Lazy() Policy { return Policy{mode: ModeLazy} }

// Mode returns the kind of the policy.
func (p Policy) Mode() Mode { return p.mode }

// Delay returns the time that [Delayed] was given, 0 for other policies.
func (p Policy) Delay() time.Duration { return p.delay }

// String is the policy as one would write it.
func (p Policy) String() string {
	switch p.mode {
	case ModeDelayed:
		return fmt.Sprintf("invalidate.Delayed(%v)", p.delay)
	case ModeLazy:
		return "invalidate.Lazy()"
	}
	return "invalidate.Immediate()"
}

// maxDelay is about 100 years: less than what the logical clock of tags and Clear can add
// to the time of day.
const maxDelay = 100 * 365 * 24 * time.Hour

// Validate returns nil, or for a delay that is not in whole milliseconds, at least one
// and at most 100 years of 365 days, an error that wraps cache.ErrInvalidOption.
// cache.New and [NewClient] call it.
func (p Policy) Validate() error {
	switch {
	case p.mode != ModeDelayed:
	case p.delay > maxDelay:
		return fmt.Errorf("%w: %v: the delay must be at most 100 years", errs.ErrInvalidOption, p)
	case p.delay < time.Millisecond || p.delay%time.Millisecond != 0:
		return fmt.Errorf("%w: %v: the delay must be in whole milliseconds, at least one; for none use invalidate.Immediate()", errs.ErrInvalidOption, p)
	}
	return nil
}

// Transport is how a process hears what others write and invalidate. Transports
// are comparable with ==; the zero value is [NoTransport].
type Transport struct{ kind Kind }

// Kind is the kind of a [Transport].
type Kind uint8

// The kinds, each named for its constructor.
const (
	KindNone Kind = iota
	KindBroadcast
	KindTracking
)

// Broadcast hears by Redis's publish/subscribe what other processes with this library
// write and invalidate. It takes one connection and works everywhere. What other
// programs do to the keys is not heard: local entries then live until they end.
func Broadcast() Transport { return Transport{KindBroadcast} }

// Tracking hears by Redis's own tracking of keys (CLIENT TRACKING in BCAST mode): also of
// what other programs do, and of expiry, eviction and FLUSHALL. It takes a connection to
// each master, RESP3, and the permission for CLIENT TRACKING; where that is not to be
// had, the process hears by [Broadcast] instead and logs it.
func Tracking() Transport { return Transport{KindTracking} }

// NoTransport hears nothing: what others write is seen when local entries end. Without a
// local tier it is seen at once.
func NoTransport() Transport { return Transport{} }

// Kind returns the kind of the transport.
func (t Transport) Kind() Kind { return t.kind }

// String is the transport as one would write it.
func (t Transport) String() string {
	switch t.kind {
	case KindBroadcast:
		return "invalidate.Broadcast()"
	case KindTracking:
		return "invalidate.Tracking()"
	}
	return "invalidate.NoTransport()"
}
