package writebehind_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/writebehind"
	"github.com/redis/go-redis/v9"
)

// guarded returns the store as a cache would have it.
func guarded(t *testing.T, c redis.UniversalClient) *client.Client {
	t.Helper()
	store, err := redisstore.NewRedis(c)
	if err != nil {
		t.Fatal(err)
	}
	g := client.New(store, time.Second)
	t.Cleanup(g.Close)
	return g
}

// ledger is a source that knows how versions have to come.
type ledger struct {
	mu     sync.Mutex
	latest map[string]int
	errs   []error
	fails  float64
	failed map[string]int // by key, the failures since the last write that did not fail
	writes int
}

// atMost is how often a key fails in a row: further retries come after many seconds.
const atMost = 3

func newLedger(fails float64) *ledger {
	return &ledger{latest: map[string]int{}, fails: fails, failed: map[string]int{}}
}

func (l *ledger) apply(batch []writebehind.Entry) []error {
	time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond) // so that two at once would collide
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := make([]error, len(batch))
	for i, e := range batch {
		r := rand.Float64()
		if l.failed[e.Key]++; r >= l.fails || l.failed[e.Key] > atMost {
			r, l.failed[e.Key] = 1, 0
		}
		if r < l.fails/2 {
			errs[i] = errors.New("not now")
			continue
		}
		v, _ := strconv.Atoi(string(e.Meta))
		if v < l.latest[e.Key] {
			l.errs = append(l.errs, fmt.Errorf("%s: version %d after %d", e.Key, v, l.latest[e.Key]))
		}
		l.latest[e.Key] = v
		l.writes++
		if r < l.fails {
			errs[i] = errors.New("done, but who knows")
		}
	}
	return errs
}

// Several processes write the same keys, at once and with a source that fails now and
// then. What counts is the order in which writes were queued, which their ids tell.
func TestEveryWriteArrivesInOrder(t *testing.T) {
	redistest.Thorough(t)
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for name, fails := range map[string]float64{"well": 0, "failing": 0.3} {
			t.Run(name, func(t *testing.T) {
				l := newLedger(fails)
				var qs []*writebehind.Queue
				for range 3 {
					qs = append(qs, process(t, guarded(t, b.NewClient(t)), newSource(), func(c *writebehind.Config) {
						c.Prefix, c.Name = b.Prefix, name
						c.MaxAttempts, c.BatchDelay, c.BatchSize = 1000, 5*time.Millisecond, 20
						c.Apply = func(ctx context.Context, batch []writebehind.Entry) []error { return l.apply(batch) }
					}))
				}
				var wg sync.WaitGroup
				const keys, versions = 30, 60
				for k := range keys {
					wg.Go(func() {
						key := fmt.Sprint("key", k)
						for v := 1; v <= versions; v++ {
							q := qs[rand.IntN(len(qs))]
							w := writebehind.Write{Key: key, Delete: v%5 == 0, Value: []byte("v"), Meta: []byte(strconv.Itoa(v))}
							if err := q.Enqueue(t.Context(), []writebehind.Write{w})[0]; err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				for _, q := range qs {
					if err := q.Sync(t.Context()); err != nil {
						t.Error(err)
					}
				}
				l.mu.Lock()
				defer l.mu.Unlock()
				for _, err := range l.errs {
					t.Error(err)
				}
				for k := range keys {
					if v := l.latest[fmt.Sprint("key", k)]; v != versions {
						t.Errorf("key%d is of version %d", k, v)
					}
				}
				t.Logf("%d writes of %d queued", l.writes, keys*versions)
				if st, err := qs[0].Stats(t.Context()); err != nil || st != (writebehind.Stats{}) {
					t.Errorf("%+v, %v", st, err)
				}
			})
		}
	})
}

func TestPartitionsAreSpreadOverProcessesAndTakenOver(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		t.Parallel()
		var qs []*writebehind.Queue
		start := func() {
			qs = append(qs, process(t, guarded(t, b.NewClient(t)), newSource(), func(c *writebehind.Config) { c.Prefix = b.Prefix }))
		}
		start()
		waitHeld(t, qs, 8)
		start()
		waitHeld(t, qs, 4, 4)
		start()
		waitHeld(t, qs, 2, 3, 3)
		qs[1].Close()
		qs = slices.Delete(qs, 1, 2)
		waitHeld(t, qs, 4, 4)
	})
}

// isHeld reports whether each partition is held once, in such numbers.
func isHeld(qs []*writebehind.Queue, counts ...int) bool {
	var all, got []int
	for _, q := range qs {
		held := q.Held()
		all, got = append(all, held...), append(got, len(held))
	}
	slices.Sort(all)
	slices.Sort(got)
	return slices.Equal(got, counts) && slices.Equal(all, []int{0, 1, 2, 3, 4, 5, 6, 7})
}

// waitHeld waits for it: where much else is going on, answers may take a second each, or be lost.
func waitHeld(t *testing.T, qs []*writebehind.Queue, counts ...int) {
	t.Helper()
	for start := time.Now(); !isHeld(qs, counts...); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			for _, q := range qs {
				t.Log(q.Shares())
			}
			t.Fatal("partitions are without a consumer")
		}
	}
}
