package cache_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
)

type callerKey struct{}

// seenLoad is what a loader has seen of its load, and kept.
type seenLoad struct {
	ctx      context.Context
	load     *cache.Load[[2]int64]
	caller   any
	deadline time.Time
}

// A loader may keep its context and its load: what it keeps does not become that of a later load,
// whatever the first one does, and neither does the memory of the value that it returns, however
// late that is.
func TestWhatALoaderKeepsIsNotUsedAgain(t *testing.T) {
	for name, timeout := range map[string][]strategy.Strategy{
		"loads have goroutines":         {strategy.HardTimeout(time.Second)},
		"callers that can't leave load": nil,
	} {
		t.Run(name, func(t *testing.T) { keepLoads(t, timeout...) })
	}
}

func keepLoads(t *testing.T, timeout ...strategy.Strategy) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var kept []seenLoad
		hold := make(chan struct{})
		slow := func(key int64) bool { return key%16 == 7 }
		src := cache.SourceFunc(func(ctx context.Context, key int64) ([2]int64, error) {
			s := seenLoad{ctx: ctx, caller: ctx.Value(callerKey{})}
			if key%4 != 0 { // or it asks for neither before it is over
				s.load = cache.CurrentLoad[[2]int64](ctx)
				s.deadline, _ = ctx.Deadline()
			}
			mu.Lock()
			kept = append(kept, s)
			mu.Unlock()
			switch {
			case !slow(key):
			case timeout == nil:
				time.Sleep(40 * time.Second) // longer than the default
			default:
				<-hold // longer than the hard timeout
			}
			switch {
			case key%16 == 3:
				time.Sleep(10 * time.Millisecond) // longer than some callers wait
			case key%16 == 5:
				panic("a loader fails")
			}
			if s.load != nil {
				s.load.SetTTL(time.Hour + time.Duration(key)*time.Second)
			}
			return [2]int64{key, -key}, nil
		})
		c, err := cache.NewFrom(nil, "kept", src, cache.LocalOnly(),
			cache.WithStrategy(append(timeout, strategy.LRU(10_000), strategy.Jitter(0), strategy.LocalTTL(2*time.Hour))...))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var wg sync.WaitGroup
		for caller := range 16 {
			wg.Go(func() {
				for i := range int64(64) {
					key := (i + int64(caller)*5) % 160
					ctx := context.WithValue(context.Background(), callerKey{}, fmt.Sprint(caller, key))
					if caller%2 == 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, 5*time.Millisecond)
						defer cancel()
					}
					switch v, err := c.Get(ctx, key); {
					case err != nil && key%16 != 3 && key%16 != 5 && !slow(key):
						t.Errorf("%d: %v", key, err)
					case err == nil && v != [2]int64{key, -key}:
						t.Errorf("%d has the value %v", key, v)
					}
				}
			})
		}
		wg.Wait()
		close(hold)
		synctest.Wait()
		for i, s := range kept {
			d, ok := s.ctx.Deadline()
			if s.load == nil {
				s.load, s.deadline = cache.CurrentLoad[[2]int64](s.ctx), d
			}
			if now := s.ctx.Value(callerKey{}); now != s.caller || !ok || !d.Equal(s.deadline) {
				t.Errorf("load %d: the context has become that of %v with the deadline %v, it was of %v with %v", i, now, d, s.caller, s.deadline)
			}
			if s.ctx.Err() == nil {
				t.Errorf("load %d: the context goes on", i)
			}
			s.load.SetTTL(time.Minute) // has no effect
			if _, ok := s.load.Stale(); ok || s.load.ETag() != "" {
				t.Errorf("load %d has become one of another value", i)
			}
		}
		for key := range int64(160) {
			e, err := c.Inspect(context.Background(), key)
			if err != nil {
				continue
			}
			if e.Value != [2]int64{key, -key} {
				t.Errorf("%d has the value %v in the end", key, e.Value)
			}
			want := time.Hour + time.Duration(key)*time.Second
			if key%4 == 0 {
				want = 5 * time.Minute
			}
			if life := e.TTL + e.Age; life != want {
				t.Errorf("%d lives for %v, want %v", key, life, want)
			}
		}
	})
}
