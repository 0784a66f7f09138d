package codec_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/valuetest"
)

// trip encodes and decodes a value: what comes back, or the error of whatever refuses it.
func trip(c codec.Codec, v any) (back any, err error) {
	defer func() {
		if r := recover(); r != nil { // of a method of the value's: it is the cache that takes these
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	t := reflect.TypeOf(v)
	if err := c.(codec.TypeChecker).CheckType(t); err != nil {
		return nil, err
	}
	data, err := c.Marshal([]byte("before"), v)
	if err != nil {
		return nil, err
	}
	target := reflect.New(t)
	if err := c.Unmarshal(data[len("before"):], target.Interface()); err != nil {
		return nil, unreadable{err}
	}
	return target.Elem().Interface(), nil
}

// unreadable is the error of what was encoded all the same.
type unreadable struct{ error }

// Whatever the type and the value, it comes back or is refused with the reason.
func TestEveryValueComesBackOrIsRefused(t *testing.T) {
	for name, c := range codecs() {
		format := "msgpack"
		if strings.Contains(c.Name(), "json") {
			format = "json"
		}
		for _, tt := range valuetest.Cases() {
			back, err := trip(c, tt.Value)
			_, lost := err.(unreadable)
			switch keeps := format == "json" && tt.JSON || format == "msgpack" && tt.Msgpack; {
			case lost:
				t.Errorf("%s encodes %T %+v and does not read it: %v", name, tt.Value, tt.Value, err)
			case keeps && err != nil:
				t.Errorf("%s refuses %T %+v: %v", name, tt.Value, tt.Value, err)
			case err == nil && !valuetest.Same(tt.Value, back):
				t.Errorf("%s: %T %+v reads as %+v", name, tt.Value, tt.Value, back)
			case !keeps && err == nil && !(strings.Contains(name, "strict") && tt.Msgpack):
				t.Errorf("%s keeps %T %+v", name, tt.Value, tt.Value)
			}
			if back, err := held(c, tt.Value); err == nil && !valuetest.SameHeld(tt.Value, back) {
				t.Errorf("%s: %T %+v in an interface reads as %T %+v", name, tt.Value, tt.Value, back, back)
			}
		}
	}
}

// held is trip of a value for which there is no type but that of an interface.
func held(c codec.Codec, v any) (back any, err error) {
	if err := c.(interface{ CheckHeld(any) error }).CheckHeld(v); err != nil {
		return nil, err
	}
	data, err := c.Marshal(nil, v)
	if err == nil {
		if err := c.Unmarshal(data, &back); err != nil {
			return unreadable{err}, nil
		}
	}
	return back, err
}

func FuzzValues(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		data := make([]byte, rnd.IntN(200))
		for i := range data {
			data[i] = byte(rnd.Uint32())
		}
		f.Add(data)
	}
	all := codecs()
	f.Fuzz(func(t *testing.T, data []byte) {
		v := valuetest.From(data)
		for _, name := range []string{"json", "json strict", "msgpack", "all"} {
			back, err := trip(all[name], v)
			if _, lost := err.(unreadable); lost {
				t.Errorf("%s encodes %T %+v and does not read it: %v", name, v, v, err)
			} else if err == nil && !valuetest.Same(v, back) {
				t.Errorf("%s: %T %#v reads as %#v", name, v, v, back)
			}
			if back, err := held(all[name], v); err == nil && !valuetest.SameHeld(v, back) {
				t.Errorf("%s: %T %#v in an interface reads as %T %#v", name, v, v, back, back)
			}
		}
	})
}
