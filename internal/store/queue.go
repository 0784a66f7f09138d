package store

import (
	"context"
	"errors"
	"strconv"
	"time"
)

// ErrNotOwner says that a partition of a queue belongs to another consumer, or to none, and not
// to the caller.
var ErrNotOwner = errors.New("store: not the owner of this partition")

// ErrOvertaken is the answer to an Append that arrives after a later one of the same sender.
// Nothing was stored. No caller waits for this answer: a sender does not send the next Append
// before it has the answer to the last one, or has given up waiting for it.
var ErrOvertaken = errors.New("store: a later write of this sender is there already")

// QueueNames are the keys of one partition of a queue: all in one slot of a cluster, so that
// one script changes them together. None of them has a lifetime while it holds writes or the
// owner that may apply them, so that no eviction policy of the kind volatile-… removes state
// that matters.
//
// The keys of a queue out of use expire within an hour: Log and Dead get a lifetime when they
// are empty, From gets one at each Append, and hashes vanish with their last field. Owner stays
// if the process that held the partition was killed and no other process took it over; it is
// one short string.
type QueueNames struct {
	Log       string // a stream: the pending writes, and the entries that hold their places
	Pending   string // a hash: for each key in Log its place, the id of its newest write, and its failed attempts
	Owner     string // a string: the consumer of the partition, and the end of its lease
	Dead      string // a stream: dead letters
	DeadIndex string // a hash: for each key in Dead the id of its entry there
	From      string // a hash: for each sender its last Append, and the answer; it lives for FromLife after the last one
}

// NewQueueNames returns the names of partition n of a cache's queue. As with
// [NewNames], prefix must not contain "{}".
func NewQueueNames(prefix, name string, n int) QueueNames {
	own := prefix + ":{c:" + name + ":w" + strconv.Itoa(n) + "}:"
	return QueueNames{own + "log", own + "pending", own + "owner", own + "dead", own + "graves", own + "from"}
}

// MembersName returns the name of the sorted set of the processes that consume a cache's queue.
func MembersName(prefix, name string) string { return prefix + ":{c:" + name + ":w}:members" }

// Write is a pending write to a source.
type Write struct {
	Key    string // encoded, without the cache's prefix
	Delete bool
	Value  []byte // encoded
	Meta   []byte // metadata that the writer stores with the value
}

// Entry is a Write in a queue.
type Entry struct {
	// ID is the id of its entry in the stream: of two writes of one key, the later one has the
	// greater. See [CompareIDs].
	ID       string
	Attempts int // failed attempts
	Write
}

// Append is a request to queue writes of one partition.
type Append struct {
	// Sender is the process, and Seq counts its Appends to this partition, from 1. The client
	// library sends a command again when the reply was lost:
	//
	//	1. an Append of k = 1 is carried out; the answer is lost
	//	2. another process appends k = 2
	//	3. the Append of k = 1 is sent again, and must not be carried out again
	//
	// So a partition remembers the last Seq of each sender, and its answer. A sender has one
	// Append in flight at a time.
	Sender string
	Seq    int64
	Max    int // maximum number of entries in Log
	Writes []Write
}

// Fetch is a request for writes to apply.
type Fetch struct {
	Owner string
	Lease time.Duration
	// Keys, if not empty, are looked up, and After is ignored.
	Keys []string
	// After is the id after which to continue; "" is the beginning.
	After string
	Count int // maximum number of entries to read
	Bytes int // stop when so many bytes of values were found
	// Delay and Full: if fewer than Full entries are in Log, and the first one after After is
	// younger than Delay, the answer is only how long to wait.
	Delay time.Duration
	Full  int
}

// Fetched is the answer to a Fetch: of each key the newest write, once.
type Fetched struct {
	Entries []Entry
	Looked  int           // how many of Keys, or of the entries after After, were read
	Last    string        // continue after this id
	Wait    time.Duration // until the first entry is as old as Delay; 0: do not wait
	Len     int           // entries in Log
}

// Verdict is the result of applying a write.
type Verdict uint8

const (
	Applied Verdict = 1 + iota // the source has the write: it is removed
	Failed                     // it stays, with the given number of failed attempts
	Died                       // it is moved to Dead
)

// Outcome is the result of applying an entry.
type Outcome struct {
	Verdict  Verdict
	Key      string
	ID       string
	Attempts int    // Failed, Died: including this one
	Error    string // Died
}

// Settled is the result of recording an outcome.
type Settled uint8

const (
	// Recorded: the verdict was about the newest write of the key, and was recorded.
	Recorded Settled = iota
	// Superseded: a newer write of the key is pending. An applied entry has been removed all
	// the same, and a failed one no longer matters.
	Superseded
	// DeadFull: Dead is full, so the write stays where it is.
	DeadFull
)

// Settle is a request to record outcomes.
type Settle struct {
	Owner    string
	Lease    time.Duration
	MaxDead  int // maximum number of entries in Dead
	Outcomes []Outcome
}

