// Package store is the contract with Redis: what a cache asks of it, as commands on keys and
// bytes, and the names of everything that a cache keeps there.
//
// It knows nothing of values, codecs or strategies. A [Store] carries out [Command] values.
// Package redisstore implements it on Redis; package storetest gives the same answers without a
// server, and a differential test keeps both alike. Package client stands in front of a Store.
//
// Two commands carry the coherence of the cache. SetNX stores only if the key is missing, and
// otherwise returns the existing record. CompareAndSet stores only over exactly the record that
// its caller has seen. A fill uses one of them, so that a plain SET or DEL in between, by any
// program, redis-cli included, makes the fill fail.
package store

import (
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/sha1"
	"encoding/hex"
	"github.com/delqhi/cache/internal/logicalclock"
	"time"
)

// TokenLen is the number of leading bytes that distinguish one record from another: a record of
// this cache carries a unique id in them. It equals frame.TokenLen.
const TokenLen = 24

// KeepTTL as a Command's TTL leaves the remaining lifetime of the key as it is.
const KeepTTL time.Duration = -1

// State says what a key holds.
type State uint8

const (
	Missing   State = iota // the key does not exist
	Found                  // a string, written by this cache or not
	WrongType              // a list, a hash, …: never written by this cache
)

// Record is the value that a key held when Redis read it.
type Record struct {
	State State
	// Raw is the whole string. It is shared and must not be modified.
	Raw []byte
}

// CASToken returns the token of this record for a later compare-and-set. It copies: the token does
// not keep the record alive.
func (r Record) CASToken() CASToken {
	s := CASToken{State: r.State}
	if r.State == Found {
		s.Token = string(r.Raw[:min(TokenLen, len(r.Raw))])
	}
	return s
}

// WholeToken returns a token of all bytes of the string, for one that another program has stored
// and that is a value all the same: such strings may agree in their first bytes.
func (r Record) WholeToken() CASToken {
	s := r.CASToken()
	if s.State == Found {
		s.Token, s.Whole = sumOf(r.Raw), true
	}
	return s
}

// sumOf is by SHA-1, the one hash that scripts of Redis have. It protects nothing.
func sumOf(raw []byte) string {
	var sum [sha1.Size]byte
	fips140.WithoutEnforcement(func() { sum = sha1.Sum(raw) })
	return hex.EncodeToString(sum[:])
}

// CASToken identifies the record that a caller of CompareAndSet, CompareAndDelete, Extend,
// PatchHeader or Adopt has seen. Two foreign strings that agree in their first TokenLen bytes are
// taken for the same one, unless the token is a WholeToken: neither is a value of this cache, and
// replacing either is right.
type CASToken struct {
	State State
	Token string
	Whole bool // Token is the SHA-1 of the whole string, in hexadecimal
}

// TokenOf is the token of a record that the caller wrote itself.
func TokenOf(raw []byte) CASToken {
	return Record{State: Found, Raw: raw}.CASToken()
}

// Match reports whether rec is still the record that was seen.
func (s CASToken) Match(rec Record) bool {
	if s.State != rec.State {
		return false
	}
	if s.State != Found {
		return true
	}
	if s.Whole {
		return sumOf(rec.Raw) == s.Token
	}
	if len(s.Token) < TokenLen {
		return string(rec.Raw) == s.Token
	}
	return bytes.HasPrefix(rec.Raw, []byte(s.Token))
}

// Op is what a Command does.
type Op uint8

