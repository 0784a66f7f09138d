package store

import (
	"errors"
	"time"
)

// Subscription says what a Listen receives.
//
// Listen is one session: it subscribes, calls Subscribed, and passes on what it receives until
// ctx ends or something fails; then it returns the reason, always an error. Nothing of it is
// left, except for operations that a client can't be made to abandon: dialing, or a command
// that waits for its answer. Those end by the client's own timeouts, and Close waits for them.
// A caller that wants to keep receiving calls Listen again, after a pause.
//
// A session proves that it is connected. Every HeartbeatInterval it publishes a heartbeat,
// through the ordinary client (with ByKey, a connection that carries its commands) and through each
// master, in a way that only a master carries out, on a channel that has no other subscribers, and
// waits for it on its own connections. A round
// of heartbeats that has come back completely is reported by Heartbeat. If that takes longer
// than HeartbeatTimeout, the session ends with [ErrHeartbeatTimeout]: whatever kept the
// heartbeat from coming back, such as a frozen connection, a subscription to a server that is
// no longer a master, a broken link of a cluster or a client that can't publish, would also
// keep messages from arriving. Setting up the session may take as long as the client's dial
// timeout plus HeartbeatTimeout.
//
// With Tracking, the session has a connection of its own to each master, on which the server
// reports every key that begins with Prefix and was changed, by any client and for any reason.
// Where a server can't do this, Listen returns an error that matches [ErrNoTracking].
//
// With Tracking and ByKey, the server reports only keys that were read or stored through this Store
// since Subscribed: those that its process may hold. It forgets a key when it has reported it, so a
// reader that keeps a record asks again through this Store before it relies on that once more. What
// the Store had to send in a way that the server does not remember, it reports itself, afterwards.
// Where keys can't be tracked in this way, but by Prefix, Listen returns an error that matches
// [ErrNoKeyTracking].
//
// Messages need one connection to each node of a cluster that has some of the Slots, and one to each
// shard of a ring. Connections are dialed, and their users authenticated, by the options of the
// client, OnConnect included, but without its hooks.
//
// On a cluster, a message is published by the node that has the key that it is about, or the slot of
// the channel: by SPUBLISH if that is the same node, which no other node learns of, and otherwise by
// PUBLISH. A Listen has both on each of its nodes, so that no message has to come from another one. What
// another node has published while slots move to it arrives if the nodes reach each other; a change
// of the nodes that have the Slots ends the session.
//
// A change in the list of masters ends the session.
type Subscription struct {
	Channel           string
	Waiter            string // an id for AwaitLease, of WaiterLen bytes, whose own channel is received, too; "": none
	Tracking          bool
	ByKey             bool          // Tracking: only the keys that this process may hold
	Prefix            string        // of keys; Tracking
	Slots             SlotRange     // of the keys, on a cluster
	HeartbeatInterval time.Duration // between two rounds of heartbeats
	HeartbeatTimeout  time.Duration // how long a round may take
}

// Subscriber takes what a Listen receives. Calls may come from different goroutines, also from
// several at once, but those of one connection come in its order, and each call ends before the next
// of that connection. A Subscriber should not block for long: a Listen ends whose Subscriber does not
// return for about HeartbeatTimeout, and it returns when the Subscriber has.
type Subscriber interface {
	// Subscribed: from here on everything that is published or changed will be received. It is
	// called once, before any other method.
	Subscribed()
	// Message passes on a payload that was published on the channel: once, or several times if
	// it was published several times, as on a ring.
	Message(payload string)
	// KeysChanged reports keys that were changed, as full names; nil: any key may have been.
	// The Subscriber owns the slice. A key may be reported before or after the message of the
	// write that changed it.
	KeysChanged(keys []string)
	// Heartbeat: everything was received whose writer had its acknowledgement before sent, the
	// time at which the heartbeat was published.
	Heartbeat(sent time.Time)
}

// DirectSubscriber is a Subscriber that is told if messages can't be lost alone.
type DirectSubscriber interface {
	Subscriber
	// Direct: from Subscribed on, each message is received, or the session ends. It is called
	// once at most, after Subscribed. A server keeps that for the messages that it publishes
	// itself: it queues them for the connection, and closes a connection whose queue is too long.
	// Nodes of a cluster do not, for messages that they forward.
	Direct()
}

// CheckingSubscriber is a DirectSubscriber that finds out if that is not true.
type CheckingSubscriber interface {
	DirectSubscriber
	// Checks is called before Direct, with the function to call if a message was lost alone. The
	// session then ends, and later ones through the same client are not direct. The function does
	// not wait; after the end of the session it does nothing that matters.
	Checks(disprove func())
}

// WatchingSubscriber is a Subscriber that wants to know, every few seconds, whether some keys are
// still as they were. Sessions with several subscribers read the keys of all of them together,
// which costs less than that each reads its own.
type WatchingSubscriber interface {
	Subscriber
	// Watch returns the keys to be read now; nil: none.
	Watch() []string
	// Watched passes on what these keys hold, in their order. It is not called if they could not
	// be read.
	Watched(recs []Record)
}

var (
	// ErrHeartbeatTimeout: the heartbeat of a session did not come back in time.
	ErrHeartbeatTimeout = errors.New("store: the notification connection does not answer")

	// ErrNoTracking: the server does not know CLIENT TRACKING, or the user may not
	// use it.
	ErrNoTracking = errors.New("store: the server does not track keys for this user")

	// ErrOtherServer: connections to one address lead to several servers, as while another one takes
	// it over, or behind a proxy that distributes them. ByKey takes one server.
	ErrOtherServer = errors.New("store: another server answers")

	// ErrNoKeyTracking: keys can't be tracked one by one through this client, or for this user; all
	// keys of a prefix may be.
	ErrNoKeyTracking = errors.New("store: keys are not tracked one by one for this client")
)
