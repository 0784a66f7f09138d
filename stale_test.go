package cache

import (
	"context"
	"errors"
	"sync/atomic"
)

var errFlaky = errors.New("the source fails")

// source is a system of record whose answers a test decides.
type source struct {
	calls atomic.Int32
	load  atomic.Pointer[func(context.Context) (string, error)]
}

func (s *source) Source() Source[string, string] {
	return SourceFunc(func(ctx context.Context, _ string) (string, error) {
		s.calls.Add(1)
		return (*s.load.Load())(ctx)
	})
}

func (s *source) will(f func(context.Context) (string, error)) { s.load.Store(&f) }
