package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// Every feature of the table "What goes with what" in docs/strategies.md is tried in a cache with
// each of the options below, one at a time. It works, or is refused with the reason, or has no
// effect; which of them is so the table says, and says nothing else.
//
// To add a feature: an entry of features, which tries it in any cache, and a line in the table. To
// add an option: an entry of combined. A test fails for an option that is in neither.

// outcome is what becomes of a feature.
type outcome int

const (
	works     outcome = iota
	isRefused         // by New or by the call: the error matches ErrInvalidOption or ErrUnsupported
	noEffect          // it does nothing, and is no error
)

func (o outcome) String() string { return [...]string{"works", "is refused", "has no effect"}[o] }

// feature is a line of the table.
type feature struct {
	// covers are the options and methods that it tries: "With", "Source.Removed", "Cache.Touch".
	covers []string
	// source and opts change how the caches are made; nil: nothing.
	source func(src *cache.Source[string, string], r *removals)
	opts   []cache.Option
	// try tries it. An error of another kind than those of isRefused fails the test.
	try func(t *testing.T, w *combination) (outcome, error)
}

// combination is a cache with one of the options, in a bubble.
type combination struct {
	ctx  context.Context
	c    *cache.Cache[string, string]
	more func() *cache.Cache[string, string] // makes another process's
	src  *source
	gone removals // what Source.Removed was told

	hasLocal, hasRedis, around bool
}

// seed has a value loaded that lives for 10 seconds, by any write strategy.
func (w *combination) seed(t *testing.T, c *cache.Cache[string, string], key, val string) {
	t.Helper()
	load := func(context.Context, string) (string, error) { return val, nil }
	if v, err := c.GetOrLoad(w.ctx, key, load, cache.TTL(10*time.Second)); v != val || err != nil {
		t.Fatalf("seed: %q, %v", v, err)
	}
}

// left returns how long a value still lives, as Redis has it if there is one.
func (w *combination) left(key string) (time.Duration, error) {
	var info cache.Info
	opts := []cache.ReadOption{cache.Report(&info)}
	if w.hasRedis {
		opts = append(opts, cache.SkipLocal())
	}
	_, err := w.c.Peek(w.ctx, key, opts...)
	return info.TTL, err
}