const (
	// Get reads. Reply: Record. In a call with other commands, and through a Client, which
	// batches commands of several callers, it answers Missing for a key of another type and for
	// an empty string: whether it was sent as part of an MGET, whose answer does not
	// distinguish these, must not show. A SetNX does distinguish them.
	Get Op = iota
	// Set stores over any existing value, of any type. Reply: OK.
	Set
	// SetNX stores only if the key is missing. Reply: OK if it stored, otherwise the existing
	// record in Record. If it is executed twice, because something between here and Redis sent
	// it again, the second execution recognises its own record and answers OK.
	SetNX
	// CompareAndSet stores over exactly the record that was seen; over Missing it is SetNX
	// without the existing record in the reply. Reply: OK if it stored. A second execution
	// recognises its own record too.
	CompareAndSet
	// Delete removes the key. Reply: OK, whether or not the key existed.
	Delete
	// CompareAndDelete removes exactly the record that was seen. Reply: OK if it removed it. It
	// leaves nothing to recognise: a second execution answers that it removed nothing.
	CompareAndDelete
	// Extend sets the lifetime of exactly the record that was seen to TTL from now. Reply: OK
	// if it did.
	Extend
	// GetHeader reads the first HeadLen bytes. Reply: Record. It can't distinguish an empty
	// string from a missing key, and answers Missing for both.
	GetHeader
	// PatchHeader replaces the first SealLen bytes of exactly the record that was seen, which
	// must be a string of at least as many bytes, by Frame, which has SealLen bytes, and leaves
	// the rest. A positive TTL shortens the remaining lifetime of the key to TTL if it is
	// longer; 0 leaves it. Reply: OK if it did. A second execution recognises its own seal.
	PatchHeader
	// Adopt reads the remaining lifetime of exactly the string that was seen, after it has
	// shortened it to TTL if it was longer or had no end; 0 shortens nothing. Reply: OK if the
	// key holds that string, and then Left.
	Adopt
	// AwaitLease puts a sign on exactly the lease that was seen: a process waits for the end of
	// its load. Reply: OK if the lease has the sign now. The sign is behind the lease, and names
	// the process by Frame, the id of its Subscription's Waiter; if Frame is empty, or the sign
	// names [WaitersMax] others, the end is told to all. Whatever removes the lease removes the
	// sign, and a lease that replaces the lease inherits it. See [Notify].Awaited.
	AwaitLease
)

var opNames = [...]string{Get: "get", Set: "set", SetNX: "set_nx", CompareAndSet: "compare_and_set", Delete: "delete", CompareAndDelete: "compare_and_delete", Extend: "extend", GetHeader: "get_header", PatchHeader: "patch_header", Adopt: "adopt", AwaitLease: "await_lease"}

// SealLen and HeadLen are lengths of prefixes of a record: what PatchHeader replaces, and what
// GetHeader reads. They equal those of package frame.
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
	Frame  []byte        // Set, SetNX, CompareAndSet, PatchHeader: the bytes to store; AwaitLease: who waits; not modified, not kept after the reply
	TTL    time.Duration // Set, SetNX, CompareAndSet, Extend, PatchHeader, Adopt: in whole milliseconds, at least one; 0 = no expiry; KeepTTL with CompareAndSet
	Seen   CASToken      // CompareAndSet, CompareAndDelete, Extend, PatchHeader, Adopt, AwaitLease
	Notify Notify        // the message that the node of the key publishes when the command has taken effect

	// Most: Get only. If not 0, a record of more bytes than this is not returned, only that it
	// exists; see Reply.Cut. The Get then answers Missing for an empty string.
	Most int

	// Shared: Get only. The bytes are read and not kept, so that several callers may be given
	// the same slice.
	Shared bool

	// With: Set and Delete only. So many commands that follow this one in the call, of the same
	// Op and without a Notify of their own, form a unit with it: the node carries out all of
	// them, or refuses all, and publishes Notify if any has taken effect. The message then also
	// covers a command of the unit that failed alone. Only where there is one node; see
	// Client.OneNode.
	With int

	ByScript bool // SetNX, CompareAndSet: the server does not support SET with NX and GET
	Tracked  bool // the script that it is sent as also reads its keys, last
	Apart    bool // Set, Delete, CompareAndSet: sent by itself
}

// Notify is a message to the subscribers of a channel. The node that carries out the command
// publishes it, after the effect, never before and through no other node, so that it can't
// overtake the effect on its way to a reader of the same key. A refused command publishes
// nothing: after a Set or Delete the message is published unless the command fails; after
// SetNX, CompareAndSet, CompareAndDelete, Extend and PatchHeader only if they answer OK (the
// message of a command that is executed twice may be published twice). If it can't be
// published, the Reply has an Err although the command has taken effect. With Get, GetHeader and
// Adopt and AwaitLease it is ignored. For one message for many commands see [Command].With.
type Notify struct {
	Channel string // "": publish nothing
	Message string

	// Awaited: CompareAndSet and CompareAndDelete only. The message is published only if the
	// record that was replaced or removed was a lease with the sign of [AwaitLease], and to those
	// whom the sign names: see [WaiterChannel]. The node
	// decides together with the effect: a process that sees the lease either puts its sign on it
	// before, and receives the message, or finds the lease gone.
	Awaited bool

	// Sharded: the channel is one of a cluster, in the slot of some of its keys. The node that carries
	// out the command publishes by SPUBLISH if it has that slot.
	Sharded bool

	// Wide: Publish only. The message is also published on the [ControlChannel] of Channel, by the
	// same node and in the same round trip.
	Wide bool
}

