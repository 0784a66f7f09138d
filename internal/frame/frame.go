// Package frame is the layout of the bytes that Redis holds under a key.
//
// A frame has two sections, in big endian. Section A, the seal, has the kind of the frame and
// the id of the write that made it; a script may replace it in place without parsing the rest.
// Section B never changes; its hash covers the Redis key too, so that a frame that was moved to
// another key is detected.
//
//	 0  3  magic 0xC5 'd' 'q'
//	 3  1  frame version, 1
//	 4  1  kind: 1 value, 2 absence, 3 lease, 4 failure, 5 intent
//	 5  1  flags, 0
//	 6  2  0
//	 8 16  id, of this write alone; where values are sealed, the second half is a mark,
//	       which authenticates it: see AppendMarked
//	24  8  limit: server time in µs after which the entry is not fresh, whatever
//	       section B says; the greatest int64 for none. Of a lease, the logical time
//	       before its load began: see [AppendLeaseSince]
//	32  4  CRC-32C of bytes 0 to 31
//
//	36  4  schema version
//	40  8  type fingerprint
//	48  8  stored, server time in µs
//	56  8  fresh, µs; 0 for no end
//	64  8  stale window after fresh, µs
//	72  8  stamp: logical time last read before the load began; 0 for unknown
//	80  8  epoch of the logical clock; 0 for unknown
//	88  4  cost: µs that the load took, or by how much earlier began what the value was made
//	       of; see [CostOfOlder]
//	92  4  length of the extras
//	96  4  length of the payload
//	100    extras, payload
//	       8: xxHash64 of the length of the Redis key as a uvarint, the key, and
//	       all bytes from 36 to here
//
// An extra is a type byte, the length as a uvarint, and bytes: 2 is a tag, 4 an ETag. A reader
// skips unknown odd types, and does not read a frame with an unknown even one: a newer program
// that adds a type chooses accordingly.
//
// The encoding of a frame is canonical: lengths take as few bytes as they can, the tags come
// before the ETag, and an empty ETag is left out. Any other encoding counts as corrupt.
//
// A lease is section A alone, and a byte 1 if a process waits for its load. An intent is section
// A alone: that of a writer that is about to write to the source, and that loads and other
// writers wait for. A failure replaces the lease of a load
// that has failed, for the callers that wait for it: its payload is the lease's id, a byte of
// flags (bit 0: no stale value may be returned instead; bit 1: it concerns only callers that
// have a stale value) and the text of the error. In the place of a lock it is about the value
// that was to be replaced, whose token is its ETag.
package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	"github.com/cespare/xxhash/v2"
)

// Kind is what a frame stands for.
type Kind uint8

const (
	Value   Kind = 1 // a value
	Absence Kind = 2 // the fact that there is none
	Lease   Kind = 3 // the right to load one
	Failure Kind = 4 // the fact that a load has failed
	Intent  Kind = 5 // a write to the source is in flight
)

// Header is all of a frame but its payload. A lease has no more than Kind, ID and
// Limit.
type Header struct {
	Kind        Kind
	ID          ID
	Limit       int64  // server time, µs; math.MaxInt64 for none
	Version     uint32 // of the program's schema
	Type        uint64 // fingerprint of the codec and the type of value
	Stored      int64  // server time, µs
	Fresh       uint64 // µs; 0 for no end
	Stale       uint64 // µs
	LogicalTime int64  // logical time; 0 for unknown
	Epoch       uint64 // 0 for unknown
	Cost        uint32 // see CostOf, CostOfOlder
	Tags        []string
	ETag        string
	Sign        []byte // of a lease: who waits for its load, as package store reads it; a part of the bytes that were parsed
}

// OfOlder is the Cost of a value that was derived from the value before it, where it is not
// known when that one began.
const OfOlder = math.MaxUint32

const (
	madeOfOlder = 1 << 31 // a bit of a Cost: the value was derived from the one before
	inMillis    = 1 << 30 // likewise: the other bits count milliseconds
)