var features = map[string]feature{
	"With": {covers: []string{"With"}, try: func(t *testing.T, w *combination) (outcome, error) {
		w.src.fail(errFlaky)
		for range 3 {
			if _, err := w.c.Get(w.ctx, "failing", cache.With(strategy.ErrorTTL(time.Minute))); !errors.Is(err, errFlaky) {
				return works, err
			}
		}
		if n := w.src.calls.Load(); n != 1 {
			return works, fmt.Errorf("%d loads", n)
		}
		w.src.will(func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() })
		begin := time.Now()
		_, err := w.c.Get(w.ctx, "endless", cache.With(strategy.HardTimeout(70*time.Millisecond)))
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took != 70*time.Millisecond {
			return works, fmt.Errorf("after %v: %w", took, err)
		}
		return works, nil
	}},
	"SkipRemote of a read": {covers: []string{"SkipRemote"}, try: func(t *testing.T, w *combination) (outcome, error) {
		w.seed(t, w.more(), "k", "theirs")
		w.src.give("mine")
		switch v, err := w.c.Get(w.ctx, "k", cache.SkipRemote()); {
		case err != nil:
			return works, err
		case v == "theirs" && !w.hasRedis:
			return noEffect, nil
		case v != "mine":
			return works, fmt.Errorf("it is %q", v)
		}
		return works, nil
	}},
	"SkipRemote of a write": {covers: []string{"SkipRemote"}, try: func(t *testing.T, w *combination) (outcome, error) {
		other := w.more()
		w.seed(t, other, "k", "theirs")
		if err := w.c.Set(w.ctx, "k", "mine", cache.SkipRemote()); err != nil {
			return works, err
		}
		if v, err := w.c.Get(w.ctx, "k"); v != "mine" || err != nil {
			return works, fmt.Errorf("it is %q, %w", v, err)
		}
		if !w.hasRedis {
			return noEffect, nil
		}
		if v, err := other.Get(w.ctx, "k"); v != "theirs" || err != nil {
			return works, fmt.Errorf("elsewhere it is %q, %w", v, err)
		}
		return works, nil
	}},
	"KeepTTL": {covers: []string{"KeepTTL"}, try: func(t *testing.T, w *combination) (outcome, error) {
		w.seed(t, w.c, "k", "v")
		time.Sleep(time.Second)
		if err := w.c.Set(w.ctx, "k", "w", cache.KeepTTL()); err != nil {
			return works, err
		}
		left, err := w.left("k")
		switch {
		case w.around && errors.Is(err, cache.ErrMiss):
			return noEffect, nil // nothing is stored
		case err != nil || left != 9*time.Second:
			return works, fmt.Errorf("%v left, %w", left, err)
		}
		return works, nil
	}},
	"Touch": {covers: []string{"Cache.Touch"}, try: func(t *testing.T, w *combination) (outcome, error) {
		w.seed(t, w.c, "k", "v")
		time.Sleep(time.Second)
		if err := w.c.Touch(w.ctx, "k"); err != nil {
			return works, err
		}
		if left, err := w.left("k"); err != nil || left != 0 && left < 15*time.Second {
			return works, fmt.Errorf("%v left, %w", left, err)
		}
		return works, nil
	}},
	"Source.Removed": {
		covers: []string{"Source.Removed"},
		source: func(src *cache.Source[string, string], r *removals) { src.Removed = r.note },
		try: func(t *testing.T, w *combination) (outcome, error) {
			w.seed(t, w.c, "k", "v")
			if err := w.c.Close(); err != nil {
				return works, err
			}
			w.gone.are(t, "at the end", "k v evicted")
			return works, nil
		},
	},
	"Source.Default": {
		covers: []string{"Source.Default"},
		source: func(src *cache.Source[string, string], _ *removals) {
			src.Default = func(key string) (string, bool) { return "default of " + key, true }
		},
		try: func(t *testing.T, w *combination) (outcome, error) {
			w.src.fail(errFlaky)
			if v, err := w.c.Get(w.ctx, "k"); v != "default of k" || err != nil {
				return works, fmt.Errorf("%q, %w", v, err)
			}
			if vals, err := w.c.GetMany(w.ctx, []string{"a", "b"}); len(vals) != 2 || vals["b"] != "default of b" || err != nil {
				return works, fmt.Errorf("%v, %w", vals, err)
			}
			return works, nil
		},
	},
	"Local": {covers: []string{"Cache.Local"}, try: func(t *testing.T, w *combination) (outcome, error) {
		w.seed(t, w.c, "k", "v")
		n := 0
		for k, e := range w.c.Local() {
			if n++; k != "k" || e.Value != "v" {
				return works, fmt.Errorf("%q: %+v", k, e)
			}
		}
		switch {
		case n == 0 && !w.hasLocal:
			return noEffect, nil
		case n != 1:
			return works, fmt.Errorf("%d entries", n)
		}
		return works, nil
	}},
	"HotKeys": {covers: []string{"Cache.HotKeys", "Cache.HotKeysEncoded"}, try: func(t *testing.T, w *combination) (outcome, error) {
		w.seed(t, w.c, "k", "v")
		w.c.HotKeys(1)
		for range 3 {
			if _, err := w.c.Get(w.ctx, "k", cache.MaxAge(0)); err != nil {
				return works, err
			}
		}
		if keys := w.c.HotKeys(5); len(keys) != 1 || keys[0] != (cache.KeyCount[string]{Key: "k", Count: 3}) {
			return works, fmt.Errorf("%v", keys)
		}
		if keys := w.c.HotKeysEncoded(5); len(keys) != 1 || !strings.HasSuffix(w.c.RedisKey("k"), ":"+keys[0].Key) {
			return works, fmt.Errorf("%v", keys)
		}
		return works, nil
	}},
	"Resize": {covers: []string{"Cache.Resize"}, try: func(t *testing.T, w *combination) (outcome, error) {
		for i := range 20 {
			w.seed(t, w.c, fmt.Sprint(i), "v")
		}
		if err := w.c.Resize(5); err != nil {
			return works, err
		}
		if n := w.c.Metrics().LocalEntries; n != 5 {
			return works, fmt.Errorf("%d entries", n)
		}
		return works, nil
	}},
	"BatchLoads": {
		covers: []string{"strategy.BatchLoads"},
		opts:   kinds(strategy.BatchLoads(10, 10*time.Millisecond)),
		source: func(src *cache.Source[string, string], _ *removals) { loadsMany(src) },
		try: func(t *testing.T, w *combination) (outcome, error) {
			w.src.give("v")
			errs := make(chan error, 2)
			for _, k := range []string{"a", "b"} {
				go func() {
					v, err := w.c.Get(w.ctx, k)
					if err == nil && v != "v" {
						err = fmt.Errorf("%s is %q", k, v)
					}
					errs <- err
				}()
			}
			if err := errors.Join(<-errs, <-errs); err != nil {
				return works, err
			}
			if m := w.c.Metrics(); m.Batches != 1 || m.Batched != 2 {
				return works, fmt.Errorf("%d batches of %d keys", m.Batches, m.Batched)
			}
			return works, nil
		},
	},
	"Audit": {covers: []string{"strategy.Audit"}, opts: kinds(strategy.Audit(1)), try: func(t *testing.T, w *combination) (outcome, error) {
		w.src.give("v")
		w.seed(t, w.c, "k", "v")
		for range 2 { // the first may find an entry that is due for a refresh
			if v, err := w.c.Get(w.ctx, "k"); v != "v" || err != nil {
				return works, fmt.Errorf("%q, %w", v, err)
			}
			time.Sleep(4 * time.Second)
		}
		if m := w.c.Metrics(); m.Audited == 0 || m.StaleBeyond > 0 {
			return works, fmt.Errorf("%d audited, %d stale", m.Audited, m.StaleBeyond)
		}
		return works, nil
	}},
}

