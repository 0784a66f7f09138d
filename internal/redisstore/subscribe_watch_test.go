package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// watcher is an ear that watches keys.
type watcher struct {
	*ear
	keys []string
	mu   sync.Mutex
	got  [][]store.Record
}

func (w *watcher) Watch() []string { return w.keys }

func (w *watcher) Watched(recs []store.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, recs)
}

// last returns the last records, and how often there were some.
func (w *watcher) last() (recs []store.Record, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n = len(w.got); n > 0 {
		recs = w.got[n-1]
	}
	return recs, n
}

// startWatcher subscribes until stop is called.
func startWatcher(t *testing.T, s store.Store, l store.Subscription, keys ...string) (w *watcher, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	w = &watcher{ear: newEar(), keys: keys}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Subscribe(ctx, l, w)
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	w.expectKind(t, "armed")
	return w, stop
}

// await waits until f is true.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for start := time.Now(); !f(); time.Sleep(time.Millisecond) {
		if time.Since(start) > enough {
			t.Fatalf("no %s within %v", what, enough)
		}
	}
}

// Each subscriber is told what the keys hold that it watches, in their order, from time to time,
// until it leaves.
func TestSessionsWatchKeys(t *testing.T) {
	onStores(t, func(t *testing.T, s store.Store, prefix string) {
		key := func(i int) string { return fmt.Sprint(prefix, "watched", i) }
		set := func(i int, val string) {
			if err := do(t, s, store.Command{Op: store.Set, Key: key(i), Frame: []byte(val), TTL: time.Hour}).Err; err != nil {
				t.Fatal(err)
			}
		}
		set(0, "a")
		set(2, "c")
		first, leave := startWatcher(t, s, steady(prefix+"news"), key(0), key(1))
		second, _ := startWatcher(t, s, steady(prefix+"more"), key(2))
		third, _ := startWatcher(t, s, steady(prefix+"third"))
		holds := func(w *watcher, want ...string) func() bool {
			return func() bool {
				recs, n := w.last()
				var got []string
				for _, r := range recs {
					got = append(got, string(r.Raw))
				}
				return n > 0 && slices.Equal(got, want)
			}
		}
		await(t, "look at the first", holds(first, "a", ""))
		await(t, "look at the second", holds(second, "c"))
		set(1, "b")
		await(t, "second look", holds(first, "a", "b"))
		leave()
		_, n := first.last()
		set(2, "d")
		await(t, "look without the first", holds(second, "d"))
		if _, now := first.last(); now != n {
			t.Error("a subscriber that has left is told")
		}
		if _, n := third.last(); n != 0 {
			t.Error("one that watches nothing is told")
		}
	})
}

// On one server a look at the keys of all subscribers is one command.
func TestASessionWatchesByOneCommand(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	client := redis.NewClient(server.Options())
	defer client.Close()
	s := newReal(t, client)
	var all []*watcher
	for i := range 20 {
		w, _ := startWatcher(t, s, steady(fmt.Sprint("news", i)), fmt.Sprint("k", i), fmt.Sprint("l", i))
		all = append(all, w)
	}
	await(t, "look at all", func() bool {
		return !slices.ContainsFunc(all, func(w *watcher) bool { _, n := w.last(); return n < 3 })
	})
	calls := func(command string) (n int) {
		stats, err := admin.Info(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(stats) {
			if rest, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
				_, _ = fmt.Sscan(strings.Split(rest, ",")[0], &n)
			}
		}
		return n
	}
	gets, mgets := calls("get"), calls("mget")
	_, most := all[0].last()
	if gets > 0 || mgets < 3 || mgets > most+20 {
		t.Errorf("%d GET and %d MGET for %d looks", gets, mgets, most)
	}
	// What can't be read is not told.
	if err := admin.Do(t.Context(), "acl", "setuser", "default", "-mget", "-get").Err(); err != nil {
		t.Fatal(err)
	}
	all[0].aliveSince(t, time.Now())
	_, before := all[0].last()
	for range 25 {
		all[0].aliveSince(t, time.Now())
	}
	if _, now := all[0].last(); now > before+1 {
		t.Errorf("told %d times of what could not be read", now-before)
	}
	if n := len(all[0].all("ended")); n > 0 {
		t.Error("the session has ended")
	}
}
