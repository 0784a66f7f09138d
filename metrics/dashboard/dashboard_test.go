package dashboard

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache/metrics"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a cache that does nothing but count.
type fake struct {
	name   string
	closed atomic.Bool

	mu    sync.Mutex // guards what follows
	snap  metrics.Snapshot
	asked int
	calls []string
	value any
	err   error
}

func (f *fake) Name() string { return f.name }
func (f *fake) Closed() bool { return f.closed.Load() }

func (f *fake) Metrics() metrics.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.snap
}

func (f *fake) count(add func(*metrics.Snapshot)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	add(&f.snap)
}

func (f *fake) TopTags(int) []metrics.TagCount { return []metrics.TagCount{{Tag: "<i>", Count: 3}} }

func (f *fake) call(text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, text)
	return f.err
}

func (f *fake) InspectEncoded(_ context.Context, key string) (metrics.Inspection, error) {
	err := f.call("inspect " + key)
	return metrics.Inspection{RedisKey: f.name + ":" + key, Tier: metrics.Remote, Age: time.Second, TTL: time.Minute, Tags: []string{"t"}, Value: f.value}, err
}

func (f *fake) InvalidateEncoded(_ context.Context, keys ...string) error {
	return f.call("key " + strings.Join(keys, ","))
}

func (f *fake) InvalidatePattern(_ context.Context, pattern string) (int64, error) {
	return 7, f.call("pattern " + pattern)
}

func (f *fake) InvalidateTags(_ context.Context, tags ...string) error {
	return f.call("tag " + strings.Join(tags, ","))
}
func (f *fake) Clear(context.Context) error { return f.call("clear") }

func (f *fake) said() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// bare has nothing but what a Cache must have.
type bare struct{}

func (bare) Name() string              { return "bare" }
func (bare) Metrics() metrics.Snapshot { return metrics.Snapshot{} }

var discard = Logger(slog.New(slog.DiscardHandler))

func get(t *testing.T, h http.Handler, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func figuresOf(t *testing.T, h http.Handler, path string, header ...string) page {
	t.Helper()
	res := get(t, h, path, header...)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Fatalf("%s: %s, %s", path, res.Status, res.Header.Get("Content-Type"))
	}
	return decode(t, body(t, res))
}

// decode reads what the page reads; states are texts there.
func decode(t *testing.T, text string) page {
	t.Helper()
	var raw struct {
		Title    string
		Actions  bool
		Keys     bool
		Token    string
		Interval float64
		Caches   []struct {
			ID            int
			Name          string
			Actions       bool
			Total, Window struct {
				Requests            uint64
				HitRate             float64
				LocalHits, Loads    uint64
				Breaker, Listener   string
				Get                 struct{ Count uint64 }
				RemoteHits          uint64
				InvalidationsSent   uint64
				MissAbsent, Backlog uint64
			}
			TopTags []metrics.TagCount
			HotKeys []metrics.KeyCount
			Points  []point
		}
	}
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	p := page{Title: raw.Title, Actions: raw.Actions, Keys: raw.Keys, Token: raw.Token, Interval: jsonf(raw.Interval)}
	for _, c := range raw.Caches {
		s := sheet{ID: c.ID, Name: c.Name, Actions: c.Actions, Tags: c.TopTags, Keys: c.HotKeys, Points: c.Points}
		for i, f := range []*figures{&s.Since, &s.Window} {
			from := c.Total
			if i == 1 {
				from = c.Window
			}
			f.Requests, f.HitRate, f.LocalHits, f.Loads = from.Requests, jsonf(from.HitRate), from.LocalHits, from.Loads
			for state := metrics.Closed; state <= metrics.Down; state++ {
				if state.String() == from.Listener {
					f.Listener = state
				}
			}
		}
		p.Caches = append(p.Caches, s)
	}
	return p
}

