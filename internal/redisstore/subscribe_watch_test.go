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

// On a cluster a look is one command for each slot.
func TestASessionWatchesASlotByOneCommand(t *testing.T) {
	t.Parallel()
	client := redistest.StartCluster(t, 3).Client(t)
	s := newReal(t, client)
	ctx := t.Context()
	var all []*watcher
	keys := func(i int) (keys []string) {
		for _, slot := range []string{"a", "b", "c", "d"} {
			keys = append(keys, fmt.Sprintf("{%s}%d", slot, i))
		}
		return keys
	}
	const many = 20
	for i := range many {
		for j, key := range keys(i) {
			if j != 1 {
				if err := client.Set(ctx, key, key, 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		w, _ := startWatcher(t, s, steady(fmt.Sprint("news", i)), keys(i)...)
		all = append(all, w)
	}
	looks := func(n int) {
		t.Helper()
		_, before := all[0].last()
		await(t, "looks at all", func() bool { _, now := all[0].last(); return now >= before+n })
	}
	looks(2)
	for i, w := range all {
		recs, _ := w.last()
		for j, key := range keys(i) {
			if want := key; j == 1 && recs[j].State != store.Missing || j != 1 && string(recs[j].Raw) != want {
				t.Errorf("%d, %d: %+v", i, j, recs[j])
			}
		}
	}
	calls := func(command string) (n int) {
		var mu sync.Mutex
		if err := client.ForEachMaster(ctx, func(ctx context.Context, m *redis.Client) error {
			stats, err := m.Info(ctx, "commandstats").Result()
			mu.Lock()
			defer mu.Unlock()
			for line := range strings.Lines(stats) {
				if rest, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
					calls := 0
					_, _ = fmt.Sscan(strings.Split(rest, ",")[0], &calls)
					n += calls
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	_, before := all[0].last()
	gets, mgets := calls("get"), calls("mget")
	looks(5)
	gets, mgets = calls("get")-gets, calls("mget")-mgets
	_, now := all[0].last()
	if most := (now - before + 2) * 4; gets > 0 || mgets < 4*4 || mgets > most {
		t.Errorf("%d GET and %d MGET for %d looks at 4 slots", gets, mgets, now-before)
	}
	// A user who may not send MGET watches by GET.
	if err := client.ForEachMaster(ctx, func(ctx context.Context, m *redis.Client) error {
		return m.Do(ctx, "acl", "setuser", "default", "-mget").Err()
	}); err != nil {
		t.Fatal(err)
	}
	gets = calls("get")
	looks(3)
	if gets = calls("get") - gets; gets < 3*many {
		t.Errorf("%d GET", gets)
	}
}
