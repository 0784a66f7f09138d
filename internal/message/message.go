// Package message encodes the messages that processes publish on the channel of a cache, and
// numbers them, so that a loss is detected.
//
// Pub/sub has no replay. What one server sends over one connection arrives, in order, unless
// the connection breaks, and that is detected. But a proxy, or what is behind one, may drop
// messages while all connections live; and a process that misses a write's message would
// serve the old value until it expires. So each sender numbers its messages, and publishes from
// time to time a watermark: the number up to which all of them have been published. A receiver
// that has not received a number by then has lost a message, does not know which, and flushes
// everything.
//
// [Outbox] is the sender's side and [Inbox] the receiver's. Neither waits nor sends: the caller
// has the connection and the timer, and passes in the time.
//
// A number belongs to one attempt to publish, not to the content. An attempt whose outcome is
// unknown leaves its number open; the content is published again under another number, and then
// the first one is skipped: whether or not it was received, or will be, does not matter any
// more.
//
// A new subscriber does not know earlier messages, and need not. So each message says since
// when no earlier number had been in flight, and up to which number that holds: messages
// published before the session began are not missing. Without that, each sender whose first
// message arrives would look like one whose messages were lost.
//
// Where a session is known to receive all that it receives from one server, over one connection, the
// numbers only check that; see [Inbox.Direct]. On a cluster each node's own messages are received from it, and
// are not counted.
//
// A received message is acted on in any case, also if its number is not new: numbers show which
// messages were missed, not which may be ignored.
package message

import (
	"encoding/binary"
	"errors"
	"time"
)

// Kind is the kind of a message.
type Kind uint8

const (
	// Invalidated: these keys were written or invalidated.
	Invalidated Kind = iota + 1
	// Loaded: a load has ended: its value is stored over its own lease, or it failed. It
	// matters only to readers that wait for the load, and is published only if one has said so.
	// It has no number: a reader that misses it reads the key again a little later.
	Loaded
	// Pattern: all keys that match were invalidated.
	Pattern
	// TagsInvalidated: the logical clock moved, for these tags, or without any for all
	// entries.
	TagsInvalidated
	// Watermark: all numbers up to this one have been published. It has no number of its own.
	Watermark
	// PartTagsInvalidated is TagsInvalidated for the logical clock of one part of the keys of a
	// cluster.
	PartTagsInvalidated
)

// Message is one message.
type Message struct {
	Sender uint64 // random for each instance of a cache, not 0
	Number uint64 // 1, 2, …; 0: Loaded; Watermark: all up to it have been published or are among Skipped
	// Base and Quiet tell new subscribers which numbers are old: all numbers up to Base, which
	// is less than Number, or of a Watermark not more, had been published, or had failed, by a
	// time that was Quiet before this message was made.
	Base    uint64
	Quiet   time.Duration // not negative; in whole milliseconds, rounded down
	Kind    Kind
	Keys    []string // Invalidated, Loaded: encoded keys, of any bytes
	Pattern string   // Pattern
	Part    uint8    // PartTagsInvalidated: the number of the part
	Tags    []string // TagsInvalidated, PartTagsInvalidated
	Text    string   // likewise: appended by Redis
	Skipped []uint64 // Watermark: numbers up to Number, skipped recently, that may never be received
	Last    bool     // Watermark: the sender closes
	// Unresolved: Watermark: the sender does not know whether all numbers up to this one were
	// published, and will not publish their content again: receivers flush, whatever they have
	// received.
	Unresolved bool
}

var (
	// ErrForeign means that the bytes are no message, or a damaged one. It may be ignored: if
	// it had a number, that number is missing, and a watermark will show it.
	ErrForeign = errors.New("message: foreign bytes")
	// ErrNewer means that the message is of a newer version of this library. Its content is
	// unknown and may concern everything.
	ErrNewer = errors.New("message: of a newer version")
)

// A message is, in big endian:
//
//	 0  3  magic 0xC5 'd' 'n'
//	 3  1  version, 1
//	 4  1  kind
//	 5  8  sender
//	13  8  number
//	21     how far Base lies below the number, and Quiet in milliseconds
//	       Invalidated, Loaded: the keys
//	       Pattern: the pattern
//	       TagsInvalidated: the number of tags, the tags, and the text up to the end
//	       PartTagsInvalidated: a byte, the part; then as TagsInvalidated
//	       Watermark: flags, of which 1 is Last and 2 Unresolved; how far each skipped
//	       number lies below Number
//
// A string is its length and its bytes. Lengths and distances are uvarints of as few bytes as
// they take. All kinds that come later in this version have a number of their own.
const (
	magic          = "\xC5dn"
	version        = 1
	headLen        = 21
	flagLast       = 1
	flagUnresolved = 2

	// maxQuiet is the longest Quiet, in ms: a century.
	maxQuiet = 100 * 365 * 24 * 3600 * 1000
)

var be = binary.BigEndian

