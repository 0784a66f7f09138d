package store

import "context"

type background struct{}

// Background marks a context: what is done under it was not asked for by a user of the
// cache.
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, background{}, true)
}

// IsBackground reports whether ctx was marked by [Background].
func IsBackground(ctx context.Context) bool { return ctx.Value(background{}) != nil }
