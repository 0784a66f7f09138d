package cache_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// The public face, as programs are written against it: a change of a signature
// does not compile here.
type face[K comparable, V any] interface {
	Get(ctx context.Context, key K, opts ...cache.ReadOption) (V, error)
	Peek(ctx context.Context, key K, opts ...cache.ReadOption) (V, error)
	GetMany(ctx context.Context, keys []K, opts ...cache.ReadOption) (map[K]V, error)
	GetOrLoad(ctx context.Context, key K, load cache.LoadFunc[K, V], opts ...cache.LoadOption) (V, error)
	GetOrLoadMany(ctx context.Context, keys []K, load cache.BatchFunc[K, V], opts ...cache.LoadOption) (map[K]V, error)
	Inspect(ctx context.Context, key K) (cache.Entry[V], error)
	Set(ctx context.Context, key K, val V, opts ...cache.WriteOption) error
	SetMany(ctx context.Context, vals map[K]V, opts ...cache.WriteOption) error
	SetIfAbsent(ctx context.Context, key K, val V, opts ...cache.WriteOption) (bool, error)
	Update(ctx context.Context, key K, f func(old V, ok bool) (V, error), opts ...cache.WriteOption) (V, error)
	Delete(ctx context.Context, keys ...K) error
	Invalidate(ctx context.Context, keys ...K) error
	InvalidatePattern(ctx context.Context, pattern string) (int64, error)
	InvalidateTags(ctx context.Context, tags ...string) error
	Touch(ctx context.Context, keys ...K) error
	Local() iter.Seq2[K, cache.Entry[V]]
	HotKeys(n int) []cache.KeyCount[K]
	Resize(n int) error
	Clear(ctx context.Context) error
	Refresh(ctx context.Context, keys ...K) error
	Sync(ctx context.Context) error
	Metrics() metrics.Snapshot
	Totals() metrics.Snapshot
	ResetMetrics()
	Close() error
	Name() string
	RedisKey(key K) string
}

type record struct{ A string }

