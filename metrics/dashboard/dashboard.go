// Package dashboard is a page for operators, in the manner of net/http/pprof: an
// [http.Handler] that shows what caches count and how they are doing, live.
//
//	mux.Handle("/debug/cache/", dashboard.New().Add(users, posts))
//
// The page needs nothing from elsewhere. It shows, for each cache: hits by tier
// over time, latency quantiles, loads and stale answers, the circuit to Redis and
// the notifications of other processes, the local tier and its evictions, the tags
// that were invalidated most, and the write-behind queue. It follows the reader's
// light or dark scheme and fits on a phone.
//
// Below the path of the handler are
//
//	(nothing)   the page; with "Accept: application/json" the same as data.json
//	data.json   all figures as JSON, with the history
//	events      the same as server-sent events, and then one for each new sample
//	action      what an operator can do; see [Actions]
//
// so the pattern of the handler ends in a slash. http.StripPrefix is neither needed
// nor in the way.
//
// # Access
//
// Every client that reaches the handler sees the page. Names of caches and tags, counts and
// states are shown; keys and values are not. Do as with pprof: serve it where the public has no
// access, or behind authentication.
//
// # What it costs
//
// Nothing while the page is not open: there is no goroutine. While it is open, the figures are
// sampled once a second (see [Interval]), whatever the number of readers: what is shown is at
// most that old, and the samples of the last five minutes are kept. [Handler.Watch] samples all
// the time, so that a new reader sees the history at once.
//
// # Server
//
// A stream ends when the reader leaves, when the program calls [Handler.Close], or
// when the server is closed. http.Server.Shutdown waits for streams: register Close
// there.
//
//	srv.RegisterOnShutdown(h.Close)
//
// A server's WriteTimeout does not end a stream.
package dashboard

import (
	"log/slog"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/logonce"
	"github.com/delqhi/cache/metrics"
)

// Cache is what the dashboard shows. A *cache.Cache is one; it has the methods as
// well that are looked for beyond these:
//
//	Closed() bool                        a closed cache is taken off the page
//	TopTags(n int) []metrics.TagCount    the tags invalidated most
//	HotKeysEncoded(n int) []metrics.KeyCount
//	                                     the keys read most, counted while the page is open and from then on
//	InspectEncoded, InvalidateEncoded, InvalidatePattern, InvalidateTags, Clear
//	                                     what Actions allows
type Cache interface {
	// Name is the cache's name. Several caches may have one name.
	Name() string
	// Metrics returns what the cache has counted.
	Metrics() metrics.Snapshot
}

// Handler serves the dashboard. Make one with [New]; all methods are safe for
// concurrent use.
type Handler struct {
	title     string
	interval  time.Duration
	authorize func(*http.Request) error
	values    bool
	keys      bool
	log       *slog.Logger
	token     string // for actions; see actions.go
	refused   logonce.Event

	closing   chan struct{} // closed by Close
	closeOnce sync.Once

	// sampling is held while samples are taken: readers that arrive meanwhile wait, and find
	// fresh samples. The caches' methods, which are not ours, run under it. WARNING: no
	// function that a cache calls may call the handler.
	sampling chan struct{}

	mu       sync.Mutex // guards the fields below
	caches   []*tracked
	relays   []metrics.Relay
	lastID   int
	watchers int
	ticks    uint64    // samples that were taken
	sampled  time.Time // when the last one was
}

// New returns a handler that shows no cache yet; see [Handler.Add].
func New(opts ...Option) *Handler {
	h := &Handler{
		title: program(), interval: time.Second, log: slog.Default(), token: newToken(),
		closing: make(chan struct{}), sampling: make(chan struct{}, 1),
	}
	for _, o := range opts {
		if o != nil {
			o(h)
		}
	}
	return h
}

// program is the name of this process.
func program() string {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	if host, err := os.Hostname(); err == nil && host != "" {
		return name + " on " + host
	}
	return name
}

// Add shows caches as well, in the order of their addition, and returns h. One that is shown
// already, or is nil, is left out. A cache that was closed is removed at the next call of any
// method, or the next sample.
func (h *Handler) Add(caches ...Cache) *Handler {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pruneLocked()
	for _, c := range caches {
		if isNil(c) || h.findLocked(c) >= 0 {
			continue
		}
		h.lastID++
		h.caches = append(h.caches, newTracked(h.lastID, c))
	}
	return h
}

// AddRelays shows relays of the module outbox, for good, and returns h: for each of their caches, the
// relay at work, its lag, rows that wait and dead letters. What several relays of a process have of
// one cache is added up. A relay that is nil is left out.
func (h *Handler) AddRelays(relays ...metrics.Relay) *Handler {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.relays = slices.Clip(h.relays)
	for _, r := range relays {
		if !isNil(r) {
			h.relays = append(h.relays, r)
		}
	}
	return h
}

// Remove removes caches and their history.
func (h *Handler) Remove(caches ...Cache) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pruneLocked()
	for _, c := range caches {
		if i := h.findLocked(c); i >= 0 {
			h.caches = append(h.caches[:i:i], h.caches[i+1:]...)
		}
	}
}

// Close ends the streams; later ones are refused. It does not wait for them.
func (h *Handler) Close() { h.closeOnce.Do(func() { close(h.closing) }) }

// ServeHTTP serves the page and all that belongs to it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	_, name := path.Split(r.URL.Path)
	serve, post := h.serveAsset, false
	switch name {
	case "":
		if r.URL.Path == "" {
			toFolder(w, r)
			return
		}
		serve = h.servePage
	case "data.json":
		serve = h.serveData
	case "events":
		serve = h.serveEvents
	case "action":
		serve, post = h.serveAction, true
	}
	switch {
	case post && r.Method != http.MethodPost:
		refuse(w, http.MethodPost)
	case !post && r.Method != http.MethodGet && r.Method != http.MethodHead:
		refuse(w, "GET, HEAD")
	default:
		serve(w, r)
	}
}

func refuse(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
}

// toFolder sends a browser from …/cache to …/cache/, below which the page looks for
// what belongs to it. Only StripPrefix without a slash at its end leads here.
func toFolder(w http.ResponseWriter, r *http.Request) {
	asked, _, _ := strings.Cut(r.RequestURI, "?")
	w.Header().Set("Location", "./"+path.Base(asked)+"/")
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// protect sets the headers of every response. Scripts and styles come from this handler only,
// whatever a name on the page contains; the page can't be framed, because its buttons have
// effects.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// servePage serves the page, or the figures to programs.
func (h *Handler) servePage(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Accept")
	if prefersJSON(r) {
		h.serveData(w, r)
		return
	}
	h.serveFile(w, r, "index.html")
}

// prefersJSON reports whether the request accepts JSON by name, and no page.
func prefersJSON(r *http.Request) bool {
	accept := strings.ToLower(strings.Join(r.Header.Values("Accept"), ","))
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
}
