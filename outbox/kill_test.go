package outbox_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/outbox/internal/dbtest"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

var (
	rounds  = flag.Int("outbox.rounds", 0, "rounds of the tests that kill writers and relays; 0: some")
	writers = flag.Int("outbox.writers", 0, "writers in these tests; 0: 3, or 8 where tests may take long")
	readers = flag.Int("outbox.readers", 0, "readers in these tests; 0: 2, or 4 where tests may take long")
)

const relays = 2

// or is n if that was asked for, and else a default.
func or(n, short, long int) int {
	if n == 0 {
		return redistest.Times(short, long)
	}
	return n
}

// child is a writer or a relay in a process of its own.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	said   *bytes.Buffer
	exited chan struct{}
}

func (f *fleet) spawn(role string, odds int) *child {
	f.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role, modeEnv+"="+f.mode, kindEnv+"="+f.data.Kind, drvEnv+"="+f.data.Driver, dbEnv+"="+f.data.DSN,
		redisEnv+"="+f.redis.URL(), oddsEnv+"="+fmt.Sprint(odds))
	c := &child{cmd: cmd, said: &bytes.Buffer{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = c.said, c.said
	var err error
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		f.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	go func() {
		defer close(c.exited)
		_ = cmd.Wait()
	}()
	return c
}

func (c *child) alive() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// kill is kill -9.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.exited
	_ = c.stdin.Close()
}

// fleet is a database, a Redis, writers and relays that are killed, and readers that are not.
type fleet struct {
	*bench
	redis  *redistest.Server
	mode   string
	caches []*cache.Cache[int64, int64] // of the readers

	children map[string][]*child // by role
	deaths   map[string]int

	mu      sync.Mutex            // guards the fields below
	seen    [items][]sighting     // versions of each row, as they were first seen in the database
	oldest  time.Duration         // the greatest age of a row of the outbox
	gap     time.Duration         // the longest time between two looks at it
	ages    map[int]time.Duration // by reader: how old a value was that it saw, at most
	reads   int
	failing error
}

type sighting struct {
	version int64
	at      time.Time
}

