package engine

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// Handle is what a loader may ask of its load, and set. The methods are those of cache.Load,
// and do nothing outside a load. The zero Handle is that of no load.
type Handle struct {
	old   *decoded // the value that is to be replaced; nil: none
	clone cloner   // of the cache

	mu     sync.Mutex // guards what follows
	active bool
	asked  loadDirectives
}

// loadHandle is the handle of a load, which is made when it is asked for: most loaders never do.
type loadHandle struct {
	mu    sync.Mutex // guards what follows
	of    *Cache     // nil: there is no load, or it is over
	old   *decoded   // the value that is to be replaced; nil: none
	typed any        // what the loader gets; nil until it asks
	h     *Handle    // the same
}

// begin makes it that of a load which is to replace old, nil for none.
func (l *loadHandle) begin(of *Cache, old *decoded) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of, l.old = of, old
}

// get returns what the loader gets, nil if there is no load.
func (l *loadHandle) get() any {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.h == nil && l.of != nil {
		l.typed, l.h = l.of.types.NewHandle()
		l.h.old, l.h.clone, l.h.active = l.old, l.of.clone, true
	}
	return l.typed
}

// soFar returns the directives that the loader has set up to now.
func (l *loadHandle) soFar() (w loadDirectives) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.h != nil {
		w = l.h.soFar()
	}
	return w
}

// end closes the handle and returns its directives: later calls do nothing.
func (l *loadHandle) end() (w loadDirectives) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of = nil; l.h != nil {
		w = l.h.end()
	}
	return w
}

// errNotModified is the error that a conditional load returns to keep the value.
var errNotModified = errors.New("cache: not modified")

var errNothingToKeep = errors.New("cache: not modified, but there is no value to keep")

// Stale returns the value that is being replaced; ok is false if there is none.
func (h *Handle) Stale() (v Value, ok bool) {
	if h.old == nil || !h.isActive() {
		return nil, false
	}
	if v = h.old.ans.val; h.clone == nil {
		return v, true
	}
	v, err := h.clone(v)
	return v, err == nil
}

// NotModified returns the error by which the loader keeps that value.
func (h *Handle) NotModified() error {
	if h.old == nil || !h.isActive() {
		return errNothingToKeep
	}
	return errNotModified
}

// ETag returns the ETag of that value.
func (h *Handle) ETag() string {
	if h.old == nil || !h.isActive() {
		return ""
	}
	return h.old.raw.ETag
}

func (h *Handle) SetTTL(d time.Duration) {
	h.set(func(w *loadDirectives) { w.ttl, w.hasTTL = d, true })
}

func (h *Handle) NoStore() { h.set(func(w *loadDirectives) { w.skip = true }) }

func (h *Handle) SetETag(tag string) { h.set(func(w *loadDirectives) { w.etag = tag }) }

func (h *Handle) AddTags(names ...string) {
	h.set(func(w *loadDirectives) { w.tags = append(w.tags, names...) })
}

func (h *Handle) RetryAfter(d time.Duration) {
	h.set(func(w *loadDirectives) { w.retry, w.hasRetry = max(d.Truncate(time.Millisecond), 0), true })
}

func (h *Handle) NoStale() { h.set(func(w *loadDirectives) { w.noStale = true }) }

func (h *Handle) set(f func(*loadDirectives)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.active {
		f(&h.asked)
	}
}

func (h *Handle) isActive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.active
}

// loadDirectives is what a loader has set through its handle.
type loadDirectives struct {
	ttl      time.Duration
	hasTTL   bool
	skip     bool
	tags     []string
	etag     string
	retry    time.Duration
	hasRetry bool
	noStale  bool
}

// soFar returns the directives that the loader has set up to now.
func (h *Handle) soFar() loadDirectives {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.asked
	w.tags = slices.Clone(w.tags)
	return w
}

// end closes the handle and returns its directives: later calls do nothing.
func (h *Handle) end() loadDirectives {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.active = false
	return h.asked
}
