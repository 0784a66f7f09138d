package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// stock is a shop's stock of articles: in two caches that stand for two processes, like those
// of the documentation. Here the processes write.
type stock struct {
	a, b *cache.Cache[string, int]
	gate *gate // before b; nil where none is possible
}

// openStock builds the caches, which fill up as the stops go on.
func (t *tour) openStock() (err error) {
	if t.stock.a, err = t.openStockCache(nil); err != nil {
		return err
	}
	t.stock.b, err = t.openStockCache(t.stock.gate)
	return err
}

func (t *tour) openStockCache(through *gate, opts ...cache.Option) (*cache.Cache[string, int], error) {
	rdb, err := t.client(through)
	if err != nil {
		return nil, err
	}
	opts = append(opts, t.shared(), cache.WithStrategy(strategy.LRU(20_000), strategy.TTL(10*time.Minute)))
	c, err := cache.New[string, int](rdb, "stock", opts...)
	if err == nil {
		t.onClose(func(context.Context) error { return c.Close() })
	}
	return c, err
}

// seen waits until c reads another value of key than before, and returns what it reads and how
// long that took. ok is false for a miss.
func seen(ctx context.Context, c *cache.Cache[string, int], key string, before int) (val int, ok bool, d time.Duration, err error) {
	d, e := within(ctx, "a change of "+key+" is seen", func() bool {
		val, err = c.Get(ctx, key)
		ok = err == nil
		return !ok || val != before
	})
	if errors.Is(err, cache.ErrMiss) {
		err = nil
	}
	return val, ok, d, errors.Join(err, e)
}

func (t *tour) writesAreSeen(ctx context.Context) error {
	const writes, key = 300, "lamp"
	t.page.head("A write is seen", "Two more processes keep a shop's stock. B has the number of lamps in its "+
		"memory, and A writes another: how long after the acknowledgement does B read it?")

	a, b := t.stock.a, t.stock.b
	if err := a.Set(ctx, key, 0); err != nil {
		return err
	}
	var waits []time.Duration
	for i := range writes {
		if _, _, err := getLocal(ctx, b, key); err != nil {
			return err
		}
		if err := a.Set(ctx, key, i+1); err != nil {
			return err
		}
		val, _, d, err := seen(ctx, b, key, i)
		if err != nil {
			return err
		}
		if val != i+1 {
			return fmt.Errorf("process B reads %d lamps, and A wrote %d", val, i+1)
		}
		waits = append(waits, d)
	}
	slices.Sort(waits)
	t.page.line("   %-14s %9s   %9s   %9s", "writes by A", "median", "p99", "slowest")
	t.page.line("   %-14s %s   %s   %s", count(writes), took(waits[writes/2]), took(waits[writes*99/100]), took(waits[writes-1]))
	return nil
}

// sale and other are the numbers of articles in two groups, and shelf is an
// article of a third one.
const (
	sale  = 5_000
	other = 50
	shelf = "shelf/1"
)

// articles yields the names of n articles of a kind, some at a time.
func articles(kind string, n int) iter.Seq[[]string] {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(kind, "/", i)
	}
	return slices.Chunk(all, 100)
}

// fill has A store n articles of a kind, and B read them, so that both have them.
func (t *tour) fill(ctx context.Context, kind string, n int) error {
	for keys := range articles(kind, n) {
		vals := map[string]int{}
		for _, k := range keys {
			vals[k] = 1
		}
		if err := t.stock.a.SetMany(ctx, vals, cache.Tags(kind)); err != nil {
			return err
		}
		if _, err := t.stock.b.GetMany(ctx, keys); err != nil {
			return err
		}
	}
	return nil
}

// left counts the articles of a kind that B still reads.
func (t *tour) left(ctx context.Context, kind string, n int) (found int, err error) {
	for keys := range articles(kind, n) {
		vals, err := t.stock.b.GetMany(ctx, keys)
		if err != nil {
			return found, err
		}
		found += len(vals)
	}
	return found, nil
}