// loadsMany gives a source a LoadMany that loads one key after the other.
func loadsMany(src *cache.Source[string, string]) {
	one := src.Load
	src.LoadMany = func(ctx context.Context, keys []string) (map[string]string, error) {
		vals := map[string]string{}
		for _, k := range keys {
			v, err := one(ctx, k)
			if err != nil {
				return nil, err
			}
			vals[k] = v
		}
		return vals, nil
	}
}

// addition is an option that the features are tried with, by itself or with what it needs.
type addition struct {
	covers  []string
	opts    []cache.Option
	source  func(*cache.Source[string, string])
	noLocal bool // the cache has no local tier
	without bool // the cache has no Redis
}

func kinds(s ...strategy.Strategy) []cache.Option { return []cache.Option{cache.WithStrategy(s...)} }

func stores(src *cache.Source[string, string]) {
	src.Store = func(context.Context, string, string) error { return nil }
}

var combined = map[string]addition{
	"no local tier": {noLocal: true},
	"LocalOnly":     {covers: []string{"LocalOnly"}, opts: []cache.Option{cache.LocalOnly()}, without: true},
	"LRU":           {covers: []string{"strategy.LRU"}},
	"TinyLFU":       {covers: []string{"strategy.TinyLFU"}, opts: kinds(strategy.TinyLFU(100))},
	"LocalBytes":    {covers: []string{"strategy.LocalBytes"}, opts: kinds(strategy.LocalBytes(1 << 20))},
	"LocalTTL":      {covers: []string{"strategy.LocalTTL"}, opts: kinds(strategy.LocalTTL(5 * time.Second))},

	"TTL":                  {covers: []string{"strategy.TTL"}, opts: kinds(strategy.TTL(20 * time.Second))},
	"Forever":              {covers: []string{"strategy.Forever"}, opts: kinds(strategy.Forever())},
	"Jitter":               {covers: []string{"strategy.Jitter"}, opts: kinds(strategy.Jitter(0.5))},
	"Sliding":              {covers: []string{"strategy.Sliding"}, opts: kinds(strategy.Sliding(8 * time.Second))},
	"RefreshAhead":         {covers: []string{"strategy.RefreshAhead"}, opts: kinds(strategy.RefreshAhead(0.9))},
	"EarlyExpiration":      {covers: []string{"strategy.EarlyExpiration"}, opts: kinds(strategy.EarlyExpiration(1))},
	"StaleWhileRevalidate": {covers: []string{"strategy.StaleWhileRevalidate"}, opts: kinds(strategy.StaleWhileRevalidate(time.Minute))},
	"StaleIfError":         {covers: []string{"strategy.StaleIfError"}, opts: kinds(strategy.StaleIfError(time.Minute))},
	"RetryAfter":           {covers: []string{"strategy.RetryAfter"}, opts: kinds(strategy.StaleIfError(time.Minute), strategy.RetryAfter(time.Second))},
	"SoftTimeout":          {covers: []string{"strategy.SoftTimeout"}, opts: kinds(strategy.StaleIfError(time.Minute), strategy.SoftTimeout(time.Second))},
	"HardTimeout":          {covers: []string{"strategy.HardTimeout"}, opts: kinds(strategy.HardTimeout(2 * time.Second))},
	"NotFoundTTL":          {covers: []string{"strategy.NotFoundTTL"}, opts: kinds(strategy.NotFoundTTL(time.Second))},
	"LocalDuringOutage":    {covers: []string{"strategy.LocalDuringOutage"}, opts: kinds(strategy.LocalDuringOutage(time.Minute))},
	"BatchLoads":           {covers: []string{"strategy.BatchLoads"}, opts: kinds(strategy.BatchLoads(10, 10*time.Millisecond)), source: loadsMany},
	"Audit":                {covers: []string{"strategy.Audit"}, opts: kinds(strategy.Audit(1))},
	"ErrorTTL":             {covers: []string{"strategy.ErrorTTL"}, opts: kinds(strategy.ErrorTTL(time.Second))},
	"WriteThrough":         {covers: []string{"strategy.WriteThrough", "Source.Store"}, opts: kinds(strategy.WriteThrough()), source: stores},
	"WriteAround":          {covers: []string{"strategy.WriteAround"}, opts: kinds(strategy.WriteAround()), source: stores},
	"WriteBehind":          {covers: []string{"strategy.WriteBehind"}, opts: kinds(strategy.WriteBehind()), source: stores},

	"Delayed":      {covers: []string{"invalidate.Delayed"}, opts: []cache.Option{cache.WithInvalidator(invalidate.Delayed(time.Minute))}},
	"Lazy":         {covers: []string{"invalidate.Lazy"}, opts: append(kinds(strategy.StaleIfError(time.Minute)), cache.WithInvalidator(invalidate.Lazy()))},
	"Immediate":    {covers: []string{"invalidate.Immediate", "WithInvalidator"}, opts: []cache.Option{cache.WithInvalidator(invalidate.Immediate())}},
	"Broadcast":    {covers: []string{"invalidate.Broadcast", "WithTransport"}, opts: []cache.Option{cache.WithTransport(invalidate.Broadcast())}},
	"Tracking":     {covers: []string{"invalidate.Tracking"}, opts: []cache.Option{cache.WithTransport(invalidate.Tracking())}},
	"TrackingKeys": {covers: []string{"invalidate.TrackingKeys"}, opts: []cache.Option{cache.WithTransport(invalidate.TrackingKeys())}},
	"NoTransport":  {covers: []string{"invalidate.NoTransport"}, opts: []cache.Option{cache.WithTransport(invalidate.NoTransport())}},

	"Msgpack":    {covers: []string{"codec.Msgpack", "codec.JSON", "WithCodec"}, opts: []cache.Option{cache.WithCodec(codec.Msgpack())}},
	"Raw":        {covers: []string{"codec.Raw"}, opts: []cache.Option{cache.WithCodec(codec.Raw())}},
	"Func":       {covers: []string{"codec.Func"}, opts: []cache.Option{cache.WithCodec(codec.Func("own", codec.JSON().Marshal, codec.JSON().Unmarshal))}},
	"Compressed": {covers: []string{"codec.Compressed"}, opts: []cache.Option{cache.WithCodec(codec.Compressed(codec.JSON(), codec.Threshold(1)))}},
	"Encrypted": {covers: []string{"codec.Encrypted", "codec.EncryptedAESGCM"}, opts: []cache.Option{
		cache.WithCodec(codec.Encrypted(codec.JSON(), []byte("0123456789abcdef0123456789abcdef")))}},
	"Legacy": {covers: []string{"codec.Legacy"}, opts: []cache.Option{cache.WithCodec(codec.Legacy(codec.JSON(), codec.DecodeGoRedisCache))}},

	"WithPrefix":       {covers: []string{"WithPrefix"}, opts: []cache.Option{cache.WithPrefix("p:")}},
	"WithRecorder":     {covers: []string{"WithRecorder"}, opts: []cache.Option{cache.WithRecorder(metrics.Discard{})}},
	"WithLogger":       {covers: []string{"WithLogger"}, opts: []cache.Option{cache.WithLogger(slog.New(slog.NewTextHandler(new(bytes.Buffer), nil)))}},
	"WithTimeout":      {covers: []string{"WithTimeout"}, opts: []cache.Option{cache.WithTimeout(time.Second)}},
	"WithBreaker":      {covers: []string{"WithBreaker"}, opts: []cache.Option{cache.WithBreaker(1, time.Second)}},
	"WithLoadLimit":    {covers: []string{"WithLoadLimit"}, opts: []cache.Option{cache.WithLoadLimit(1)}},
	"WithVersion":      {covers: []string{"WithVersion"}, opts: []cache.Option{cache.WithVersion(7)}},
	"WithMaxValueSize": {covers: []string{"WithMaxValueSize"}, opts: []cache.Option{cache.WithMaxValueSize(64)}},
	"WithCloning":      {covers: []string{"WithCloning"}, opts: []cache.Option{cache.WithCloning()}},
	"WithOptions":      {covers: []string{"WithOptions", "WithStrategy"}, opts: []cache.Option{cache.WithOptions(kinds(strategy.TTL(time.Hour))...)}},

	"Source.LoadMany": {covers: []string{"Source.LoadMany"}, source: loadsMany},
	"Source.Key":      {covers: []string{"Source.Key"}, source: func(src *cache.Source[string, string]) { src.Key = func(k string) string { return "enc-" + k } }},
	"Source.Tags": {covers: []string{"Source.Tags"}, source: func(src *cache.Source[string, string]) {
		src.Tags = func(k, _ string) []string { return []string{"tag " + k} }
	}},
	"Source.TTL": {covers: []string{"Source.TTL"}, source: func(src *cache.Source[string, string]) {
		src.TTL = func(string, string) time.Duration { return 20 * time.Second }
	}},
	"Source.Clone": {covers: []string{"Source.Clone"}, source: func(src *cache.Source[string, string]) { src.Clone = strings.Clone }},
	"Source.Weigh": {covers: []string{"Source.Weigh"}, opts: kinds(strategy.LocalBytes(1 << 20)), source: func(src *cache.Source[string, string]) { src.Weigh = func(_, v string) int64 { return int64(len(v)) } }},
}

