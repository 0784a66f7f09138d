package ctl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/ctl"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

var update = flag.Bool("update", false, "rewrite the outputs in docs/cachectl.md and testdata")

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		beProgram()
	}
	redistest.Main(m)
}

// user runs command lines.
type user struct {
	t       *testing.T
	connect func() redis.UniversalClient
	prefix  string
	stdin   string
	answers bool
}

func userOf(t *testing.T, b *redistest.Backend) *user {
	return &user{t: t, prefix: b.Prefix, connect: func() redis.UniversalClient { return b.NewClient(t) }}
}

func (u *user) program(terminal bool, out, errs *bytes.Buffer, args ...string) *ctl.Program {
	p := &ctl.Program{
		Args: args, Stdin: strings.NewReader(u.stdin), Stdout: out, Stderr: errs, Terminal: terminal, Answers: u.answers,
		Getenv: func(name string) string {
			if name == "CACHECTL_PREFIX" {
				return u.prefix
			}
			return ""
		},
	}
	if u.connect != nil {
		p.Connect = func(string) (redis.UniversalClient, error) { return u.connect(), nil }
	}
	return p
}

// run runs a command as on a terminal.
func (u *user) run(args ...string) (out, errs string, code int) {
	var o, e bytes.Buffer
	code = ctl.Run(u.t.Context(), u.program(true, &o, &e, args...))
	return o.String(), e.String(), code
}

// ok runs a command that must succeed, as on a terminal.
func (u *user) ok(args ...string) string {
	u.t.Helper()
	out, errs, code := u.run(args...)
	if code != 0 {
		u.t.Fatalf("cachectl %q: exit code %d\n%s%s", args, code, out, errs)
	}
	return out
}

// json runs a command that must succeed in a pipe, and decodes what it prints.
func (u *user) json(v any, args ...string) {
	u.t.Helper()
	reflect.ValueOf(v).Elem().SetZero()
	var o, e bytes.Buffer
	if code := ctl.Run(u.t.Context(), u.program(false, &o, &e, args...)); code != 0 {
		u.t.Fatalf("cachectl %q: exit code %d\n%s%s", args, code, &o, &e)
	}
	if err := json.Unmarshal(o.Bytes(), v); err != nil {
		u.t.Fatalf("cachectl %q prints no JSON: %v\n%s", args, err, &o)
	}
}

func (u *user) fails(code int, want string, args ...string) {
	u.t.Helper()
	out, errs, got := u.run(args...)
	if got != code || !strings.Contains(errs, want) {
		u.t.Errorf("cachectl %q: exit code %d, want %d, and %q on standard error; got:\n%s%s", args, got, code, want, out, errs)
	}
}

func contains(t *testing.T, out string, wants ...string) {
	t.Helper()
	for _, w := range wants {
		if !strings.Contains(out, w) {
			t.Errorf("the output lacks %q:\n%s", w, out)
		}
	}
}

type person struct {
	Name string `json:"name"`
	Age  int    `json:"age"`
}

// slowly is for servers that are well, on a busy machine.
var slowly = cache.WithTimeout(10 * time.Second)

