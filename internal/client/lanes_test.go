package client

import (
	"context"
	"fmt"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// mixedReads reads small and large records side by side, and returns how long the slowest
// small read took, and how many failed.
func mixedReads(t *testing.T, large int, warm bool, name func(reader, i int) string) (slowest time.Duration, failed int) {
	synctest.Test(t, func(t *testing.T) {
		s := &fair{Memory: storetest.NewMemory(), rate: 125e6}
		g := New(s, 250*time.Millisecond)
		defer g.Close()
		for i := range 100 {
			s.Memory.Do(t.Context(), []store.Command{{Op: store.Set, Key: fmt.Sprint("small", i), Frame: make([]byte, 200)}})
		}
		for i := range 1000 {
			s.Memory.Do(t.Context(), []store.Command{{Op: store.Set, Key: fmt.Sprint("large", i), Frame: make([]byte, 1)}})
		}
		s.grow = 8 << 20
		if warm {
			for i := range 2 * smallEnough {
				if _, err := g.Get(t.Context(), fmt.Sprint("small", i%100)); err != nil {
					t.Fatal(err)
				}
			}
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		end := time.Now().Add(2 * time.Second)
		for r := range large {
			wg.Go(func() {
				for i := 0; time.Now().Before(end); i++ {
					_, _ = g.Get(t.Context(), name(r, i))
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
		for r := range 32 {
			wg.Go(func() {
				for i := 0; time.Now().Before(end); i++ {
					began := time.Now()
					_, err := g.Get(t.Context(), fmt.Sprint("small", (31*r+i)%100))
					mu.Lock()
					slowest = max(slowest, time.Since(began))
					if err != nil {
						failed++
					}
					mu.Unlock()
					time.Sleep(time.Millisecond)
				}
			})
		}
		wg.Wait()
	})
	return slowest, failed
}

// fair is a store behind a link that a small answer crosses at once, and a large one, or
// one with a large record in it, in the time that it takes beside the other large ones.
type fair struct {
	*storetest.Memory
	rate float64
	grow int // the size of a record whose key begins with "large"

	mu    sync.Mutex // guards until
	until time.Time
}

func (f *fair) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	replies := f.Memory.Do(context.Background(), cmds)
	bytes := 0
	for i := range cmds {
		if c := &cmds[i]; c.Op == store.Get && c.Key[0] == 'l' {
			if c.Most > 0 {
				replies[i], bytes = store.Reply{Cut: true}, bytes+c.Most
				continue
			}
			replies[i].Record.Raw = make([]byte, f.grow)
		}
		bytes += len(replies[i].Record.Raw)
	}
	wait := 200 * time.Microsecond
	if bytes > 1<<20 {
		f.mu.Lock()
		if now := time.Now(); f.until.Before(now) {
			f.until = now
		}
		f.until = f.until.Add(time.Duration(float64(bytes) / f.rate * 1e9))
		wait += time.Until(f.until)
		f.mu.Unlock()
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		for i := range replies {
			replies[i] = store.Reply{Err: ctx.Err()}
		}
	case <-t.C:
	}
	return replies
}

func (f *fair) HonorsDeadline() bool { return true }

// No small read waits for a large record for longer than it takes to notice that there is
// one, or fails with it: whether it was seen before or not, and whether it is always the
// same.
func TestNoSmallReadWaitsForALargeOne(t *testing.T) {
	for what, name := range map[string]func(r, i int) string{
		"the same ones": func(r, _ int) string { return fmt.Sprint("large", r) },
		"another each":  func(r, i int) string { return fmt.Sprint("large", (r*251+i)%1000) },
	} {
		for _, warm := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/warm %v", what, warm), func(t *testing.T) {
				slowest, failed := mixedReads(t, 4, warm, name)
				if failed > 0 || slowest > 4*tooLong {
					t.Errorf("the slowest small read took %v; %d failed", slowest, failed)
				}
			})
		}
	}
}

// What a read asks for is the whole record, however large it is and whether or not it was
// known to be, and all the same for what others have made of it meanwhile.
func TestALargeRecordIsReadWhole(t *testing.T) {
	ctx := t.Context()
	g := New(storetest.NewMemory(), time.Minute)
	defer g.Close()
	for round, size := range []int{10, largeRecord - 1, largeRecord, largeRecord + 1, 1 << 20, 10, largeRecord + 1, 0, 1 << 20, 1} {
		want := make([]byte, size)
		if r := g.Do(ctx, []store.Command{{Op: store.Set, Key: "k", Frame: want}})[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for _, cmds := range [][]store.Command{{{Op: store.Get, Key: "k"}}, {{Op: store.Get, Key: "other"}, {Op: store.Get, Key: "k"}}} {
					replies := g.Do(ctx, cmds)
					if r := replies[len(cmds)-1]; r.Err != nil || r.Cut || len(r.Record.Raw) != size {
						t.Errorf("round %d: %d bytes instead of %d, %v", round, len(r.Record.Raw), size, r.Err)
					}
				}
			})
		}
		wg.Wait()
	}
}
