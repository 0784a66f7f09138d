package invalidate

import (
	"fmt"
	"time"

	"github.com/delqhi/cache/internal/errs"
)

// Policy is what becomes of an invalidated entry. The zero value is [Immediate].
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

// Delayed limits the rest of an entry's life to d, by Redis's own timer, so that the entry ends
// even if this process no longer runs by then. A life that ends earlier is not prolonged, and a
// value that is written meanwhile is not removed. d is in whole milliseconds, at least one, and
// at most 100 years: see [Policy.Validate].
//
// All processes of a cache use the same d. An entry that has more than a process's own d and a
// second left, since another process has a longer one, or since Redis's clock was set back, has
// expired for that process.
func Delayed(d time.Duration) Policy { return Policy{mode: ModeDelayed, delay: d} }

// Lazy removes nothing: the entry is stale, and the next read loads from the source.
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

// Transport is how a process receives what others write and invalidate. Transports are
// comparable with ==; the zero value is [NoTransport].
type Transport struct{ kind Kind }

// Kind is the kind of a [Transport].
type Kind uint8

// The kinds, each named for its constructor.
const (
	KindNone Kind = iota
	KindBroadcast
	KindTracking
	KindTrackingKeys
)

// Broadcast receives by Redis's publish/subscribe what other processes with this library write
// and invalidate. It takes one connection, on a cluster one to each master, and works everywhere. Changes of the keys by other
// programs are not received: local entries then live until they end.
func Broadcast() Transport { return Transport{KindBroadcast} }

// Tracking receives by Redis's own tracking of keys (CLIENT TRACKING in BCAST mode) also what
// other programs do, and expiry, eviction and FLUSHALL. It takes a connection to each master,
// RESP3, and the permission for CLIENT TRACKING; where one of these is missing, the process
// uses [Broadcast] instead and logs it. Redis reports each change of a key of the cache to each
// process with this transport: see [TrackingKeys].
func Tracking() Transport { return Transport{KindTracking} }

// TrackingKeys receives what [Tracking] does, of the keys that this process may hold: Redis
// remembers which keys a process has read (CLIENT TRACKING in its default mode), and reports a
// change to those that have read the key. What a write costs Redis does not grow with the processes
// that do not hold its key; in turn each process has another connection to each master, or several
// once it has much to do, up to the client's PoolSize, and Redis keeps about 100 bytes for each key and process, up to
// tracking-table-max-keys. Beyond that it reports keys as changed that are not, which costs reads.
//
// The commands of the cache go by these connections. They are dialed by the options of the client,
// OnConnect included, but its hooks and its Limiter do not see what is sent on them. It takes the
// permission for INFO besides. A redis.Ring, a client that a decorator wraps, and servers that do
// not say their run_id are tracked by [Tracking] instead. So is a cache once it keeps what Redis does
// not have: values of calls with cache.SkipRemote and those that strategy.BatchLoads did not ask
// for, what a program with an older cache.WithVersion loads, and cache.LocalValues.
func TrackingKeys() Transport { return Transport{KindTrackingKeys} }

// NoTransport receives nothing: writes of others are visible when local entries end. Without a
// local tier they are visible at once.
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
	case KindTrackingKeys:
		return "invalidate.TrackingKeys()"
	}
	return "invalidate.NoTransport()"
}
