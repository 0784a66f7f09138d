// Package codectest checks that a codec has the properties that a cache relies on.
//
//	func TestMyCodec(t *testing.T) {
//		codectest.Run(t, mycodec.New(), User{}, User{ID: 1, Name: "Ada"})
//	}
package codectest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/delqhi/cache/codec"
)

// Run checks c with values, each of a type that c can encode; at least one is needed. It
// reports failures through t and continues, so that one run shows all of them:
//
//   - the name is not empty and does not change;
//   - every value comes back equal, by reflect.DeepEqual, whatever was in the target and
//     precedes the value in the buffer;
//   - the bytes before the value in the buffer are not modified, and the input of decoding is
//     neither modified nor kept;
//   - damaged or truncated input gives an error or some value, and never a panic;
//   - all this from several goroutines at once: run it with -race;
//   - a codec bound to keys does not decode what was encoded for another key.
func Run(t *testing.T, c codec.Codec, values ...any) {
	t.Helper()
	for _, err := range Check(c, values...) {
		t.Error(err)
	}
}

// Check is Run without a test: it returns the failures.
func Check(c codec.Codec, values ...any) []error {
	k := &check{c: c}
	if len(values) == 0 {
		k.fail("a value is needed to check with")
		return k.errs
	}
	k.name()
	for _, v := range values {
		k.value(v)
	}
	k.concurrently(values)
	return k.errs
}

// redisKey is any key.
const redisKey = "prefix:name:key"

type check struct {
	c    codec.Codec
	mu   sync.Mutex
	errs []error
}

func (k *check) fail(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.errs = append(k.errs, fmt.Errorf(format, args...))
}

func (k *check) name() {
	name := k.c.Name()
	if name == "" {
		k.fail("Name is empty")
	}
	if again := k.c.Name(); again != name {
		k.fail("Name was %q and is %q", name, again)
	}
}

func (k *check) value(v any) {
	typ := reflect.TypeOf(v)
	if tc, ok := k.c.(codec.TypeChecker); ok {
		if err := tc.CheckType(typ); err != nil {
			k.fail("%v: CheckType: %v", typ, err)
			return
		}
	}
	data, ok := k.marshal(nil, v)
	if !ok {
		return
	}
	k.appends(v, len(data))
	k.roundTrip(data, v)
	k.keepsOff(data, v)
	k.damaged(data, typ)
	k.bound(v)
}

// protect turns a panic into a failure.
func (k *check) protect(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			k.fail("%s panicked: %v", what, r)
		}
	}()
	f()
}

func (k *check) marshal(dst []byte, v any) (out []byte, ok bool) {
	k.protect("Marshal", func() {
		var err error
		if kb, is := k.c.(codec.KeyBound); is {
			out, err = kb.MarshalFor(redisKey, dst, v)
		} else {
			out, err = k.c.Marshal(dst, v)
		}
		if ok = err == nil; !ok {
			k.fail("%T: Marshal: %v", v, err)
		}
	})
	return out, ok
}

func (k *check) unmarshal(key string, data []byte, target any) (err error) {
	k.protect(fmt.Sprintf("Unmarshal into %T", target), func() {
		if kb, is := k.c.(codec.KeyBound); is {
			err = kb.UnmarshalFor(key, data, target)
		} else {
			err = k.c.Unmarshal(data, target)
		}
	})
	return err
}

// appends checks that Marshal appends.
func (k *check) appends(v any, size int) {
	prefix := []byte("what was there before")
	for _, room := range []int{0, size / 2, 4*size + 1024} {
		dst := append(make([]byte, 0, len(prefix)+room), prefix...)
		out, ok := k.marshal(dst, v)
		if !ok {
			return
		}
		if !bytes.HasPrefix(out, prefix) {
			k.fail("%T: Marshal does not append: what was before the value is gone", v)
			return
		}
		target := reflect.New(reflect.TypeOf(v))
		if err := k.unmarshal(redisKey, out[len(prefix):], target.Interface()); err != nil || !same(v, target) {
			k.fail("%T: appended to something, with room for %d bytes, it reads as %v, %v", v, room, target.Elem(), err)
		}
	}
}

func same(v any, target reflect.Value) bool {
	return reflect.DeepEqual(v, target.Elem().Interface())
}

// roundTrip decodes into an empty target.
func (k *check) roundTrip(data []byte, v any) {
	target := reflect.New(reflect.TypeOf(v))
	if err := k.unmarshal(redisKey, bytes.Clone(data), target.Interface()); err != nil {
		k.fail("%T: Unmarshal: %v", v, err)
	} else if !same(v, target) {
		k.fail("%T: %#v reads as %#v", v, v, target.Elem())
	}
}

// keepsOff checks that the input is neither modified nor kept.
func (k *check) keepsOff(data []byte, v any) {
	input := bytes.Clone(data)
	target := reflect.New(reflect.TypeOf(v))
	if err := k.unmarshal(redisKey, input, target.Interface()); err != nil {
		return // reported already
	}
	if !bytes.Equal(input, data) {
		k.fail("%T: Unmarshal modifies its input", v)
	}
	for i := range input {
		input[i] ^= 0xff
	}
	if !same(v, target) {
		k.fail("%T: the value changes with the input it was decoded from", v)
	}
}

// damaged decodes input that no encoder makes.
func (k *check) damaged(data []byte, typ reflect.Type) {
	rnd := rand.New(rand.NewPCG(1, 2))
	try := func(b []byte) { _ = k.unmarshal(redisKey, b, reflect.New(typ).Interface()) }
	for n := 0; n < len(data); n += 1 + len(data)/256 {
		try(bytes.Clone(data[:n]))
	}
	for range 500 {
		b := bytes.Clone(data)
		for range 1 + rnd.IntN(4) {
			if len(b) > 0 {
				b[rnd.IntN(len(b))] = byte(rnd.Uint32())
			}
		}
		try(b)
		garbage := make([]byte, rnd.IntN(64))
		for i := range garbage {
			garbage[i] = byte(rnd.Uint32())
		}
		try(garbage)
	}
}

// bound checks that a record of one key does not open under another.
func (k *check) bound(v any) {
	if _, is := k.c.(codec.KeyBound); !is {
		return
	}
	data, ok := k.marshal(nil, v)
	if !ok {
		return
	}
	// A codec that wraps one which is not bound to keys opens both.
	here, there := reflect.New(reflect.TypeOf(v)), reflect.New(reflect.TypeOf(v))
	if err := k.unmarshal(redisKey, data, here.Interface()); err != nil {
		k.fail("%T: UnmarshalFor the same key: %v", v, err)
	}
	if err := k.unmarshal(redisKey+"2", data, there.Interface()); err == nil && !same(v, there) {
		k.fail("%T: UnmarshalFor another key gives another value instead of an error", v)
	}
}

// concurrently encodes and decodes different values concurrently.
func (k *check) concurrently(values []any) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 50 {
				v := values[(g+i)%len(values)]
				data, ok := k.marshal(nil, v)
				if !ok {
					return
				}
				target := reflect.New(reflect.TypeOf(v))
				if err := k.unmarshal(redisKey, data, target.Interface()); err != nil || !same(v, target) {
					k.fail("%T: side by side with others it reads as %#v, %v", v, target.Elem(), err)
					return
				}
			}
		})
	}
	wg.Wait()
}
