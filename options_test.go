package cache_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

var lossyJSON = codec.JSON(codec.Lossy())

func TestNewReportsEveryMistakeAtOnce(t *testing.T) {
	var noClient *redis.Client
	var noLogger *slog.Logger
	_, err := cache.New[float64, chan int](noClient, "a b",
		nil, cache.WithTimeout(0), cache.WithMaxValueSize(-1), cache.WithLogger(noLogger), cache.WithRecorder(nil),
		cache.WithStrategy(strategy.TTL(-1), nil), cache.WithOptions(nil))
	if !errors.Is(err, cache.ErrInvalidOption) {
		t.Fatal(err)
	}
	for _, part := range []string{
		"option is nil", "WithTimeout", "WithMaxValueSize", "WithLogger", "WithRecorder", "TTL", "strategy 2 of the list is nil",
		"white space", "Source.Key", "codec", "client is nil",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("nothing is said of %q:\n%v", part, err)
		}
	}
	if n := strings.Count(err.Error(), "option is nil"); n != 2 {
		t.Errorf("%d of 2 nil options are reported", n)
	}
}

func TestBadArgumentsOfNew(t *testing.T) {
	type hidden struct{ name string }
	_ = hidden{name: ""}
	rdb := startRedis()
	for name, f := range map[string]func() error{
		"empty name":          func() error { _, err := cache.New[string, int](rdb, ""); return err },
		"colon in the name":   func() error { _, err := cache.New[string, int](rdb, "a:b"); return err },
		"no client":           func() error { _, err := cache.New[string, int](nil, "n"); return err },
		"LocalOnly and Redis": func() error { _, err := cache.New[string, int](rdb, "n", cache.LocalOnly()); return err },
		"float key":           func() error { _, err := cache.New[float64, int](rdb, "n"); return err },
		"pointer key":         func() error { _, err := cache.New[*int, int](rdb, "n"); return err },
		"unexported field":    func() error { _, err := cache.New[string, hidden](rdb, "n"); return err },
		"Raw for a struct":    func() error { _, err := cache.New[string, hidden](rdb, "n", cache.WithCodec(codec.Raw())); return err },
		"nil codec":           func() error { _, err := cache.New[string, int](rdb, "n", cache.WithCodec(nil)); return err },
		"cloning by a codec that can't hold the value": func() error {
			_, err := cache.New[string, struct{ F func() }](nil, "n", cache.LocalOnly(), cache.WithCloning())
			return err
		},
		"short key": func() error {
			_, err := cache.New[string, int](rdb, "n", cache.WithCodec(codec.Encrypted(codec.JSON(), []byte("short"))))
			return err
		},
		"no encryption key": func() error {
			_, err := cache.New[string, int](rdb, "n", cache.WithCodec(codec.Encrypted(codec.JSON())))
			return err
		},
		"Compressed(nil)": func() error {
			_, err := cache.New[string, int](rdb, "n", cache.WithCodec(codec.Compressed(nil)))
			return err
		},
		"reads from replicas": func() error {
			c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ReadOnly: true})
			defer c.Close()
			_, err := cache.New[string, int](c, "n")
			return err
		},
		"a lifetime that overflows": func() error {
			_, err := cache.New[string, int](rdb, "n", cache.WithStrategy(strategy.TTL(1<<63-1)))
			return err
		},
		"a lifetime below 1 ms": func() error {
			_, err := cache.New[string, int](rdb, "n", cache.WithStrategy(strategy.TTL(time.Microsecond)))
			return err
		},
	} {
		if err := f(); !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := cache.New[string, hidden](rdb, "n", cache.WithCodec(lossyJSON)); err != nil {
		t.Errorf("Lossy: %v", err)
	}
	if _, err := cache.New[string, hidden](nil, "n", cache.LocalOnly()); err != nil {
		t.Errorf("LocalOnly encodes nothing: %v", err)
	}
}

