package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) of(level string) int { return strings.Count(l.String(), "level="+level+" ") }

func (l *lines) option() cache.Option { return cache.WithLogger(slog.New(slog.NewTextHandler(l, nil))) }

// refusing answers some commands with an error, and echoes their arguments where a server
// does.
func refusing(reply string, names ...string) func([]string) string {
	return func(args []string) string {
		for _, n := range names {
			if n == "*" || strings.EqualFold(args[0], n) {
				return "-" + reply + "\r\n"
			}
		}
		return ""
	}
}

// frontOf is a client of miniredis behind a front.
func frontOf(t *testing.T, answer func([]string) string) redis.UniversalClient {
	t.Helper()
	f := redistest.NewFront(t, startMini(t).Addr(), answer)
	rdb, err := cache.NewClient("redis://" + f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func use(t *testing.T, c *cache.Cache[string, string]) {
	t.Helper()
	ctx := t.Context()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				k := fmt.Sprint("k", i, j%5)
				_ = c.Set(ctx, k, "v")
				if v, err := c.Get(ctx, k); v != "v" || err != nil {
					t.Errorf("Get: %q, %v", v, err)
				}
				if m, err := c.GetMany(ctx, []string{k, "a", "b"}); len(m) != 3 || err != nil {
					t.Errorf("GetMany: %v, %v", m, err)
				}
			}
		})
	}
	wg.Wait()
}

// What does not pass by itself is told once, with what to do, and counted; it is no
// outage, and reads with a loader go on.
func TestWhatDoesNotPassIsLoggedOnce(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer  func([]string) string
		problem string
	}{
		"no permission":       {refusing("NOPERM this user has no permissions to run the 'evalsha' command", "evalsha", "eval", "set"), "may not run"},
		"no scripts":          {refusing("ERR unknown command 'evalsha', with args beginning with: 'k' ", "evalsha", "eval"), "runs no scripts"},
		"an unknown command":  {refusing("ERR unknown command 'set', with args beginning with: 'k' ", "set", "evalsha", "eval"), "does not know a command"},
		"a proxy":             {refusing("unsupported command 'publish'", "publish", "evalsha", "eval"), "does not know SUBSCRIBE or PUBLISH"},
		"a replica":           {refusing("READONLY You can't write against a read only replica.", "set", "evalsha", "eval", "unlink"), "is a replica"},
		"a node of a cluster": {refusing("MOVED 12182 127.0.0.1:7001", "get", "mget", "set", "evalsha", "eval"), "node of a cluster"},
		"no credentials":      {refusing("NOAUTH Authentication required.", "get", "mget", "set", "evalsha", "eval", "publish", "subscribe", "time"), "the user or the password"},
		"a client of none":    {refusing("ERR This instance has cluster support disabled", "get", "mget", "set", "evalsha", "eval"), "server is none"},
		"no such database":    {refusing("ERR DB index is out of range", "get", "mget", "set", "evalsha", "eval"), "no such database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := new(lines)
			src := cache.Source[string, string]{Load: func(context.Context, string) (string, error) { return "v", nil }}
			c, err := cache.NewFrom(frontOf(t, tt.answer), "n", src, log.option(), cache.WithTimeout(2*time.Second), cache.WithStrategy(strategy.LRU(100)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			use(t, c)
			eventually(t, "the log has it", func() bool { // a replica may be none in a moment
				_ = c.Set(t.Context(), "k", "v")
				return log.of("ERROR") > 0
			})
			use(t, c)
			text := log.String()
			if log.of("ERROR") != 1 || !strings.Contains(text, tt.problem) || !strings.Contains(text, "remedy=") {
				t.Errorf("the log:\n%s", text)
			}
			if strings.Contains(text, "unavailable") || strings.Count(text, "\n") > 6 {
				t.Errorf("the log:\n%s", text)
			}
			if c.Metrics().Misfits == 0 {
				t.Error("it is not counted")
			}
		})
	}
}

// A server before Redis 7.0 does not know SET with NX and GET: its loads are kept all the
// same.
func TestAServerThatDoesNotKnowAddIsAskedByScript(t *testing.T) {
	log := new(lines)
	rdb := frontOf(t, func(args []string) string {
		if strings.EqualFold(args[0], "set") && strings.Contains(strings.ToLower(strings.Join(args[3:], " ")), "nx get") {
			return "-ERR syntax error\r\n"
		}
		return ""
	})
	var loads atomic.Int32
	src := cache.Source[string, string]{Load: func(context.Context, string) (string, error) { loads.Add(1); return "v", nil }}
	ctx := t.Context()
	for range 2 { // two processes
		c, err := cache.NewFrom(rdb, "n", src, log.option(), slowly)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 3 {
			if v, err := c.Get(ctx, "k"); v != "v" || err != nil {
				t.Fatal(v, err)
			}
		}
		if _, err := c.GetMany(ctx, []string{"k", "l", "m"}); err != nil {
			t.Error(err)
		}
		if ok, err := c.SetIfAbsent(ctx, "k", "w"); ok || err != nil {
			t.Error(ok, err)
		}
		if n := c.Metrics().Misfits; n != 0 {
			t.Errorf("%d operations failed", n)
		}
	}
	if loads := loads.Load(); loads != 3 {
		t.Errorf("%d loads of 3 keys", loads)
	}
	if text := log.String(); log.of("ERROR") != 0 || log.of("WARN") == 0 || !strings.Contains(text, "older than Redis 7.0") {
		t.Errorf("the log:\n%s", text)
	}
}