// Ask is for the newest writes of some keys of a partition.
type Ask struct {
	Queue QueueNames
	Keys  []string
}

// Depth is the size of a partition.
type Depth struct {
	Log  int
	Dead int
	// First is the id of the first entry in Log, "" if Log is empty, and Age the time since it
	// was added, by the clock of the node.
	First string
	Age   time.Duration
}

// Letter is a dead letter: a write that was given up. Its Entry.ID is the id that it had in
// Log.
type Letter struct {
	ID    string // in Dead
	Error string
	At    time.Time // by the clock of the node
	Entry
}

// Revived is the result of reviving or discarding a dead letter.
type Revived uint8

const (
	NotThere     Revived = iota // it was revived or discarded before, or superseded by a later write
	Gone                        // it is no longer a dead letter: it is in Log, or discarded
	NotKnown                    // there may have been a later write: it stays where it is
	NoRoomInLog                 // it stays where it is
	LastOfRevive = NoRoomInLog
)

// Revive is a request to bring dead letters back into Log, or to discard them.
type Revive struct {
	IDs     []string // in Dead
	Discard bool
	Max     int // maximum number of entries in Log
}

// Queue is a durable queue of writes in partitions. Only the newest write of each key counts:
// it supersedes a pending older one at the moment in which it is appended. The key keeps the
// place of its oldest write meanwhile, so that a key which is written all the time has its turn
// too. So Log has at most two entries of a key: the one that holds the place, and the newest
// one.
//
// Append queues writes, and returns the id of each, or "" if there was no room for it: the
// others are queued all the same. A write that replaces another one needs no room. It also
// supersedes a dead letter of the key.
//
// Newest returns the newest pending write of each key, or an Entry without an ID if there is
// none.
//
// Acquire acquires the lease of a partition that has no owner, or with renew only prolongs the
// lease that owner holds, and reports whether owner holds it now. Leave releases it. Fetch and
// Settle are for the owner, whose lease they prolong; for other callers they answer
// [ErrNotOwner] and do nothing.
//
// Fetch, Settle, Acquire and Leave can be repeated: a second execution finds the state that the
// first one has left.
//
// Depths returns the sizes of partitions. Letters lists dead letters after an id, "" for all.
// Revive replays or discards dead letters, and answers for each.
//
// Join adds member to the consumers for the given time, 0 to remove it, and returns how many
// there are.
//
// All methods are safe for concurrent use.
type Queue interface {
	Append(ctx context.Context, q QueueNames, a Append) (ids []string, err error)
	Newest(ctx context.Context, asks []Ask) ([][]Entry, error)
	Acquire(ctx context.Context, q QueueNames, owner string, lease time.Duration, renew bool) (bool, error)
	Leave(ctx context.Context, q QueueNames, owner string) error
	Fetch(ctx context.Context, q QueueNames, f Fetch) (Fetched, error)
	Settle(ctx context.Context, q QueueNames, s Settle) ([]Settled, error)
	Depths(ctx context.Context, qs []QueueNames) ([]Depth, error)
	Letters(ctx context.Context, q QueueNames, after string, n int) ([]Letter, error)
	Revive(ctx context.Context, q QueueNames, r Revive) ([]Revived, error)
	Join(ctx context.Context, members, member string, d time.Duration) (int, error)
}

// A sender is forgotten some time after its last Append, when there are many senders. By then
// no client library sends an Append again.
const (
	SenderLife = 10 * time.Minute
	ManyFrom   = 64
	FromSample = 8

	FromLife = time.Hour
)

// CompareIDs orders ids of a stream, as cmp.Compare does. "" comes before all others.
func CompareIDs(a, b string) int {
	ams, aseq := SplitID(a)
	bms, bseq := SplitID(b)
	switch {
	case ams < bms || ams == bms && aseq < bseq:
		return -1
	case ams == bms && aseq == bseq:
		return 0
	}
	return 1
}

// SplitID splits the id of a stream entry into its parts: the time in ms, and the sequence number.
func SplitID(id string) (ms, seq uint64) {
	for i := range len(id) {
		if id[i] == '-' {
			ms, _ = strconv.ParseUint(id[:i], 10, 64)
			seq, _ = strconv.ParseUint(id[i+1:], 10, 64)
			return ms, seq
		}
	}
	ms, _ = strconv.ParseUint(id, 10, 64)
	return ms, 0
}

// AgeOf is how long ago an id was given, at least 0; now is in ms of Unix time.
func AgeOf(id string, now int64) time.Duration {
	ms, _ := SplitID(id)
	return time.Duration(max(now-int64(ms), 0)) * time.Millisecond
}

// TimeOf is the time at which an id was given, by the clock of the node.
func TimeOf(id string) time.Time {
	ms, _ := SplitID(id)
	return time.UnixMilli(int64(ms))
}
