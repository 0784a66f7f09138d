package memory_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/delqhi/cache"
)

// countedError counts how often it is asked for its text.
type countedError struct {
	text  string
	asked *int
}

func (e countedError) Error() string { *e.asked++; return e.text }

func TestALargeBatchErrorAsksEachErrorForItsTextAFewTimes(t *testing.T) {
	const n = 50_000
	for name, text := range map[string]func(i int) string{
		"different": func(i int) string { return fmt.Sprintf("user %d: connection refused", i) },
		"the same":  func(int) string { return "connection refused" },
	} {
		asked := 0
		e := &cache.BatchError[int]{Errs: map[int]error{}}
		for i := range n {
			e.Errs[i] = countedError{text(i), &asked}
		}
		if s := e.Error(); !strings.Contains(s, "50000 keys failed") {
			t.Errorf("%s: %s", name, s)
		}
		if asked > 3*n {
			t.Errorf("%s: %d errors are asked %d times", name, n, asked)
		}
	}
}

func TestAnyBatchErrorCanBeLookedAt(t *testing.T) {
	for name, e := range map[string]*cache.BatchError[string]{
		"nil":          nil,
		"empty":        {},
		"nil error":    {Errs: map[string]error{"k": nil}},
		"nil pointer":  {Errs: map[string]error{"k": (*net.OpError)(nil), "l": io.EOF}},
		"hostile":      {Errs: map[string]error{"k": wildError{}, "l": io.EOF}},
		"uncomparable": {Errs: map[string]error{"k": uncomparableError{"a"}, "l": uncomparableError{"b"}}},
		"nested":       {Errs: map[string]error{"k": (*cache.BatchError[string])(nil)}},
	} {
		if e.Error() == "" || e.For("k") != nil && e == nil {
			t.Error(name)
		}
		errors.Is(e, context.Canceled)
		errors.AsType[*net.AddrError](error(e))
		if want := name == "nil pointer" || name == "hostile"; errors.Is(e, io.EOF) != want {
			t.Errorf("%s matches io.EOF: %v", name, !want)
		}
	}
}

type uncomparableError []string

func (e uncomparableError) Error() string { return e[0] }
