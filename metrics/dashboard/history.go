package dashboard

import (
	"context"
	"reflect"
	"time"

	"github.com/delqhi/cache/metrics"
)

const (
	maxPoints   = 300              // of a history
	windowEvery = 10 * time.Second // between the snapshots that a window may begin with
	windows     = 6                // of which so many are kept: a window is about a minute
)

// tracked is a cache and its history.
type tracked struct {
	id    int
	cache Cache

	// Guarded by Handler.mu:
	first  time.Time // of the first sample
	last   metrics.Snapshot
	points []point // oldest first
	starts []start // likewise, of windows
	tags   []metrics.TagCount
	keys   []metrics.KeyCount
}

// start is what the figures of a window are compared with.
type start struct {
	at   time.Time
	snap metrics.Snapshot
}

// point is what happened between two samples.
type point struct {
	Time    int64 `json:"t"`  // of its end, in ms since 1970
	Seconds jsonf `json:"dt"` // since the sample before; 0 for the first one, or after a pause

	Local      uint64 `json:"local"` // requests answered by the local tier
	Remote     uint64 `json:"remote"`
	Miss       uint64 `json:"miss"`
	Stale      uint64 `json:"stale"` // hits and misses answered by a stale value
	Loads      uint64 `json:"loads"`
	LoadErrors uint64 `json:"loadErrors"`
	Ops        uint64 `json:"remoteOps"`    // operations on Redis, and requests for which Redis was unavailable
	Errors     uint64 `json:"remoteErrors"` // of these: failures
	Evictions  uint64 `json:"evictions"`
	Entries    uint64 `json:"entries"`
	Backlog    uint64 `json:"backlog"`

	// Quantiles in µs by operation, 50 %, 95 %, 99 %, over the last 10 to 20 s, without
	// operations that did not take place. Local hits are sampled: over a shorter time the
	// quantiles would be those of the sample.
	Latency map[string]*quantiles `json:"latency"`
}

type quantiles [3]jsonf

func newTracked(id int, c Cache) *tracked { return &tracked{id: id, cache: c} }

// add adds a snapshot. gap: too much time has passed since the last one for a rate to be
// meaningful.
func (t *tracked) add(at time.Time, since time.Duration, snap metrics.Snapshot, tags []metrics.TagCount, gap bool) {
	t.tags = tags
	if t.first.IsZero() {
		t.first, t.last, gap = at, snap, true
	}
	if gap {
		since, t.last = 0, snap
	}
	recent := t.last
	for _, s := range t.starts {
		if recent = s.snap; at.Sub(s.at) < 2*windowEvery {
			break
		}
	}
	p := newPoint(at, since, snap.Sub(t.last))
	p.measure(snap.Sub(recent))
	t.points = append(t.points, p)
	if n := len(t.points) - maxPoints; n > 0 {
		t.points = append(t.points[:0], t.points[n:]...)
	}
	old := 0
	for old < len(t.starts) && at.Sub(t.starts[old].at) >= (windows+1)*windowEvery {
		old++
	}
	t.starts = append(t.starts[:0], t.starts[old:]...)
	if n := len(t.starts); n == 0 || at.Sub(t.starts[n-1].at) >= windowEvery {
		t.starts = append(t.starts, start{at, snap})
	}
	t.last = snap
}

func newPoint(at time.Time, since time.Duration, d metrics.Snapshot) point {
	return point{
		Time: at.UnixMilli(), Seconds: jsonf(since.Seconds()),
		Local: d.LocalHits, Remote: d.RemoteHits, Miss: d.Misses(), Stale: d.StaleHits + d.StaleCovers,
		Loads: d.Loads, LoadErrors: d.LoadErrors, Ops: d.Remote.Count + d.MissUnavailable, Errors: d.RemoteErrors + d.MissUnavailable,
		Evictions: d.Evictions, Entries: d.LocalEntries, Backlog: d.Backlog,
	}
}

// measure adds the latencies of a period.
func (p *point) measure(d metrics.Snapshot) {
	p.Latency = map[string]*quantiles{}
	for name, h := range map[string]metrics.Histogram{
		"get": d.Get, "getMany": d.GetMany, "set": d.Set, "delete": d.Delete, "load": d.Load, "remote": d.Remote,
	} {
		if h.Count > 0 {
			p.Latency[name] = &quantiles{micros(h.Quantile(0.50)), micros(h.Quantile(0.95)), micros(h.Quantile(0.99))}
		}
	}
}

func micros(d time.Duration) jsonf { return jsonf(float64(d) / float64(time.Microsecond)) }

// sample samples all caches, unless that was done a moment ago, and returns the number of
// samples so far. ctx ends the wait for a concurrent sample.
func (h *Handler) sample(ctx context.Context) uint64 {
	select {
	case h.sampling <- struct{}{}:
		defer func() { <-h.sampling }()
	case <-ctx.Done():
		return h.tick()
	}
	h.mu.Lock()
	h.pruneLocked()
	caches := append([]*tracked(nil), h.caches...)
	at, before, ticks := time.Now(), h.sampled, h.ticks
	fresh := ticks > 0 && at.Sub(before) < h.interval*3/4
	h.mu.Unlock()
	if fresh {
		// A cache that was added since is sampled nevertheless.
		caches = unseen(caches)
	}
	type seen struct {
		snap metrics.Snapshot
		tags []metrics.TagCount
		keys []metrics.KeyCount
	}
	all := make([]seen, len(caches))
	for i, t := range caches {
		all[i].snap = t.cache.Metrics()
		if c, ok := t.cache.(interface {
			TopTags(n int) []metrics.TagCount
		}); ok {
			all[i].tags = c.TopTags(topTags)
		}
		if c, ok := t.cache.(interface {
			HotKeysEncoded(n int) []metrics.KeyCount
		}); ok {
			all[i].keys = c.HotKeysEncoded(topTags)
			for j := range all[i].keys {
				if !h.keys {
					all[i].keys[j].Key = ""
				}
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	since := at.Sub(before)
	for i, t := range caches {
		t.keys = all[i].keys
		t.add(at, since, all[i].snap, all[i].tags, since > 4*h.interval)
	}
	if !fresh {
		h.sampled = at
		h.ticks++
	}
	return h.ticks
}

const topTags = 10

func (h *Handler) tick() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ticks
}

func unseen(all []*tracked) (some []*tracked) {
	for _, t := range all {
		if t.first.IsZero() { // only sample writes it, and there is one at a time
			some = append(some, t)
		}
	}
	return some
}

// Watch takes samples until ctx ends or the handler is closed, whether or not
// the page is open, so that the page has a history from the start:
//
//	go h.Watch(ctx)
func (h *Handler) Watch(ctx context.Context) {
	ticker := time.NewTicker(h.interval)
	defer ticker.Stop()
	for {
		h.sample(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		case <-h.closing:
			return
		}
	}
}

// pruneLocked removes caches that were closed. Closed only reads a flag.
func (h *Handler) pruneLocked() {
	kept := h.caches[:0:0]
	for _, t := range h.caches {
		if c, ok := t.cache.(interface{ Closed() bool }); !ok || !c.Closed() {
			kept = append(kept, t)
		}
	}
	h.caches = kept
}

func (h *Handler) findLocked(c Cache) int {
	if !reflect.ValueOf(c).Comparable() {
		return -1
	}
	for i, t := range h.caches {
		if reflect.ValueOf(t.cache).Comparable() && t.cache == c {
			return i
		}
	}
	return -1
}

// isNil also sees a nil pointer inside an interface.
func isNil(c any) bool {
	v := reflect.ValueOf(c)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}
