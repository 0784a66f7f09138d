package dashboard

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/metrics"
)

// patience bounds what a test waits for that must come.
const patience = 30 * time.Second

// events reads a stream.
type events struct {
	t     *testing.T
	lines *bufio.Scanner
	res   *http.Response
}

func watch(t *testing.T, url string) *events {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<24)
	return &events{t, lines, res}
}

func (e *events) next() (name string, p page, ok bool) {
	for e.lines.Scan() {
		switch line := e.lines.Text(); {
		case strings.HasPrefix(line, "event: "):
			name = strings.TrimPrefix(line, "event: ")
		case strings.HasPrefix(line, "data: "):
			p = decode(e.t, strings.TrimPrefix(line, "data: "))
		case line == "":
			return name, p, true
		}
	}
	return "", page{}, false
}

func TestTheStreamTellsOfWhatHappens(t *testing.T) {
	f := &fake{name: "a\n<b>"}
	h := New(Interval(50 * time.Millisecond)).Add(f)
	// A server that allows an answer less time than the stream lasts.
	srv := httptest.NewUnstartedServer(h)
	srv.Config.WriteTimeout = 100 * time.Millisecond
	srv.Start()
	defer http.DefaultClient.CloseIdleConnections()
	defer srv.Close()
	defer h.Close()

	e := watch(t, srv.URL+"/")
	if typ := e.res.Header.Get("Content-Type"); typ != "text/event-stream" {
		t.Fatalf("%s, %s", e.res.Status, typ)
	}
	name, p, ok := e.next()
	if !ok || name != "all" || len(p.Caches) != 1 || p.Caches[0].Name != "a\n<b>" || p.Interval != 0.05 {
		t.Fatalf("first event %q: %+v", name, p)
	}
	f.count(func(s *metrics.Snapshot) { s.LocalHits = 5 })
	for began := time.Now(); time.Since(began) < 300*time.Millisecond || p.Caches[0].Since.LocalHits != 5; {
		if name, p, ok = e.next(); !ok || name != "tick" || len(p.Caches[0].Points) != 1 {
			t.Fatalf("event %q, %v: %+v", name, ok, p)
		}
	}
	h.Close()
	for ok {
		_, _, ok = e.next()
	}
	if res, err := http.Get(srv.URL + "/events"); err != nil || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after Close: %v, %v", res, err)
	} else {
		res.Body.Close()
	}
}

func TestTheNumberOfStreamsIsBounded(t *testing.T) {
	h := New()
	for range maxWatchers {
		if !h.enter() {
			t.Fatal("refused too early")
		}
	}
	if res := get(t, h, "/events"); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %s", res.Status)
	}
	h.leave()
	if !h.enter() {
		t.Error("a place that became free is not given")
	}
}

func TestAReaderWhoLeavesEndsItsStream(t *testing.T) {
	h := New(Interval(50 * time.Millisecond)).Add(&fake{name: "a"})
	ended := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		close(ended)
	}))
	defer srv.Close()
	e := watch(t, srv.URL+"/")
	e.next()
	e.res.Body.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the stream goes on")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers != 0 {
		t.Errorf("%d watchers are left", h.watchers)
	}
}