var (
	_ face[int64, record] = (*cache.Cache[int64, record])(nil)
	_ invalidate.Target   = (*cache.Cache[int64, record])(nil)
	_ invalidate.Target   = (*invalidate.Client)(nil)

	_ func(context.Context, redis.UniversalClient) (cache.Capabilities, error) = cache.Probe

	_ func(redis.UniversalClient, string, ...cache.Option) (*cache.Cache[string, int], error)                            = cache.New[string, int]
	_ func(redis.UniversalClient, string, cache.Source[string, int], ...cache.Option) (*cache.Cache[string, int], error) = cache.NewFrom[string, int]
	_ func(string) (redis.UniversalClient, error)                                                                        = cache.NewClient
	_ func(cache.LoadFunc[string, int]) cache.Source[string, int]                                                        = cache.SourceFunc[string, int]

	_ = []cache.ReadOption{cache.SkipLocal(), cache.AllowStale(), cache.MaxAge(time.Second), cache.Report(new(cache.Info)), cache.With(strategy.HardTimeout(1)), cache.SkipRemote()}
	_ = []cache.WriteOption{cache.TTL(time.Second), cache.Tags("a", "b"), cache.KeepTTL(), cache.SkipRemote()}
	_ = []cache.LoadOption{cache.SkipLocal(), cache.AllowStale(), cache.MaxAge(0), cache.Report(nil), cache.TTL(0), cache.Tags(), cache.With(), cache.SkipRemote(), cache.KeepTTL()}
	_ = []cache.Option{
		cache.WithPrefix(""), cache.WithCodec(codec.JSON()), cache.WithStrategy(strategy.LRU(1)),
		cache.WithInvalidator(invalidate.Lazy()), cache.WithTransport(invalidate.Tracking()),
		cache.WithRecorder(metrics.Discard{}), cache.WithLogger(slog.Default()), cache.WithTimeout(time.Second),
		cache.WithBreaker(5, time.Second), cache.WithLoadLimit(256), cache.WithVersion(1),
		cache.WithMaxValueSize(1), cache.WithOptions(), cache.LocalOnly(),
	}
	_ = cache.Source[string, int]{
		Load: nil, LoadMany: nil, Store: nil, StoreMany: nil, Delete: nil,
		Key: nil, Tags: nil, TTL: nil, Clone: nil, Default: nil, Removed: nil,
	}
	_ = cache.Info{Tier: metrics.Local, Age: 0, TTL: 0, Stale: false, Absent: false, Tags: nil, LoadErr: nil}
	_ = []error{cache.ErrMiss, cache.ErrNotFound, cache.ErrClosed, cache.ErrInvalidOption, cache.ErrUnavailable,
		cache.ErrOverload, cache.ErrTooLarge, &cache.PanicError{}, &cache.BatchError[int]{}}

	_ = []strategy.Strategy{
		strategy.LRU(1), strategy.TinyLFU(1), strategy.LocalBytes(1), strategy.LocalTTL(1), strategy.LocalDuringOutage(1), strategy.TTL(1), strategy.Forever(),
		strategy.Jitter(0), strategy.Sliding(1), strategy.RefreshAhead(0.8), strategy.EarlyExpiration(1),
		strategy.StaleWhileRevalidate(1), strategy.StaleIfError(1), strategy.RetryAfter(1),
		strategy.SoftTimeout(1), strategy.HardTimeout(1), strategy.NotFoundTTL(1, errors.ErrUnsupported),
		strategy.ErrorTTL(1), strategy.WriteThrough(), strategy.WriteAround(),
		strategy.WriteBehind(strategy.BatchSize(1), strategy.BatchDelay(1), strategy.MaxAttempts(1)),
	}
	_ = []codec.Codec{codec.JSON(), codec.Msgpack(), codec.Raw(), codec.Compressed(codec.JSON()), codec.Encrypted(codec.JSON(), nil)}
	_ = []invalidate.Policy{invalidate.Immediate(), invalidate.Delayed(1), invalidate.Lazy()}
	_ = []invalidate.Transport{invalidate.Broadcast(), invalidate.Tracking(), invalidate.TrackingKeys(), invalidate.NoTransport()}
)

func loadHandle(ctx context.Context) {
	l := cache.CurrentLoad[record](ctx)
	_, _ = l.Stale()
	_, _ = l.NotModified()
	_ = l.ETag()
	l.SetETag("")
	l.SetTTL(0)
	l.AddTags()
	l.NoStore()
	l.RetryAfter(0)
	l.NoStale()
}

func TestTheHandleDoesNothingOutsideALoad(t *testing.T) { loadHandle(t.Context()) }

// Programs that are wrong must not compile: the types are what keeps them from
// running.
func TestWrongProgramsDoNotCompile(t *testing.T) {
	if underRace {
		t.Skip("the compiler is the same with and without the race detector")
	}
	if testing.Short() {
		t.Skip("it compiles programs, which -short leaves out")
	}
	files, err := filepath.Glob("testdata/mustnotcompile/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no programs found", err)
	}
	var wg sync.WaitGroup
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(src), "\n")
		want, err := regexp.Compile(strings.TrimPrefix(first, "// want: "))
		if err != nil || want.String() == first {
			t.Fatalf("%s must begin with // want: and a regular expression", file)
		}
		wg.Go(func() {
			out, err := exec.Command("go", "vet", file).CombinedOutput()
			if err == nil {
				t.Errorf("%s compiles", file)
			} else if !want.Match(out) {
				t.Errorf("%s: the compiler does not say %q:\n%s", file, want, out)
			}
		})
	}
	wg.Wait()
}

func TestWhatIsNotSupportedSaysSo(t *testing.T) {
	c, err := cache.New[string, record](startRedis(), "users")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Refresh(t.Context(), "k"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Refresh without a source: %v", err)
	}
}
