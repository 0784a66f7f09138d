package cache_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"html/template"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// A filter is compiled from a text once in each process.
type filter struct{ passes func(string) bool }

// withLocalValues is one option beside LocalValues, by the name of its constructor, and what becomes
// of it.
type withLocalValues struct {
	option  cache.Option
	source  func(*cache.Source[string, filter]) // what it needs
	refused string                              // part of the error of New; "": it works
}

func strategies(s ...strategy.Strategy) cache.Option { return cache.WithStrategy(s...) }

var storing = func(s *cache.Source[string, filter]) {
	s.Store = func(context.Context, string, filter) error { return nil }
}

var besideLocalValues = map[string][]withLocalValues{
	"strategy.LRU":                  {{option: strategies(strategy.LRU(10))}},
	"strategy.TinyLFU":              {{option: strategies(strategy.TinyLFU(10))}},
	"strategy.LocalBytes":           {{option: strategies(strategy.LocalBytes(1000)), refused: "Source.Weigh"}, {option: strategies(strategy.LocalBytes(1000)), source: func(s *cache.Source[string, filter]) { s.Weigh = func(string, filter) int64 { return 10 } }}},
	"strategy.LocalTTL":             {{option: strategies(strategy.LocalTTL(time.Second))}},
	"strategy.TTL":                  {{option: strategies(strategy.TTL(time.Hour))}},
	"strategy.Forever":              {{option: strategies(strategy.Forever())}},
	"strategy.Jitter":               {{option: strategies(strategy.Jitter(0.2))}},
	"strategy.Sliding":              {{option: strategies(strategy.Sliding(time.Minute))}},
	"strategy.RefreshAhead":         {{option: strategies(strategy.RefreshAhead(0.5))}},
	"strategy.EarlyExpiration":      {{option: strategies(strategy.EarlyExpiration(1))}},
	"strategy.StaleWhileRevalidate": {{option: strategies(strategy.StaleWhileRevalidate(time.Minute))}},
	"strategy.StaleIfError":         {{option: strategies(strategy.StaleIfError(time.Minute))}},
	"strategy.RetryAfter":           {{option: strategies(strategy.StaleIfError(time.Minute), strategy.RetryAfter(time.Second))}},
	"strategy.SoftTimeout":          {{option: strategies(strategy.StaleIfError(time.Minute), strategy.SoftTimeout(time.Second))}},
	"strategy.HardTimeout":          {{option: strategies(strategy.HardTimeout(time.Second))}},
	"strategy.NotFoundTTL":          {{option: strategies(strategy.NotFoundTTL(time.Second, fs.ErrNotExist))}},
	"strategy.ErrorTTL":             {{option: strategies(strategy.ErrorTTL(time.Second))}},
	"strategy.WriteThrough":         {{option: strategies(strategy.WriteThrough()), source: storing}},
	"strategy.WriteAround":          {{option: strategies(strategy.WriteAround()), source: storing}},
	"strategy.WriteBehind":          {{option: strategies(strategy.WriteBehind()), source: storing, refused: "strategy.WriteThrough()"}},
	"strategy.BatchLoads":           {{option: strategies(strategy.BatchLoads(10, time.Millisecond)), source: loadingMany}},
	"strategy.Audit":                {{option: strategies(strategy.Audit(0.1)), refused: "strategy.Audit(0.1) compares"}},
	"strategy.LocalDuringOutage":    {{option: strategies(strategy.LocalDuringOutage(time.Minute))}},

	"cache.LocalValues":      {{option: cache.LocalValues()}},
	"cache.LocalOnly":        {{option: cache.LocalOnly(), refused: "leave one of them out"}},
	"cache.WithPrefix":       {{option: cache.WithPrefix("p:")}},
	"cache.WithStrategy":     {{option: cache.WithStrategy()}},
	"cache.WithOptions":      {{option: cache.WithOptions(cache.LocalValues())}},
	"cache.WithRecorder":     {{option: cache.WithRecorder(metrics.Discard{})}},
	"cache.WithLogger":       {{option: cache.WithLogger(slog.New(slog.DiscardHandler))}},
	"cache.WithTimeout":      {{option: cache.WithTimeout(time.Second)}},
	"cache.WithBreaker":      {{option: cache.WithBreaker(3, time.Second)}},
	"cache.WithLoadLimit":    {{option: cache.WithLoadLimit(2)}},
	"cache.WithVersion":      {{option: cache.WithVersion(2)}},
	"cache.WithMaxValueSize": {{option: cache.WithMaxValueSize(1)}},
	"cache.WithInvalidator": {
		{option: cache.WithInvalidator(invalidate.Immediate())},
		{option: cache.WithInvalidator(invalidate.Lazy()), refused: "invalidate.Lazy() leaves"},
		{option: cache.WithInvalidator(invalidate.Delayed(time.Second)), refused: "invalidate.Delayed(1s) leaves"},
	},
	"cache.WithTransport": {
		{option: cache.WithTransport(invalidate.Broadcast())},
		{option: cache.WithTransport(invalidate.Tracking())},
		{option: cache.WithTransport(invalidate.TrackingKeys())},
		{option: cache.WithTransport(invalidate.NoTransport()), refused: "invalidate.NoTransport()"},
	},
	"cache.WithCodec": {
		{option: cache.WithCodec(codec.Msgpack())},
		{option: cache.WithCodec(codec.Compressed(codec.JSON()))},
		{option: cache.WithCodec(codec.Encrypted(codec.JSON(), []byte("0123456789abcdef0123456789abcdef")))},
		{option: cache.WithCodec(codec.Raw())},
		{option: cache.WithCodec(codec.Legacy(codec.JSON(), codec.DecodeGoRedisCache)), refused: "codec.Legacy"},
	},
	"cache.WithCloning": {
		{option: cache.WithCloning(), refused: "WithCloning copies by the codec"},
		{option: cache.WithCloning(), source: func(s *cache.Source[string, filter]) { s.Clone = func(f filter) filter { return f } }},
	},
}