// cells carries the features out with each option, and returns the names of those with which a
// feature comes out as want.
func TestWhatGoesWithWhat(t *testing.T) {
	table := readCombined(t)
	for name, f := range features {
		line, ok := table[name]
		if !ok {
			t.Errorf("docs/strategies.md has no line for %s in the table of what goes with what", name)
			continue
		}
		delete(table, name)
		for with, a := range combined {
			t.Run(name+"/"+with, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					if got, want := f.with(t, name, &a), line[with]; got != want {
						t.Errorf("%s %v with %s, and the table says that it %v", name, got, with, want)
					}
					delete(line, with)
				})
			})
		}
		for with := range line {
			t.Errorf("%s: the table speaks of %s, which no test knows", name, with)
		}
	}
	for name := range table {
		t.Errorf("the table has a line for %s, which is not tested", name)
	}
}

// with tries a feature in a cache with an option.
func (f *feature) with(t *testing.T, name string, a *addition) outcome {
	src := new(source)
	src.give("loaded")
	w := &combination{ctx: t.Context(), src: src, hasLocal: !a.noLocal, hasRedis: !a.without}
	full := src.Source()
	if a.source != nil {
		a.source(&full)
	}
	if f.source != nil {
		f.source(&full, &w.gone)
	}
	opts := []cache.Option{quietLog, cache.WithStrategy(strategy.TTL(time.Minute), strategy.Jitter(0))}
	if !a.noLocal {
		opts = append(opts, cache.WithStrategy(strategy.LRU(100)))
	}
	opts = append(append(opts, a.opts...), f.opts...)
	st := store.Store(storetest.NewMemory())
	if a.without {
		st = nil
	}
	c, err := build("test", full, opts, func() store.Store { return st })
	if err != nil {
		return wasRefused(t, name, err)
	}
	w.c, w.around = c, a.covers != nil && a.covers[0] == "strategy.WriteAround"
	t.Cleanup(func() { c.Close() })
	w.more = func() *cache.Cache[string, string] {
		if a.without {
			return c
		}
		return newCache(t, st, full, opts...)
	}
	o, err := f.try(t, w)
	if err != nil {
		return wasRefused(t, name, err)
	}
	return o
}