// CostOf returns the Cost of a value that began so many µs before it is stored.
func CostOf(micros int64) uint32 {
	if micros = max(micros, 0); micros >= madeOfOlder {
		return CostOfOlder(micros)
	}
	return uint32(micros)
}

// CostOfOlder returns the Cost of a value that was derived from the value before it, which
// began so many µs before this one is stored. From 18 minutes on that is rounded up to
// milliseconds, and more than 12 days are [OfOlder]: an inexact beginning is always an earlier
// one.
func CostOfOlder(micros int64) uint32 {
	if micros = max(micros, 0); micros < inMillis {
		return madeOfOlder | uint32(micros)
	}
	if millis := micros/1000 + 1; millis < inMillis-1 {
		return madeOfOlder | inMillis | uint32(millis)
	}
	return OfOlder
}

// Older reports whether a value was derived from the one before.
func (h *Header) Older() bool { return h.Cost >= madeOfOlder }

// Began returns when a value began: when its load began, or the value that it was derived from.
// ok is false if that is not known.
func (h *Header) Began() (at int64, ok bool) {
	cost := int64(h.Cost &^ (madeOfOlder | inMillis))
	switch {
	case h.Cost == OfOlder:
		return 0, false
	case !h.Older():
		cost = int64(h.Cost)
	case h.Cost&inMillis != 0:
		cost *= 1000
	}
	return h.Stored - cost, true
}

// Frame is a frame that was read. Payload is a part of the bytes that were parsed; the strings
// are copies.
type Frame struct {
	Header
	Payload []byte
}

// TokenLen is the length of a frame's head that ends with its id, which distinguishes one write
// from another.
const TokenLen = 24

const (
	version   = 1
	sealLen   = 36
	headLen   = 100
	hashLen   = 8
	extrasAt  = 92
	payloadAt = 96

	extraTag  = 2
	extraETag = 4
)

