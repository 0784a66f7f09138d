package store

import "context"

type background struct{}

// Background marks a context as one of background work, which no user of the cache has asked
// for.
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, background{}, true)
}

// IsBackground reports whether ctx was marked by [Background].
func IsBackground(ctx context.Context) bool { return ctx.Value(background{}) != nil }

type patient struct{}

// Patient marks a context as one of background work that nothing waits for, as [Background] does,
// and that may come a moment later.
func Patient(ctx context.Context) context.Context {
	return context.WithValue(Background(ctx), patient{}, true)
}

// IsPatient reports whether ctx was marked by [Patient].
func IsPatient(ctx context.Context) bool { return ctx.Value(patient{}) != nil }