func (t *tour) tags(ctx context.Context) error {
	t.page.head("Tags", "What belongs together is invalidated together: in one round trip, however many there "+
		"are; on a cluster in 16 at the same time. They are not searched for; they are too old when they are next read.")
	a := t.stock.a
	// The script is sent to Redis the first time that it is used.
	if err := a.InvalidateTags(ctx, "none"); err != nil {
		return err
	}
	if err := t.fill(ctx, "shelf", 2); err != nil {
		return err
	}
	t.page.line("   %-10s %9s   %11s   %9s   %13s   %s", "tag", "entries", "round trips", "time", "seen by B in", "left for B")
	for _, group := range []struct {
		tag string
		n   int
	}{{"other", other}, {"sale", sale}} {
		if err := t.fill(ctx, group.tag, group.n); err != nil {
			return err
		}
		trips, began := t.trips.n.Load(), time.Now()
		if err := a.InvalidateTags(ctx, group.tag); err != nil {
			return err
		}
		d := time.Since(began)
		trips = t.trips.n.Load() - trips
		_, _, wait, err := seen(ctx, t.stock.b, group.tag+"/0", 1)
		if err != nil {
			return err
		}
		left := 0
		for wait := time.Now(); ; { // on a cluster each part of the keys has its own notification
			if left, err = t.left(ctx, group.tag, group.n); err != nil {
				return err
			}
			if left == 0 || time.Since(wait) > time.Second {
				break
			}
		}
		t.page.line("   %-10s %9s   %11d   %s   %13s   %10d", group.tag, count(group.n), trips, took(d), short(wait), left)
	}
	val, err := t.stock.b.Get(ctx, shelf)
	if err != nil {
		return fmt.Errorf("what is of another tag is gone: %w", err)
	}
	t.page.line("   %s, which has another tag, is still there: %d", shelf, val)
	return nil
}

func (t *tour) pattern(ctx context.Context) error {
	const north, south = 1_000, 200
	t.page.head("Patterns", "InvalidatePattern goes through all keys of the server and removes those that match: "+
		"for what was not foreseen when it was stored.")
	for kind, n := range map[string]int{"north": north, "south": south} {
		if err := t.fill(ctx, kind, n); err != nil {
			return err
		}
	}
	began := time.Now()
	removed, err := t.stock.a.InvalidatePattern(ctx, "north/*")
	if err != nil {
		return err
	}
	d := time.Since(began)
	// B receives some hundred keys in a message, and last the pattern.
	_, e := within(ctx, "B has dropped what matches", func() bool {
		var left int
		left, err = t.left(ctx, "north", north)
		return err != nil || left == 0
	})
	if err := cmp.Or(err, e); err != nil {
		return err
	}
	for _, kind := range []struct {
		name string
		n    int
	}{{"north", north}, {"south", south}} {
		left, err := t.left(ctx, kind.name, kind.n)
		if err != nil {
			return err
		}
		t.page.line("   %-10s %9s entries   left for B %9s", kind.name+"/*", count(kind.n), count(left))
	}
	t.page.line("   keys removed: %s   time: %s", count(int(removed)), short(d))
	return nil
}

// tiers counts where the answers to n reads come from.
func tiers(ctx context.Context, c *cache.Cache[string, int], key string, n int) (map[metrics.Tier]int, error) {
	from := map[metrics.Tier]int{}
	for range n {
		var info cache.Info
		if _, err := c.Get(ctx, key, cache.Report(&info)); err != nil {
			return nil, err
		}
		from[info.Tier]++
	}
	return from, nil
}