// people is a cache of a fleet.
func people(t *testing.T, b *redistest.Backend, name string, opts ...cache.Option) *cache.Cache[string, person] {
	t.Helper()
	opts = append([]cache.Option{cache.WithPrefix(b.Prefix), slowly, cache.WithStrategy(strategy.TTL(time.Hour))}, opts...)
	c, err := cache.New[string, person](b.NewClient(t), name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func set(t *testing.T, c *cache.Cache[string, person], key string, opts ...cache.WriteOption) {
	t.Helper()
	if err := c.Set(t.Context(), key, person{"Ann", 31}, opts...); err != nil {
		t.Fatal(err)
	}
}

type inspection struct {
	RedisKey string `json:"redis_key"`
	Kind     string
	Read     string
	Reasons  []string
	Notes    []string
	Tags     []string
	Version  *uint32
	Value    *struct {
		Codec string
		Sure  bool            `json:"codec_is_sure"`
		JSON  json.RawMessage `json:"json"`
	}
}

func (i *inspection) want(t *testing.T, kind, read string, reason string) {
	t.Helper()
	if i.Kind != kind || i.Read != read || !strings.Contains(strings.Join(i.Reasons, "\n"), reason) || (reason == "") != (len(i.Reasons) == 0) {
		t.Errorf("%s: %s, %s, because of %q; want %s, %s, %q", i.RedisKey, i.Kind, i.Read, i.Reasons, kind, read, reason)
	}
}

func TestInspectAgreesWithTheCache(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u, c := userOf(t, b), people(t, b, "users")
		look := func(key string, more ...string) (i inspection) {
			t.Helper()
			u.json(&i, append([]string{"inspect", "users", key}, more...)...)
			// What inspect says is what a read finds.
			_, err := c.Peek(t.Context(), key)
			if hit := err == nil; err != nil && !errors.Is(err, cache.ErrMiss) || hit != (i.Read == "hit") {
				t.Errorf("inspect says %s of %s, because of %q; a read says %v", i.Read, key, i.Reasons, err)
			}
			return i
		}
		i := look("ann")
		i.want(t, "nothing", "miss", "there is no record")

		set(t, c, "ann", cache.Tags("tenant:acme", "tenant:x"))
		set(t, c, "bob", cache.Tags("tenant:x"))
		set(t, c, "cid")
		i = look("ann")
		i.want(t, "value", "hit", "")
		if len(i.Tags) != 2 || i.Tags[0] != "tenant:acme" || *i.Version != 0 || i.Value.Codec != "json" || i.Value.JSON != nil || i.RedisKey != c.RedisKey("ann") {
			t.Errorf("of ann: %+v, value %+v", i, i.Value)
		}
		i = look("ann", "-values", "-type", "github.com/delqhi/cache/internal/ctl_test.person")
		var p person
		if err := json.Unmarshal(i.Value.JSON, &p); err != nil || p != (person{"Ann", 31}) || !i.Value.Sure {
			t.Errorf("the value is %s, %v, sure: %v", i.Value.JSON, err, i.Value.Sure)
		}

		if err := c.InvalidateTags(t.Context(), "tenant:acme"); err != nil {
			t.Fatal(err)
		}
		i = look("ann")
		i.want(t, "value", "miss", "invalidating the tag tenant:acme")
		i = look("bob")
		i.want(t, "value", "hit", "")

		set(t, c, "ann", cache.Tags("tenant:acme"))
		i = look("ann")
		i.want(t, "value", "hit", "")
		if err := c.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"ann", "bob", "cid"} {
			i = look(key)
			i.want(t, "value", "miss", "Clear, just now")
		}

		set(t, c, "ann", cache.Tags("tenant:acme"))
		set(t, c, "cid")
		if err := b.Client.Del(t.Context(), clockOf(t, b, "users", "ann").Tags).Err(); err != nil {
			t.Fatal(err)
		}
		var lost inspection // a process knows better until it asks again
		u.json(&lost, "inspect", "users", "ann")
		lost.want(t, "value", "miss", "the invalidations of tags were lost")
		u.json(&lost, "inspect", "users", "cid")
		lost.want(t, "value", "hit", "")
		if err := c.Close(); err != nil { // it would make another clock
			t.Fatal(err)
		}
		if err := b.Client.Del(t.Context(), clockOf(t, b, "users", "cid").Epoch).Err(); err != nil {
			t.Fatal(err)
		}
		u.json(&lost, "inspect", "users", "cid")
		lost.want(t, "value", "miss", "logical clock is missing")
	})
}

// A raw record, dated by the clock of its node.
type raw struct {
	frame.Header
	key     string
	payload string
	age     time.Duration
}

// clockOf returns the names of a cache with the logical clock of a key.
func clockOf(t *testing.T, b *redistest.Backend, name, key string) store.Names {
	t.Helper()
	_, cluster := b.Client.(*redis.ClusterClient)
	names := store.NewNames(b.Prefix, name)
	parts := names.Parted(cluster)
	if len(parts) == 1 {
		return names
	}
	return parts[store.PartOf(names.Data+key)]
}

