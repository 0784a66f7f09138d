package metrics

// Tier is where an answer came from.
type Tier uint8

const (
	None   Tier = iota // nowhere: there was no answer
	Local              // this process
	Remote             // Redis
	Source             // a load
)

// String is "none", "local", "remote" or "source".
func (t Tier) String() string { return name(t, "none", "local", "remote", "source") }

// Part is a part of a cache that has a [State].
type Part uint8

const (
	Breaker  Part = iota // of the circuit to Redis: Closed, HalfOpen or Open
	Listener             // for other processes' writes: Up or Down
)

// String is "breaker" or "listener".
func (p Part) String() string { return name(p, "breaker", "listener") }

// State is how a [Part] is doing.
type State uint8

const (
	Closed   State = iota // Redis is asked
	HalfOpen              // Redis is tried
	Open                  // Redis is left alone for a while
	Up                    // other processes' writes are heard
	Down                  // they are not, and the local tier is not trusted
)

// String is "closed", "half-open", "open", "up" or "down".
func (s State) String() string { return name(s, "closed", "half-open", "open", "up", "down") }

// MarshalText is String, so that a [Snapshot] in JSON names its state.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Outcome is how an operation ended.
type Outcome uint8

const (
	Succeeded Outcome = iota // also if the answer is that there is nothing
	Failed                   // with an error that is none of the following
	TimedOut                 // at a timeout of the cache or a deadline of the caller
	Canceled                 // because nobody waits for it any more
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
