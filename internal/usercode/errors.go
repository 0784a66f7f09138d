package usercode

import (
	"errors"
	"fmt"
	"reflect"
)

// Checked returns err, or a replacement for an error that can't be used, since its Error, Is,
// As or Unwrap panics. Mostly that is a nil pointer in an interface: the mistake of returning a
// variable of a concrete type as an error.
func Checked(err error) error {
	if text, ok := look(err); !ok {
		return &unusableError{typ: reflect.TypeOf(err), null: IsNil(err), text: text}
	}
	return err
}

// Usable reports whether the methods of err can be called.
func Usable(err error) bool {
	_, ok := look(err)
	return ok
}

func look(err error) (text string, ok bool) {
	if err == nil || reflect.TypeOf(err) == plain {
		return "", true
	}
	failed := Do(func() {
		text = err.Error()
		errors.Is(err, errProbe)
		errors.AsType[*probe](err)
	})
	return text, failed == nil
}

// plain is the type of errors.New, without methods but Error.
var plain = reflect.TypeOf(errProbe)

var errProbe = errors.New("")

type probe struct{ error }

// IsNil reports whether v is nil, or its value is, as that of a nil pointer in an interface.
func IsNil(v any) bool {
	switch rv := reflect.ValueOf(v); rv.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Func, reflect.Chan:
		return rv.IsNil()
	}
	return false
}

// unusableError stands for an error whose methods panic.
type unusableError struct {
	typ  reflect.Type
	null bool   // it is a nil value of that type
	text string // its own, "" if Error panics
}

func (e *unusableError) Error() string {
	switch {
	case e.null:
		return fmt.Sprintf("cache: a function returned a nil %v as its error, which is not a nil error", e.typ)
	case e.text == "":
		return fmt.Sprintf("cache: a function returned an error of type %v, whose methods panic", e.typ)
	}
	return fmt.Sprintf("cache: a function returned an error of type %v, whose methods panic: %s", e.typ, e.text)
}

// Panicked reports whether err is that of a call that panicked. Such an error is no result of
// the function, whatever the panic's value.
func Panicked(err error) bool {
	_, ok := As[*PanicError](err)
	return ok
}

// Is is [errors.Is] of an error that the program may have made, whose methods may panic:
// it then does not match.
func Is(err, target error) (is bool) {
	_ = Do(func() { is = errors.Is(err, target) })
	return is
}

// As is [errors.AsType] likewise.
func As[E error](err error) (target E, ok bool) {
	_ = Do(func() { target, ok = errors.AsType[E](err) })
	return target, ok
}

// Text is the text of such an error.
func Text(err error) (text string) {
	if Do(func() { text = err.Error() }) != nil {
		return fmt.Sprintf("an error of type %T, whose text can't be had", err)
	}
	return text
}