func (r raw) write(t *testing.T, b *redistest.Backend, name string) {
	t.Helper()
	now, err := b.Client.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	names := clockOf(t, b, name, r.key)
	st, err := redisstore.NewRedis(b.Client)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	m, err := st.ReadClock(t.Context(), names, logicalclock.Known{}, nil) // on a cluster it may begin one
	if err != nil {
		t.Fatal(err)
	}
	e := m.Epoch
	h := r.Header
	if h.Kind == 0 {
		h.Kind = frame.Value
	}
	if h.Limit == 0 {
		h.Limit = 1<<63 - 1
	}
	h.ID, h.Epoch, h.LogicalTime = frame.NewID(), e.ID, e.Clock
	h.Stored = now.UnixMicro() - r.age.Microseconds()
	rk := names.Data + r.key
	buf, err := frame.Finish(append(frame.AppendHeader(nil, &h), r.payload...), 0, rk)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Client.Set(t.Context(), rk, buf, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
}

func us(d time.Duration) uint64 { return uint64(d.Microseconds()) }

func TestInspectSaysWhyARecordIsAMiss(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u, c := userOf(t, b), people(t, b, "users")
		set(t, c, "other") // begins the clock
		data := store.NewNames(b.Prefix, "users").Data
		for _, k := range []struct {
			name               string
			make               func(key string)
			kind, read, reason string
		}{
			{"over", func(key string) {
				raw{Header: frame.Header{Fresh: us(time.Minute)}, key: key, age: 90 * time.Second}.write(t, b, "users")
			}, "value", "miss", "its life of 1m ended 30s ago"},
			{"stale", func(key string) {
				raw{Header: frame.Header{Fresh: us(time.Minute), Stale: us(time.Hour)}, key: key, age: 90 * time.Second}.write(t, b, "users")
			}, "value", "stale", "its life of 1m ended 30s ago"},
			{"over and over", func(key string) {
				raw{Header: frame.Header{Fresh: us(time.Minute), Stale: us(time.Second)}, key: key, age: 90 * time.Second}.write(t, b, "users")
			}, "value", "miss", "is over, too"},
			{"lazy", func(key string) {
				raw{Header: frame.Header{Fresh: us(time.Hour), Stale: us(time.Hour), Limit: -1}, key: key}.write(t, b, "users")
			}, "value", "stale", "invalidate.Lazy"},
			{"delayed", func(key string) {
				raw{Header: frame.Header{Fresh: us(time.Hour), Limit: 1}, key: key}.write(t, b, "users")
			}, "value", "miss", "invalidate.Delayed"},
			{"fresh", func(key string) {
				raw{Header: frame.Header{Fresh: us(time.Hour)}, key: key, age: time.Minute}.write(t, b, "users")
			}, "value", "hit", ""},
			{"absent", func(key string) {
				raw{Header: frame.Header{Kind: frame.Absence, Fresh: us(time.Hour)}, key: key, payload: "\x04gone"}.write(t, b, "users")
			}, "absence", "hit", ""},
			{"text", func(key string) { b.Client.Set(t.Context(), data+key, "hello", 0) }, "foreign", "miss", "not of this library"},
			{"list", func(key string) { b.Client.RPush(t.Context(), data+key, "hello") }, "foreign", "miss", "no string"},
			{"moved", func(key string) {
				raw{Header: frame.Header{Fresh: us(time.Hour)}, key: "elsewhere"}.write(t, b, "users")
				b.Client.Set(t.Context(), data+key, b.Client.Get(t.Context(), data+"elsewhere").Val(), 0)
			}, "corrupt", "miss", "checksum"},
			{"newer", func(key string) { b.Client.Set(t.Context(), data+key, "\xC5dq\x02 what comes later", 0) }, "newer", "miss", "newer version of this library"},
			{"lease", func(key string) {
				now, _ := b.Client.Time(t.Context()).Result()
				b.Client.Set(t.Context(), data+key, frame.AppendLeaseSince(nil, frame.NewID(), now.UnixMicro(), false), time.Minute)
			}, "lease", "wait", "a load is in flight"},
			{"intent", func(key string) {
				b.Client.Set(t.Context(), data+key, frame.AppendIntent(nil, frame.NewID()), time.Minute)
			}, "intent", "wait", "a write to the source"},
			{"failure", func(key string) {
				buf, err := frame.AppendFailure(nil, data+key, frame.Header{Limit: 1<<63 - 1}, frame.Failed{Text: "no route to host"})
				if err != nil {
					t.Fatal(err)
				}
				b.Client.Set(t.Context(), data+key, buf, time.Minute)
			}, "failure", "miss", "a load has failed"},
		} {
			k.make(k.name)
			var i inspection
			u.json(&i, "inspect", "users", k.name)
			i.want(t, k.kind, k.read, k.reason)
			// For people, too.
			out := u.ok("inspect", "users", k.name)
			contains(t, out, "kind", k.kind, k.reason)
		}
		contains(t, u.ok("inspect", "users", "failure"), "no route to host")
	})
}

