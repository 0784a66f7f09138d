package engine

import (
	"math"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/usercode"
)

// A cache whose codec seals (see codec.Encrypted) accepts no data in Redis that was not
// written with the key:
//
//   - The payload of a value, an absence or a failure is sealed, and the seal binds the
//     Redis key, the kind, and all of section B: version, type, times, tags, ETag.
//   - Section A, which an invalidation replaces without knowing the rest, has a tombstone in
//     its id, an authentication code over its limit and the times of section B. A value or
//     an absence without a valid mark counts as invalidated: replacing section A can only
//     shorten a life. An invalidation by a program without the key is treated in this way,
//     too.
//   - Leases and intents have a tombstone, too. One without a valid mark is replaced like a
//     corrupt record.
//   - An entry of the write-behind queue is sealed under its key and operation.
//
// None of this prevents the replay of a whole record that was read under the same key
// before; see codec.Encrypted for the remaining risks.

// seals returns c as a codec that seals, nil if it does not seal.
func seals(c codec.Codec) codec.Sealer {
	if s, ok := c.(codec.Sealer); ok && !usercode.IsNil(c) && s.Seals() {
		return s
	}
	return nil
}

// signed sets the tombstone of the frame at the beginning of raw, and returns raw.
func (c *remote) signed(rk string, raw []byte) []byte {
	if c.sealer != nil {
		frame.SetMark(raw, c.sealer.Mark(rk, frame.AppendMarked(nil, raw)))
	}
	return raw
}

// marked reports whether the tombstone of a frame is valid, or none is needed.
func (c *remote) marked(rk string, raw []byte) bool {
	return c.sealer == nil || c.sealer.Marked(rk, frame.AppendMarked(nil, raw), frame.Mark(raw))
}

// signAgain is invalidation.Invalidator.Sign: it signs the section A that invalidates a record. A
// record whose tombstone was not valid before does not get a valid one.
func (c *remote) signAgain(rk string, seen, section []byte) []byte {
	if len(seen) < frame.HeadLen || !c.marked(rk, seen) {
		h, _ := frame.ReadHead(section)
		section = frame.AppendSeal(nil, h.Kind, h.ID, min(h.Limit, 0))
	}
	raw := append(section[:len(section):len(section)], seen[min(len(section), len(seen)):]...)
	if len(raw) < frame.HeadLen {
		return section
	}
	return c.signed(rk, raw)[:len(section)]
}

// sealContext returns the additional data under which the payload of the frame at the beginning
// of raw is sealed.
func sealContext(raw []byte) []byte { return frame.AppendBound([]byte("record"), raw) }

// marshalRecord appends the encoded value to the frame that ends with it.
func (c *remote) marshalRecord(rk string, buf []byte, val Value) (out []byte, err error) {
	if c.sealer == nil {
		return c.marshal(rk, buf, val)
	}
	context := sealContext(buf)
	err = usercode.Call(func() (err error) {
		if err = c.checkHeld(val); err != nil {
			return err
		}
		out, err = c.sealer.MarshalIn(rk, context, buf, c.types.Elem(val))
		return err
	})
	return out, err
}

func (c *remote) unmarshalRecord(val Value, rk string, raw, payload []byte) error {
	if c.sealer == nil {
		return c.unmarshalTo(val, rk, payload)
	}
	return usercode.Call(func() error { return c.sealer.UnmarshalIn(rk, sealContext(raw), payload, val) })
}

// appendSealed appends the payload of a record other than a value.
func (c *remote) appendSealed(rk string, buf, payload []byte) []byte {
	if c.sealer == nil {
		return append(buf, payload...)
	}
	return c.sealer.SealIn(rk, sealContext(buf), buf, payload)
}

// authentic opens the seal of an absence or a failure, and ends the life of a value or an
// absence whose section A has no valid mark. It reports whether the record is authentic; a
// value's seal is checked when the value is decoded.
func (c *remote) authentic(rk string, raw []byte, fr *frame.Frame) bool {
	if c.sealer == nil {
		return true
	}
	if fr.Kind != frame.Value {
		plain, err := c.sealer.OpenIn(rk, sealContext(raw), fr.Payload)
		if err != nil {
			return false
		}
		fr.Payload = plain
	}
	if !c.marked(rk, raw) {
		fr.Limit = min(fr.Limit, 0)
	}
	return fr.Kind != frame.Failure || fr.Limit == math.MaxInt64
}

// queued returns the additional data, beside the key, under which a part of an entry of the
// write-behind queue is sealed.
func queued(what string, meta []byte) []byte { return append([]byte("queue "+what+" "), meta...) }

// sealQueued returns the encoded value of a change for the queue.
func (c *Cache) sealQueued(ch *Change, meta []byte) ([]byte, error) {
	switch {
	case c.sealer == nil && ch.remove:
		return nil, nil
	case c.sealer == nil:
		return c.marshal(ch.rk, nil, ch.Val)
	case ch.remove:
		return c.sealer.SealIn(ch.rk, queued("delete", meta), nil, nil), nil
	}
	if err := c.checkHeld(ch.Val); err != nil {
		return nil, err
	}
	return c.sealer.MarshalIn(ch.rk, queued("set", meta), nil, c.types.Elem(ch.Val))
}

// openQueued returns the value of a queued write.
func (c *Cache) openQueued(rk string, remove bool, value, meta []byte) (val Value, err error) {
	switch {
	case c.sealer == nil && remove:
	case c.sealer == nil:
		return c.unmarshal(rk, value)
	case remove:
		_, err = c.sealer.OpenIn(rk, queued("delete", meta), value)
	default:
		val = c.types.NewValue()
		err = c.sealer.UnmarshalIn(rk, queued("set", meta), value, val)
	}
	return val, err
}

// sealReason seals the text of the source's error for a write, which may quote the value;
// openReason opens it.
func (c *Cache) sealReason(key, text string) string {
	return string(c.sealer.SealIn(c.prefix+key, queued("reason", nil), nil, []byte(text)))
}

func (c *Cache) openReason(key, sealed string) (string, error) {
	if c.sealer == nil {
		return sealed, nil
	}
	text, err := c.sealer.OpenIn(c.prefix+key, queued("reason", nil), []byte(sealed))
	return string(text), err
}
