package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/storetest"
)

// numbers is a source of an int that an Update replaces.
func numbers(n *int) cache.Source[string, int] {
	return cache.Source[string, int]{
		Load:  func(context.Context, string) (int, error) { return *n, nil },
		Store: func(_ context.Context, _ string, v int) error { *n = v; return nil },
	}
}

// The end of an Update is no change that another process could miss: its tier stays as it is.
func TestTheLockOfAnUpdateFlushesNoOtherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st, n := storetest.NewMemory(), 0
		a, b := onMemory(t, st, numbers(&n), cache.LocalValues()), onMemory(t, st, numbers(&n), cache.LocalValues())
		for _, c := range []*cache.Cache[string, int]{a, b} {
			_, _ = c.Peek(ctx, "k")
		}
		time.Sleep(10 * time.Second)
		for range 3 {
			if _, err := a.Update(ctx, "k", func(old int, _ bool) (int, error) { return old + 1, nil }); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Get(ctx, "l"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		if m := b.Metrics(); m.Flushes != 0 || m.Loads != 1 {
			t.Errorf("%d flushes, %d loads in the other process", m.Flushes, m.Loads)
		}
	})
}

// An Update that waits for the lock goes on when it is free, in whichever process.
func TestAnUpdateThatWaitsForTheLockIsWoken(t *testing.T) {
	for _, where := range []string{"in the same process", "in another process"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				st, n := storetest.NewMemory(), 0
				a := onMemory(t, st, numbers(&n), cache.LocalValues())
				b := a
				if where == "in another process" {
					b = onMemory(t, st, numbers(&n), cache.LocalValues())
				}
				_, _ = b.Peek(ctx, "l")
				inside, goOn := make(chan struct{}), make(chan struct{})
				first, second := make(chan error, 1), make(chan error, 1)
				go func() {
					_, err := a.Update(ctx, "k", func(old int, _ bool) (int, error) {
						close(inside)
						<-goOn
						return old + 1, nil
					})
					first <- err
				}()
				<-inside
				go func() {
					_, err := b.Update(ctx, "k", func(old int, _ bool) (int, error) { return old + 1, nil })
					second <- err
				}()
				time.Sleep(hook.LeasePoll + hook.LeasePoll/2) // it has polled once
				close(goOn)
				began := time.Now()
				if err := errors.Join(<-first, <-second); err != nil || n != 2 {
					t.Errorf("%d, %v", n, err)
				}
				if took := time.Since(began); took >= hook.LeasePoll/4 {
					t.Errorf("it went on after %v", took)
				}
			})
		})
	}
}
