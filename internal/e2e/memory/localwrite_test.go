package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
)

// Every write that was acknowledged is there, unless a newer one of its key came: of one
// key, of keys that share a slot of the fences, and beside loads.
func TestLocalOnlyKeepsWhatIsWritten(t *testing.T) {
	for _, capacity := range []int{1000, 100_000} { // one shard, and many
		c := newCache(t, nil, cache.Source[int, int]{Load: func(_ context.Context, k int) (int, error) { return -1, nil }}, cache.LocalOnly(), cache.WithStrategy(strategy.LRU(capacity)))
		ctx := t.Context()
		const keys, rounds = 500, 4
		var all sync.WaitGroup
		for w := range 4 {
			all.Go(func() {
				for i := range rounds * keys {
					k := i % keys
					switch {
					case w == 3:
						c.Get(ctx, k)
					case i%3 == 0:
						if err := c.SetMany(ctx, map[int]int{k: w, k + keys: w}); err != nil {
							t.Error(err)
						}
					default:
						if err := c.Set(ctx, k, w); err != nil {
							t.Error(err)
						}
					}
					if v, err := c.Peek(ctx, k); w != 3 && (err != nil || v < 0) {
						t.Errorf("after Set(%d) = nil: %d, %v", w, v, err)
						return
					}
				}
			})
		}
		all.Wait()
		for k := range keys {
			if v, err := c.Peek(ctx, k); err != nil || v < 0 {
				t.Fatalf("capacity %d: two Sets and more have returned nil, and key %d is %d, %v", capacity, k, v, err)
			}
		}
	}
}

// What does not fit is as good as evicted at once: a write is not repeated because of it.
func TestLocalOnlyWritesOfWhatDoesNotFit(t *testing.T) {
	ctx := t.Context()
	for _, loads := range []bool{false, true} {
		src := cache.Source[string, []byte]{}
		if loads {
			src.Load = func(context.Context, string) ([]byte, error) { return make([]byte, 30_000), nil }
		}
		c := newCache(t, nil, src, cache.LocalOnly(), cache.WithStrategy(strategy.LRU(100), strategy.LocalBytes(10_000)))
		big := make([]byte, 20_000)
		if ok, err := c.SetIfAbsent(ctx, "k", big); !ok || err != nil {
			t.Errorf("SetIfAbsent: %v, %v", ok, err)
		}
		if err := c.Set(ctx, "k", big[:10]); err != nil {
			t.Error(err)
		}
		for _, k := range []string{"k", "l"} {
			runs := 0
			if v, err := c.Update(ctx, k, func([]byte, bool) ([]byte, error) { runs++; return big, nil }); len(v) != len(big) || err != nil || runs != 1 {
				t.Errorf("Update: %d bytes, %v, %d runs", len(v), err, runs)
			}
			if _, err := c.Peek(ctx, k); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("in the place of what does not fit there is something older: %v", err)
			}
		}
	}
}

// What a write is made of may change at any moment; whatever comes between the look and the
// store, a write in between is not lost.
func TestLocalOnlyWritesLookAgain(t *testing.T) {
	between := map[string]func(c *cache.Cache[string, int]) error{
		"Set": func(c *cache.Cache[string, int]) error { return c.Set(context.Background(), "k", 10) },
		"SetIfAbsent": func(c *cache.Cache[string, int]) error {
			_, err := c.SetIfAbsent(context.Background(), "k", 10)
			return err
		},
		"a load": func(c *cache.Cache[string, int]) error {
			_, err := c.GetOrLoad(context.Background(), "k", func(context.Context, string) (int, error) { return 10, nil })
			return err
		},
		"Update": func(c *cache.Cache[string, int]) error {
			_, err := c.Update(context.Background(), "k", func(int, bool) (int, error) { return 10, nil })
			return err
		},
	}
	for name, write := range between {
		c := newCache(t, nil, cache.Source[string, int]{}, cache.LocalOnly())
		runs := 0
		v, err := c.Update(t.Context(), "k", func(old int, ok bool) (int, error) {
			if runs++; runs == 1 {
				if err := write(c); err != nil {
					t.Error(err)
				}
			}
			return old + 1, nil
		})
		if v != 11 || err != nil || runs != 2 {
			t.Errorf("%s within an Update: %d, %v after %d runs", name, v, err, runs)
		}
	}
}

