package ctl_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/ctl"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// eventually calls f until it returns "".
func eventually(t *testing.T, f func() string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		wrong := f()
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(wrong)
		}
	}
}

type share struct {
	What  string
	Count int
}

func TestStatsCountsWhatIsThere(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u, c := userOf(t, b), people(t, b, "users", cache.WithVersion(3))
		contains(t, u.ok("stats", "users", "-scan", "0"), "no record of the cache")
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			set(t, c, key)
		}
		set(t, c, "tagged", cache.Tags("x"))
		set(t, people(t, b, "users2"), "of another cache")
		set(t, people(t, b, "users", cache.WithVersion(2)), "of an older version")
		raw{Header: frame.Header{Kind: frame.Absence, Fresh: us(time.Hour), Version: 3}, key: "absent"}.write(t, b, "users")
		raw{Header: frame.Header{Fresh: us(time.Minute), Version: 3}, key: "over", age: time.Hour}.write(t, b, "users")
		raw{Header: frame.Header{Fresh: us(time.Hour), Version: 3}, key: "large", payload: `"` + strings.Repeat("x", 100<<10) + `"`}.write(t, b, "users")
		if err := b.Client.Set(t.Context(), store.NewNames(b.Prefix, "users").Data+"foreign", "hello", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.InvalidateTags(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		type stats struct {
			Keys     int64
			Exact    bool
			Sampled  int
			Memory   int64
			Kinds    []share
			Dead     []share
			Programs []struct {
				Version uint32
				Codec   string
				Count   int
			}
			Endless int `json:"without_ttl"`
			Sizes   [3]int
		}
		var s stats
		u.json(&s, "stats", "users", "-scan", "0")
		if s.Keys != 11 || !s.Exact || s.Sampled != 11 || s.Memory < 100<<10 || s.Endless != 1 || s.Sizes[2] < 100<<10 {
			t.Errorf("the statistics are %+v", s)
		}
		if got := shares(s.Kinds); got != "value 9, absence 1, foreign 1" {
			t.Errorf("the kinds are %s", got)
		}
		if got := shares(s.Dead); got != "at its end 1, by tag 1, foreign 1" {
			t.Errorf("the dead are %s", got)
		}
		if len(s.Programs) != 3 || s.Programs[0].Version != 3 || s.Programs[0].Count != 6 || s.Programs[0].Codec != "json" {
			t.Errorf("the programs are %+v", s.Programs)
		}
		u.json(&s, "stats", "users", "-sample", "3", "-scan", "0")
		if s.Keys != 11 || s.Sampled != 3 {
			t.Errorf("with a smaller sample: %+v", s)
		}
		contains(t, u.ok("stats", "users", "-scan", "0"), "keys", "11", "value 81.8 %", "version   3, codec json", "2, codec json")

		if err := c.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		u.json(&s, "stats", "users", "-scan", "0")
		if got := shares(s.Dead); got != "before Clear 9, at its end 1, foreign 1" {
			t.Errorf("after Clear the dead are %s", got)
		}
	})
}

func shares(list []share) string {
	var out []string
	for _, s := range list {
		out = append(out, s.What+" "+string(rune('0'+s.Count%10)))
		if s.Count > 9 {
			out[len(out)-1] = s.What + " 1" + string(rune('0'+s.Count%10))
		}
	}
	return strings.Join(out, ", ")
}