// Millis is the lifetime in milliseconds, as Redis takes it. A positive lifetime of less than a
// millisecond must not become 0, which means no expiry.
func (c *Command) Millis() int64 {
	if c.TTL <= 0 {
		return int64(c.TTL) // 0 or KeepTTL
	}
	return max(c.TTL.Milliseconds(), 1)
}

// IsOwn reports whether rec is the record that c itself has stored.
func (c *Command) IsOwn(rec Record) bool {
	return len(c.Frame) >= TokenLen && TokenOf(c.Frame).Match(rec)
}

// Reply answers one Command. If Err is not nil, a Get has no result, and whether a write took
// effect is unknown. A Store executes a command that changes something at most once: it does
// not repeat one whose reply was lost.
type Reply struct {
	OK     bool
	Record Record
	Left   time.Duration // Adopt: what remains of the lifetime, in whole milliseconds; negative: no end
	Cut    bool          // the record exists, and has more bytes than were asked for
	Apart  bool          // refused together with others; it is possible that only one of them is at fault
	Err    error
}

// HideType turns the reply to a Get of a key of another type, or of an empty string, into that
// for a missing key.
func (r *Reply) HideType() {
	if r.Record.State == WrongType || len(r.Record.Raw) == 0 {
		r.Record = Record{}
	}
}

// RenewTime bounds a Renew; see [redisstore.Redis.Renew]. Reads wait for it.
const RenewTime = 500 * time.Millisecond

// Store carries out commands.
//
// Do answers each command in order of cmds and returns as many replies. Commands are
// independent: they may be carried out in any order, and one may fail alone. A caller that
// needs an order makes two calls. Commands of one call share one round trip to each node, and a
// second one where a node does not have a script yet.
//
// Now estimates the clock of the node that holds key, in microseconds of Unix time. It asks the
// node when it has no estimate yet, and otherwise does no I/O.
//
// Close releases the resources of the store and waits for its goroutines; it does not close the
// Redis client. It may be called more than once.
//
// All methods are safe for concurrent use.
//
// Masters names the nodes that hold keys, for Scan: "" is the node of a single server.
//
// Scan reads one batch of a master's keys that match a Redis glob, starting at cursor 0. The
// scan of that node is complete when next is 0. As in Redis, each key that exists from the
// first batch to the last is returned at least once, and a key may be returned several times. A
// key that moves to another master meanwhile may be missed. A name that is not that of a master
// is an error.
//
// Marks and Mark read and change the logical clock of a cache; see [logicalclock.Epoch].
//
// Publish publishes a message, through any one node.
//
// Listen receives messages; see [Subscription].
//
// ServerID distinguishes a server, or a set of masters, from another one that is found in its
// place. Two equal answers mean that no data older than what was acknowledged between them has
// replaced it by a restart or a failover. An empty answer means that the identity can't be
// known, which is not an error.
type Store interface {
	Queue
	Do(ctx context.Context, cmds []Command) []Reply
	Now(ctx context.Context, key string) (int64, error)
	Masters(ctx context.Context) ([]string, error)
	Scan(ctx context.Context, master, pattern string, cursor uint64) (keys []string, next uint64, err error)
	ReadClock(ctx context.Context, names Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error)
	AddTombstones(ctx context.Context, names Names, known logicalclock.Known, m logicalclock.NewTombstone) (logicalclock.Reading, error)
	Publish(ctx context.Context, t Notify) error
	Subscribe(ctx context.Context, l Subscription, s Subscriber) error
	ServerID(ctx context.Context) (string, error)
	Close()
}