// A load is held up, or does not fill, by nothing that does not concern its key.
func TestLocalOnlyLoadsOfUntouchedKeys(t *testing.T) {
	redistest.Thorough(t)
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int32
		ctx := t.Context()
		c := newCache(t, nil, cache.Source[string, int]{Load: func(context.Context, string) (int, error) {
			loads.Add(1)
			time.Sleep(50 * time.Millisecond)
			return 1, nil
		}}, cache.LocalOnly(), cache.WithStrategy(strategy.LRU(20_000), strategy.TTL(time.Hour)))
		end := time.Now().Add(300 * time.Millisecond)
		var all sync.WaitGroup
		all.Go(func() {
			for time.Now().Before(end) {
				err := c.InvalidateTags(ctx, "unrelated")
				_, perr := c.InvalidatePattern(ctx, "other*")
				for j := range 5000 { // some share a slot with k
					err = errors.Join(err, c.Set(ctx, fmt.Sprint("other", j), j))
				}
				if err := errors.Join(err, perr); err != nil {
					t.Error(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
		for range 20 {
			all.Go(func() {
				for time.Now().Before(end) {
					if _, err := c.Get(ctx, "k"); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		all.Wait()
		if n := loads.Load(); n > 2 {
			t.Errorf("%d loads of one key that nothing concerns", n)
		}
	})
}

// A caller that waits for another's write obeys its own context, and the end of the cache.
func TestLocalOnlyWritersObeyTheirContexts(t *testing.T) {
	for name, write := range map[string]func(ctx context.Context, c *cache.Cache[string, int]) error{
		"SetIfAbsent": func(ctx context.Context, c *cache.Cache[string, int]) error {
			_, err := c.SetIfAbsent(ctx, "k", 2)
			return err
		},
		"Update": func(ctx context.Context, c *cache.Cache[string, int]) error {
			_, err := c.Update(ctx, "k", func(int, bool) (int, error) { return 2, nil })
			return err
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			hold := make(chan struct{})
			c := newCache(t, nil, cache.Source[string, int]{Store: func(context.Context, string, int) error { <-hold; return nil }}, cache.LocalOnly())
			go c.Set(context.Background(), "k", 1)
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			if err := write(ctx, c); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("%s: %v after %v", name, err, time.Since(start))
			}
			back := make(chan error, 1)
			go func() { back <- write(context.Background(), c) }()
			synctest.Wait()
			c.Close()
			if err := <-back; !errors.Is(err, cache.ErrClosed) {
				t.Errorf("%s, and the cache is closed: %v", name, err)
			}
			close(hold)
		})
	}
}

func TestLocalOnlyUpdateEndsWhenTheCacheIsClosed(t *testing.T) {
	c := newCache(t, nil, cache.Source[string, int]{}, cache.LocalOnly())
	runs := 0
	_, err := c.Update(t.Context(), "k", func(int, bool) (int, error) { runs++; return 1, c.Close() })
	if !errors.Is(err, cache.ErrClosed) || runs != 1 {
		t.Errorf("%v after %d runs", err, runs)
	}
}

// Under a write strategy, what the source takes last is not known of two writes at a time:
// whatever is kept, is what it has.
func TestLocalOnlyWritesThroughAgreeWithTheSource(t *testing.T) {
	var mu sync.Mutex
	rows := map[int]int{}
	c := newCache(t, nil, cache.Source[int, int]{
		Store:  func(_ context.Context, k, v int) error { mu.Lock(); defer mu.Unlock(); rows[k] = v; return nil },
		Delete: func(_ context.Context, k int) error { mu.Lock(); defer mu.Unlock(); delete(rows, k); return nil },
	}, cache.LocalOnly())
	ctx := t.Context()
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 1000 {
				k, v := i%3, 1000*w+i
				var err error
				switch i % 5 {
				case 0:
					_, err = c.Update(ctx, k, func(int, bool) (int, error) { return v, nil })
				case 1:
					_, err = c.SetIfAbsent(ctx, k, v)
				case 2:
					err = c.Delete(ctx, k)
				default:
					err = c.Set(ctx, k, v)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for k := range 3 {
		if v, err := c.Peek(ctx, k); err == nil && v != rows[k] {
			t.Errorf("key %d is %d, and the source has %d", k, v, rows[k])
		}
	}
}
