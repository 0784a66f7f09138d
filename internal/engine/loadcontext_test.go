package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/local"
)

type testKey struct{}

// chain is what a loadContext stands for.
func chain(values context.Context, d time.Duration) (context.Context, func(error)) {
	ctx, stop := context.WithDeadlineCause(context.WithoutCancel(values), time.Now().Add(d), errHardTimeout)
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, func(cause error) { cancel(cause); stop() }
}

func lazy(values context.Context, d time.Duration) (context.Context, func(error)) {
	c := newLoadContext(values)
	c.expireAt(later(local.Now(), d))
	return c, c.Cancel
}

// A loader can't tell the context of a load from one that package context made, whatever it asks
// for, and whenever.
func TestTheContextOfALoadIsLikeAnyOther(t *testing.T) {
	errOther := errors.New("other")
	events := map[string]func(cancel func(error)){
		"nothing":                 func(func(error)) {},
		"canceled":                func(cancel func(error)) { cancel(errOther) },
		"canceled without cause":  func(cancel func(error)) { cancel(nil) },
		"canceled twice":          func(cancel func(error)) { cancel(errOther); cancel(nil) },
		"expired":                 func(func(error)) { time.Sleep(2 * time.Second) },
		"expired, then canceled":  func(cancel func(error)) { time.Sleep(2 * time.Second); cancel(errOther) },
		"canceled, then too late": func(cancel func(error)) { cancel(errOther); time.Sleep(2 * time.Second) },
	}
	asks := map[string]func(ctx context.Context) []any{
		"Err":   func(ctx context.Context) []any { return []any{ctx.Err()} },
		"Cause": func(ctx context.Context) []any { return []any{context.Cause(ctx)} },
		"Value": func(ctx context.Context) []any { return []any{ctx.Value(testKey{}), ctx.Value("none")} },
		"Done": func(ctx context.Context) []any {
			select {
			case <-ctx.Done():
				return []any{true}
			default:
				return []any{false}
			}
		},
		"Deadline": func(ctx context.Context) []any { d, ok := ctx.Deadline(); return []any{d.Equal(time.Time{}), ok} },
		"a child": func(ctx context.Context) []any {
			child, cancel := context.WithTimeout(context.WithValue(ctx, testKey{}, "child"), time.Hour)
			defer cancel()
			synctest.Wait()
			return []any{child.Err(), context.Cause(child), child.Value(testKey{})}
		},
		"AfterFunc": func(ctx context.Context) []any {
			called := false
			defer context.AfterFunc(ctx, func() { called = true })()
			synctest.Wait()
			return []any{called}
		},
	}
	for event, happen := range events {
		for first, ask := range asks { // before the event
			for second, again := range asks {
				synctest.Test(t, func(t *testing.T) {
					caller, leave := context.WithCancel(context.WithValue(t.Context(), testKey{}, "caller"))
					defer leave()
					var got [2][]any
					for i, open := range []func(context.Context, time.Duration) (context.Context, func(error)){chain, lazy} {
						ctx, cancel := open(caller, time.Second)
						got[i] = ask(ctx)
						happen(cancel)
						synctest.Wait()
						got[i] = append(got[i], again(ctx)...)
						cancel(nil)
					}
					for i, want := range got[0] {
						if got[1][i] != want {
							t.Errorf("%s, %s, %s: %v, want %v", first, event, second, got[1], got[0])
							return
						}
					}
				})
			}
		}
	}
}

// The caller's end is not the load's.
func TestTheContextOfALoadOutlivesItsCaller(t *testing.T) {
	caller, leave := context.WithCancel(t.Context())
	ctx := newLoadContext(caller)
	leave()
	if ctx.Err() != nil || ctx.Cause() != nil || context.Cause(ctx) != nil {
		t.Error("the load has ended with its caller")
	}
	select {
	case <-ctx.Done():
		t.Error("the load has ended with its caller")
	default:
	}
	ctx.Cancel(nil)
	if <-ctx.Done(); ctx.Err() != context.Canceled {
		t.Error(ctx.Err())
	}
}

// The context of a loader has not ended while what it has returned is stored: a value may depend on it,
// as one that is read when it is encoded does. So it is for several keys.
func TestALoadersContextLastsUntilItsValueIsStored(t *testing.T) {
	var given context.Context
	var during error
	c := testCache[string](t, nil, func(cfg *Config) {
		cfg.Source.TTL = func(Key, Value) time.Duration {
			during = given.Err()
			return time.Minute
		}
	})
	load := loadFunc[string](func(ctx context.Context) (string, error) { given = ctx; return "loaded", nil })
	if _, err := get[string](t.Context(), c, "k", load, &Options{}); err != nil {
		t.Fatal(err)
	}
	if during != nil {
		t.Errorf("while the value is stored: %v", during)
	}
}
