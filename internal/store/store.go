// Package store is the contract with Redis: what a cache asks of it, as commands on keys
// and bytes, and the names of everything that a cache has there.
//
// It knows nothing of values, codecs or strategies. A [Store] carries out a [Command] each.
// Package redisstore is the one on Redis; package storetest gives the same answers without a
// server, and a differential test keeps both alike. Package client stands in front of a Store.
//
// Two commands carry the coherence of the cache. SetNX stores only into absence and returns
// what was there instead. CompareAndSet stores only over exactly the record that its caller
// has seen. A fill uses one of them, so that a plain SET or DEL of any program in between,
// redis-cli included, makes it lose.
package store

import (
	"bytes"
	"context"
	"github.com/delqhi/cache/internal/logicalclock"
	"time"
)

// TokenLen is the number of leading bytes that tell one record from another: a
// record of ours carries a unique id in them. It equals frame.TokenLen.
const TokenLen = 24

// KeepTTL as a Command's TTL leaves the remaining lifetime of the key as it is.
const KeepTTL time.Duration = -1

// State says what a key holds.
type State uint8

const (
	Missing   State = iota // nothing
	Found                  // a string, ours or not
	WrongType              // a list, a hash, …: nothing that we can have written
)

// Record is what a key held when Redis looked.
type Record struct {
	State State
	// Raw is the whole string. It is shared and must not be modified.
	Raw []byte
}

// Seen returns the evidence of this record for a later compare-and-set. It
// copies: the evidence does not keep the record alive.
func (r Record) Seen() CASToken {
	s := CASToken{State: r.State}
	if r.State == Found {
		s.Token = string(r.Raw[:min(TokenLen, len(r.Raw))])
	}
	return s
}

// CASToken is what a caller of Swap, Release or Extend has seen. Two foreign strings
// that agree in their first TokenLen bytes are taken for the same one: neither is
// a value of this cache, and replacing either is right.
type CASToken struct {
	State State
	Token string
}

// TokenOf is the evidence of a record that the caller wrote itself.
func TokenOf(raw []byte) CASToken {
	return Record{State: Found, Raw: raw}.Seen()
}

// match reports whether rec still is what was seen.
func (s CASToken) Match(rec Record) bool {
	if s.State != rec.State {
		return false
	}
	if s.State != Found {
		return true
	}
	if len(s.Token) < TokenLen {
		return string(rec.Raw) == s.Token
	}
	return bytes.HasPrefix(rec.Raw, []byte(s.Token))
}

// Op is what a Command does.
type Op uint8

const (
	// Get reads. Reply: Record. Among other commands, and through a Client among those
	// of other callers, it answers Missing for a key of another type, and for an
	// empty string: whether it was sent as a part of an MGET, whose answer does not tell,
	// must not show. An Add does tell.
	Get Op = iota
	// Set stores, whatever was there, of whatever type. Reply: OK.
	Set
	// SetNX stores into absence only. Reply: OK if it stored, else what was there
	// in Record. If it is executed twice, as something between here and Redis may
	// have it, the second time recognises its own record and answers OK.
	SetNX
	// CompareAndSet stores over exactly what was seen; over Missing it is Add without
	// the answer what was there. Reply: OK if it stored. A second execution
	// recognises its own record too.
	CompareAndSet
	// Delete removes. Reply: OK, whether or not there was anything.
	Delete
	// CompareAndDelete removes exactly what was seen. Reply: OK if it removed. It leaves
	// nothing to recognise: a second execution answers that it did not.
	CompareAndDelete
	// Extend gives exactly what was seen the lifetime TTL from now. Reply: OK if it did.
	Extend
	// GetHeader reads the first HeadLen bytes. Reply: Record. It can't tell an empty
	// string from nothing, and answers Missing for both.
	GetHeader
	// PatchHeader puts Frame, which has SealLen bytes, in the place of the first SealLen
	// bytes of exactly what was seen, which must be a string of at least as many,
	// and leaves the rest. A positive TTL shortens what is left of the key's life to
	// that, if it is more; 0 leaves it. Reply: OK if it did. A second execution
	// recognises its own seal.
	PatchHeader
)

var opNames = [...]string{Get: "get", Set: "set", SetNX: "add", CompareAndSet: "swap", Delete: "delete", CompareAndDelete: "release", Extend: "extend", GetHeader: "head", PatchHeader: "reseal"}

// SealLen and HeadLen are lengths of parts of a record that stand at its
// beginning: what Reseal replaces, and what Head reads. They equal those of package
// frame.
const (
	SealLen = 36
	HeadLen = 100
)

func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "unknown"
}

