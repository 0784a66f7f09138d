package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/storetest"
)

func TestSharedDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout, step = 64 * time.Second, time.Second
		d := deadlines{timeout: timeout}
		defer d.close()
		made := map[*deadline]bool{}
		for range 10_000 {
			time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
			now := time.Now()
			end := d.of(now)
			if over := end.at.Sub(now.Add(timeout)); over < 0 || over > step {
				t.Fatalf("a deadline %v after the timeout", over)
			}
			made[end] = true
		}
		if len(made) < 40 || len(made) > 60 { // 45 s
			t.Errorf("%d deadlines for 45 s", len(made))
		}
		time.Sleep(2*step + time.Microsecond) // not at a time at which something else may happen as well
		now := time.Now()
		end := d.of(now)
		if !end.at.Equal(now.Add(timeout)) {
			t.Errorf("after a pause a deadline %v after the timeout", end.at.Sub(now.Add(timeout)))
		}
		<-end.Done()
		if time.Since(now) != timeout || end.Err() != context.DeadlineExceeded {
			t.Errorf("it ended after %v: %v", time.Since(now), end.Err())
		}
	})
}

// An operation has the values of its caller's context, and nothing else of it: neither its end nor
// the reason for that.
func TestTheContextOfAnOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(storetest.NewMemory(), time.Second)
		defer g.Close()
		type key struct{}
		caller, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "value"))
		ctx, release := g.bound(caller, time.Second)
		if release != nil {
			t.Error("it has a timer of its own")
		}
		derived, stop := context.WithCancel(ctx)
		defer stop()
		stopped, stopIt := context.WithCancel(ctx)
		stopIt()
		cancel(errors.New("gone"))
		synctest.Wait()
		for _, c := range []context.Context{ctx, derived} {
			if c.Value(key{}) != "value" || c.Err() != nil || context.Cause(c) != nil {
				t.Errorf("%v, %v, %v", c.Value(key{}), c.Err(), context.Cause(c))
			}
			if at, ok := c.Deadline(); !ok || time.Until(at) != time.Second {
				t.Errorf("a deadline in %v, %v", time.Until(at), ok)
			}
		}
		if stopped.Err() != context.Canceled {
			t.Error("a derived context can't be canceled")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, c := range []context.Context{ctx, derived} {
			if c.Err() != context.DeadlineExceeded || context.Cause(c) != context.DeadlineExceeded {
				t.Errorf("%v, because of %v", c.Err(), context.Cause(c))
			}
		}
	})
}
