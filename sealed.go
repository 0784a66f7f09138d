package cache

import (
	"math"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/usercode"
)

// A cache whose codec seals (see codec.Encrypted) believes nothing in Redis that was not
// written with the key:
//
//   - The payload of a value, an absence or a failure is sealed, and the seal binds the
//     Redis key, the kind, and all of section B: version, type, times, tags, ETag.
//   - Section A, which an invalidation replaces without knowing the rest, has a mark in
//     its id, over its limit and the times of section B. A value or an absence without a
//     good one counts as invalidated: whatever replaces section A can only shorten a life.
//     That is also how an invalidation by a program without the key is taken.
//   - Leases and intents have a mark, too. One without is replaced like damage.
//   - An entry of the write-behind queue is sealed under its key and operation.
//
// Nothing of this keeps a whole record from being put back that was seen under the same key
// before; see codec.Encrypted for what remains.

// seals returns the codec that seals, nil for none.
func seals(c codec.Codec) codec.Sealer {
	if s, ok := c.(codec.Sealer); ok && !isNil(c) && s.Seals() {
		return s
	}
	return nil
}

// signed gives the frame that raw begins with a mark.
func (c *Cache[K, V]) signed(rk string, raw []byte) []byte {
	if c.sealer != nil {
		frame.SetMark(raw, c.sealer.Mark(rk, frame.AppendMarked(nil, raw)))
	}
	return raw
}

// marked reports whether the mark of a frame is good, or needs not be.
func (c *Cache[K, V]) marked(rk string, raw []byte) bool {
	return c.sealer == nil || c.sealer.Marked(rk, frame.AppendMarked(nil, raw), frame.Mark(raw))
}

// resign is invalidation.Invalidator.Sign: the section A that invalidates a record. One that was not
// good before does not become so.
func (c *Cache[K, V]) resign(rk string, seen, section []byte) []byte {
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

// sealContext is what the payload of the frame that raw begins with is sealed under.
func sealContext(raw []byte) []byte { return frame.AppendBound([]byte("record"), raw) }

// marshalRecord appends the encoded value to the frame that ends with it.
func (c *Cache[K, V]) marshalRecord(rk string, buf []byte, val V) (out []byte, err error) {
	if c.sealer == nil {
		return c.marshal(rk, buf, val)
	}
	context := sealContext(buf)
	err = usercode.Call(func() (err error) {
		if err = c.checkHeld(val); err != nil {
			return err
		}
		out, err = c.sealer.MarshalIn(rk, context, buf, val)
		return err
	})
	return out, err
}

func (c *Cache[K, V]) unmarshalRecord(val *V, rk string, raw, payload []byte) error {
	if c.sealer == nil {
		return c.unmarshalTo(val, rk, payload)
	}
	return usercode.Call(func() error { return c.sealer.UnmarshalIn(rk, sealContext(raw), payload, val) })
}

// appendSealed appends the payload of a record other than a value.
func (c *Cache[K, V]) appendSealed(rk string, buf, payload []byte) []byte {
	if c.sealer == nil {
		return append(buf, payload...)
	}
	return c.sealer.SealIn(rk, sealContext(buf), buf, payload)
}

// authentic takes the seal off an absence or a failure, and the life from a value or an
// absence whose section A is not good. It reports whether the record may be believed; of a
// value that is found out when it is decoded.
func (c *Cache[K, V]) authentic(rk string, raw []byte, fr *frame.Frame) bool {
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

// What the entries of a write-behind queue are sealed under, beside their keys.

func queued(what string, meta []byte) []byte { return append([]byte("queue "+what+" "), meta...) }

// sealQueued returns what is queued as the value of a change.
func (c *Cache[K, V]) sealQueued(ch *change[K, V], meta []byte) ([]byte, error) {
	switch {
	case c.sealer == nil && ch.remove:
		return nil, nil
	case c.sealer == nil:
		return c.marshal(ch.rk, nil, ch.val)
	case ch.remove:
		return c.sealer.SealIn(ch.rk, queued("delete", meta), nil, nil), nil
	}
	if err := c.checkHeld(ch.val); err != nil {
		return nil, err
	}
	return c.sealer.MarshalIn(ch.rk, queued("set", meta), nil, ch.val)
}

// openQueued returns the value of a queued write.
func (c *Cache[K, V]) openQueued(rk string, remove bool, value, meta []byte) (val V, err error) {
	switch {
	case c.sealer == nil && remove:
	case c.sealer == nil:
		return c.unmarshal(rk, value)
	case remove:
		_, err = c.sealer.OpenIn(rk, queued("delete", meta), value)
	default:
		err = c.sealer.UnmarshalIn(rk, queued("set", meta), value, &val)
	}
	return val, err
}

// sealReason hides what the source has said of a write, which may quote it, and openReason
// returns it.
func (c *Cache[K, V]) sealReason(key, text string) string {
	return string(c.sealer.SealIn(c.prefix+key, queued("reason", nil), nil, []byte(text)))
}

func (c *Cache[K, V]) openReason(key, sealed string) (string, error) {
	if c.sealer == nil {
		return sealed, nil
	}
	text, err := c.sealer.OpenIn(c.prefix+key, queued("reason", nil), []byte(sealed))
	return string(text), err
}
