package store

import (
	"errors"
	"time"
)

// Subscription says what a Listen is to hear.
//
// Listen is one session: it subscribes, says Armed, and passes on what it hears
// until ctx ends or something is wrong; then it returns why, always with an error,
// and nothing of it is left, except for what a client can't be made to give up:
// dialing, or a command that waits for its answer. That ends by the client's own
// timeouts, and Close waits for it. Whoever wants to hear on calls Listen again, after
// a pause.
//
// A session proves that it hears. Every Pulse it publishes a message of its own,
// through the ordinary client and through each master, in a way that only a master
// carries out, on a channel that nobody
// else listens to, and waits for it on its own connections. A round that has come
// back entirely is passed on as Alive. If that takes longer than Dead, the session
// ends with [ErrHeartbeatTimeout]: whatever kept the heartbeat from coming back, a frozen
// connection, a subscription to what is no master any more, a cluster's broken link
// or a client that can't publish, would keep messages from coming too. To be set up it
// may take as long as the client may for dialing, and Dead.
//
// With Tracking, the session has a connection of its own to each master, on which
// the server tells of every key that begins with Prefix and was changed, by whomever
// and for whatever reason. Where a server can't do this, Listen returns an error that
// matches [ErrNoTracking].
//
// Messages need one connection in a cluster, which passes them on between its nodes,
// and one to each shard of a ring. Connections are dialed, and their users
// authenticated, by the options of the client, OnConnect included, but not by its
// hooks.
//
// A change in the list of masters ends the session.
type Subscription struct {
	Channel           string
	Tracking          bool
	Prefix            string        // of keys; Tracking
	HeartbeatInterval time.Duration // between two rounds
	HeartbeatTimeout  time.Duration // how long a round may take
}

// Subscriber takes what a Listen hears. Calls may come from several goroutines at once,
// but what one connection says comes in its order, and each call ends before the
// next of that connection. A Sink must not block.
type Subscriber interface {
	// Subscribed: from here on everything that is published or changed will be told. It
	// is called once, before anything else.
	Subscribed()
	// Message passes on what was published on the channel: once, or several times if
	// it was published several times, as on a ring.
	Message(payload string)
	// KeysChanged tells of keys that were changed, in full; nil: any key may have been.
	// The slice is the Sink's.
	// A key may be told before or after the message of the write that changed it.
	KeysChanged(keys []string)
	// Heartbeat: everything has been told whose writer had its acknowledgement before
	// sent, when the heartbeat was on its way out.
	Heartbeat(sent time.Time)
}

var (
	// ErrHeartbeatTimeout: the heartbeat of a session did not come back in time.
	ErrHeartbeatTimeout = errors.New("store: the notification connection does not answer")

	// ErrNoTracking: the server does not know CLIENT TRACKING, or the user may not
	// use it.
	ErrNoTracking = errors.New("store: the server does not track keys for this user")
)
