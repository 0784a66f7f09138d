package main

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// facts are what the tour has to show, whatever the machine: every pattern stands for
// one line. Times are left out. On a real server it shows more.
func facts(real bool) []string {
	how, hearers := "the connection is cut", []string{`Tracking needs a real server: `}
	if real {
		how, hearers = `Redis is asked to kill the connection \(CLIENT KILL\)`, []string{
			`Tracking +A\.Set +reads 2 +after `,
			`Tracking +SET, bare client +reads ErrMiss +after `,
			`Tracking +DEL, bare client +reads ErrMiss +after `,
		}
	}
	return slices.Concat([]string{
		`1\. What a read costs`,
		`source +1 `,
		`remote +200 .*×$`,
		`local +100 000 .*×$`,
		`packages loaded: 1$`,
		`net/http: \d+ files, \d+ funcs`,

		`2\. Another process`,
		`B reads net/http +remote `,
		`B reads it again +local `,
		`packages loaded: 0$`,

		`3\. A batch`,
		`GetMany, in neither tier +20 +\d+ `,
		`Get one by one, from Redis +0 +20 `,
		`GetMany, from Redis +0 +1 `,
		`Get one by one, from memory +0 +0 `,
		`GetMany, from memory +0 +0 `,

		`4\. A crowd`,
		`callers: 200 +packages loaded: 1 `,

		`5\. What does not exist`,
		`A asks +ErrNotFound +from source +loads: 1 `,
		`A asks again +ErrNotFound +from local +loads: 0 `,

		`6\. Redis fails`,
		`down +A notices after `,
		`down +A reads net/http +from source `,
		`down +A reads text/template +from source `,
		`down +A reads encoding/gob +from source `,
		`down +A reads mime/multipart +from source `,
		`up +Redis answers again`,
		`up +A and B hear each other again`,
		`up +A reads html/template +from source `,
		`up +B reads html/template +from remote `,

		`7\. A look at an entry`,
		`net/http +tier (local|remote) .* TTL left (10m0s|[89]m\d+s) +absent false`,
		`no/such/package +tier (local|remote) .* TTL left (1m0s|\d+s) +absent true`,
		`in Redis: tour-\w+:docs:net/http$`,

		`8\. A write is seen`,
		`writes by A +median +p99 `,
		`300 +\d.*s$`,

		`9\. Tags`,
		`other +50 +1 .* 0$`,
		`sale +5 000 +1 .* 0$`,
		`shelf/1, .* is still there: 1$`,

		`10\. Patterns`,
		`north/\* +1 000 entries +left for B +0$`,
		`south/\* +200 entries +left for B +200$`,
		`keys removed: 1 000 `,

		`11\. A process goes deaf`,
		`before +B reads 100 times +from local`,
		`deaf +` + how + `$`,
		`deaf +B notices after `,
		`deaf +A writes 2 .* B reads desk at once: 2$`,
		`deaf +B reads 100 times +from local +0 +from remote +100$`,
		`again +B hears after `,
		`again +B reads sofa, .* 2$`,
		`again +B reads 100 times +from local`,

		`12\. Who is heard`,
		`Broadcast +A\.Set +reads 2 +after `,
	}, hearers, []string{
		`13\. Metrics`,
		`latency `,
	})
}

// checkFacts compares the tour's output with the facts, in order.
func checkFacts(t *testing.T, out string, facts []string) {
	t.Helper()
	rest := strings.Split(out, "\n")
	for _, fact := range facts {
		pattern := regexp.MustCompile(`^ *` + fact)
		found := false
		for i, line := range rest {
			if pattern.MatchString(line) {
				rest, found = rest[i+1:], true
				break
			}
		}
		if !found {
			t.Errorf("no line matches %s, or not in its place", fact)
		}
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	if t.Failed() {
		t.Log("\n" + out)
	}
}

func TestTourOnTheEmbeddedServer(t *testing.T) {
	redistest.Thorough(t)
	var out strings.Builder
	if err := run(t.Context(), &out, flags{}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	checkFacts(t, out.String(), facts(false))
}

func TestTourOnARealServerLeavesNoKeyBehind(t *testing.T) {
	server := redistest.Start(t)
	var out strings.Builder
	if err := run(t.Context(), &out, flags{redisURL: server.URL()}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	checkFacts(t, out.String(), facts(true))
	checkEmpty(t, server.Client(t))
}

func TestTourOnAClusterSkipsWhatNeedsOneServer(t *testing.T) {
	cluster := redistest.StartCluster(t, 2)
	var out strings.Builder
	if err := run(t.Context(), &out, flags{redisURL: cluster.URL()}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	checkFacts(t, out.String(), []string{
		`6\. Redis fails`, `Skipped: `,
		`sale +5 000 +16 .* 0$`,
		`keys removed: 1 000 `,
		`11\. A process goes deaf`, `Skipped: `,
		`Tracking +DEL, bare client +reads ErrMiss +after `,
	})
	for _, node := range cluster.Nodes {
		checkEmpty(t, node.Client(t))
	}
}

// checkEmpty looks for keys that were left on a server.
func checkEmpty(t *testing.T, rdb *redis.Client) {
	t.Helper()
	left, err := rdb.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("keys left on the server: %q", left)
	}
}

func TestTourSaysWhatIsWrongWithTheServer(t *testing.T) {
	for name, url := range map[string]string{
		"no URL of Redis": "http://localhost",
		"no server":       "redis://127.0.0.1:1", // tcpmux: not in use where tests run
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := run(t.Context(), &out, flags{redisURL: url}); err == nil {
				t.Errorf("run on %s succeeded:\n%s", url, out.String())
			}
		})
	}
}

func TestTourEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := &cancelWriter{after: "3. A batch", cancel: cancel}
	if err := run(ctx, w, flags{}); !errors.Is(err, context.Canceled) {
		t.Errorf("run = %v, want context.Canceled", err)
	}
}

func TestTourReportsAnOutputThatFails(t *testing.T) {
	if err := run(t.Context(), &brokenWriter{left: 3}, flags{}); !errors.Is(err, errBroken) {
		t.Errorf("run = %v, want the writer's error", err)
	}
}

// A cancelWriter cancels when it is given a text.
type cancelWriter struct {
	after  string
	cancel context.CancelFunc
}

func (w *cancelWriter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.after) {
		w.cancel()
	}
	return len(p), nil
}