func TestNothingIsPrintedThatATerminalObeys(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u, c := userOf(t, b), people(t, b, "users")
		const evil = "a\x1b[31m\u202eb\n\x9b\xff"
		err := c.Set(t.Context(), evil, person{Name: "\x1b]0;title\a\u202e\u009b"}, cache.Tags(evil))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.InvalidateTags(t.Context(), evil+"2"); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{"inspect", "users", evil, "-values"}, {"inspect", "users", evil, "-values", "-json"}, {"tags", "list", "users"}, {"tags", "list", "users", "-json"},
			{"list"}, {"inspect", evil}, {"inspect", "users", evil + "absent"}, {"inspect", evil, "x"}, {evil}, {"-" + evil}, {"list", "-" + evil}, {"doctor"},
		} {
			out, errs, _ := u.run(args...)
			obeyed := func(r rune) bool { return r != '\n' && !strconv.IsPrint(r) }
			if strings.ContainsFunc(out+errs, obeyed) || !utf8.ValidString(out+errs) {
				t.Errorf("cachectl %q prints what a terminal may obey:\n%q\n%q", args, out, errs)
			}
		}
		contains(t, u.ok("inspect", "users", evil, "-values"), `"`+b.Prefix+`users:a\x1b[31m\u202eb\n\x9b\xff"`, `\u001b]0;title`)
		// What is printed can be given.
		out := u.ok("inspect", "users", `"a\x1b[31m\u202eb\n\x9b\xff"`, "-quoted")
		contains(t, out, "would be a hit")
		u.ok("invalidate", "users", "-quoted", `"a\x1b[31m\u202eb\n\x9b\xff"`)
		contains(t, u.ok("inspect", "users", evil), "there is no record")
	})
}

func TestListShowsCachesAndPrefixes(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u := userOf(t, b)
		contains(t, u.ok("list"), "no caches")
		c := people(t, b, "users", cache.WithStrategy(strategy.LRU(10)), cache.WithTransport(invalidate.Broadcast()))
		set(t, c, "ann")
		set(t, people(t, b, "orders", cache.WithPrefix(b.Prefix+"eu:")), "7")
		if err := c.InvalidateTags(t.Context(), "a", "b"); err != nil {
			t.Fatal(err)
		}
		type row struct {
			Name, Prefix string
			Tags         int64
			Listeners    int64
			Clock        string
		}
		deadline := time.Now().Add(20 * time.Second)
		for {
			var list []row
			u.json(&list, "list")
			if len(list) == 1 && list[0] == (row{"users", b.Prefix, 2, 1, "ok"}) {
				break
			}
			if time.Now().After(deadline) { // the subscription is made in the background
				t.Fatalf("the list is %+v", list)
			}
			time.Sleep(10 * time.Millisecond)
		}
		u.prefix = ""
		var names []string
		var list []row
		u.json(&list, "list")
		for _, r := range list {
			if strings.HasPrefix(r.Prefix, b.Prefix) {
				names = append(names, strings.TrimPrefix(r.Prefix, b.Prefix)+r.Name)
			}
		}
		if strings.Join(names, " ") != "users eu:orders" {
			t.Errorf("all caches: %v", list)
		}
		contains(t, u.ok("list"), "NAME", "PREFIX", "users", b.Prefix+"eu:")
	})
}

func TestInvalidationsReachAProcess(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u := userOf(t, b)
		c := people(t, b, "users", cache.WithStrategy(strategy.LRU(10)), cache.WithTransport(invalidate.Broadcast()))
		gone := func(key string) {
			t.Helper()
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				if _, err := c.Peek(t.Context(), key); errors.Is(err, cache.ErrMiss) {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s is still served", key)
				}
			}
		}
		there := func(key string) {
			t.Helper()
			if _, err := c.Peek(t.Context(), key); err != nil {
				t.Fatalf("%s: %v", key, err)
			}
		}
		fill := func() {
			for _, key := range []string{"ann", "bob", "bea", "cid"} {
				set(t, c, key, cache.Tags("tag of "+key))
				there(key)
			}
		}
		fill()
		contains(t, u.ok("invalidate", "users", "ann"), "invalidated 1 key of users, at once")
		gone("ann")
		there("bob")

		contains(t, u.ok("invalidate", "users", "-pattern", "b*", "-dry-run"), "would invalidate 2 keys of users")
		there("bob")
		contains(t, u.ok("invalidate", "users", "-pattern", "b*"), "invalidated 2 keys of users")
		gone("bob")
		gone("bea")
		there("cid")

		fill()
		contains(t, u.ok("tags", "invalidate", "users", "tag of bob"), "invalidated 1 tag of users")
		gone("bob")
		there("ann")
		contains(t, u.ok("tags", "list", "users"), `"tag of bob"`, "1 tag of users in all")

		u.stdin = "ann\r\n\ncid\n"
		contains(t, u.ok("invalidate", "users", "-"), "invalidated 2 keys")
		gone("ann")
		gone("cid")
		there("bea")

		fill()
		contains(t, u.ok("clear", "users", "-yes"), "invalidated all entries of users, at once")
		gone("ann")
		gone("cid")

		fill()
		contains(t, u.ok("invalidate", "users", "ann", "-delay", "40m"), "in effect in 40m")
		there("ann")
		contains(t, u.ok("inspect", "users", "ann"), "is over in")
		contains(t, u.ok("clear", "users", "-delay", "40m", "-yes"), "in effect in 40m")
		there("cid")
		contains(t, u.ok("inspect", "users", "cid"), "Clear, with a delay")
	})
}