func TestThePageIsServedWhereverItIsMounted(t *testing.T) {
	h := New(Title("T"))
	prefixed := http.StripPrefix("/x", h)
	mux := http.NewServeMux()
	mux.Handle("/debug/cache/", h)
	for _, c := range []struct {
		h      http.Handler
		path   string
		status int
		typ    string
	}{
		{h, "/", 200, "text/html; charset=utf-8"},
		{mux, "/debug/cache/", 200, "text/html; charset=utf-8"},
		{mux, "/debug/cache/style.css", 200, "text/css; charset=utf-8"},
		{mux, "/debug/cache/app.js", 200, "text/javascript; charset=utf-8"},
		{mux, "/debug/cache/icon.svg", 200, "image/svg+xml"},
		{mux, "/debug/cache/data.json", 200, "application/json; charset=utf-8"},
		{mux, "/debug/cache/other.js", 404, "text/plain; charset=utf-8"},
		{mux, "/debug/cache/assets.go", 404, "text/plain; charset=utf-8"},
		{prefixed, "/x/", 200, "text/html; charset=utf-8"},
		{prefixed, "/x/charts.js", 404, "text/plain; charset=utf-8"},
		{prefixed, "/x/chart.js", 200, "text/javascript; charset=utf-8"},
		{prefixed, "/x", 307, ""},
	} {
		res := get(t, c.h, c.path)
		if res.StatusCode != c.status || res.Header.Get("Content-Type") != c.typ {
			t.Errorf("%s: %s, %s", c.path, res.Status, res.Header.Get("Content-Type"))
		}
		if loc := res.Header.Get("Location"); c.status == 307 && loc != "./x/" {
			t.Errorf("%s leads to %q", c.path, loc)
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", c.path, name, got)
			}
		}
		csp := res.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; script-src 'self';") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", c.path, csp)
		}
	}
}

func TestAFileThatIsKnownIsNotSentAgain(t *testing.T) {
	h := New()
	etag := get(t, h, "/app.js").Header.Get("ETag")
	if etag == "" {
		t.Fatal("no ETag")
	}
	if res := get(t, h, "/app.js", "If-None-Match", etag); res.StatusCode != http.StatusNotModified || body(t, res) != "" {
		t.Errorf("known: %s", res.Status)
	}
	if res := get(t, h, "/app.js", "If-None-Match", `"x"`); res.StatusCode != http.StatusOK {
		t.Errorf("another: %s", res.Status)
	}
}

func TestThePagesOwnFilesKeepThePolicy(t *testing.T) {
	files, err := assets.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := assets.ReadFile("assets/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", " onclick=", " onload=", "http://", "https://", "@import"} {
			for _, line := range strings.Split(string(text), "\n") {
				if strings.Contains(line, bad) && !strings.Contains(line, "http://www.w3.org/2000/svg") {
					t.Errorf("%s has %q: %s", f.Name(), bad, line)
				}
			}
		}
	}
}

func TestOtherMethodsAreRefused(t *testing.T) {
	h := New(Actions(func(*http.Request) error { return nil }))
	for _, c := range []struct{ method, path, allow string }{
		{"POST", "/", "GET, HEAD"}, {"PUT", "/data.json", "GET, HEAD"}, {"DELETE", "/events", "GET, HEAD"},
		{"GET", "/action", "POST"}, {"HEAD", "/action", "POST"}, {"PUT", "/action", "POST"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, allowed %q", c.method, c.path, w.Code, w.Header().Get("Allow"))
		}
	}
}

func TestJSONIsGivenToWhoAsksForIt(t *testing.T) {
	f := &fake{name: "users"}
	f.count(func(s *metrics.Snapshot) {
		s.LocalHits, s.RemoteHits, s.MissAbsent, s.Loads, s.Listener = 6, 2, 2, 2, metrics.Up
	})
	h := New(Title("here")).Add(f, bare{})
	for path, accept := range map[string]string{"/data.json": "*/*", "/": "application/json"} {
		p := figuresOf(t, h, path, "Accept", accept)
		if p.Title != "here" || len(p.Caches) != 2 || p.Actions || p.Token != "" {
			t.Fatalf("%s: %+v", path, p)
		}
		c := p.Caches[0]
		if c.Name != "users" || c.Since.Requests != 10 || c.Since.HitRate != 0.8 || c.Since.LocalHits != 6 || c.Since.Listener != metrics.Up || !c.Actions ||
			!slices.Equal(c.Tags, []metrics.TagCount{{Tag: "<i>", Count: 3}}) {
			t.Errorf("%s: %+v", path, c)
		}
		if p.Caches[1].Name != "bare" || p.Caches[1].Actions {
			t.Errorf("%s: %+v", path, p.Caches[1])
		}
	}
	if got := get(t, h, "/", "Accept", "text/html,application/json").Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("a browser gets %s", got)
	}
}

