package engine

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
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
	of   *Cache                      // nil: there is no load
	old  *decoded                    // the value that is to be replaced; nil: none
	made atomic.Pointer[typedHandle] // nil until the loader asks
	over atomic.Bool                 // the load is
}

type typedHandle struct {
	typed any // what the loader gets
	h     *Handle
}

// begin makes it that of a load which is to replace old, nil for none. It is called before the loader's
// context is passed on.
func (l *loadHandle) begin(of *Cache, old *decoded) { l.of, l.old = of, old }

// get returns what the loader gets, nil if there is no load. One that is made while the load ends is
// closed here or there: either this sees that it is over, or end sees what was made.
func (l *loadHandle) get() any {
	m := l.made.Load()
	if m == nil && l.of != nil && !l.over.Load() {
		m = new(typedHandle)
		m.typed, m.h = l.of.types.NewHandle()
		m.h.old, m.h.clone, m.h.active = l.old, l.of.clone, true
		if !l.made.CompareAndSwap(nil, m) { // another goroutine was faster
			m = l.made.Load()
		} else if l.over.Load() {
			m.h.end()
		}
	}
	if m == nil {
		return nil
	}
	return m.typed
}

// soFar returns the directives that the loader has set up to now.
func (l *loadHandle) soFar() *loadDirectives {
	if m := l.made.Load(); m != nil {
		return m.h.soFar()
	}
	return &noDirectives
}

// end closes the handle and returns its directives: later calls do nothing.
func (l *loadHandle) end() *loadDirectives {
	l.over.Store(true)
	if m := l.made.Load(); m != nil {
		return m.h.end()
	}
	return &noDirectives
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

// noDirectives are those of a loader that has set nothing.
var noDirectives loadDirectives

// loadDirectives is what a loader has set through its handle. They are not changed when the load has
// ended.
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
func (h *Handle) soFar() *loadDirectives {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.asked
	w.tags = slices.Clone(w.tags)
	return &w
}

// end closes the handle and returns its directives: later calls do nothing.
func (h *Handle) end() *loadDirectives {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.active = false
	return &h.asked
}