func TestClearAsks(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		if b.Name != "miniredis" {
			return
		}
		u, c := userOf(t, b), people(t, b, "users")
		set(t, c, "ann")
		u.fails(2, "-yes", "clear", "users")
		u.answers, u.stdin = true, "no\n"
		u.fails(1, "nothing was done", "clear", "users")
		if _, err := c.Peek(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		u.stdin = "y\n"
		contains(t, u.ok("clear", "users"), "invalidated all entries")
		if _, err := c.Peek(t.Context(), "ann"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("after clear: %v", err)
		}
		// A mistyped name invalidates nothing, and leaves nothing behind.
		for _, args := range [][]string{{"clear", "-yes", "usres"}, {"invalidate", "usres", "1"}, {"tags", "invalidate", "usres", "x"}} {
			u.fails(1, "no cache usres is known", args...)
		}
		for _, key := range []string{"1", "2", "3"} {
			if n := b.Client.Exists(t.Context(), clockOf(t, b, "usres", key).Epoch).Val(); n != 0 {
				t.Error("a mistyped name has made a clock")
			}
		}
		u.ok("clear", "-yes", "-force", "usres")
	})
}

func TestUsage(t *testing.T) {
	u := &user{t: t, connect: func() redis.UniversalClient {
		t.Error("a mistake of the command line reached Redis")
		return redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	}}
	for want, args := range map[string][]string{
		"a command is missing":                {},
		"there is no command frobnicate":      {"frobnicate"},
		"there is no command \"tags drop\"":   {"tags", "drop"},
		"tags -h":                             {"tags"},
		"takes NAME KEY, and got 0 arguments": {"inspect"},
		"takes NAME KEY, and got 3 arguments": {"inspect", "a", "b", "c"},
		"flag provided but not defined: -x":   {"inspect", "users", "1", "-x"},
		"because of the ':'":                  {"invalidate", "p:users", "1"},
	} {
		u.fails(2, want, args...)
	}
	// What is found when the client has been made, which does no I/O.
	u.connect = func() redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	}
	u.fails(2, "give keys, or a -pattern", "invalidate", "users")
	u.fails(2, "exclude each other", "invalidate", "users", "1", "-lazy", "-delay", "1s")
	u.fails(2, "-delay -1s", "invalidate", "users", "1", "-delay", "-1s")
	u.fails(2, "is no Redis key", "inspect", "users")
	u.fails(1, "connect", "inspect", "users", "1")
	u.connect = nil
	u.fails(2, "Redis URL", "list", "-redis", "localhost:6379")
}

func TestHelpTeaches(t *testing.T) {
	u := &user{t: t}
	all := u.ok("-h")
	contains(t, all, "Commands:", "Exit codes:", "-redis", "-prefix", "-json")
	for line := range strings.Lines(all) {
		if len(strings.TrimRight(line, "\n")) > 110 {
			t.Errorf("a line of %d characters: %s", len(line), line)
		}
	}
	for _, c := range ctl.Paths() {
		out := u.ok(append(strings.Fields(c), "-h")...)
		contains(t, out, "Usage: cachectl "+c)
		if help := u.ok(append([]string{"help"}, strings.Fields(c)...)...); help != out {
			t.Errorf("help %s says something else than %s -h:\n%s", c, c, help)
		}
	}
}

func TestInterruption(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var o, e bytes.Buffer
		if code := ctl.Run(ctx, userOf(t, b).program(true, &o, &e, "list")); code != 1 || !strings.Contains(e.String(), "interrupted") {
			t.Errorf("exit code %d: %s", code, &e)
		}
	})
}
