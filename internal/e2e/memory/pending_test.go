package memory_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// refusing is one process's way to a store that refuses what it is told to.
type refusing struct {
	*storetest.Memory
	what atomic.Pointer[func(op string) bool]
}

const errRefused = storetest.ServerError("MISCONF Redis is configured to save RDB snapshots")

func (r *refusing) refuse(ops ...string) {
	f := func(op string) bool {
		for _, o := range ops {
			if o == op || o == "writes" && op != "get" && op != "get_header" && op != "scan" && op != "publish" {
				return true
			}
		}
		return false
	}
	r.what.Store(&f)
}

func (r *refusing) refuses(op string) bool {
	f := r.what.Load()
	return f != nil && (*f)(op)
}

func (r *refusing) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	replies := make([]store.Reply, len(cmds))
	for i, n := 0, 0; i < len(cmds); i += n {
		if n = 1 + cmds[i].With; r.refuses(cmds[i].Op.String()) {
			for j := range cmds[i : i+n] {
				replies[i+j].Err = errRefused
			}
			continue
		}
		copy(replies[i:], r.Memory.Do(ctx, cmds[i:i+n]))
	}
	return replies
}

func (r *refusing) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (logicalclock.Reading, error) {
	if r.refuses("add_tombstones") {
		return logicalclock.Reading{}, errRefused
	}
	return r.Memory.AddTombstones(ctx, names, known, n)
}

func (r *refusing) Scan(ctx context.Context, master, pattern string, cursor uint64) ([]string, uint64, error) {
	if r.refuses("scan") {
		return nil, 0, storetest.ServerError("NOPERM this user has no permissions to run the 'scan' command")
	}
	return r.Memory.Scan(ctx, master, pattern, cursor)
}

// ways to say that key "k", which has tag "t", is out of date.
var ways = map[string]func(context.Context, *cache.Cache[string, int]) error{
	"Set": func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Set(ctx, "k", 2) },
	"SetMany": func(ctx context.Context, c *cache.Cache[string, int]) error {
		return c.SetMany(ctx, map[string]int{"k": 2, "l": 2})
	},
	"Delete":         func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Delete(ctx, "k") },
	"Invalidate":     func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Invalidate(ctx, "k", "l") },
	"InvalidateTags": func(ctx context.Context, c *cache.Cache[string, int]) error { return c.InvalidateTags(ctx, "t") },
	"Clear":          func(ctx context.Context, c *cache.Cache[string, int]) error { return c.Clear(ctx) },
	"InvalidatePattern": func(ctx context.Context, c *cache.Cache[string, int]) error {
		_, err := c.InvalidatePattern(ctx, "k*")
		return err
	},
}

// What Redis has refused to take is read from the source until it is told, by every way to
// read, in every combination of tiers; and what the process may not write, it does not
// read as if it had.
func TestWhatRedisRefusedIsReadFromTheSource(t *testing.T) {
	for way, change := range ways {
		for tiers, opts := range map[string][]cache.Option{
			"one tier":           {cache.WithStrategy(strategy.TTL(time.Hour))},
			"one tier, deaf":     {cache.WithStrategy(strategy.TTL(time.Hour)), cache.WithTransport(invalidate.NoTransport())},
			"two tiers":          {cache.WithStrategy(strategy.LRU(10), strategy.TTL(time.Hour))},
			"two tiers, lazy":    {cache.WithStrategy(strategy.LRU(10), strategy.TTL(time.Hour), strategy.StaleIfError(time.Hour)), cache.WithInvalidator(invalidate.Lazy())},
			"two tiers, delayed": {cache.WithStrategy(strategy.LRU(10), strategy.TTL(time.Hour)), cache.WithInvalidator(invalidate.Delayed(time.Minute))},
		} {
			for _, refused := range []string{"writes", "scan"} {
				if refused == "scan" && way != "InvalidatePattern" {
					continue
				}
				t.Run(way+", "+tiers+", "+refused, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ctx := t.Context()
						store := &refusing{Memory: storetest.NewMemory()}
						source := 1
						c := onMemory(t, store, cache.Source[string, int]{Load: func(context.Context, string) (int, error) { return source, nil }}, opts...)
						other := onMemory(t, store.Memory, cache.Source[string, int]{})
						if err := errors.Join(c.Set(ctx, "k", 1, cache.Tags("t")), c.Set(ctx, "else", 1, cache.Tags("u"))); err != nil {
							t.Fatal(err)
						}
						time.Sleep(20 * time.Second)
						store.refuse(refused)
						source = 2
						if err := change(ctx, c); !errors.Is(err, cache.ErrUnavailable) {
							t.Fatal(err)
						}
						for range 4 {
							if v, err := c.Get(ctx, "k"); v != 2 || err != nil {
								t.Errorf("Get: %d, %v", v, err)
							}
							if vals, err := c.GetMany(ctx, []string{"k", "else"}); vals["k"] != 2 || err != nil {
								t.Errorf("GetMany: %v, %v", vals, err)
							}
							if v, err := c.Peek(ctx, "k"); v == 1 || err != nil && !errors.Is(err, cache.ErrMiss) {
								t.Errorf("Peek: %d, %v", v, err)
							}
							if e, err := c.Inspect(ctx, "k"); e.Value == 1 || err != nil && !errors.Is(err, cache.ErrMiss) {
								t.Errorf("Inspect: %d, %v", e.Value, err)
							}
							if _, err := c.Update(ctx, "k", func(old int, ok bool) (int, error) {
								if ok && old == 1 {
									t.Error("Update got the old value")
								}
								return 0, errRefused
							}); err == nil {
								t.Error("Update ended without an error")
							}
							if way != "Clear" {
								if v, err := c.Get(ctx, "else"); v != 1 || err != nil {
									t.Errorf("what it is no concern of: %d, %v", v, err)
								}
							}
							time.Sleep(8 * time.Second)
						}
						// Until it can be told, Sync waits, and then says why.
						short, cancel := context.WithTimeout(ctx, 10*time.Second)
						err := c.Sync(short)
						cancel()
						if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, cache.ErrUnavailable) ||
							!strings.Contains(err.Error(), "MISCONF") && !strings.Contains(err.Error(), "NOPERM") {
							t.Errorf("Sync: %v", err)
						}
						store.refuse()
						if err := c.Sync(ctx); err != nil {
							t.Fatal(err)
						}
						synctest.Wait()
						if v, err := other.Get(ctx, "k"); v == 1 {
							t.Errorf("another process reads %d, %v", v, err)
						}
						if v, err := c.Get(ctx, "k"); v != 2 || err != nil {
							t.Errorf("in the end: %d, %v", v, err)
						}
					})
				})
			}
		}
	}
}