// wasRefused checks that an error refuses a feature, and says so.
func wasRefused(t *testing.T, name string, err error) outcome {
	t.Helper()
	what, _, _ := strings.Cut(name, " ")
	if !errors.Is(err, cache.ErrInvalidOption) && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%s: %v", name, err)
	} else if !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), ":") {
		t.Errorf("%s is refused without a reason: %v", name, err)
	}
	return isRefused
}

// readCombined reads the table: of each feature what it is refused with, and what it has no effect
// with.
func readCombined(t *testing.T) map[string]map[string]outcome {
	t.Helper()
	page, err := os.ReadFile("../../../docs/strategies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), "\n## What goes with what\n")
	if !ok {
		t.Fatal("docs/strategies.md does not say what goes with what")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	table := map[string]map[string]outcome{}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || strings.Contains(cells[0], "---") || strings.TrimSpace(cells[0]) == "" {
			continue
		}
		list := func(i int) (names []string) {
			for _, name := range strings.Split(strings.ReplaceAll(cells[i], "`", ""), ",") {
				if name = strings.TrimSpace(name); name != "" {
					names = append(names, name)
				}
			}
			return names
		}
		of := map[string]outcome{}
		for _, with := range list(1) {
			of[with] = isRefused
		}
		for _, with := range list(2) {
			of[with] = noEffect
		}
		table[list(0)[0]] = of
	}
	return table
}

// What is not tried with features, and why not.
var uncombined = map[string]string{
	"Source.Load": "each cache has it", "Source.StoreMany": "how a write strategy stores", "Source.Delete": "how a write strategy deletes",
	"SkipLocal": "of a single call", "AllowStale": "of a single call", "MaxAge": "of a single call", "Report": "of a single call", "TTL": "of a single call", "Tags": "of a single call",
	"codec.DecodeGoRedisCache": "a part of Legacy",
	"LocalValues":              "it is tried with each option in localvalues_test.go, and with each method in the conformance runs",
}

// Each option that there is, and each method, is a feature of the table, or tried with them, or has
// a reason why not.
func TestNoOptionIsForgotten(t *testing.T) {
	known := maps.Clone(uncombined)
	for name, f := range features {
		for _, c := range f.covers {
			known[c] = name
		}
	}
	for name, a := range combined {
		for _, c := range a.covers {
			known[c] = name
		}
	}
	there := options(t)
	for f := range reflect.TypeFor[cache.Source[string, string]]().Fields() {
		there = append(there, "Source."+f.Name)
	}
	slices.Sort(there)
	for _, name := range there {
		if known[name] == "" {
			t.Errorf("%s is neither a feature nor an option that features are tried with: see the top of this file", name)
		}
	}
	for name := range known {
		if _, found := slices.BinarySearch(there, name); !found && !strings.HasPrefix(name, "Cache.") && uncombined[name] == "" {
			t.Errorf("there is no %s", name)
		}
	}
}

// options finds the functions that return options.
func options(t *testing.T) (names []string) {
	t.Helper()
	results := map[string][]string{
		"":            {"Option", "ReadOption", "WriteOption", "LoadOption", "ReadWriteOption"},
		"strategy.":   {"Strategy"},
		"invalidate.": {"Policy", "Transport"},
		"codec.":      {"Codec"},
	}
	for pkg, types := range results {
		files, err := filepath.Glob(filepath.Join("../../..", strings.TrimSuffix(pkg, "."), "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(pkg, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok || f.Recv != nil || !f.Name.IsExported() || f.Type.Results == nil {
					continue
				}
				if r, ok := f.Type.Results.List[0].Type.(*ast.Ident); ok && slices.Contains(types, r.Name) {
					names = append(names, pkg+f.Name.Name)
				}
			}
		}
	}
	return names
}
