package ctl_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/ctl"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// guideFleet is what the outputs of docs/cachectl.md are about.
type guideFleet struct {
	users   *cache.Cache[string, person]
	server  *redistest.Server
	release chan struct{}
}

func newGuideFleet(t *testing.T) *guideFleet {
	server := redistest.Start(t, redistest.MaxMemory("100mb", "allkeys-lru"),
		redistest.ACL("app on >secret ~users:* ~:{c:users}:* ~:users:lock:* ~orders:* ~:{c:orders* ~:orders:lock:* &:{c:* +@all -scan"))
	f := &guideFleet{server: server, release: make(chan struct{})}
	ctx := t.Context()
	loading := make(chan struct{})
	begins := sync.OnceFunc(func() { close(loading) })
	users, err := cache.NewFrom(server.Client(t), "users", cache.Source[string, person]{Load: func(context.Context, string) (person, error) {
		begins()
		<-f.release
		return person{}, nil
	}}, slowly, cache.WithStrategy(strategy.LRU(100), strategy.TTL(time.Hour), strategy.StaleIfError(time.Hour), strategy.HardTimeout(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	f.users = users
	t.Cleanup(func() { users.Close() })
	set(t, users, "41")
	rdb := server.Client(t)
	b := &redistest.Backend{Client: rdb}
	like, err := frame.Parse("users:41", []byte(rdb.Get(ctx, "users:41").Val()))
	if err != nil {
		t.Fatal(err)
	}
	record := func(key string, age, fresh, stale time.Duration, tags ...string) {
		h := frame.Header{Type: like.Type, Fresh: us(fresh), Stale: us(stale), Cost: frame.CostOf(23_400), Tags: tags}
		raw{Header: h, key: key, age: age, payload: `{"name":"Ann","age":31}`}.write(t, b, "users")
	}
	record("43", 5*time.Minute, time.Hour, 0, "tenant:globex")
	if err := users.InvalidateTags(ctx, "tenant:globex"); err != nil {
		t.Fatal(err)
	}
	record("42", 192*time.Second, time.Hour, 0, "tenant:acme")
	record("44", 65*time.Minute, time.Hour, time.Hour)
	for _, key := range []string{"acme:1", "acme:2"} {
		record(key, time.Minute, time.Hour, 0)
	}
	go func() { _, _ = users.Get(context.WithoutCancel(ctx), "slow") }()
	<-loading
	t.Cleanup(func() { close(f.release) })

	orders, err := cache.NewFrom(server.Client(t), "orders", cache.Source[string, person]{Store: func(context.Context, string, person) error {
		return errors.New("duplicate key")
	}}, slowly, cache.WithLogger(slog.New(slog.DiscardHandler)), cache.WithStrategy(strategy.WriteBehind(strategy.MaxAttempts(1))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { orders.Close() })
	set(t, orders, "1007")
	if err := orders.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if n := rdb.PubSubNumSub(ctx, ":{c:users}:events").Val()[":{c:users}:events"]; n != 1 {
			return "the cache does not listen"
		}
		return ""
	})
	return f
}

// acts are what the fleet does while watch runs, one after each line.
func (f *guideFleet) acts(t *testing.T) []func() {
	check := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	return []func(){
		func() { check(f.users.Set(t.Context(), "42", person{"Ann", 32})) },
		func() { check(f.users.Invalidate(t.Context(), "42")) },
		func() { check(f.users.InvalidateTags(t.Context(), "tenant:acme")) },
	}
}

// onLines calls a function at each line that is written, as long as there are some.
type onLines struct {
	buf bytes.Buffer
	do  []func()
}

func (o *onLines) Write(p []byte) (int, error) {
	if len(o.do) > 0 {
		go o.do[0]()
		o.do = o.do[1:]
	}
	return o.buf.Write(p)
}

func TestGuide(t *testing.T) {
	const path = "../../docs/cachectl.md"
	f := newGuideFleet(t)
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t: t, connect: func() redis.UniversalClient { return f.server.Client(t) }}
	block := regexp.MustCompile("(?s)```console\n(.*?)```")
	runs := 0
	made := block.ReplaceAllStringFunc(string(doc), func(s string) string {
		var b strings.Builder
		b.WriteString("```console\n")
		for line := range strings.Lines(s) {
			command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ cachectl ")
			if !ok {
				continue
			}
			runs++
			b.WriteString(line)
			args := words(command)
			out := &onLines{}
			if args[0] == "watch" {
				out.do = f.acts(t)
			}
			var errs bytes.Buffer
			p := u.program(true, nil, &errs, args...)
			p.Stdout = out
			if code := ctl.Run(t.Context(), p); code != 0 && args[0] != "doctor" || errs.Len() > 0 {
				t.Errorf("%s: exit code %d\n%s", line, code, &errs)
			}
			b.WriteString(out.buf.String())
		}
		return b.String() + "```"
	})
	if runs < 15 {
		t.Errorf("the guide has only %d commands", runs)
	}
	if *update {
		if err := os.WriteFile(path, []byte(made), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, got := strings.Split(comparable(string(doc)), "\n"), strings.Split(comparable(made), "\n")
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			t.Fatalf("the guide differs from what the program prints; go test ./internal/ctl -run Guide -update rewrites it. From line %d:\n%s\nand it prints\n%s",
				i+1, strings.Join(want[min(i, len(want)):min(i+5, len(want))], "\n"), strings.Join(got[min(i, len(got)):min(i+5, len(got))], "\n"))
		}
	}
}

// words splits a command line; words may stand in single quotation marks.
func words(line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}

var varies = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}`), "TIME"},
	{regexp.MustCompile(`\d/\d{13}-\d+`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{16}\b`), "NUMBER"},
	{regexp.MustCompile(`Redis \d+\.\d+\.\d+`), "Redis VERSION"},
	{regexp.MustCompile(`just now|(<?(\d+(\.\d+)?(h|ms|m|s))+)( ago)?`), "SPAN"},
	{regexp.MustCompile(`\d+\.\d (K|M)iB|about \d+ B`), "SIZE"},
	{regexp.MustCompile(` +`), " "},
}

// comparable replaces what is not the same in each run.
func comparable(s string) string {
	for _, v := range varies {
		s = v.what.ReplaceAllString(s, v.by)
	}
	return s
}
