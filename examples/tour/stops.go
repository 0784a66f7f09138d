package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/metrics"
)

// big is a package that takes long to parse; missing does not exist.
const (
	big     = "net/http"
	missing = "no/such/package"
)

// get reads a package, and returns how long it took and which tier answered.
func get(ctx context.Context, c *cache.Cache[string, Package], path string, opts ...cache.ReadOption) (Package, cache.Info, time.Duration, error) {
	var info cache.Info
	began := time.Now()
	pkg, err := c.Get(ctx, path, append(opts, cache.Report(&info))...)
	return pkg, info, time.Since(began), err
}

// getLocal reads until the answer comes from memory, which it does as soon as the cache
// receives notifications, and returns how long that read took.
func getLocal[V any](ctx context.Context, c *cache.Cache[string, V], key string) (val V, d time.Duration, err error) {
	_, e := within(ctx, c.Name()+" has "+key+" in memory", func() bool {
		var info cache.Info
		began := time.Now()
		val, err = c.Get(ctx, key, cache.Report(&info))
		d = time.Since(began)
		return err != nil || info.Tier == metrics.Local
	})
	return val, d, cmp.Or(err, e)
}

// patience is how long the tour waits for what should happen at once.
const patience = 5 * time.Second

// within waits until f is true, and returns how long it took.
func within(ctx context.Context, what string, f func() bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for began := time.Now(); ; {
		done, d := f(), time.Since(began)
		switch {
		case done:
			return d, nil
		case ctx.Err() != nil:
			return d, fmt.Errorf("wait until %s: %w", what, ctx.Err())
		}
		// As short as possible: it is part of the measurement. Without it, the goroutines that
		// deliver the notification would have to wait for a processor.
		time.Sleep(10 * time.Microsecond)
	}
}

// mean is the time of one call of f, over n calls.
func mean(n int, f func() error) (time.Duration, error) {
	began := time.Now()
	for range n {
		if err := f(); err != nil {
			return 0, err
		}
	}
	return time.Since(began) / time.Duration(n), nil
}

// loadsIn counts the packages that f loads.
func (t *tour) loadsIn(f func() error) (int64, error) {
	before := t.source.loads.Load()
	err := f()
	return t.source.loads.Load() - before, err
}

func (t *tour) costOfARead(ctx context.Context) error {
	t.page.head("What a read costs", "Process A reads "+big+": first it has to be parsed from its "+
		"source; then it is in Redis and, decoded, in the memory of the process.")

	pkg, info, load, err := get(ctx, t.a, big)
	if err != nil {
		return err
	}
	const localReads, remoteReads = 100_000, 200
	if _, _, err := getLocal(ctx, t.a, big); err != nil {
		return err
	}
	local, err := mean(localReads, func() error { _, err := t.a.Get(ctx, big); return err })
	if err != nil {
		return err
	}
	_, remoteInfo, _, err := get(ctx, t.a, big, cache.SkipLocal())
	if err != nil {
		return err
	}
	remote, err := mean(remoteReads, func() error { _, err := t.a.Get(ctx, big, cache.SkipLocal()); return err })
	if err != nil {
		return err
	}

	t.page.line("   %-12s %9s   %-9s   %s", "answered by", "reads", "time each", "faster than a load")
	t.page.line("   %-12v %9s   %s", info.Tier, "1", took(load))
	t.page.line("   %-12v %9s   %s   %17s", remoteInfo.Tier, count(remoteReads), took(remote), times(load, remote))
	t.page.line("   %-12v %9s   %s   %17s", metrics.Local, count(localReads), took(local), times(load, local))
	t.page.line("")
	t.page.line("   packages loaded: %d", t.source.loads.Load())
	t.page.line("   %s: %d files, %d funcs, %d types, %d methods, %d consts", pkg.ImportPath,
		pkg.Files, pkg.Funcs, pkg.Types, pkg.Methods, pkg.Consts)
	return nil
}