// A node that takes no MGET of keys of several slots is asked for each key.
func TestKeysOfSeveralSlotsAreReadOneByOne(t *testing.T) {
	log := new(lines)
	rdb := frontOf(t, refusing("CROSSSLOT Keys in request don't hash to the same slot", "mget"))
	c, err := cache.New[string, string](rdb, "n", log.option(), slowly)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	vals := map[string]string{"a": "1", "b": "2", "c": "3"}
	if err := c.SetMany(ctx, vals); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got, err := c.GetMany(ctx, []string{"a", "b", "c", "d"}); len(got) != 3 || err != nil {
			t.Errorf("%v, %v", got, err)
		}
	}
	if text := log.String(); log.of("ERROR") != 0 || log.of("WARN") != 1 || !strings.Contains(text, "node of a cluster") {
		t.Errorf("the log:\n%s", text)
	}
}

// A plain client of a real cluster: where the cluster has one node everything works, and
// else what can be loaded is; both are told once.
func TestAPlainClientOfACluster(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	for _, masters := range []int{1, 3} {
		t.Run(fmt.Sprint(masters, " masters"), func(t *testing.T) {
			t.Parallel()
			cluster := redistest.StartCluster(t, masters)
			rdb := cluster.Nodes[0].Client(t)
			log := new(lines)
			src := cache.Source[string, string]{Load: func(context.Context, string) (string, error) { return "v", nil }}
			c, err := cache.NewFrom(rdb, "n", src, log.option(), slowly, cache.WithStrategy(strategy.LRU(100)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			use(t, c)
			text := log.String()
			errs := 0 // where the keys are on several nodes
			if masters > 1 {
				errs = 1
			}
			if log.of("ERROR") != errs || log.of("ERROR")+log.of("WARN") == 0 || !strings.Contains(text, "NewClusterClient") || strings.Contains(text, "unavailable") {
				t.Errorf("the log:\n%s", text)
			}
			if masters == 1 {
				if err := c.Set(t.Context(), "k", "v"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// No error and no line of the log repeats a key, whatever the server echoes, for whichever
// command.
func TestNoErrorRepeatsAKey(t *testing.T) {
	redistest.Thorough(t)
	t.Parallel()
	echo := func(reply string, names ...string) func([]string) string {
		plain := refusing("x", names...)
		return func(args []string) string {
			if plain(args) == "" {
				return ""
			}
			one := strings.NewReplacer("\r", " ", "\n", " ").Replace(strings.Join(args, "' '"))
			return "-" + strings.ReplaceAll(reply, "%", one) + "\r\n"
		}
	}
	for _, reply := range []string{
		"ERR unknown command 'x', with args beginning with: '%' ", "NOGROUP No such key '%' or consumer group 'g'",
		"WRONG % was sent", "ERR Error running script (call to f_5): @user_script:14: \"%\"",
	} {
		for i, names := range [][]string{{"*"}, {"evalsha", "eval"}, {"get", "mget"}, {"set", "unlink"}, {"publish"}, {"scan"}, {"time"}} {
			if i > 1 && !strings.HasPrefix(reply, "WRONG") {
				continue
			}
			log := new(lines)
			src := cache.Source[string, string]{
				Load:  func(context.Context, string) (string, error) { return "", errors.New("no source") },
				Store: func(context.Context, string, string) error { return nil }, Delete: func(context.Context, string) error { return nil },
			}
			for _, opts := range [][]cache.Option{{cache.WithStrategy(strategy.LRU(10))}, {cache.WithStrategy(strategy.WriteBehind())}} {
				c, err := cache.NewFrom(frontOf(t, echo(reply, names...)), "n", src, append(opts, log.option(), cache.WithTimeout(200*time.Millisecond))...)
				if err != nil {
					t.Fatal(err)
				}
				saw := func(err error) {
					t.Helper()
					for ; err != nil; err = errors.Unwrap(err) {
						if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, "SECRET") {
							t.Fatalf("%v of %q: %s", names, reply, text)
						}
					}
				}
				ctx, key := t.Context(), "SECRET o'hara"
				_, err = c.Get(ctx, key)
				saw(err)
				_, err = c.GetMany(ctx, []string{key, key + "2", key + "3"})
				saw(err)
				saw(c.Set(ctx, key, key))
				saw(c.SetMany(ctx, map[string]string{key: key, key + "2": key}))
				_, err = c.SetIfAbsent(ctx, key, key)
				saw(err)
				_, err = c.Update(ctx, key, func(string, bool) (string, error) { return key, nil })
				saw(err)
				saw(c.Invalidate(ctx, key))
				saw(c.Delete(ctx, key, key+"2"))
				_, err = c.InvalidatePattern(ctx, key+"*")
				saw(err)
				saw(c.InvalidateTags(ctx, key))
				saw(c.Clear(ctx))
				saw(c.Refresh(ctx, key))
				_, err = c.DeadLetters(ctx, 1)
				saw(err)
				c.Close()
			}
			if text := log.String(); strings.Contains(text, "SECRET") {
				t.Errorf("the log:\n%s", text)
			}
		}
	}
}
