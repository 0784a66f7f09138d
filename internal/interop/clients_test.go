package interop_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

func TestMain(m *testing.M) { redistest.Main(m) }

func sortBy[T any](list []T, by func(T) string) {
	slices.SortFunc(list, func(a, b T) int { return strings.Compare(by(a), by(b)) })
}

// requireEnv makes a missing interpreter a failure instead of a reason to skip.
const requireEnv = "CACHE_TEST_REQUIRE_LANGUAGES"

// clients are the clients in other languages, and what runs them.
var clients = map[string]struct{ interpreter, file string }{
	"python":     {"python3", "cache.py"},
	"javascript": {"node", "cache.mjs"},
}

// run runs a client. It returns what the client prints, and its exit status.
func run(t *testing.T, language string, args ...string) (out string, status int) {
	t.Helper()
	c := clients[language]
	path, err := exec.LookPath(c.interpreter)
	if err != nil {
		if os.Getenv(requireEnv) != "" {
			t.Fatalf("%v, and %s is set", err, requireEnv)
		}
		t.Skipf("there is no %s in the path, which runs the client", c.interpreter)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{folder + c.file}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err != nil && strings.TrimSpace(stderr.String()) != "miss" {
		t.Errorf("%s %s: %v\n%s", c.file, args, err, &stderr)
	}
	return strings.TrimSuffix(stdout.String(), "\n"), cmd.ProcessState.ExitCode()
}

func TestClientsReadTheVectors(t *testing.T) {
	for language := range clients {
		t.Run(language, func(t *testing.T) {
			out, status := run(t, language, "check", folder+"vectors.json")
			var n int
			if _, err := fmt.Sscanf(out, "%d checks passed", &n); err != nil || status != 0 || n < 150 {
				t.Errorf("%q, status %d", out, status)
			}
		})
	}
}

// eventually waits for what must come.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not happen that %s", what)
		}
	}
}

// A client reads what a running process has stored, and what it invalidates is gone from that
// process's local tier; what it does not, stays.
func TestClientsTalkToARunningCache(t *testing.T) {
	server := redistest.Start(t)
	host, port, _ := strings.Cut(server.Addr(), ":")
	for language := range clients {
		t.Run(language, func(t *testing.T) {
			ctx, name := t.Context(), "shop-"+language
			c, err := cache.New[string, map[string]int](server.Client(t), name, cache.WithTimeout(5*time.Second),
				cache.WithStrategy(strategy.LRU(100), strategy.TTL(time.Hour), strategy.LocalTTL(time.Hour)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			client := func(verb string, words ...string) (string, int) {
				t.Helper()
				return run(t, language, append([]string{verb, host, port, name}, words...)...)
			}
			for key, tags := range map[string][]string{"lamp": nil, "red": {"red", "all"}, "blue": {"blue", "all"}, "stays": {"blue"}, "a:b %c": nil} {
				if err := c.Set(ctx, key, map[string]int{"stock": 3}, cache.Tags(tags...)); err != nil {
					t.Fatal(err)
				}
				if out, status := client("get", key); out != `{"stock":3}` || status != 0 {
					t.Errorf("%s reads as %q, status %d", key, out, status)
				}
			}
			if _, status := client("get", "nothing"); status == 0 {
				t.Error("a key that does not exist is read")
			}
			tier := func(key string) metrics.Tier {
				t.Helper()
				var info cache.Info
				if _, err := c.Peek(ctx, key, cache.Report(&info)); err != nil && !errors.Is(err, cache.ErrMiss) {
					t.Fatal(err)
				}
				return info.Tier
			}
			gone := func(key string) func() bool { return func() bool { return tier(key) == metrics.None } }
			for _, key := range []string{"lamp", "a:b %c", "red", "stays"} {
				eventually(t, key+" is in the local tier", func() bool { return tier(key) == metrics.Local })
			}
			client("invalidate", "lamp", "a:b %c", "nothing")
			eventually(t, "the key that was invalidated is gone", gone("lamp"))
			eventually(t, "the other one, too", gone("a:b %c"))
			if got := tier("stays"); got != metrics.Local {
				t.Errorf("a key that was not invalidated is read from %v", got)
			}
			if _, status := client("get", "lamp"); status == 0 {
				t.Error("the client reads what it has invalidated")
			}
			client("invalidate-tags", "red", "unused")
			eventually(t, "the value of the tag is gone", gone("red"))
			if out, _ := client("get", "red"); out != "" {
				t.Errorf("the client reads %q, whose tag it has invalidated", out)
			}
			if out, _ := client("get", "blue"); out != `{"stock":3}` {
				t.Errorf("%q has another tag", out)
			}
			eventually(t, "a value of another tag is in the local tier again", func() bool { return tier("stays") == metrics.Local })
			// The cache's own invalidations are seen by the client.
			if err := c.InvalidateTags(ctx, "blue"); err != nil {
				t.Fatal(err)
			}
			if out, _ := client("get", "blue"); out != "" {
				t.Errorf("the client reads %q, whose tag the cache has invalidated", out)
			}
			if err := c.Set(ctx, "last", map[string]int{"stock": 4}); err != nil {
				t.Fatal(err)
			}
			client("clear")
			eventually(t, "everything is gone", gone("last"))
			if out, _ := client("get", "last"); out != "" {
				t.Errorf("the client reads %q after it has cleared the cache", out)
			}
		})
	}
}

// The type of a record is the hash that docs/format.md says.
func TestTheTypeOfARecordIsTheDocumentedHash(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client(t)
	c, err := cache.New[string, string](rdb, "types")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m, err := cache.New[string, map[string]int](rdb, "types", cache.WithCodec(codec.JSON()))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := errors.Join(c.Set(t.Context(), "s", "v"), m.Set(t.Context(), "m", nil)); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, v := range types() {
		want[v.Codec+" "+v.Type] = v.Fingerprint
	}
	for key, typ := range map[string]string{"types:s": "raw string", "types:m": "json map[string]int"} {
		raw, err := rdb.Get(t.Context(), key).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		f, err := frame.Parse(key, raw)
		if err != nil || fmt.Sprintf("%016x", f.Type) != want[typ] {
			t.Errorf("%s: %016x, want %s; %v", typ, f.Type, want[typ], err)
		}
	}
}
