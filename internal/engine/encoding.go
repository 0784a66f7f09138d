package engine

import (
	"reflect"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/usercode"
)

// A holder is a codec that can tell whether the value in an interface survives a round trip.
type holder interface{ CheckHeld(v any) error }

// holds returns the codec if t is an interface type. A codec is given only the dynamic value,
// without the interface, and so can't tell by itself.
func holds(cd codec.Codec, t reflect.Type) holder {
	if h, ok := cd.(holder); ok && t.Kind() == reflect.Interface {
		return h
	}
	return nil
}

func (c *Cache) checkHeld(val Value) error {
	if c.held == nil {
		return nil
	}
	return c.held.CheckHeld(c.types.Elem(val))
}

// marshal encodes a value. A panic of the codec or of a method of the value is an error.
func (c *Cache) marshal(rk string, dst []byte, val Value) (out []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			out, err = dst, usercode.Panic(v)
		}
		err = usercode.Checked(err)
	}()
	if err := c.checkHeld(val); err != nil {
		return dst, err
	}
	if kb, ok := c.codec.(codec.KeyBound); ok {
		return kb.MarshalFor(rk, dst, c.types.Elem(val))
	}
	return c.codec.Marshal(dst, c.types.Elem(val))
}

func (c *Cache) unmarshal(rk string, data []byte) (val Value, err error) {
	val = c.types.NewValue()
	return val, c.unmarshalTo(val, rk, data)
}

// unmarshalTo is unmarshal into val, which is empty. A decoder that panics counts as one that
// returns an error.
func (c *Cache) unmarshalTo(val Value, rk string, data []byte) (err error) {
	defer usercode.Recover(&err)
	switch k := c.codec.(type) {
	case codec.KeyBound:
		return k.UnmarshalFor(rk, data, val)
	case interface{ UnmarshalOwned([]byte, any) error }:
		// The reply was read for this call alone, so the value may retain it.
		return k.UnmarshalOwned(data, val)
	}
	return c.codec.Unmarshal(data, val)
}
