package metrics

// Tier is where a result came from.
type Tier uint8

const (
	None   Tier = iota // nowhere: there was no result
	Local              // this process
	Remote             // Redis
	Source             // a load
)

// String is "none", "local", "remote" or "source".
func (t Tier) String() string { return name(t, "none", "local", "remote", "source") }

// Part is a part of a cache that has a [State].
type Part uint8

const (
	Breaker  Part = iota // the circuit breaker: Closed, HalfOpen or Open
	Listener             // for other processes' writes: Up or Down
)

// String is "breaker" or "listener".
func (p Part) String() string { return name(p, "breaker", "listener") }

// State is how a [Part] is doing.
type State uint8

const (
	Closed   State = iota // operations are sent to Redis
	HalfOpen              // a probe is in flight
	Open                  // operations are refused until the next probe
	Up                    // notifications arrive
	Down                  // they do not, and the local tier is not used
)

// String is "closed", "half-open", "open", "up" or "down".
func (s State) String() string { return name(s, "closed", "half-open", "open", "up", "down") }

// MarshalText is String, so that a [Snapshot] in JSON names its state.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Outcome is how an operation ended.
type Outcome uint8

const (
	Succeeded Outcome = iota // also if there is no value
	Failed                   // with an error that is none of the following
	TimedOut                 // at a timeout of the cache or a deadline of the caller
	Canceled                 // because no caller waits for it any more
	Panicked                 // a load only
	Refused                  // it was not begun: the breaker is open, or the load limit reached
)

// String is "succeeded", "failed", "timed-out", "canceled", "panicked" or
// "refused".
func (o Outcome) String() string {
	return name(o, "succeeded", "failed", "timed-out", "canceled", "panicked", "refused")
}

func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return "unknown"
}
