package codectest_test

import (
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/codec/codectest"
)

// Each broken codec must be found out.
func TestBrokenCodecsAreFoundOut(t *testing.T) {
	good := codec.JSON()
	var calls atomic.Int32
	for want, c := range map[string]codec.Codec{
		"does not append": codec.Func("x", func(_ []byte, v any) ([]byte, error) { return json.Marshal(v) }, good.Unmarshal),
		"modifies its input": codec.Func("x", good.Marshal, func(data []byte, v any) error {
			err := good.Unmarshal(data, v)
			if len(data) > 0 {
				data[0] = 'x'
			}
			return err
		}),
		"changes with the input": codec.Func("x",
			func(dst []byte, v any) ([]byte, error) { return append(dst, v.([]byte)...), nil },
			func(data []byte, v any) error { *v.(*[]byte) = data; return nil }),
		"panicked": codec.Func("x", good.Marshal, func(data []byte, v any) error {
			if data[0] != 'x' && len(data) > 2 {
				return good.Unmarshal(data, v)
			}
			panic("short")
		}),
		"reads as":        codec.Func("x", good.Marshal, func(data []byte, v any) error { return nil }),
		"Unmarshal: boom": codec.Func("x", good.Marshal, func(data []byte, v any) error { return errors.New("boom") }),
		"side by side": codec.Func("x", good.Marshal, func(data []byte, v any) error {
			if n := calls.Add(1); n > 5000 && n%7 == 0 {
				return errors.New("tired")
			}
			return good.Unmarshal(data, v)
		}),
		"CheckType": codec.Raw(),
	} {
		var v any = []int{1, 2, 3}
		if want == "changes with the input" {
			v = []byte("bytes")
		}
		if want == "side by side" {
			for calls.Store(0); calls.Load() < 5000; {
				_ = c.Unmarshal([]byte("[1]"), new([]int))
			}
		}
		errs := codectest.Check(c, v)
		text := errors.Join(errs...)
		if text == nil || !strings.Contains(text.Error(), want) {
			t.Errorf("not found out: %s; said was: %v", want, text)
		}
	}
	if errs := codectest.Check(good); len(errs) != 1 {
		t.Errorf("without values: %v", errs)
	}
}