func (t *tour) deaf(ctx context.Context) error {
	t.page.head("A process goes deaf", "The connection on which B is told breaks, and for a while no other gets "+
		"through. B notices, and asks Redis; when it hears again, it forgets what it had.")
	if t.stock.gate == nil {
		t.page.text("Skipped: the tour breaks connections by standing in between, which it can do for one server " +
			"without TLS only.")
		return nil
	}
	a, b := t.stock.a, t.stock.b
	// The desk is read while B is disconnected, the sofa after that, and the bed meanwhile.
	for _, key := range []string{"desk", "sofa", "bed"} {
		if err := a.Set(ctx, key, 1); err != nil {
			return err
		}
		if _, _, err := getLocal(ctx, b, key); err != nil {
			return err
		}
	}
	row := func(when, what string, args ...any) { t.page.line("   %-7s %s", when, fmt.Sprintf(what, args...)) }
	answers := func(when string) error {
		const reads = 100
		from, err := tiers(ctx, b, "bed", reads)
		row(when, "B reads %d times   from local %3d   from remote %3d", reads, from[metrics.Local], from[metrics.Remote])
		return err
	}

	if err := answers("before"); err != nil {
		return err
	}
	began := time.Now()
	row("deaf", "%s", t.breakNews(ctx))
	defer t.stock.gate.Unmute()
	_, err := within(ctx, "B notices that it is deaf", func() bool {
		from, err := tiers(ctx, b, "bed", 1)
		return err == nil && from[metrics.Remote] == 1
	})
	if err != nil {
		return err
	}
	row("deaf", "B notices after %s", short(time.Since(began)))
	if err := errors.Join(a.Set(ctx, "desk", 2), a.Set(ctx, "sofa", 2)); err != nil {
		return err
	}
	val, err := b.Get(ctx, "desk")
	if err != nil {
		return err
	}
	row("deaf", "A writes 2 for desk and sofa; B reads desk at once: %d", val)
	if err := answers("deaf"); err != nil {
		return err
	}

	began = time.Now()
	t.stock.gate.Unmute()
	if _, _, err := getLocal(ctx, b, "bed"); err != nil {
		return err
	}
	row("again", "B hears after %s, and uses its memory", short(time.Since(began)))
	if val, err = b.Get(ctx, "sofa"); err != nil {
		return err
	}
	row("again", "B reads sofa, which it had as 1 and A wrote in the gap: %d", val)
	if err := answers("again"); err != nil {
		return err
	}
	t.log.take() // logs the same
	return nil
}

// breakNews ends the connection on which B receives notifications, and lets no other through.
// It returns how: a server of the user's is made to end that one, and no other program's.
func (t *tour) breakNews(ctx context.Context) string {
	defer t.stock.gate.Mute()
	how := "the connection is cut"
	if !t.real {
		return how // the embedded one can't do this
	}
	for _, addr := range t.stock.gate.Subscribed() {
		// The server may list it under another address, or not permit to end it.
		if n, err := t.rdb.Do(ctx, "client", "kill", "addr", addr).Int(); err == nil && n > 0 {
			how = "Redis is asked to kill the connection (CLIENT KILL)"
		}
	}
	return how
}

func (t *tour) transports(ctx context.Context) error {
	t.page.head("Who is heard", "By Broadcast a process hears what caches write and invalidate. By Tracking Redis "+
		"itself tells: also of a SET or DEL by redis-cli, or by a program in another language.")
	t.page.line("   %-12s %-18s %s", "B hears by", "what happens", "B")
	const key = "chair"
	row := func(c *cache.Cache[string, int], by, what string, happens func() error) error {
		if err := t.stock.a.Set(ctx, key, 1); err != nil {
			return err
		}
		if _, err := within(ctx, "the old value is in memory", func() bool {
			val, _, err := getLocal(ctx, c, key)
			return err != nil || val == 1
		}); err != nil {
			return err
		}
		if err := happens(); err != nil {
			return err
		}
		val, ok, d, err := seen(ctx, c, key, 1)
		reads := "ErrMiss"
		if ok {
			reads = fmt.Sprint(val)
		}
		t.page.line("   %-12s %-18s reads %-8s after %s", by, what, reads, short(d))
		return err
	}
	set := func() error { return t.stock.a.Set(ctx, key, 2) }
	if err := row(t.stock.b, "Broadcast", "A.Set", set); err != nil {
		return err
	}
	if !t.real {
		t.page.text("Tracking needs a real server: go run ./examples/tour -redis URL")
		return nil
	}

	c, err := t.openStockCache(nil, cache.WithTransport(invalidate.Tracking()))
	if err != nil {
		return err
	}
	if _, _, err := getLocal(ctx, c, key); err != nil {
		return err
	}
	if slices.ContainsFunc(t.log.take(), func(line string) bool { return strings.Contains(line, "keys can't be tracked") }) {
		t.page.text("Tracking is not to be had on this server, or not for this user.")
		return nil
	}
	redisKey := c.RedisKey(key)
	for _, happens := range []struct {
		what string
		f    func() error
	}{
		{"A.Set", set},
		{"SET, bare client", func() error { return t.rdb.Set(ctx, redisKey, "no record", time.Minute).Err() }},
		{"DEL, bare client", func() error { return t.rdb.Del(ctx, redisKey).Err() }},
	} {
		if err := row(c, "Tracking", happens.what, happens.f); err != nil {
			return err
		}
	}
	return nil
}
