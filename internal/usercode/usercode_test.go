package usercode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// hostile is an error whose methods panic.
type hostile struct{}

func (hostile) Error() string    { panic("Error") }
func (hostile) Is(error) bool    { panic("Is") }
func (hostile) As(any) bool      { panic("As") }
func (hostile) Unwrap() error    { panic("Unwrap") }
func typedNil() error            { return (*net.OpError)(nil) }
func isPanic(err error) bool     { _, ok := err.(*PanicError); return ok }
func runs(f func()) func() error { return func() error { f(); return nil } }

func TestWhateverAFunctionDoesIsAnError(t *testing.T) {
	plain := errors.New("plain")
	for _, test := range []struct {
		name string
		f    func() error
		want func(error) bool
	}{
		{"returns", runs(func() {}), func(err error) bool { return err == nil }},
		{"returns an error", func() error { return plain }, func(err error) bool { return err == plain }},
		{"returns a nil pointer", typedNil, func(err error) bool { return err != nil && strings.Contains(err.Error(), "*net.OpError") }},
		{"panics", runs(func() { panic(1) }), isPanic},
		{"panics with nil", runs(func() { panic(nil) }), isPanic},
		{"panics with an error", runs(func() { panic(io.EOF) }), func(err error) bool { return isPanic(err) && errors.Is(err, io.EOF) }},
		{"panics with a nil pointer", runs(func() { panic(typedNil()) }), func(err error) bool { return isPanic(err) && !errors.Is(err, io.EOF) && err.Error() != "" }},
		{"panics with what panics", runs(func() { panic(hostile{}) }), func(err error) bool { return isPanic(err) && !Is(err, io.EOF) && err.Error() != "" }},
	} {
		if err := Call(test.f); !test.want(err) {
			t.Errorf("Call of what %s: %T", test.name, err)
		}
		if err := Contained(test.f); !test.want(err) {
			t.Errorf("Contained of what %s: %T", test.name, err)
		}
	}
	if err := Contained(runs(runtime.Goexit)); err != ErrGoexit {
		t.Errorf("Contained of what ends its goroutine: %v", err)
	}
}

func TestEachGoesOn(t *testing.T) {
	for _, bad := range [][]int{nil, {0}, {4}, {1, 2}, {0, 1, 2, 3, 4}} {
		for how, f := range map[string]func(){"panic": func() { panic("no") }, "Goexit": runtime.Goexit} {
			var done, failed []int
			Each(5, func(i int) {
				if slices.Contains(bad, i) {
					f()
				}
				done = append(done, i)
			}, func(i int, err error) {
				if (how == "panic") != isPanic(err) || (how == "Goexit") != (err == ErrGoexit) {
					t.Errorf("%s: %v", how, err)
				}
				failed = append(failed, i)
			})
			if !slices.Equal(failed, bad) || len(done) != 5-len(bad) {
				t.Errorf("%s of %v: failed %v, done %v", how, bad, failed, done)
			}
		}
	}
}

func TestErrorsOfTheProgramCanBeLookedAt(t *testing.T) {
	for name, err := range map[string]error{
		"nil pointer": typedNil(), "hostile": hostile{}, "wrapped": fmt.Errorf("a: %w", hostile{}), "joined": errors.Join(hostile{}, io.EOF),
		"checked": Checked(typedNil()), "panic": &PanicError{Value: hostile{}}, "uncomparable": uncomparable{[]any{1}},
	} {
		if Is(err, context.Canceled) {
			t.Errorf("%s matches", name)
		}
		if _, ok := As[*net.AddrError](err); ok {
			t.Errorf("%s is found", name)
		}
		if Text(err) == "" {
			t.Errorf("%s has no text", name)
		}
		Panicked(err)
	}
	if err := fmt.Errorf("a: %w", io.EOF); !Is(err, io.EOF) || Is(nil, io.EOF) || !Is(nil, nil) || Is(io.EOF, nil) {
		t.Error("Is is not errors.Is")
	}
	if Is(uncomparable{[]any{1}}, uncomparable{[]any{1}}) {
		t.Error("what can't be compared matches")
	}
	if !Panicked(fmt.Errorf("a: %w", &PanicError{})) || Panicked(io.EOF) || Panicked(nil) {
		t.Error("Panicked")
	}
	if err := Checked(fmt.Errorf("load: %w", typedNil())); errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "load: ") {
		t.Errorf("a wrapped nil pointer: %v", err)
	}
	ok := (*fine)(nil)
	if Checked(ok) != error(ok) {
		t.Error("a nil pointer that can be asked for its text was replaced")
	}
}

type uncomparable struct{ v any }

func (uncomparable) Error() string { return "uncomparable" }

type fine struct{}

func (*fine) Error() string { return "fine" }