// Each option either works beside LocalValues, or New refuses it and says why. A new option needs
// its row.
func TestEveryOptionBesideLocalValues(t *testing.T) {
	rdb := startRedis()
	for name, cases := range besideLocalValues {
		for i, o := range cases {
			t.Run(fmt.Sprint(name, " ", i), func(t *testing.T) {
				loads := 0
				src := cache.Source[string, filter]{Load: func(_ context.Context, text string) (filter, error) {
					loads++
					return filter{func(s string) bool { return strings.Contains(s, text) }}, nil
				}}
				if o.source != nil {
					o.source(&src)
				}
				c, err := cache.NewFrom(rdb, "filters", src, cache.WithPrefix(t.Name()), cache.WithStrategy(strategy.LRU(100)), cache.LocalValues(), o.option)
				if o.refused != "" {
					if !errors.Is(err, cache.ErrInvalidOption) || !strings.Contains(err.Error(), o.refused) {
						t.Errorf("New returned %v, which says nothing of %q", err, o.refused)
					}
					if err == nil {
						c.Close()
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				f, err := c.Get(t.Context(), "a")
				if err != nil || !f.passes("cat") || f.passes("dog") {
					t.Fatalf("%v, %v", f, err)
				}
				var info cache.Info
				if _, err := c.Get(t.Context(), "a", cache.Report(&info)); err != nil || info.Tier != metrics.Local {
					t.Errorf("again: %+v, %v", info, err)
				}
				if err := c.Set(t.Context(), "b", f); err != nil {
					t.Error(err)
				}
				if err := c.Invalidate(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				if _, err := c.Get(t.Context(), "a"); err != nil || loads != 2 {
					t.Errorf("after an invalidation: %v, %d loads", err, loads)
				}
				if keys, err := rdb.Keys(t.Context(), t.Name()+"*:a").Result(); err != nil || len(keys) > 0 {
					t.Errorf("in Redis there is %v, %v", keys, err)
				}
			})
		}
	}
	for _, dir := range []struct{ path, pkg, result string }{{".", "cache.", "Option"}, {"strategy", "strategy.", "Strategy"}} {
		for _, name := range constructors(t, dir.path, dir.result) {
			if _, ok := besideLocalValues[dir.pkg+name]; !ok {
				t.Errorf("%s%s is not in the table", dir.pkg, name)
			}
		}
	}
}

func loadingMany(s *cache.Source[string, filter]) {
	one := s.Load
	s.LoadMany = func(ctx context.Context, texts []string) (map[string]filter, error) {
		found := map[string]filter{}
		for _, text := range texts {
			f, err := one(ctx, text)
			if err != nil {
				return nil, err
			}
			found[text] = f
		}
		return found, nil
	}
}

// constructors returns the exported functions in a folder that return a type of that name.
func constructors(t *testing.T, dir, result string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), dir+"/"+f.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !fn.Name.IsExported() || fn.Type.Results.NumFields() != 1 {
				continue
			}
			if id, ok := fn.Type.Results.List[0].Type.(*ast.Ident); ok && id.Name == result {
				names = append(names, fn.Name.Name)
			}
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s has no function that returns %s", dir, result)
	}
	return names
}

// What LocalValues needs besides.
func TestLocalValuesNeedsALocalTierAndRedis(t *testing.T) {
	_, err := cache.New[string, filter](startRedis(), "filters", cache.LocalValues())
	if !errors.Is(err, cache.ErrInvalidOption) || !strings.Contains(err.Error(), "strategy.LRU(n)") {
		t.Errorf("without a local tier: %v", err)
	}
	_, err = cache.New[string, filter](nil, "filters", cache.LocalValues(), cache.WithStrategy(strategy.LRU(10)))
	if !errors.Is(err, cache.ErrInvalidOption) || !strings.Contains(err.Error(), "client is nil") {
		t.Errorf("without a client: %v", err)
	}
}

// A local hit is as cheap as with values in Redis.
func TestALocalHitOfLocalValuesDoesNotAllocate(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates")
	}
	c, err := cache.NewFrom(startRedis(), "templates", cache.SourceFunc(func(_ context.Context, name string) (*template.Template, error) {
		return template.New(name), nil
	}), cache.LocalValues(), cache.WithStrategy(strategy.LRU(10)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	if _, err := c.Get(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = c.Get(ctx, "a") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