// A pattern that can't be gone through is checked key by key: what was stored later is
// read, and kept in both tiers.
func TestWhatAPatternCouldNotRemoveIsReplacedByTheNextLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := &refusing{Memory: storetest.NewMemory()}
		loads := 0
		c := onMemory(t, store, cache.Source[string, int]{Load: func(context.Context, string) (int, error) { loads++; return 2, nil }})
		other := onMemory(t, store.Memory, cache.Source[string, int]{})
		for _, k := range []string{"k1", "k2"} {
			if err := c.Set(ctx, k, 1); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		store.refuse("scan")
		if _, err := c.InvalidatePattern(ctx, "k*"); !errors.Is(err, cache.ErrUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for range 3 {
			if v, err := c.Get(ctx, "k1"); v != 2 || err != nil {
				t.Error(v, err)
			}
		}
		if loads != 1 {
			t.Errorf("%d loads", loads)
		}
		if err := c.Set(ctx, "k2", 3); err != nil {
			t.Fatal(err)
		}
		if v, err := c.Get(ctx, "k2"); v != 3 || err != nil {
			t.Error(v, err)
		}
		if v, err := other.Get(ctx, "k1"); v != 2 || err != nil {
			t.Error("another process:", v, err)
		}
		// Nothing else waits for it, and other processes are not notified again and again.
		flushed := other.Metrics().InvalidationsReceived
		store.refuse("scan", "compare_and_delete")
		if err := c.Invalidate(ctx, "else"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := other.Metrics().InvalidationsReceived; got > flushed+1 {
			t.Errorf("another process was told %d times", got-flushed)
		}
		// A later call of the same pattern makes the earlier one unnecessary.
		store.refuse()
		if err := c.Set(ctx, "k9", 9); err != nil {
			t.Fatal(err)
		}
		if n, err := c.InvalidatePattern(ctx, "k*"); n != 3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if err := c.Set(ctx, "k9", 9); err != nil {
			t.Fatal(err)
		}
		if err := c.Sync(ctx); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if v, err := c.Peek(ctx, "k9"); v != 9 || err != nil {
			t.Errorf("what was stored after it: %d, %v", v, err)
		}
	})
}

// A write that Redis acknowledges is read at once, whatever was refused before it.
func TestAnAcknowledgedWriteIsReadAlthoughAnEarlierOneIsToBeTold(t *testing.T) {
	for way, change := range ways {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				store := &refusing{Memory: storetest.NewMemory()}
				c := onMemory(t, store, cache.Source[string, int]{})
				if err := c.Set(ctx, "k", 1, cache.Tags("t")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				store.refuse("set", "delete", "compare_and_delete", "add_tombstones", "scan", "compare_and_set")
				if err := change(ctx, c); !errors.Is(err, cache.ErrUnavailable) {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				store.refuse("compare_and_delete", "add_tombstones", "scan") // so that nothing can be told
				if err := c.Set(ctx, "k", 3, cache.Tags("t")); err != nil {
					t.Fatal(err)
				}
				if v, err := c.Get(ctx, "k"); v != 3 || err != nil {
					t.Errorf("%d, %v", v, err)
				}
				v, err := c.Update(ctx, "k", func(old int, ok bool) (int, error) { return old + 1, nil })
				if v != 4 || err != nil {
					t.Errorf("Update: %d, %v", v, err)
				}
				if way == "Set" || way == "SetMany" || way == "Delete" || way == "Invalidate" {
					if v, err := c.Get(ctx, "k"); v != 4 || err != nil {
						t.Errorf("after Update: %d, %v", v, err)
					}
					store.refuse()
					if err := c.Sync(ctx); err != nil {
						t.Fatal(err)
					}
					if v, err := c.Get(ctx, "k"); v != 4 || err != nil {
						t.Errorf("after Sync: %d, %v", v, err)
					}
				}
			})
		})
	}
}