func TestWhatIsAddedTwiceOrNilIsShownOnce(t *testing.T) {
	a, b := &fake{name: "a"}, &fake{name: "a"}
	h := New().Add(a, nil, (*fake)(nil)).Add(a, b, bare{}, bare{})
	if p := figuresOf(t, h, "/data.json"); len(p.Caches) != 3 || p.Caches[0].ID == p.Caches[1].ID {
		t.Fatalf("%+v", p.Caches)
	}
	h.Remove(a, &fake{})
	p := figuresOf(t, h, "/data.json")
	if len(p.Caches) != 2 || p.Caches[0].ID != 2 {
		t.Errorf("after Remove: %+v", p.Caches)
	}
}

func TestAClosedCacheIsForgotten(t *testing.T) {
	a, b := &fake{name: "a"}, &fake{name: "b"}
	h := New().Add(a, b)
	a.closed.Store(true)
	if p := figuresOf(t, h, "/data.json"); len(p.Caches) != 1 || p.Caches[0].Name != "b" {
		t.Errorf("%+v", p.Caches)
	}
	b.closed.Store(true)
	h.Add(&fake{name: "c"}) // without anybody looking
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.caches) != 1 || h.caches[0].cache.Name() != "c" {
		t.Errorf("%d caches are kept", len(h.caches))
	}
}

// relay is one whose numbers are known.
type relay []metrics.Outbox

func (r relay) Outboxes() []metrics.Outbox { return r }

func TestOutboxesAreShown(t *testing.T) {
	h := New()
	if text := body(t, get(t, h, "/data.json")); !strings.Contains(text, `"outboxes": []`) {
		t.Errorf("without relays: %s", text)
	}
	h.AddRelays(nil, relay(nil), relay{
		{
			Cache: "users", Held: true, Unavailable: true, Lag: 12500 * time.Millisecond, Backlog: 3, DeadLetters: 4,
			Applied: 5, Merged: 6, Replaced: 7, Waited: 2500 * time.Millisecond, Postponed: 8, Refused: 9, Buried: 10, DatabaseErrors: 11,
		},
	}).AddRelays(relay{{Cache: "orders", Applied: 1}, {Cache: "users", Applied: 5}})
	var page struct{ Outboxes []map[string]any }
	if err := json.Unmarshal([]byte(body(t, get(t, h, "/data.json"))), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Outboxes) != 2 || page.Outboxes[0]["name"] != "orders" || page.Outboxes[0]["held"] != false {
		t.Fatalf("%v", page.Outboxes)
	}
	want := map[string]any{
		"name": "users", "held": true, "unavailable": true, "lag": 12.5, "backlog": 3.0, "deadLetters": 4.0, "applied": 10.0, "merged": 6.0, "replaced": 7.0,
		"meanWait": 0.25, "postponed": 8.0, "refused": 9.0, "buried": 10.0, "databaseErrors": 11.0,
	}
	if got := page.Outboxes[1]; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func (f *fake) HotKeysEncoded(int) []metrics.KeyCount {
	return []metrics.KeyCount{{Key: "ada@example.org", Count: 5}}
}

func TestKeysAreHiddenUnlessAllowed(t *testing.T) {
	for _, show := range []bool{false, true} {
		opts, want := []Option{discard}, metrics.KeyCount{Count: 5}
		if show {
			opts, want = append(opts, ShowKeys()), metrics.KeyCount{Key: "ada@example.org", Count: 5}
		}
		h := New(opts...).Add(&fake{name: "users"})
		res := body(t, get(t, h, "/data.json"))
		if strings.Contains(res, "ada@example.org") != show {
			t.Errorf("shown: %v; allowed: %v", !show, show)
		}
		p := decode(t, res)
		if len(p.Caches) != 1 || len(p.Caches[0].Keys) != 1 || p.Caches[0].Keys[0] != want || p.Keys != show {
			t.Errorf("allowed %v: %+v", show, p.Caches)
		}
		h.Close()
	}
}