var (
	magic      = [3]byte{0xC5, 'd', 'q'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	be         = binary.BigEndian
)

var (
	// ErrForeign: not written by this library.
	ErrForeign = errors.New("frame: foreign bytes")
	// ErrCorrupt: damaged, cut off, or moved here from another key.
	ErrCorrupt = errors.New("frame: corrupt")
	// ErrNewer: written by a newer version of this library.
	ErrNewer = errors.New("frame: of a newer version")
	// ErrTooLarge: more bytes than the length fields can express.
	ErrTooLarge = errors.New("frame: too large")
)

// Token returns the head of raw that ends with its id, or all of a shorter one. It
// is part of raw.
func Token(raw []byte) []byte { return raw[:min(TokenLen, len(raw))] }

// AppendSeal appends a section A.
func AppendSeal(dst []byte, kind Kind, id ID, limit int64) []byte {
	start := len(dst)
	dst = append(dst, magic[:]...)
	dst = append(dst, version, byte(kind), 0, 0, 0)
	dst = append(dst, id[:]...)
	dst = be.AppendUint64(dst, uint64(limit))
	return be.AppendUint32(dst, crc(dst[start:]))
}

func crc(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// AppendLease appends a lease without the time when its load began.
func AppendLease(dst []byte, id ID) []byte {
	return AppendSeal(dst, Lease, id, math.MaxInt64)
}

// AppendLeaseSince appends a lease whose load begins at a positive logical time. second: it
// replaces a lease that began earlier, whose load may still be in flight.
func AppendLeaseSince(dst []byte, id ID, time int64, second bool) []byte {
	if second {
		time = -time
	}
	return AppendSeal(dst, Lease, id, time)
}

// Since returns when the load of a lease began; ok is false if the lease does not have that.
func (h *Header) Since() (time int64, second, ok bool) {
	switch {
	case h.Kind != Lease || h.Limit == math.MaxInt64 || h.Limit == 0 || h.Limit == math.MinInt64:
		return 0, false, false
	case h.Limit < 0:
		return -h.Limit, true, true
	}
	return h.Limit, false, true
}

// AppendIntent appends an intent.
func AppendIntent(dst []byte, id ID) []byte {
	return AppendSeal(dst, Intent, id, math.MaxInt64)
}

const (
	// signMost is the number of ids in a sign at most, and signLen the length of each.
	signMost, signLen = 7, 8
	// signAll is the last byte of a sign if others wait than those it names.
	signAll = 1
)

// signOf returns the sign behind a lease: the ids of those who wait for its load.
func (k Kind) signOf(raw []byte) (sign []byte, ok bool) {
	if k != Lease || len(raw) <= sealLen || len(raw) > sealLen+signMost*signLen+1 {
		return nil, false
	}
	sign = raw[sealLen:]
	ids := sign
	if len(sign)%signLen == 1 {
		if last := len(sign) - 1; sign[last] == signAll {
			ids = sign[:last]
		}
	}
	if len(ids)%signLen != 0 || bytes.ContainsFunc(ids, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, false
	}
	return sign, true
}

// bare reports whether a frame of this kind has no section B.
func (k Kind) bare() bool { return k == Lease || k == Intent }

// AppendHeader appends the frame of h up to its payload, which the caller appends
// next, and then calls [Finish].
func AppendHeader(dst []byte, h *Header) []byte {
	start := len(dst)
	dst = AppendSeal(dst, h.Kind, h.ID, h.Limit)
	dst = be.AppendUint32(dst, h.Version)
	dst = be.AppendUint64(dst, h.Type)
	dst = be.AppendUint64(dst, uint64(h.Stored))
	dst = be.AppendUint64(dst, h.Fresh)
	dst = be.AppendUint64(dst, h.Stale)
	dst = be.AppendUint64(dst, uint64(h.LogicalTime))
	dst = be.AppendUint64(dst, h.Epoch)
	dst = be.AppendUint32(dst, h.Cost)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, tag := range h.Tags {
		dst = appendExtra(dst, extraTag, tag)
	}
	if h.ETag != "" {
		dst = appendExtra(dst, extraETag, h.ETag)
	}
	// A length that does not fit shows in Finish, whose total can't fit either.
	be.PutUint32(dst[start+extrasAt:], uint32(len(dst)-start-headLen))
	return dst
}

func appendExtra(dst []byte, typ byte, s string) []byte {
	dst = append(dst, typ)
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// Finish completes the frame that begins at start and ends with its payload: it
// fills in the payload's length and appends the hash. The error is [ErrTooLarge].
func Finish(buf []byte, start int, redisKey string) ([]byte, error) {
	size := len(buf) - start - headLen
	if uint64(size) > math.MaxUint32 { // negative ones are
		return buf, ErrTooLarge
	}
	payload := size - int(be.Uint32(buf[start+extrasAt:]))
	be.PutUint32(buf[start+payloadAt:], uint32(payload))
	return be.AppendUint64(buf, hash(redisKey, buf[start+sealLen:])), nil
}

func hash(redisKey string, section []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	var n [binary.MaxVarintLen64]byte
	d.Write(n[:binary.PutUvarint(n[:], uint64(len(redisKey)))])
	d.WriteString(redisKey)
	d.Write(section)
	return d.Sum64()
}

// MarkLen is the length of the mark in a frame whose section A is authenticated: the second
// half of its id, which is then computed from everything that it authenticates.
const MarkLen = 8

// AppendMarked appends what a mark authenticates of the frame that raw begins with: section A,
// and of section B the part of fixed length, up to the length of the extras. A marked frame has
// more than its section A only if its kind has.
func AppendMarked(dst, raw []byte) []byte {
	dst = append(dst, raw[:16]...)
	dst = append(dst, raw[24:32]...)
	if !Kind(raw[4]).bare() {
		dst = append(dst, raw[sealLen:payloadAt]...)
	}
	return dst
}

// Mark returns the mark of the frame that raw begins with.
func Mark(raw []byte) (mark [MarkLen]byte) { return [MarkLen]byte(raw[16:24]) }

// SetMark makes mark that of the frame that raw begins with.
func SetMark(raw []byte, mark [MarkLen]byte) {
	copy(raw[16:24], mark[:])
	be.PutUint32(raw[32:], crc(raw[:32]))
}

// AppendBound appends what a seal binds its payload to, of the frame that raw begins with up to
// its payload: the kind, and section B up to the payload without its length.
func AppendBound(dst, raw []byte) []byte {
	dst = append(dst, raw[4])
	dst = append(dst, raw[sealLen:payloadAt]...)
	return append(dst, raw[headLen:headLen+int(be.Uint32(raw[extrasAt:]))]...)
}

// Failed is the contents of a failure: a load that failed.
type Failed struct {
	Lease   ID     // of the load
	NoStale bool   // no stale value may be returned instead
	Cover   bool   // it concerns only callers that have a stale value
	Text    string // the text of its error
}

// AppendFailure appends the frame of a failed load, which replaces that load's lease.
func AppendFailure(dst []byte, redisKey string, h Header, f Failed) ([]byte, error) {
	h.Kind = Failure
	start := len(dst)
	return Finish(f.Append(AppendHeader(dst, &h)), start, redisKey)
}

// Append appends the payload of a failure.
func (f *Failed) Append(dst []byte) []byte {
	dst = append(dst, f.Lease[:]...)
	flags := byte(0)
	if f.NoStale {
		flags |= 1
	}
	if f.Cover {
		flags |= 2
	}
	dst = append(dst, flags)
	return append(dst, f.Text...)
}

// Failed returns the contents of a failure; ok is false for any other frame.
func (f *Frame) Failed() (failed Failed, ok bool) {
	n := len(failed.Lease)
	if f.Kind != Failure || len(f.Payload) <= n {
		return failed, false
	}
	copy(failed.Lease[:], f.Payload)
	failed.NoStale, failed.Cover = f.Payload[n]&1 != 0, f.Payload[n]&2 != 0
	failed.Text = string(f.Payload[n+1:])
	return failed, true
}

// HeadLen is the number of bytes of a frame that [ReadHead] reads.
const HeadLen = headLen

// ReadHead reads the first [HeadLen] bytes of a frame: Kind, ID, Limit, and where there is a
// section B, its fields up to Cost. Only section A is checked; the rest is not covered by a
// checksum here. The errors are those of [Parse].
func ReadHead(raw []byte) (h Header, err error) {
	if IsForeign(raw) {
		return h, ErrForeign
	}
	if len(raw) > len(magic) && raw[3] > version {
		return h, ErrNewer
	}
	if len(raw) < sealLen || raw[3] != version || crc(raw[:32]) != be.Uint32(raw[32:]) {
		return h, ErrCorrupt
	}
	if raw[5] != 0 || raw[6] != 0 || raw[7] != 0 || raw[4] < byte(Value) || raw[4] > byte(Intent) {
		return h, ErrNewer
	}
	h.Kind, h.Limit = Kind(raw[4]), int64(be.Uint64(raw[24:]))
	copy(h.ID[:], raw[8:])
	if h.Kind.bare() {
		h.Sign, _ = h.Kind.signOf(raw)
		return h, nil
	}
	if len(raw) < headLen {
		return h, ErrCorrupt
	}
	h.readB(raw)
	return h, nil
}

// readB reads the part of section B that has a fixed length.
func (h *Header) readB(raw []byte) {
	h.Version = be.Uint32(raw[36:])
	h.Type = be.Uint64(raw[40:])
	h.Stored = int64(be.Uint64(raw[48:]))
	h.Fresh = be.Uint64(raw[56:])
	h.Stale = be.Uint64(raw[64:])
	h.LogicalTime = int64(be.Uint64(raw[72:]))
	h.Epoch = be.Uint64(raw[80:])
	h.Cost = be.Uint32(raw[88:])
}

// IsForeign reports whether [Parse] returns [ErrForeign] for raw.
func IsForeign(raw []byte) bool { return !bytes.HasPrefix(raw, magic[:]) }

// Parse reads what is stored under redisKey. The error is [ErrForeign],
// [ErrCorrupt] or [ErrNewer]; nothing is allocated beyond a copy of the extras and
// one string header for each tag, together at most nine times len(raw).
func Parse(redisKey string, raw []byte) (f Frame, err error) {
	err = f.Parse(redisKey, raw)
	return f, err
}

// Parse is the function of this name into f, which is zero; after an error it is zero as well.
func (f *Frame) Parse(redisKey string, raw []byte) error {
	err := f.parse(redisKey, raw)
	if err != nil {
		*f = Frame{}
	}
	return err
}

func (f *Frame) parse(redisKey string, raw []byte) error {
	if IsForeign(raw) {
		return ErrForeign
	}
	// The layout of a newer version is unknown, its length included: look at the
	// version before anything else.
	if len(raw) > len(magic) && raw[3] > version {
		return ErrNewer
	}
	if len(raw) < sealLen {
		return ErrCorrupt
	}
	if raw[3] != version || crc(raw[:32]) != be.Uint32(raw[32:]) {
		return ErrCorrupt
	}
	f.Kind, f.Limit = Kind(raw[4]), int64(be.Uint64(raw[24:]))
	copy(f.ID[:], raw[8:])
	sign, signed := f.Kind.signOf(raw)
	switch {
	case raw[5] != 0 || raw[6] != 0 || raw[7] != 0 || f.Kind < Value || f.Kind > Intent:
		return ErrNewer
	case f.Kind.bare() && len(raw) == sealLen:
		return nil
	case signed:
		f.Sign = sign
		return nil
	case f.Kind.bare() || len(raw) < headLen+hashLen:
		return ErrCorrupt
	}
	end := len(raw) - hashLen
	extras, payload := uint64(be.Uint32(raw[extrasAt:])), uint64(be.Uint32(raw[payloadAt:]))
	if headLen+extras+payload != uint64(end) || hash(redisKey, raw[sealLen:end]) != be.Uint64(raw[end:]) {
		return ErrCorrupt
	}
	f.readB(raw)
	if err := f.parseExtras(raw[headLen : headLen+extras]); err != nil {
		return err
	}
	f.Payload = raw[headLen+extras : end : end]
	return nil
}

// parseExtras reads the extras twice: first to check and count them, so that the tags, of which
// there may be one in two bytes, are allocated at once and not by a slice that grows; then to
// take them out of one copy that they all share.
func (f *Frame) parseExtras(data []byte) error {
	tags, etag := 0, false
	for rest := data; len(rest) > 0; {
		typ, body, n := nextExtra(rest)
		if n == 0 {
			return ErrCorrupt
		}
		rest = rest[n:]
		switch {
		case typ == extraTag && !etag:
			tags++
		case typ == extraETag && !etag && len(body) > 0:
			etag = true
		case typ == extraTag || typ == extraETag:
			return ErrCorrupt
		case typ%2 == 0:
			return ErrNewer
		}
	}
	if tags == 0 && !etag {
		return nil
	}
	if tags > 0 {
		f.Tags = make([]string, 0, tags)
	}
	all := string(data)
	for at := 0; at < len(data); {
		typ, body, n := nextExtra(data[at:])
		at += n
		switch text := all[at-len(body) : at]; typ {
		case extraTag:
			f.Tags = append(f.Tags, text)
		case extraETag:
			f.ETag = text
		}
	}
	return nil
}

// nextExtra returns the extra that data begins with, and its length; 0 if it is not complete,
// or its length is encoded with more bytes than needed.
func nextExtra(data []byte) (typ byte, body []byte, n int) {
	size, w := binary.Uvarint(data[1:])
	if w <= 0 || w > 1 && data[w] == 0 || size > uint64(len(data)-1-w) {
		return 0, nil, 0
	}
	n = 1 + w + int(size)
	return data[0], data[1+w : n], n
}
