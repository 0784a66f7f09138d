package e2e_test

import (
	"context"
	"errors"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
)

// A bad argument is no outage.
func TestTheIDOfADeadLetterIsChecked(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		c := on(t, b, "n", cache.Source[string, string]{
			Load:  func(context.Context, string) (string, error) { return "", cache.ErrNotFound },
			Store: func(context.Context, string, string) error { return nil },
		}, cache.WithStrategy(strategy.WriteBehind()))
		for _, id := range []string{"", "1", "1-1", "x/1-1", "-1/1-1", "8/1-1", "1/", "1/1", "1/1-", "1/-1", "1/1-1-1", "1/a-1", "1/*"} {
			for what, call := range map[string]func(context.Context, ...string) (int, error){"replay": c.ReplayDeadLetters, "discard": c.DiscardDeadLetters} {
				if n, err := call(t.Context(), id); n != 0 || !errors.Is(err, cache.ErrInvalidOption) || errors.Is(err, cache.ErrUnavailable) {
					t.Errorf("%s %q: %d, %v", what, id, n, err)
				}
			}
		}
		if n, err := c.DiscardDeadLetters(t.Context(), "1/1-1"); n != 0 || err != nil {
			t.Errorf("one that is not there: %d, %v", n, err)
		}
	})
}