func TestBadCallOptions(t *testing.T) {
	ctx := t.Context()
	c, err := cache.New[string, int](startRedis(), "n")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	load := func(context.Context, string) (int, error) { return 1, nil }
	for name, f := range map[string]func() error{
		"nil read option":  func() error { _, err := c.Get(ctx, "k", nil); return err },
		"nil write option": func() error { return c.Set(ctx, "k", 1, nil) },
		"nil load option":  func() error { _, err := c.GetOrLoad(ctx, "k", load, nil); return err },
		"negative age":     func() error { _, err := c.Get(ctx, "k", cache.MaxAge(-1)); return err },
		"nil info":         func() error { _, err := c.Get(ctx, "k", cache.Report(nil)); return err },
		"nil load":         func() error { _, err := c.GetOrLoad(ctx, "k", nil); return err },
		"nil batch load":   func() error { _, err := c.GetOrLoadMany(ctx, []string{"k"}, nil); return err },
		"nil update":       func() error { _, err := c.Update(ctx, "k", nil); return err },
		"report of many": func() error {
			_, err := c.GetMany(ctx, []string{"k"}, cache.Report(new(cache.Info)))
			return err
		},
	} {
		if err := f(); !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewClient(t *testing.T) {
	for url, want := range map[string]any{
		"redis://localhost":                                     (*redis.Client)(nil),
		"rediss://user:secret@localhost:6380/3":                 (*redis.Client)(nil),
		"unix:///tmp/redis.sock?db=1":                           (*redis.Client)(nil),
		"redis://a:7000,b:7001":                                 (*redis.ClusterClient)(nil),
		"redis+sentinel://:secret@s1:26379,s2:26379/mymaster/2": (*redis.Client)(nil),
	} {
		c, err := cache.NewClient(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if reflect.TypeOf(c) != reflect.TypeOf(want) {
			t.Errorf("%s: a %T", url, c)
		}
		c.Close()
	}
	for _, url := range []string{
		"", "localhost:6379", "http://localhost", "redis://", "redis://:6379", "redis://u:secret@", "redis://u:secret@h:99999",
		"redis://u:secret@h/x", "redis://u:secret@h?nonsense=1", "redis://u:secret@h?pool_size=x", "redis://u:secret@h1,h2/3",
		"redis+sentinel://u:secret@s1", "redis://u:sec%zzret@h", "redis://u:secret@h?pool_size=1&pool_size=2", "redis://u:secret@h#f",
		"redis://u:secret@h1,,h2",
	} {
		c, err := cache.NewClient(url)
		if !errors.Is(err, cache.ErrInvalidOption) {
			t.Errorf("%q: %v", url, err)
		}
		if err == nil {
			c.Close()
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec%") {
			t.Errorf("%q: the error contains the password: %v", url, err)
		}
	}
}

func TestSetsOfMetricsAddUp(t *testing.T) {
	ctx := t.Context()
	c, err := cache.NewFrom(startRedis(), "n", cache.SourceFunc(func(_ context.Context, n int) (int, error) {
		switch {
		case n%7 == 0:
			return 0, cache.ErrNotFound
		case n%11 == 0:
			return 0, errors.New("boom")
		case n%13 == 0:
			panic("boom")
		}
		return n, nil
	}), cache.WithStrategy(strategy.LRU(50)), discard)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const callers = 8
	rounds := 5 * redistest.Times(60, 60)
	done := make(chan struct{})
	for i := range callers {
		go func() {
			defer func() { done <- struct{}{} }()
			for j := range rounds {
				n := (i*31 + j*17) % 100
				switch j % 5 {
				case 0:
					_, _ = c.GetMany(ctx, []int{n, n + 1, n + 2, n})
				case 1:
					_, _ = c.Peek(ctx, n)
				case 2:
					_ = c.Delete(ctx, n)
				default:
					_, _ = c.Get(ctx, n)
				}
			}
		}()
	}
	for range callers {
		<-done
	}
	m := c.Metrics()
	// Of five rounds: three keys of a batch, one Peek, two Gets.
	if want := uint64(callers * rounds / 5 * 6); m.Requests() != want {
		t.Errorf("%d requests, want %d", m.Requests(), want)
	}
	if ends := m.Loads - m.Refreshes + m.Coalesced + m.Awaited + m.Unloaded; m.Misses() != ends {
		t.Errorf("%d misses, %d ends of misses: %+v", m.Misses(), ends, ends)
	}
	if m.Deletes+m.WriteErrors != uint64(callers*rounds/5) { // a busy machine may miss the timeout
		t.Errorf("%d deletes, and %d that failed", m.Deletes, m.WriteErrors)
	}
	if m.LoadPanics == 0 || m.NotFound == 0 || m.LoadErrors <= m.LoadPanics || m.LocalHits == 0 || m.RemoteHits == 0 || m.Evictions == 0 {
		t.Errorf("something did not happen: %+v", []uint64{m.LoadPanics, m.NotFound, m.LoadErrors, m.LocalHits, m.RemoteHits, m.Evictions})
	}
	if m.Get.Count == 0 || m.Get.Mean() <= 0 || m.Load.Count != m.Loads {
		t.Errorf("histograms: %d gets, %d loads of %d", m.Get.Count, m.Load.Count, m.Loads)
	}
	c.ResetMetrics()
	if m := c.Metrics(); m.Requests() != 0 || m.Loads != 0 || m.Get.Count != 0 || m.HitRate() != 0 {
		t.Errorf("after reset: %+v", m.Requests())
	}
}

// counting is a Recorder that keeps what it is told.
type counting struct {
	metrics.Discard
	remote, loads chan string
}

func (r counting) RemoteOperation(_ context.Context, e metrics.RemoteEvent) {
	r.remote <- e.Cache + " " + e.Op + " " + e.Outcome.String()
}

func (r counting) StartLoad(ctx context.Context, e metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
	type traced struct{}
	return context.WithValue(ctx, traced{}, true), func(res metrics.LoadResult) {
		r.loads <- e.Cache + " " + res.Outcome.String()
	}
}

func TestTheRecorderHearsOfRemoteOperationsAndLoads(t *testing.T) {
	r := counting{remote: make(chan string, 10), loads: make(chan string, 10)}
	c, err := cache.New[string, int](startRedis(), "n", cache.WithRecorder(r))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.GetOrLoad(t.Context(), "k", func(context.Context, string) (int, error) { return 1, nil }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"n get succeeded", "n read_clock succeeded", "n set_nx succeeded", "n compare_and_set succeeded"} {
		if got := <-r.remote; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := <-r.loads; got != "n succeeded" {
		t.Error(got)
	}
}

func TestRedisGoingAndComingIsLoggedOnce(t *testing.T) {
	ctx := t.Context()
	m := startMini(t)
	rdb, err := cache.NewClient("redis://" + m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	var log strings.Builder
	c, err := cache.New[string, int](rdb, "n", cache.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m.SetError("LOADING not now")
	for range 5 {
		if err := c.Set(ctx, "secret-key", 1); !errors.Is(err, cache.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
	m.SetError("")
	for range 5 {
		if err := c.Set(ctx, "secret-key", 1); err != nil {
			t.Error(err)
		}
	}
	c.Close() // nothing is logged any more
	text := log.String()
	if strings.Count(text, "unavailable") != 1 || strings.Count(text, "available again") != 1 || strings.Contains(text, "secret") {
		t.Errorf("the log:\n%s", text)
	}
}