// Append appends n, without Text: Redis appends that.
func (n *Message) Append(dst []byte) []byte {
	dst = append(dst, magic...)
	dst = append(dst, version, byte(n.Kind))
	dst = be.AppendUint64(dst, n.Sender)
	dst = be.AppendUint64(dst, n.Number)
	dst = binary.AppendUvarint(dst, n.Number-n.Base)
	dst = binary.AppendUvarint(dst, uint64(n.Quiet.Milliseconds()))
	switch n.Kind {
	case Invalidated, Loaded:
		dst = appendStrings(dst, n.Keys)
	case Pattern:
		dst = appendString(dst, n.Pattern)
	case TagsInvalidated, PartTagsInvalidated:
		if n.Kind == PartTagsInvalidated {
			dst = append(dst, n.Part)
		}
		dst = binary.AppendUvarint(dst, uint64(len(n.Tags)))
		dst = appendStrings(dst, n.Tags)
	case Watermark:
		flags := byte(0)
		if n.Last {
			flags = flagLast
		}
		if n.Unresolved {
			flags |= flagUnresolved
		}
		dst = append(dst, flags)
		for _, k := range n.Skipped {
			dst = binary.AppendUvarint(dst, n.Number-k)
		}
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendStrings(dst []byte, list []string) []byte {
	for _, s := range list {
		dst = appendString(dst, s)
	}
	return dst
}

// Parse parses a message written by [Message.Append], and a text behind it if its kind may have
// one. The strings of the result are parts of s. Nothing is allocated beyond one slice, of at
// most 16 times len(s).
//
// The error is [ErrForeign] or [ErrNewer]. Of a newer message whose Sender is not 0 the number
// is known, and [Inbox.Receive] should count it; nothing else of it is.
func Parse(s string) (Message, error) {
	if len(s) <= len(magic) || s[:len(magic)] != magic || s[3] == 0 {
		return Message{}, ErrForeign
	}
	// Nothing is known of the layout of a newer version, its length included.
	if s[3] > version {
		return Message{}, ErrNewer
	}
	if len(s) < headLen {
		return Message{}, ErrForeign
	}
	n := Message{Kind: Kind(s[4]), Sender: be64(s[5:13]), Number: be64(s[13:21])}
	if n.Sender == 0 || n.Kind == 0 {
		return Message{}, ErrForeign
	}
	below, s, ok := cutUvarint(s[headLen:])
	quiet, s, okQuiet := cutUvarint(s)
	if !ok || !okQuiet || below > n.Number || below == 0 && n.Kind != Watermark && n.Kind != Loaded || n.Kind == Loaded && n.Number != 0 || quiet > maxQuiet {
		return Message{}, ErrForeign
	}
	n.Base, n.Quiet = n.Number-below, time.Duration(quiet)*time.Millisecond
	if err := n.parseBody(s); err != nil {
		return Message{}, err
	}
	if n.Kind > PartTagsInvalidated {
		return n, ErrNewer
	}
	return n, nil
}

func (n *Message) parseBody(s string) error {
	ok := true
	switch n.Kind {
	case Invalidated, Loaded:
		var count uint64
		if count, ok = countStrings(s); ok {
			n.Keys, _, ok = cutStrings(s, count)
		}
	case Pattern:
		n.Pattern, s, ok = cutString(s)
		ok = ok && s == ""
	case TagsInvalidated, PartTagsInvalidated:
		if n.Kind == PartTagsInvalidated {
			if s == "" {
				return ErrForeign
			}
			n.Part, s = s[0], s[1:]
		}
		var count uint64
		if count, s, ok = cutUvarint(s); ok {
			n.Tags, n.Text, ok = cutStrings(s, count)
		}
	case Watermark:
		return n.parseWatermark(s)
	}
	if !ok {
		return ErrForeign
	}
	return nil
}

func (n *Message) parseWatermark(s string) error {
	switch {
	case s == "":
		return ErrForeign
	case s[0] > flagLast|flagUnresolved:
		return ErrNewer
	}
	n.Last, n.Unresolved, s = s[0]&flagLast != 0, s[0]&flagUnresolved != 0, s[1:]
	count := 0
	for i := range len(s) {
		if s[i] < 0x80 {
			count++ // the last byte of a uvarint
		}
	}
	if count > 0 {
		n.Skipped = make([]uint64, 0, count)
	}
	for s != "" {
		below, rest, ok := cutUvarint(s)
		if !ok || below >= n.Number {
			return ErrForeign
		}
		n.Skipped, s = append(n.Skipped, n.Number-below), rest
	}
	return nil
}

// countStrings counts the strings that s consists of.
func countStrings(s string) (count uint64, ok bool) {
	for s != "" {
		if _, s, ok = cutString(s); !ok {
			return 0, false
		}
		count++
	}
	return count, true
}

// cutStrings takes count strings from the beginning of s. Each takes at least one byte, which
// bounds the allocation for a false count.
func cutStrings(s string, count uint64) (list []string, rest string, ok bool) {
	if count > uint64(len(s)) {
		return nil, "", false
	}
	if count > 0 {
		list = make([]string, count)
	}
	for i := range list {
		if list[i], s, ok = cutString(s); !ok {
			return nil, "", false
		}
	}
	return list, s, true
}

func cutString(s string) (text, rest string, ok bool) {
	size, s, ok := cutUvarint(s)
	if !ok || size > uint64(len(s)) {
		return "", "", false
	}
	return s[:size], s[size:], true
}

// cutUvarint is binary.Uvarint for a string, and refuses more bytes than needed.
func cutUvarint(s string) (v uint64, rest string, ok bool) {
	for i := range min(len(s), binary.MaxVarintLen64) {
		c := s[i]
		v |= uint64(c&0x7F) << (7 * i)
		if c < 0x80 {
			tooLong := i > 0 && c == 0 || i == binary.MaxVarintLen64-1 && c > 1
			return v, s[i+1:], !tooLong
		}
	}
	return 0, "", false
}

func be64(s string) uint64 {
	v := uint64(0)
	for i := range 8 {
		v = v<<8 | uint64(s[i])
	}
	return v
}