func (t *tour) anotherProcess(ctx context.Context) error {
	t.page.head("Another process", "Process B shares nothing with A but Redis. What A has loaded, B does "+
		"not load again.")
	loads, err := t.loadsIn(func() error {
		_, info, d, err := get(ctx, t.b, big)
		if err != nil {
			return err
		}
		t.page.line("   %-28s %-8v %s", "B reads "+big, info.Tier, took(d))
		_, d, err = getLocal(ctx, t.b, big)
		t.page.line("   %-28s %-8v %s", "B reads it again", metrics.Local, took(d))
		return err
	})
	t.page.line("   packages loaded: %d", loads)
	return err
}

// twenty packages, for the batch.
var twenty = []string{
	"archive/tar", "bufio", "bytes", "compress/gzip", "context", "crypto/sha256", "encoding/base64",
	"encoding/csv", "encoding/xml", "flag", "io", "io/fs", "log", "math", "net/mail", "os", "path", "sort",
	"strconv", "time",
}

func (t *tour) batch(ctx context.Context) error {
	t.page.head("A batch", fmt.Sprintf("GetMany asks for %d packages in one round trip, and loads together "+
		"what is in neither tier.", len(twenty)))
	t.page.line("   %-36s %6s   %11s   %s", fmt.Sprintf("%d packages", len(twenty)), "loads", "round trips", "time")

	oneByOne := func(opts ...cache.ReadOption) error {
		for _, path := range twenty {
			if _, err := t.a.Get(ctx, path, opts...); err != nil {
				return err
			}
		}
		return nil
	}
	together := func(opts ...cache.ReadOption) error {
		got, err := t.a.GetMany(ctx, twenty, opts...)
		if err == nil && len(got) != len(twenty) {
			err = fmt.Errorf("GetMany returned %d of %d packages", len(got), len(twenty))
		}
		return err
	}
	for _, row := range []struct {
		what string
		read func() error
	}{
		{"GetMany, in neither tier", func() error { return together() }},
		{"Get one by one, from Redis", func() error { return oneByOne(cache.SkipLocal()) }},
		{"GetMany, from Redis", func() error { return together(cache.SkipLocal()) }},
		{"Get one by one, from memory", func() error { return oneByOne() }},
		{"GetMany, from memory", func() error { return together() }},
	} {
		trips, began := t.trips.n.Load(), time.Now()
		loads, err := t.loadsIn(row.read)
		if err != nil {
			return err
		}
		d := time.Since(began)
		t.page.line("   %-36s %6d   %11d   %s", row.what, loads, t.trips.n.Load()-trips, took(d))
		// The result of a load that outlives its lease is not kept.
		for again := loads; again > 0; {
			if again, err = t.loadsIn(func() error { return together(cache.SkipLocal()) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tour) coalescing(ctx context.Context) error {
	const callers, path = 200, "go/types"
	t.page.head("A crowd", fmt.Sprintf("%d callers ask for %s at once, and it is not there: one of them loads, "+
		"the others wait for the result.", callers, path))

	var (
		wg    sync.WaitGroup
		start = make(chan struct{})
		errs  = make([]error, callers)
		waits = make([]time.Duration, callers)
	)
	for i := range callers {
		wg.Go(func() {
			<-start
			_, _, waits[i], errs[i] = get(ctx, t.a, path)
		})
	}
	loads, err := t.loadsIn(func() error {
		close(start)
		wg.Wait()
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	var slowest time.Duration
	for _, d := range waits {
		slowest = max(slowest, d)
	}
	t.page.line("   callers: %d   packages loaded: %d   slowest caller: %s", callers, loads, short(slowest))
	return nil
}

func (t *tour) negativeCaching(ctx context.Context) error {
	t.page.head("What does not exist", "That there is no "+missing+" is worth remembering too.")
	for _, what := range []string{"A asks", "A asks again"} {
		var (
			info cache.Info
			d    time.Duration
		)
		loads, err := t.loadsIn(func() (err error) {
			_, info, d, err = get(ctx, t.a, missing)
			return err
		})
		if !errors.Is(err, cache.ErrNotFound) {
			return fmt.Errorf("a package that does not exist was answered with %w", err)
		}
		t.page.line("   %-14s ErrNotFound   from %-8v loads: %d   %s", what, info.Tier, loads, took(d))
	}
	return nil
}

func (t *tour) outage(ctx context.Context) error {
	t.page.head("Redis fails", "The connections to Redis are cut. Reads go on, from the source, and no caller gets "+
		"an error. What is in memory is not served: others might have changed it, and can't say so.")
	if t.gate == nil {
		t.page.text("Skipped: the tour cuts connections by standing in between, which it can do for one " +
			"server without TLS only. It won't stop your servers.")
		return nil
	}

	t.gate.Shut()
	defer t.gate.Open()
	noticed, err := within(ctx, "A notices that Redis is gone", func() bool {
		_, err := t.a.Peek(ctx, big)
		return errors.Is(err, cache.ErrUnavailable)
	})
	if err != nil {
		return err
	}
	t.page.line("   down   A notices after %s", short(noticed))
	for _, path := range []string{big, "text/template", "encoding/gob", "mime/multipart"} {
		_, info, d, err := get(ctx, t.a, path)
		if err != nil {
			return fmt.Errorf("read %s while Redis is down: %w", path, err)
		}
		t.page.line("   down   A reads %-18s from %-8v %s", path, info.Tier, took(d))
	}
	t.gate.Open()

	answers, trusted, err := t.awaitRedis(ctx)
	if err != nil {
		return err
	}
	t.page.line("   up     Redis answers again after %s", short(answers))
	t.page.line("   up     A and B hear each other again, and use their memory, after %s", short(trusted))
	for _, reader := range []struct {
		name string
		c    *cache.Cache[string, Package]
	}{{"A", t.a}, {"B", t.b}} {
		_, info, d, err := get(ctx, reader.c, "html/template")
		if err != nil {
			return err
		}
		t.page.line("   up     %s reads %-18s from %-8v %s", reader.name, "html/template", info.Tier, took(d))
	}
	if lines := t.log.take(); len(lines) > 0 {
		t.page.line("")
		t.page.line("   what an operator reads in the logs of A and B:")
		for i, line := range lines {
			if !slices.Contains(lines[:i], line) { // A and B log the same
				t.page.text(line)
			}
		}
	}
	return nil
}

// awaitRedis waits until both caches receive notifications again: answers come from Redis, and
// then from memory.
func (t *tour) awaitRedis(ctx context.Context) (answers, trusted time.Duration, err error) {
	began := time.Now()
	for _, c := range []*cache.Cache[string, Package]{t.a, t.b} {
		_, err := within(ctx, "Redis comes back", func() bool {
			_, err := c.Peek(ctx, big, cache.SkipLocal())
			return err == nil
		})
		if err != nil {
			return 0, 0, err
		}
	}
	answers = time.Since(began)
	for _, c := range []*cache.Cache[string, Package]{t.a, t.b} {
		if _, _, err := getLocal(ctx, c, big); err != nil {
			return 0, 0, err
		}
	}
	return answers, time.Since(began), nil
}

func (t *tour) inspect(ctx context.Context) error {
	t.page.head("A look at an entry", "Inspect says where an entry is, how old it is and how long it still "+
		"lives, and changes nothing.")
	for _, path := range []string{big, missing} {
		entry, err := t.a.Inspect(ctx, path)
		if err != nil && !errors.Is(err, cache.ErrNotFound) {
			return err
		}
		t.page.line("   %-16s tier %-7v age %s   TTL left %-6s  absent %v", path, entry.Tier,
			took(entry.Age), entry.TTL.Round(time.Second), entry.Absent)
	}
	t.page.line("   in Redis: %s", t.a.RedisKey(big))
	return nil
}

func (t *tour) metrics(context.Context) error {
	t.page.head("Metrics", "What process A has counted on the way.")
	t.page.verbatim(t.a.Metrics().String())
	return nil
}
