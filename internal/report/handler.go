package report

import (
	"context"
	"log/slog"

	"github.com/delqhi/cache/internal/usercode"
)

// handler calls the handler of the program's logger. A fault of it must not affect the operation
// that is reported: it is called in the middle of it, sometimes by the cache's own goroutines. A
// call that panics has no effect.
type handler struct{ slog.Handler }

func (h handler) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	_ = usercode.Contained(func() error {
		enabled = h.Handler.Enabled(ctx, level)
		return nil
	})
	return enabled
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	return usercode.Contained(func() error { return h.Handler.Handle(ctx, r) })
}
