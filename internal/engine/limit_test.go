package engine

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/delqhi/cache/internal/errs"
)

// Loads that find no slot get one in the order in which they came, unless their contexts end before.
func TestTheLoadLimitServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoadLimit(1)
		if !l.enterAtOnce() || l.enterAtOnce() {
			t.Fatal("there is one slot")
		}
		var served []int
		var leaves []context.CancelCauseFunc
		gone := errors.New("gone")
		for i := range 4 {
			ctx, leave := context.WithCancelCause(t.Context())
			leaves = append(leaves, leave)
			go func() {
				switch err := l.enter(ctx, false); err {
				case nil:
					served = append(served, i)
					l.leave()
				case gone:
					served = append(served, -i)
				default:
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		if err := l.enter(t.Context(), true); err != errNoPlaceBehind {
			t.Errorf("in the background: %v", err)
		}
		leaves[2](gone)
		synctest.Wait()
		l.leave()
		synctest.Wait()
		if want := [4]int{-2, 0, 1, 3}; len(served) != 4 || [4]int(served) != want {
			t.Errorf("served are %v, want %v", served, want)
		}
		if l.free.Load() != 1 || l.waiting.Load() != 0 || len(l.queue) != 0 {
			t.Error("something is left")
		}
	})
}

// However many come, leave, and give up at once, no more have a slot than there are, none waits while
// one is free, and in the end all are free.
func TestTheLoadLimitUnderLoad(t *testing.T) {
	const slots, callers, rounds = 3, 16, 2000
	l := newLoadLimit(slots)
	var inside, most, refused atomic.Int64
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for round := range rounds {
				ctx, cancel := context.WithCancel(t.Context())
				if (i+round)%3 == 0 {
					go cancel()
				}
				switch err := l.enter(ctx, false); {
				case err == nil:
					for n := inside.Add(1); n > most.Load(); {
						most.Store(n)
					}
					inside.Add(-1)
					l.leave()
				case errors.Is(err, errs.ErrOverload):
					refused.Add(1)
				}
				cancel()
			}
		})
	}
	all.Wait()
	if most.Load() > slots || refused.Load() > 0 {
		t.Errorf("%d had a slot at once, of %d; %d were refused", most.Load(), slots, refused.Load())
	}
	if l.free.Load() != slots || l.waiting.Load() != 0 || len(l.queue) != 0 {
		t.Errorf("in the end %d are free, %d wait, %d are queued", l.free.Load(), l.waiting.Load(), len(l.queue))
	}
}

// A load in the background gets a slot that is free, also while the load that was given another one has
// not been run yet: no load waits for a slot then.
func TestALoadBehindGetsAFreeSlot(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // what is served is not run before this test waits
	synctest.Test(t, func(t *testing.T) {
		l := newLoadLimit(2)
		for range 2 {
			if !l.enterAtOnce() {
				t.Fatal("there are two slots")
			}
		}
		go func() {
			if err := l.enter(t.Context(), false); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		l.leave() // its slot goes to the load that waits
		l.leave()
		if err := l.enter(t.Context(), true); err != nil {
			t.Errorf("a slot is free, no load waits for one, and a load in the background gets: %v", err)
		}
	})
}
