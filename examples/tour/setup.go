package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// tour is what the stops of the tour share. a and b stand for two processes:
// each has its own client and its own local tier.
type tour struct {
	page   page
	source *countedSource
	a, b   *cache.Cache[string, Package]
	stock  stock

	target string // the URL of the server
	where  string // the server, for the reader
	real   bool   // it is not the embedded one
	prefix string // of every key that the tour writes
	trips  roundTrips
	gate   *gate // between the clients and the server; nil where none fits
	rdb    redis.UniversalClient
	log    logBuffer

	cleanups []func(context.Context) error // run in reverse order by close
}

// open connects the tour to Redis and builds its two caches. When it fails, nothing stays open.
func open(ctx context.Context, f flags) (_ *tour, err error) {
	t := &tour{prefix: "tour-" + strings.ToLower(rand.Text()[:8]) + ":"}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close(ctx))
		}
	}()

	lib, err := openStdlib(ctx)
	if err != nil {
		return nil, err
	}
	t.source = &countedSource{stdlib: lib}

	t.target, t.real = f.redisURL, f.redisURL != ""
	if !t.real {
		embedded, err := miniredis.Run()
		if err != nil {
			return nil, fmt.Errorf("start the embedded Redis: %w", err)
		}
		t.onClose(func(context.Context) error { embedded.Close(); return nil })
		t.runLifetimes(embedded)
		// It shares the processors with the rest of the tour.
		t.target = fmt.Sprintf("redis://%s?read_timeout=%v", embedded.Addr(), patience)
		t.where = "embedded, at " + embedded.Addr()
	}
	if err := t.connect(ctx); err != nil {
		return nil, err
	}

	docs := cache.WithOptions(t.shared(), cache.WithStrategy(
		strategy.LRU(1_000),
		strategy.TTL(10*time.Minute),
		strategy.NotFoundTTL(time.Minute),
	))
	for _, c := range []**cache.Cache[string, Package]{&t.a, &t.b} {
		rdb, err := t.client(t.gate)
		if err != nil {
			return nil, err
		}
		*c, err = cache.NewFrom(rdb, "docs", cache.Source[string, Package]{
			Load:     t.source.Load,
			LoadMany: t.source.LoadMany,
		}, docs)
		if err != nil {
			return nil, err
		}
		t.onClose(func(context.Context) error { return (*c).Close() })
	}
	return t, t.openStock()
}

// shared are the options that all caches of the tour have in common.
func (t *tour) shared() cache.Option {
	logger := slog.New(slog.NewTextHandler(&t.log, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	return cache.WithOptions(
		cache.WithPrefix(t.prefix),
		cache.WithLogger(logger),
		cache.WithTimeout(patience), // should the machine be busy, or the server far away
	)
}

// runLifetimes makes lifetimes end on the embedded Redis as on a real one, if not on time. Its
// own ClockTTL goes through all keys at every command.
func (t *tour) runLifetimes(embedded *miniredis.Miniredis) {
	tick := time.NewTicker(500 * time.Millisecond)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for last := time.Now(); ; {
			select {
			case now := <-tick.C:
				embedded.FastForward(now.Sub(last))
				last = now
			case <-stop:
				return
			}
		}
	})
	t.onClose(func(context.Context) error {
		tick.Stop()
		close(stop)
		wg.Wait()
		return nil
	})
}

// connect makes the client that the tour itself uses, checks that the server answers, and puts
// the gate in between where possible.
func (t *tour) connect(ctx context.Context) error {
	rdb, err := cache.NewClient(t.target)
	if err != nil {
		return err
	}
	t.rdb = rdb
	t.onClose(func(context.Context) error { return rdb.Close() })
	if err := rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("no Redis answers: %w", err)
	}
	if t.real { // the keys of the embedded one end with it
		// Runs after the caches are closed, before the client is.
		t.onClose(t.removeKeys)
	}

	u, err := url.Parse(t.target)
	if err != nil {
		return err
	}
	if t.where == "" {
		t.where = u.Redacted()
	}
	// A gate stands before one server, without TLS: the certificate would be
	// for another name.
	single, ok := rdb.(*redis.Client)
	if !ok || u.Scheme != "redis" || strings.Contains(u.Host, ",") {
		return nil
	}
	for _, g := range []**gate{&t.gate, &t.stock.gate} {
		if *g, err = openGate(single.Options().Addr); err != nil {
			return fmt.Errorf("listen on loopback: %w", err)
		}
		t.onClose(func(context.Context) error { return (*g).Close() })
	}
	return nil
}

// client makes a client as a process of its own would, but through a gate unless
// that is nil.
func (t *tour) client(through *gate) (redis.UniversalClient, error) {
	target := t.target
	if through != nil {
		u, err := url.Parse(target)
		if err != nil {
			return nil, err
		}
		u.Host = through.Addr()
		target = u.String()
	}
	rdb, err := cache.NewClient(target)
	if err != nil {
		return nil, err
	}
	rdb.AddHook(&t.trips)
	t.onClose(func(context.Context) error { return rdb.Close() })
	return rdb, nil
}

func (t *tour) onClose(f func(context.Context) error) { t.cleanups = append(t.cleanups, f) }

// close undoes what open did, also when ctx is over.
func (t *tour) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var errs []error
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		f := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		errs = append(errs, f(ctx))
	}
	return errors.Join(errs...)
}

// removeKeys removes everything that the tour has written, on every master.
func (t *tour) removeKeys(ctx context.Context) error {
	remove := func(ctx context.Context, rdb redis.UniversalClient) error {
		for cursor := uint64(0); ; {
			keys, next, err := rdb.Scan(ctx, cursor, "*"+t.prefix+"*", 1_000).Result()
			if err != nil {
				return err
			}
			_, err = rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for _, key := range keys { // together they may be of several slots
					pipe.Unlink(ctx, key)
				}
				return nil
			})
			if err != nil || next == 0 {
				return err
			}
			cursor = next
		}
	}
	var err error
	if cluster, ok := t.rdb.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error { return remove(ctx, master) })
	} else {
		err = remove(ctx, t.rdb)
	}
	if err != nil {
		return fmt.Errorf("remove the keys that begin with %s: %w", t.prefix, err)
	}
	return nil
}

// title heads the page.
func (t *tour) title() {
	t.page.line("Two processes' worth of caches, in front of the standard library's docs.")
	t.page.line("")
	t.page.line("source  go/doc over %s (%s)", t.source.src, runtime.Version())
	t.page.line("redis   %s", t.where)
	t.page.line("keys    %s", t.a.RedisKey("*"))
}

// countedSource counts the packages that the caches load.
type countedSource struct {
	*stdlib
	loads atomic.Int64
}

func (s *countedSource) Load(ctx context.Context, importPath string) (Package, error) {
	s.loads.Add(1)
	return s.stdlib.Load(ctx, importPath)
}

func (s *countedSource) LoadMany(ctx context.Context, importPaths []string) (map[string]Package, error) {
	s.loads.Add(int64(len(importPaths)))
	return s.stdlib.LoadMany(ctx, importPaths)
}

// logBuffer collects what the caches log, so that the tour can print it at the right place. It
// is safe for concurrent use.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// take returns the lines since the last call.
func (l *logBuffer) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.TrimRight(l.buf.String(), "\n")
	l.buf.Reset()
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// withoutTime leaves the time out of a log line, which has to fit the page.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
