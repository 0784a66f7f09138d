package metrics

import (
	"context"
	"slices"
	"time"
)

// Recorder receives the events of a cache, from any number of goroutines at once. Embed
// [Discard] to implement only some of the methods; package metricstest checks an
// implementation.
//
// The methods are called on the path of the operation, so they should return soon. They must
// neither panic nor call the cache.
type Recorder interface {
	// StartLoad is called before a loader is called, on the same goroutine and with the context
	// that the loader would get. The loader gets the context that is returned, so that a span
	// started here is the parent of the loader's own spans; it must be derived from ctx, and
	// nil stands for ctx. The function that is returned is called once, from any goroutine,
	// when the loader has returned or panicked; nil stands for one that does nothing.
	StartLoad(ctx context.Context, load LoadEvent) (context.Context, func(LoadResult))

	// RemoteOperation is called when an operation on Redis has ended, or was refused by the
	// circuit breaker. ctx is that of one of the callers of the operation, and may have ended.
	RemoteOperation(ctx context.Context, op RemoteEvent)

	// StateChange is called when a part of the cache changes its state. It is not called for
	// the first state, Closed for a breaker and Down for a listener.
	// Changes of a listener are told in their order, a moment later; Close waits for them, for a
	// second at most.
	StateChange(change StateEvent)
}

// LoadEvent is one call of a loader.
type LoadEvent struct {
	Cache   string // the cache's name
	Keys    int    // how many keys it is for, at least 1
	Refresh bool   // no caller waits for it: ahead, behind a stale value, or by Refresh
}

// LoadResult is how a call of a loader ended.
type LoadResult struct {
	Duration time.Duration
	Outcome  Outcome // of the call; Succeeded also if its keys are not found
	Found    int     // keys with a value
	NotFound int     // keys without one; the rest of the keys failed
}

// RemoteEvent is one operation on Redis that has ended.
type RemoteEvent struct {
	Cache    string        // the cache's name
	Op       string        // what it did: one of a few lower-case words such as "get", fit for a label
	Keys     int           // how many keys it was for, at least 1
	Duration time.Duration // until the answer came, or was no longer waited for
	Outcome  Outcome

	// How it is sent. What callers ask for at the same time may be sent in one pipeline; this is
	// the part of the caller.
	Command  string // as go-redis sends it, such as "get", "mget" or "evalsha"; "" if there are several different ones, or none
	Script   string // the script that an "evalsha" runs, such as "compare_and_set", else ""
	Commands int    // how many commands; an MGET of many keys is one. 0 if that is not known

	Status string // the first word of the error that the server answered, such as "OOM", else ""
	Server RemoteServer
}

// RemoteServer is what the configuration of a client says of its servers. It is the same for all
// operations of a cache.
type RemoteServer struct {
	// Address is the host, or the path of a socket. Several hosts of a cluster or a ring are
	// sorted, and separated by commas, with their ports if those differ. It is "" where the client
	// has asked sentinels, and does not tell which.
	Address  string
	Port     int    // of all hosts; 0 if it is 6379, or is in Address
	Database string // its number
}

// StateEvent is a change of state.
type StateEvent struct {
	Cache string // the cache's name
	Part  Part
	State State // the new one
}

// Discard is the Recorder that does nothing, and the one to embed.
type Discard struct{}

var _ Recorder = Discard{}

// StartLoad returns ctx.
func (Discard) StartLoad(ctx context.Context, _ LoadEvent) (context.Context, func(LoadResult)) {
	return ctx, discardLoad
}

func discardLoad(LoadResult) {}

// RemoteOperation does nothing.
func (Discard) RemoteOperation(context.Context, RemoteEvent) {}

// StateChange does nothing.
func (Discard) StateChange(StateEvent) {}

// Fanout returns a Recorder that calls each of recorders, in their order, except that the ends
// of a load are reported in the opposite order, as spans nest. Each gets the context that the
// one before it returned. Nil ones are left out; without any the result is [Discard]. The
// result's methods never return nil.
func Fanout(recorders ...Recorder) Recorder {
	f := new(fanout)
	for _, r := range recorders {
		if r != nil && r != Recorder(Discard{}) {
			f.all = append(f.all, r)
		}
	}
	if len(f.all) == 0 {
		return Discard{}
	}
	return f
}

// fanout is used by its pointer, so that recorders can be compared.
type fanout struct{ all []Recorder }

func (f *fanout) StartLoad(ctx context.Context, load LoadEvent) (context.Context, func(LoadResult)) {
	ends := make([]func(LoadResult), 0, len(f.all))
	for _, r := range f.all {
		next, end := r.StartLoad(ctx, load)
		if next != nil {
			ctx = next
		}
		if end != nil {
			ends = append(ends, end)
		}
	}
	return ctx, func(res LoadResult) {
		for _, end := range slices.Backward(ends) {
			end(res)
		}
	}
}

func (f *fanout) RemoteOperation(ctx context.Context, op RemoteEvent) {
	for _, r := range f.all {
		r.RemoteOperation(ctx, op)
	}
}

func (f *fanout) StateChange(change StateEvent) {
	for _, r := range f.all {
		r.StateChange(change)
	}
}
