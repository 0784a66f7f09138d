package engine

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/usercode"
)

// encodeValue encodes a value as a record with an ID of its own. now is the time of the key's
// node in µs.
func (c *remote) encodeValue(id frame.ID, rk string, val Value, l life, now int64, s version, tags []string, etag string, cost uint32) ([]byte, error) {
	return c.encodeInto(nil, id, rk, val, l, now, s, tags, etag, cost)
}

// encodeInto is encodeValue into memory that records share, which may be nil.
func (c *remote) encodeInto(m *records, id frame.ID, rk string, val Value, l life, now int64, s version, tags []string, etag string, cost uint32) ([]byte, error) {
	h := c.header(frame.Value, l, now, s)
	h.Tags, h.ETag = tags, etag
	h.ID, h.Cost = id, cost
	return c.sealInto(m, rk, val, &h)
}

// costOf is the cost of a value that took so long. The time that it is dated by may be ahead of
// the clock of the key's node: the value is not to count as one that began later than it did,
// or an invalidation that came after it would spare it.
func (c *remote) costOf(rk string, took time.Duration) uint32 {
	return frame.CostOf(max(took.Microseconds(), 0) + c.client.ClockError(rk))
}

// costOfOlder is the cost of a value that is stored now, by the clock of the key's node, and was
// derived from an older one: it began when that did.
func costOfOlder(old *frame.Header, now int64) uint32 {
	began, ok := old.Began()
	if !ok || old.Stored > now+invalidation.ClocksApart {
		return frame.OfOlder
	}
	return frame.CostOfOlder(now - began)
}

func (c *remote) seal(rk string, val Value, h *frame.Header) ([]byte, error) {
	return c.sealInto(nil, rk, val, h)
}

func (c *remote) sealInto(m *records, rk string, val Value, h *frame.Header) ([]byte, error) {
	// As large as the last one: the records of one cache are mostly of similar size.
	buf := frame.AppendHeader(m.begin(min(max(int(c.recordSize.Load()), 256), maxRecordSpace)), h)
	c.signed(rk, buf)
	head := len(buf)
	buf, err := c.marshalRecord(rk, buf, val)
	if err == nil && len(buf) < head {
		err = errors.New("what it returns is shorter than what it was to append to")
	}
	if err != nil {
		return nil, fmt.Errorf("encode with %s: %w", c.codecName, err)
	}
	if size := len(buf) - head; size > c.maxValue {
		return nil, fmt.Errorf("%w: %d bytes encoded, and WithMaxValueSize allows %d", errs.ErrTooLarge, size, c.maxValue)
	}
	if buf, err = frame.Finish(buf, 0, rk); err == nil {
		c.recordSize.Store(int64(len(buf)))
	}
	return m.end(buf), err
}

// maxRecordSpace bounds the space reserved for a record before its size is known.
const maxRecordSpace = 16 << 10

// encodeKept encodes a value that replaces another one and inherits its deadline, its
// tags unless it has its own, and its version: it was derived from that value, and began
// when that did. With a version of its own it would survive an invalidation that the old
// value has not survived:
//
//  1. a value is read, with tag t
//  2. t is invalidated
//  3. the value is changed and stored; the value that it was derived from is invalid
func (c *remote) encodeKept(rk string, val Value, old *frame.Header, tags []string, now int64) ([]byte, error) {
	h := *old
	if h.Fresh > 0 {
		end := h.Stored + int64(min(h.Fresh, math.MaxInt64/2))
		h.Fresh = uint64(max(end-now, 1))
	}
	h.Stored, h.Cost = now, costOfOlder(old, now)
	h.ID, h.ETag = frame.NewID(), "" // the ETag was that of the old value
	if len(tags) > 0 {
		h.Tags = tags
	}
	return c.seal(rk, val, &h)
}

// encodeAbsence encodes the record that a value does not exist. Its payload names
// the errors of NotFoundTTL's list that the source's answer matched, by their
// texts: positions in the list may change from one program to the next.
func (c *remote) encodeAbsence(rk string, reasons []error, l life, now int64, s version, cost time.Duration) ([]byte, error) {
	h := c.header(frame.Absence, l, now, s)
	h.ID = frame.NewID()
	h.Cost = c.costOf(rk, cost)
	buf := c.signed(rk, frame.AppendHeader(make([]byte, 0, 192), &h))
	return frame.Finish(c.appendSealed(rk, buf, appendReasons(nil, reasons)), 0, rk)
}

// maxReason bounds how much of a failed load's error text is passed on, in bytes.
const maxReason = 1024

// encodeFailure encodes the record that the load of a lease or lock has failed. hold is how
// long the source is not to be asked again, in all processes; 0: only loads that are waiting
// take the failure as their own. replaces identifies the record that a lock's load was to
// replace. If values are sealed, the error's text, which may quote them, is not passed on.
func (c *remote) encodeFailure(key string, lease frame.ID, e failure, hold time.Duration, replaces string, now int64) ([]byte, error) {
	failed := frame.Failed{Lease: lease, NoStale: !allowsStaleValue(e.err), Cover: e.cover}
	if _, sealed := c.codec.(codec.KeyBound); !sealed {
		text := usercode.Text(e.err)
		failed.Text = strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
	}
	h := c.header(frame.Failure, life{fresh: hold}, now, e.version)
	h.ID = frame.NewID()
	h.ETag = replaces
	buf := c.signed(key, frame.AppendHeader(nil, &h))
	return frame.Finish(c.appendSealed(key, buf, failed.Append(nil)), 0, key)
}

// header returns the header of a record, without an ID.
func (c *remote) header(kind frame.Kind, l life, now int64, s version) frame.Header {
	return frame.Header{
		Kind: kind, Limit: math.MaxInt64,
		Version: c.valueVersion, Type: c.fingerprint, Epoch: s.epoch, LogicalTime: s.time,
		Stored: now, Fresh: uint64(l.fresh.Microseconds()), Stale: uint64(l.stale.Microseconds()),
	}
}