func TestStatsEstimates(t *testing.T) {
	server := redistest.Start(t)
	u := &user{t: t, connect: func() redis.UniversalClient { return server.Client(t) }}
	set(t, mustPeople(t, server), "first")
	pipe := server.Client(t).Pipeline()
	for i := range 9000 {
		pipe.Set(t.Context(), "users:"+strconv.Itoa(i), "foreign", 0)
		if i%3 == 0 {
			pipe.Set(t.Context(), "other:"+strconv.Itoa(i), "x", 0)
		}
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	var s struct {
		Keys, Scanned int64
		Exact         bool
		Sampled       int
	}
	u.json(&s, "stats", "users", "-scan", "5000", "-sample", "100")
	// About 3,750 of 5,000 keys are the cache's. Redis scans in the order of a hash: one in a
	// billion runs would be as far off as this allows.
	if s.Exact || s.Scanned < 5000 || s.Scanned > 7000 || s.Keys < 8000 || s.Keys > 10000 || s.Sampled != 100 {
		t.Errorf("the statistics are %+v", s)
	}
	contains(t, u.ok("stats", "users", "-scan", "5000"), "about ")
	u.json(&s, "stats", "users", "-scan", "0")
	if !s.Exact || s.Keys != 9001 {
		t.Errorf("of all keys: %+v", s)
	}
}

func TestLeasesShowsWhatIsInFlight(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u := userOf(t, b)
		release, began := make(chan struct{}), make(chan struct{}, 2)
		c, err := cache.NewFrom(b.NewClient(t), "users", cache.Source[string, person]{Load: func(ctx context.Context, key string) (person, error) {
			began <- struct{}{}
			<-release
			return person{}, nil
		}}, cache.WithPrefix(b.Prefix), slowly)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		contains(t, u.ok("leases", "users"), "no load and no write to the source of users is in flight")
		set(t, c, "old")
		done := make(chan error, 2)
		go func() { _, err := c.Get(t.Context(), "slow"); done <- err }()
		go func() { done <- c.Refresh(t.Context(), "old") }()
		<-began
		<-began
		if err := b.Client.Set(t.Context(), c.RedisKey("written"), frame.AppendIntent(nil, frame.NewID()), time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		var list struct {
			Leases []struct {
				Key, Kind string
				For       *float64 `json:"for_seconds"`
				Ends      float64  `json:"ends_in_seconds"`
			}
		}
		u.json(&list, "leases", "users")
		kinds := map[string]string{}
		for _, l := range list.Leases {
			kinds[l.Key] = l.Kind
			if l.Ends <= 0 || l.Kind != "write" && l.For == nil {
				t.Errorf("the lease of %s: %+v", l.Key, l)
			}
		}
		if len(kinds) != 3 || kinds["slow"] != "load" || kinds["old"] != "replacement" || kinds["written"] != "write" {
			t.Errorf("the leases are %v", kinds)
		}
		contains(t, u.ok("leases", "users"), "slow", "load", "old", "replacement")
		contains(t, u.ok("leases", "users", "-limit", "1"), "1 of 3")
		contains(t, u.ok("inspect", "users", "slow"), "would wait", "a load is in flight")
		contains(t, u.ok("inspect", "users", "old"), "would be a hit", "a load is in flight that is to replace it")
		close(release)
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestDeadLetters(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u := userOf(t, b)
		contains(t, u.ok("deadletters", "list", "orders"), "no dead letters of orders")
		reject := make(chan bool, 1)
		reject <- true
		stored := map[string]int{}
		c, err := cache.NewFrom(b.NewClient(t), "orders", cache.Source[string, person]{
			Store: func(_ context.Context, key string, p person) error {
				no := <-reject
				defer func() { reject <- no }()
				if no {
					return errors.New("duplicate \x1b[2J " + key)
				}
				stored[key]++
				return nil
			},
		}, cache.WithPrefix(b.Prefix), slowly, cache.WithLogger(slog.New(slog.DiscardHandler)), cache.WithStrategy(strategy.WriteBehind(strategy.MaxAttempts(1))))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, key := range []string{"7", "8", "9"} {
			set(t, c, key)
		}
		if err := c.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		type letters struct {
			Total       int
			DeadLetters []struct {
				ID, Key, Reason string
				Attempts        int
				Value           *struct{ JSON person }
			} `json:"dead_letters"`
		}
		var l letters
		u.json(&l, "deadletters", "list", "orders")
		if l.Total != 3 || len(l.DeadLetters) != 3 || l.DeadLetters[0].Value != nil || l.DeadLetters[0].Attempts != 1 || !strings.Contains(l.DeadLetters[0].Reason, "duplicate") {
			t.Fatalf("the dead letters are %+v", l)
		}
		ids := map[string]string{}
		for _, d := range l.DeadLetters {
			ids[d.Key] = d.ID
		}
		u.json(&l, "deadletters", "list", "orders", "-values", "-limit", "1")
		if l.Total != 3 || len(l.DeadLetters) != 1 || l.DeadLetters[0].Value.JSON != (person{"Ann", 31}) {
			t.Errorf("with values: %+v", l)
		}
		contains(t, u.ok("deadletters", "list", "orders"), "7", "8", "9", `duplicate \x1b[2J 7`)
		contains(t, u.ok("list"), "3 dead letters")

		u.fails(2, "give IDs, or -all", "deadletters", "replay", "orders")
		u.fails(2, "give IDs, or -all", "deadletters", "replay", "orders", "-all", ids["7"])
		u.fails(2, "not the ID of a dead letter", "deadletters", "replay", "orders", "7")
		u.fails(2, "-yes", "deadletters", "discard", "orders", "-all")
		contains(t, u.ok("deadletters", "discard", "orders", ids["7"], "-yes"), "discarded 1 dead letter")
		contains(t, u.ok("deadletters", "discard", "orders", ids["7"], "-yes"), "discarded 0 dead letters", "1 of the IDs")
		<-reject
		reject <- false
		contains(t, u.ok("deadletters", "replay", "orders", ids["8"]), "replayed 1 dead letter")
		contains(t, u.ok("deadletters", "replay", "orders", "-all"), "replayed 1 dead letter")
		eventually(t, func() string {
			no := <-reject
			n := len(stored)
			reject <- no
			if n != 2 {
				return "the source has not got what was replayed"
			}
			return ""
		})
		if stored["8"] != 1 || stored["9"] != 1 {
			t.Errorf("the source was given %v", stored)
		}
		contains(t, u.ok("deadletters", "list", "orders"), "no dead letters")
	})
}

func TestInspectShowsQueuedWrites(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u := userOf(t, b)
		release := make(chan struct{})
		c, err := cache.NewFrom(b.NewClient(t), "orders", cache.Source[string, person]{
			Store: func(context.Context, string, person) error { <-release; return nil },
		}, cache.WithPrefix(b.Prefix), slowly, cache.WithStrategy(strategy.WriteBehind()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		defer close(release)
		set(t, c, "7")
		out := u.ok("inspect", "orders", "7", "-values")
		contains(t, out, "queued", "a write of the key has been waiting for the source", "queued value", `"name": "Ann"`)
		if out := u.ok("inspect", "orders", "8"); strings.Contains(out, "queued") {
			t.Errorf("of another key: %s", out)
		}
		contains(t, u.ok("list"), "1 write")
	})
}

// A watch is a run of watch.
type watch struct {
	t      *testing.T
	lines  chan string
	code   chan int
	cancel context.CancelFunc
}

func (u *user) watch(args ...string) *watch {
	ctx, cancel := context.WithCancel(context.WithoutCancel(u.t.Context()))
	r, w := io.Pipe()
	s := &watch{u.t, make(chan string), make(chan int, 1), cancel}
	var errs bytes.Buffer
	p := u.program(false, nil, &errs, append([]string{"watch"}, args...)...)
	p.Stdout = w
	go func() {
		s.code <- ctl.Run(ctx, p)
		w.Close()
	}()
	go func() {
		defer close(s.lines)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			s.lines <- lines.Text()
		}
	}()
	u.t.Cleanup(func() {
		cancel()
		for range s.lines {
		}
	})
	return s
}

