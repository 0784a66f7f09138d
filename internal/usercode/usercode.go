// Package usercode calls the functions that a program has given to a cache: loaders, stores,
// codecs, callbacks, the methods of keys, values and errors. Their failures are confined to the
// call and the key that they were called for: a panic becomes an error, and so does the end of
// a goroutine (runtime.Goexit) where the goroutine is one of the cache's.
//
//	[Call], [Do] on this goroutine: a panic is a *PanicError
//	[Contained]  on a goroutine of its own: and runtime.Goexit is ErrGoexit
//	[Each]       likewise for many calls in turn, on as few goroutines as possible
//	[Is], [As], [Text]  errors that the program made
package usercode

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// PanicError is the error of a call that panicked. The root package exports it.
type PanicError struct {
	Value any    // what the function panicked with
	Stack []byte // where, as debug.Stack formats it
}

func (e *PanicError) Error() string { return fmt.Sprintf("cache: a function panicked: %v", e.Value) }

// Unwrap returns Value where it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return Checked(err)
}

// ErrGoexit is the error of a call that ended its goroutine.
var ErrGoexit = errors.New("cache: the function ended its goroutine")

// Call calls f. Its error is that of f, see [Checked], or a *PanicError. If f ends the
// goroutine, that is the caller's: the caller must clean up in deferred functions.
func Call(f func() error) (err error) {
	defer Recover(&err)
	return Checked(f())
}

// Do is [Call] of a function without a result.
func Do(f func()) (err error) {
	defer Recover(&err)
	f()
	return nil
}

// Recover is to be deferred. It turns a panic into a *PanicError.
func Recover(err *error) {
	if v := recover(); v != nil {
		*err = Panic(v)
	}
}

// Panic is the error of a panic with v that was just recovered from.
func Panic(v any) *PanicError { return &PanicError{Value: v, Stack: debug.Stack()} }

// Contained is [Call] on a goroutine of its own, for which it waits. The error is [ErrGoexit]
// if f ended that goroutine.
func Contained(f func() error) (err error) {
	err = ErrGoexit // unless f returns or panics
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		err = Call(f)
	}()
	wg.Wait()
	return err
}

// EachIf is [Each], or if not apart, a loop on this goroutine: for calls that are known to run
// none of the program's code.
func EachIf(apart bool, n int, f func(i int), failed func(i int, err error)) {
	if apart {
		Each(n, f, failed)
		return
	}
	for i := range n {
		f(i)
	}
}

// Each calls f(0) … f(n-1) in turn, on a goroutine of its own, for which it waits. A call
// that panics or ends the goroutine is handed to failed, with a *PanicError or
// [ErrGoexit]; the calls after it are made all the same. failed is called on the
// caller's goroutine, when f is not running.
func Each(n int, f func(i int), failed func(i int, err error)) {
	for i := 0; i < n; i++ {
		err := Contained(func() error {
			for ; i < n; i++ {
				f(i)
			}
			return nil
		})
		if err == nil {
			return
		}
		failed(i, err)
	}
}