// Command is one operation on one key.
type Command struct {
	Op     Op
	Key    string
	Frame  []byte        // Set, Add, Swap, Reseal: the bytes to store; not modified, not kept after the reply
	TTL    time.Duration // Set, Add, Swap, Extend, Reseal: in whole milliseconds, at least one; 0 = no end; KeepTTL with Swap
	Seen   CASToken      // Swap, Release, Extend, Reseal
	Notify Notify        // what the node of the key publishes when the command has taken effect

	// Most: Get only; not 0: of a record of more bytes than this nothing is returned, but
	// that it is there; see Reply.Cut. It answers Missing for an empty string.
	Most int

	// Shared: Get only; the bytes are looked at and not kept, so that several callers may
	// be given the same.
	Shared bool

	// With: Set and Delete only; so many commands behind this one in the call, of the same
	// kind and without a Tell of their own, go with it: the node carries out all of them,
	// or refuses all, and publishes Tell if any has taken effect. A command of them that
	// fails alone is told of as well. Only where there is one node; see Client.OneNode.
	With int

	ByScript bool // Add, Swap: the server does not know SET with NX and GET
	Apart    bool // Set, Delete: it goes by itself
}

// Notify is a message for whoever listens to a channel. The node that carries out the
// command publishes it, after the effect, never before and through no other node, so
// that it can't overtake the effect on its way to a reader of the same key. What is refused
// is not told: after a Set or Delete it is published unless the command fails; after Add,
// Swap, Release, Extend and Reseal only if they answer OK (the message of a command that is
// executed twice may be published twice). If it can't be published, the Reply has an Err
// although the effect is there. With Get and Head it means nothing. For one message for many
// commands see [Command].With.
type Notify struct {
	Channel string // "": tell nobody
	Message string
}

// millis is a lifetime as Redis takes it. One of less than a millisecond must not
// become 0, which stands for no end.
func (c *Command) Millis() int64 {
	if c.TTL <= 0 {
		return int64(c.TTL) // 0 or KeepTTL
	}
	return max(c.TTL.Milliseconds(), 1)
}

// isOwn reports whether rec is the record that c itself has stored.
func (c *Command) IsOwn(rec Record) bool {
	return len(c.Frame) >= TokenLen && TokenOf(c.Frame).Match(rec)
}

// Reply answers one Command. If Err is not nil, a Get has found nothing out, and
// whether a write took effect is unknown. A Store executes a command that changes
// something once at most: it does not repeat one whose reply was lost.
type Reply struct {
	OK     bool
	Record Record
	Cut    bool // there is a record, of more bytes than were asked for
	Apart  bool // refused with others, of which it may be one alone that is
	Err    error
}

// hideType answers a Get as if a key of another type, or an empty string, were not
// there.
func (r *Reply) HideType() {
	if r.Record.State == WrongType || len(r.Record.Raw) == 0 {
		r.Record = Record{}
	}
}

// RenewTime bounds a Renew; see [redisstore.Redis.Renew]. Reads wait for it.
const RenewTime = 500 * time.Millisecond

// Store carries out commands.
//
// Do answers each command in order of cmds and returns as many replies. Commands
// are independent: they may be carried out in any order, and one may fail alone. A
// caller that needs an order makes two calls. Commands of one call share one round
// trip to each node, and a second one where a node does not know a script yet.
//
// Now estimates the clock of the node that holds key, in microseconds of Unix
// time. It asks the node when it has no estimate yet, and otherwise does no I/O.
//
// Close releases what the store itself holds and waits for its goroutines; it
// does not close the Redis client. It may be called more than once.
//
// All methods are safe for concurrent use.
//
// Masters names the nodes that hold keys, for Scan: "" is the one of a single
// server.
//
// Scan reads one batch of a master's keys that match a Redis glob, from cursor 0 on.
// The scan of that node is complete when next is 0. As Redis does, it returns at
// least once each key that is there from the first batch to the last, and may return
// a key several times. It is not promised that it returns one that moves to another
// master meanwhile. A master that is none is an error.
//
// Marks and Mark read and change the logical clock of a cache; see [logicalclock.Epoch].
//
// Publish publishes a message, through any one node.
//
// Listen hears; see [Subscription].
//
// Lineage tells one server, or one set of masters, from another one that is found in its
// place. Two answers that are equal say: whatever was acknowledged between them, nothing
// older has taken its place by a restart or a failover. An empty one says that it is not
// to be known, which is no error.
type Store interface {
	Do(ctx context.Context, cmds []Command) []Reply
	Now(ctx context.Context, key string) (int64, error)
	Masters(ctx context.Context) ([]string, error)
	Scan(ctx context.Context, master, pattern string, cursor uint64) (keys []string, next uint64, err error)
	Marks(ctx context.Context, names Names, known logicalclock.Known, tags []string) (logicalclock.Marks, error)
	Mark(ctx context.Context, names Names, known logicalclock.Known, m logicalclock.NewMark) (logicalclock.Marks, error)
	Publish(ctx context.Context, t Notify) error
	Listen(ctx context.Context, l Subscription, s Subscriber) error
	ServerID(ctx context.Context) (string, error)
	Close()
}