func newFleet(t *testing.T, kind, mode string) *fleet {
	redistest.Require(t)
	f := &fleet{bench: newBench(t, kind), mode: mode, redis: redistest.Start(t), children: map[string][]*child{}, deaths: map[string]int{}, ages: map[int]time.Duration{}}
	f.exec("CREATE TABLE item (id BIGINT PRIMARY KEY, version BIGINT NOT NULL)")
	for id := range items {
		f.exec(fmt.Sprintf("INSERT INTO item (id, version) VALUES (%d, 1)", id))
	}
	for range or(*readers, 2, 4) {
		rdb := f.redis.Client(t)
		c, err := cache.NewFrom(rdb, "items", cache.Source[int64, int64]{Load: f.load},
			cache.WithStrategy(strategy.LRU(1000), strategy.TTL(time.Hour), strategy.LocalTTL(time.Hour)), cache.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		f.caches = append(f.caches, c)
	}
	t.Cleanup(func() {
		for _, list := range f.children {
			for _, c := range list {
				c.kill()
			}
		}
	})
	return f
}

func (f *fleet) load(ctx context.Context, id int64) (v int64, err error) {
	err = f.db.QueryRowContext(ctx, fmt.Sprintf("SELECT version FROM item WHERE id = %d", id)).Scan(&v)
	return v, err
}

// crew has as many children of a role as it should, and counts those that have died.
func (f *fleet) crew(role string, n, odds int) {
	list := f.children[role]
	for i, c := range list {
		if !c.alive() {
			f.deaths[role]++
			c.kill() // closes its input
			list[i] = f.spawn(role, odds)
		}
	}
	for len(list) < n {
		list = append(list, f.spawn(role, odds))
	}
	f.children[role] = list
}

// dismiss kills all children of a role.
func (f *fleet) dismiss(role string) {
	for _, c := range f.children[role] {
		c.kill()
	}
	f.children[role] = nil
}

// rage has some rounds: children are killed at random, and replaced.
func (f *fleet) rage(rounds int) {
	for round := range rounds {
		f.crew("writer", or(*writers, 3, 8), 60)
		if f.mode == byOutbox {
			f.crew("relay", relays, 600)
		}
		time.Sleep(time.Duration(20+rand.IntN(180)) * time.Millisecond) // the length of a round
		for _, list := range f.children {
			for i, c := range list {
				if rand.IntN(4) == 0 || round == 0 && i == 0 {
					_ = c.cmd.Process.Kill()
				}
			}
		}
	}
	f.dismiss("writer")
}

// watch looks at the database and at the outbox until stop is called.
func (f *fleet) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	loop := func(f func(context.Context) error, failed func(error)) {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := f(ctx); err != nil && ctx.Err() == nil {
					failed(err)
					return
				}
			}
		})
	}
	fail := func(err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.failing = err
	}
	loop(f.lookAtRows, fail)
	last := time.Now()
	loop(func(ctx context.Context) error {
		all, err := f.box.Backlogs(ctx, f.db)
		now := time.Now()
		f.mu.Lock()
		f.oldest, f.gap = max(f.oldest, all["items"].Oldest), max(f.gap, now.Sub(last))
		f.mu.Unlock()
		last = now
		pause(ctx, 5*time.Millisecond)
		return err
	}, fail)
	for i := range f.caches {
		loop(func(ctx context.Context) error { return f.read(ctx, i) }, fail)
	}
	return func() {
		cancel()
		all.Wait()
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// lookAtRows notes versions when they are first seen: they were committed before that.
func (f *fleet) lookAtRows(ctx context.Context) error {
	rows, err := f.db.QueryContext(ctx, "SELECT id, version FROM item")
	if err != nil {
		return err
	}
	defer rows.Close()
	now := map[int64]int64{}
	for rows.Next() {
		var id, version int64
		if err := rows.Scan(&id, &version); err != nil {
			return err
		}
		now[id] = version
	}
	at := time.Now()
	f.mu.Lock()
	for id, version := range now {
		if s := f.seen[id]; len(s) == 0 || s[len(s)-1].version < version {
			f.seen[id] = append(s, sighting{version, at})
		}
	}
	f.mu.Unlock()
	pause(ctx, 2*time.Millisecond)
	return rows.Err()
}

// read reads one value and finds how old it is: for how long a newer one had been seen in the
// database when the read began.
func (f *fleet) read(ctx context.Context, reader int) error {
	id := rand.Int64N(items)
	began := time.Now()
	v, err := f.caches[reader].Get(ctx, id)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.reads++
	rest := f.reads%64 == 0
	newer, _ := slices.BinarySearchFunc(f.seen[id], v+1, func(s sighting, v int64) int { return int(s.version - v) })
	if newer < len(f.seen[id]) {
		f.ages[reader] = max(f.ages[reader], began.Sub(f.seen[id][newer].at))
	}
	f.mu.Unlock()
	if rest {
		pause(ctx, time.Millisecond) // leaves the processors to others
	}
	return nil
}

// stale returns how many values of the readers are not those of the database.
func (f *fleet) stale() (n int) {
	for id := range int64(items) {
		want, err := f.load(f.t.Context(), id)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, c := range f.caches {
			got, err := c.Get(f.t.Context(), id)
			if err != nil {
				f.t.Fatal(err)
			}
			if got != want {
				n++
			}
		}
	}
	return n
}

// coherence is for how long a process may serve what another one has invalidated.
const coherence = 2 * time.Second

func TestNoCommitWithoutItsInvalidation(t *testing.T) {
	onAll(t, func(t *testing.T, kind string) {
		f := newFleet(t, kind, byOutbox)
		stop := f.watch()
		n := or(*rounds, 8, 25)
		f.rage(n)
		f.dismiss("relay")
		f.crew("relay", relays, 0)
		await(t, "an empty outbox", func() bool { return f.backlog("items").Pending == 0 })
		// The readers go on while the last notifications are on their way.
		await(t, "the values of the database in every cache", func() bool { return f.stale() == 0 })
		stop()

		f.mu.Lock()
		defer f.mu.Unlock()
		if f.failing != nil {
			t.Error(f.failing)
		}
		versions := 0
		for id := range f.seen {
			versions += int(f.seen[id][len(f.seen[id])-1].version) - 1
		}
		// A row of the outbox is never older than it was when it was last seen, and the time until
		// the next look.
		bound := f.oldest + f.gap + coherence
		for reader, age := range f.ages {
			if age > bound {
				t.Errorf("reader %d saw a value that had been replaced %v before; the bound is %v", reader, age, bound)
			}
		}
		replaced, err := f.redis.Client(t).Get(t.Context(), replacedKey).Int()
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Error(err)
		}
		t.Logf("%d changes, %d writers and %d relays died by themselves or at random, %d values put in place, %d reads; lag at most %v, between looks %v, oldest values %v",
			versions, f.deaths["writer"], f.deaths["relay"], replaced, f.reads, f.oldest.Round(time.Millisecond), f.gap.Round(time.Millisecond), f.ages)
		if versions < n || versions > 5000 && replaced == 0 || f.deaths["writer"] == 0 || f.deaths["relay"] == 0 {
			t.Error("too little has happened")
		}
		if dead := f.backlog("items").Dead; dead != 0 {
			t.Errorf("%d dead letters", dead)
		}
	})
}

// The check of the check: the same program without the outbox leaves old values, which
// no time makes good.
func TestWithoutTheOutboxValuesStayOld(t *testing.T) {
	for _, mode := range []string{afterCommit, beforeCommit} {
		t.Run(mode, func(t *testing.T) {
			for _, kind := range dbtest.Servers {
				t.Run(kind, func(t *testing.T) {
					t.Parallel()
					f := newFleet(t, kind, mode)
					for end := time.Now().Add(patience); ; {
						stop := f.watch()
						f.rage(4)
						stop()
						began := time.Now()
						stale := f.stale()
						for stale > 0 && time.Since(began) < 2*coherence {
							pause(t.Context(), 50*time.Millisecond)
							stale = f.stale()
						}
						if stale > 0 {
							t.Logf("%d values are old, %v after the last commit", stale, time.Since(began).Round(time.Millisecond))
							return
						}
						if time.Now().After(end) {
							t.Fatal("no value is old: the other test shows nothing")
						}
					}
				})
			}
		})
	}
}