type event struct {
	Event, Process, Pattern, Detail string
	Tags                            []string
	Keys                            []struct{ Key, Now string }
}

// next returns the next event that is none of those that processes send by themselves.
func (w *watch) next() (e event) {
	w.t.Helper()
	select {
	case l, ok := <-w.lines:
		if !ok {
			w.t.Fatal("watch has ended")
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			w.t.Fatalf("%v: %s", err, l)
		}
	case <-time.After(20 * time.Second):
		w.t.Fatal("no event comes")
	}
	return e
}

func (w *watch) end() int {
	w.cancel()
	for range w.lines {
	}
	return <-w.code
}

func TestWatchShowsWhatHappens(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u, c, d := userOf(t, b), people(t, b, "users"), people(t, b, "users")
		w := u.watch("users", "-look")
		if e := w.next(); e.Event != "connected" {
			t.Fatalf("first: %+v", e)
		}
		set(t, c, "ann")
		e := w.next()
		if e.Event != "changed" || len(e.Keys) != 1 || e.Keys[0].Key != "ann" || !strings.HasPrefix(e.Keys[0].Now, "value of ") {
			t.Errorf("a write: %+v", e)
		}
		first := e.Process
		if err := d.Invalidate(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		e = w.next()
		if e.Event != "changed" || e.Keys[0].Now != "nothing" || e.Process == first || e.Process == "" {
			t.Errorf("an invalidation by another process than %s: %+v", first, e)
		}
		if err := c.InvalidateTags(t.Context(), "x", "y"); err != nil {
			t.Fatal(err)
		}
		if e := w.next(); e.Event != "tags" || strings.Join(e.Tags, " ") != "x y" || e.Process != first || e.Detail != "invalid" {
			t.Errorf("tags: %+v", e)
		}
		if err := c.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		if e := w.next(); e.Event != "cleared" || e.Process != first {
			t.Errorf("Clear: %+v", e)
		}
		if _, err := c.InvalidatePattern(t.Context(), "a*"); err != nil {
			t.Fatal(err)
		}
		if e := w.next(); e.Event != "pattern" || e.Pattern != "a*" {
			t.Errorf("a pattern: %+v", e)
		}
		if err := b.Client.Publish(t.Context(), store.NewNames(b.Prefix, "users").Parted(b.Name == "cluster")[0].Channel, "hello").Err(); err != nil {
			t.Fatal(err)
		}
		if e := w.next(); e.Event != "foreign" {
			t.Errorf("foreign bytes: %+v", e)
		}
		if code := w.end(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

func TestWatchEndsByItself(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u, c := userOf(t, b), people(t, b, "users")
		w := u.watch("users", "-count", "1", "-key", "b*", "-json=false")
		if l := <-w.lines; !strings.Contains(l, "connected  watching users") {
			t.Fatal(l)
		}
		set(t, c, "ann")
		set(t, c, "bob")
		if l := <-w.lines; !strings.Contains(l, "changed    bob") {
			t.Error(l)
		}
		if code := <-w.code; code != 0 {
			t.Errorf("exit code %d", code)
		}
		u.ok("watch", "users", "-for", "50ms")
	})
}

func TestWatchSaysThatItMayHaveMissed(t *testing.T) {
	s := redistest.Start(t)
	u := &user{t: t}
	set(t, mustPeople(t, s), "ann")
	w := u.watch("users", "-redis", s.URL())
	if e := w.next(); e.Event != "connected" {
		t.Fatalf("first: %+v", e)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if e := w.next(); e.Event != "lost" {
		t.Fatalf("after a restart: %+v", e)
	}
	if e := w.next(); e.Event != "connected" {
		t.Fatalf("after that: %+v", e)
	}
	set(t, mustPeople(t, s), "bob")
	if e := w.next(); e.Event != "changed" || e.Keys[0].Key != "bob" {
		t.Fatalf("at last: %+v", e)
	}
}

func mustPeople(t *testing.T, s *redistest.Server) *cache.Cache[string, person] {
	t.Helper()
	c, err := cache.New[string, person](s.Client(t), "users", slowly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
