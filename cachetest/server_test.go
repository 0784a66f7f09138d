package cachetest_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/strategy"
)

// The server says who it is, as a cache asks for it, and another one is told apart.
func TestServersAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := regexp.MustCompile(`(?s)run_id:([0-9a-f]{40})\r\n.*role:master\r\nmaster_replid:([0-9a-f]{40})\r\n`)
		seen := map[string]bool{}
		for range 2 {
			text, err := cachetest.New(t).Client().Info(t.Context(), "server", "replication").Result()
			m := ids.FindStringSubmatch(text)
			if err != nil || m == nil {
				t.Fatalf("INFO: %q, %v", text, err)
			}
			seen[m[1]], seen[m[2]] = true, true
		}
		if len(seen) != 4 {
			t.Errorf("identities: %v", seen)
		}
	})
}

func TestScriptsWithFlags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		rdb, ctx := env.Client(), t.Context()
		const script = "#!lua flags=allow-oom\nredis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])"
		sum := sha1.Sum([]byte(script))
		hash := hex.EncodeToString(sum[:])
		unknown := func(when string) {
			t.Helper()
			if err := rdb.EvalSha(ctx, hash, []string{"k"}, "v").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOSCRIPT") {
				t.Errorf("%s: %v", when, err)
			}
		}
		unknown("before")
		for _, val := range []string{"1", "2"} {
			if v, err := rdb.Eval(ctx, script, []string{"k"}, val).Result(); v != val || err != nil {
				t.Errorf("EVAL: %v, %v", v, err)
			}
			if v, err := rdb.EvalSha(ctx, strings.ToUpper(hash), []string{"k"}, val+"x").Result(); v != val+"x" || err != nil {
				t.Errorf("EVALSHA: %v, %v", v, err)
			}
		}
		if err := rdb.ScriptFlush(ctx).Err(); err != nil {
			t.Error(err)
		}
		unknown("after SCRIPT FLUSH")
		if err := rdb.Eval(ctx, "#!lua\nthis is no script", nil).Err(); err == nil {
			t.Error("what is no script is executed")
		}

		// That of a heartbeat, which is executed as one command.
		sub := env.Process().Client().Subscribe(ctx, "news")
		defer sub.Close()
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		n, err := rdb.Eval(ctx, "#!lua flags=allow-oom\nreturn redis.call('PUBLISH', ARGV[1], ARGV[2])", nil, "news", "text").Int()
		if n != 1 || err != nil {
			t.Errorf("%d have received it: %v", n, err)
		}
		if msg, err := sub.ReceiveMessage(ctx); err != nil || msg.Payload != "text" {
			t.Errorf("received %v, %v", msg, err)
		}
	})
}

// A cache has nothing to complain of, whatever it does.
func TestNothingIsLoggedWhileNothingIsCut(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds, which -short leaves out")
	}
	synctest.Test(t, func(t *testing.T) {
		env := cachetest.New(t)
		var log bytes.Buffer
		src := cachetest.NewSource(map[int]string{1: "Ada"})
		for _, s := range [][]strategy.Strategy{
			{strategy.LRU(10), strategy.RefreshAhead(0.5), strategy.StaleIfError(time.Hour)},
			{strategy.LRU(10), strategy.WriteBehind()},
			{strategy.WriteThrough(), strategy.Sliding(time.Minute)},
		} {
			c, err := cache.NewFrom(env.Process().Client(), "names", src.ReadWrite(), cache.WithStrategy(s...),
				cache.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				get(t, c, 1, "Ada")
				if err := c.Set(t.Context(), 2+i, "x", cache.Tags("t")); err != nil {
					t.Error(err)
				}
				if err := c.InvalidateTags(t.Context(), "t"); err != nil {
					t.Error(err)
				}
				if _, err := c.InvalidatePattern(t.Context(), "2*"); err != nil {
					t.Error(err)
				}
				if err := c.Sync(t.Context()); err != nil {
					t.Error(err)
				}
				env.Advance(time.Minute)
			}
			if m := c.Metrics(); m.Misfits+m.RemoteErrors+m.LoadErrors+m.Undecodable > 0 {
				t.Errorf("%v: %+v", s, m)
			}
			c.Close()
		}
		if log.Len() > 0 {
			t.Errorf("the log:\n%s", &log)
		}
	})
}
