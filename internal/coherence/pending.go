package coherence

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/delqhi/cache/internal/glob"
	"github.com/delqhi/cache/internal/retryqueue"
)

// ErrPending means that the key was written or invalidated by this process, and Redis has not
// acknowledged it: Redis's record is not read until the invalidation has been delivered.
var ErrPending = errors.New("what this process has written or invalidated, Redis has not acknowledged yet")

// pendingTombstones are the tags and patterns with a pending invalidation, each with its time:
// records stored later are not affected. While there are none, a lookup costs one atomic load.
type pendingTombstones struct {
	n atomic.Int64 // number of entries below

	mu       sync.RWMutex              // guards what follows; taken before the lock of the queue
	tags     map[string]int64          // local time of the latest invalidation
	patterns map[string]pendingPattern // likewise
	all      int64                     // likewise for everything; never: not pending
}

type pendingPattern struct {
	glob  *glob.Pattern
	since int64
}

func (p *pendingTombstones) init() {
	p.tags, p.patterns, p.all = map[string]int64{}, map[string]pendingPattern{}, never
}

func (p *pendingTombstones) countLocked() {
	n := len(p.tags) + len(p.patterns)
	if p.all != never {
		n++
	}
	p.n.Store(int64(n))
}

// since returns the local time of the latest pending invalidation that affects a key with these
// tags; never if none does.
func (p *pendingTombstones) since(encoded string, tags []string) int64 {
	if p.n.Load() == 0 {
		return never
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	at := p.all
	for _, t := range tags {
		if s, ok := p.tags[t]; ok {
			at = max(at, s)
		}
	}
	for _, pat := range p.patterns {
		if pat.since > at && pat.glob.Match(encoded) {
			at = pat.since
		}
	}
	return at
}

// matches reports whether an invalidation of everything, or by a pattern that matches the key,
// is pending.
func (p *pendingTombstones) matches(encoded string) bool { return p.since(encoded, nil) != never }

// addTombstones queues invalidations of tags and patterns, or of everything if there are
// neither. They are pending unless Redis has acknowledged them once.
func (a *Coordinator) addTombstones(subjects []string, numbers []uint64, past retryqueue.Past) (full bool) {
	p := &a.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	at := past.Since
	if len(subjects) == 0 {
		full = a.queue.AddAll(numbers, past)
	} else {
		full = a.queue.AddTags(subjects, numbers, past)
	}
	switch {
	case full:
		p.all = now() // later than all that it replaces
	case past.Acked:
	case len(subjects) == 0:
		p.all = max(p.all, at)
	default:
		tags, patterns := tagsAndPatterns(subjects)
		for _, t := range tags {
			if before, ok := p.tags[t]; !ok || before < at {
				p.tags[t] = at
			}
		}
		for _, pat := range patterns {
			if before, ok := p.patterns[pat]; !ok || before.since < at {
				p.patterns[pat] = pendingPattern{glob.Compile(pat), at}
			}
		}
	}
	p.countLocked()
	return full
}

// addItem queues a key: as of now, if the item has no time.
func (a *Coordinator) addItem(it retryqueue.Item) (full bool) {
	a.pending.mu.Lock()
	defer a.pending.mu.Unlock()
	if it.Since == 0 {
		it.Since = now()
	}
	if full = a.queue.Add(it); full {
		a.pending.all = now()
		a.pending.countLocked()
	}
	return full
}

// completeTombstones removes the invalidations that are no longer queued.
func (a *Coordinator) completeTombstones() {
	p := &a.pending
	if p.n.Load() == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !a.queue.All() {
		p.all = never
	}
	a.sweepTombstonesLocked()
}

// acknowledgedTombstones is called when Redis has acknowledged tags or patterns that were sent
// after the local time sent: an earlier attempt need not be retried.
func (a *Coordinator) acknowledgedTombstones(subjects []string, sent int64) {
	p := &a.pending
	if p.n.Load() == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range subjects {
		since, ok := p.tags[s[1:]]
		if s[:1] == aPattern {
			var pat pendingPattern
			pat, ok = p.patterns[s[1:]]
			since = pat.since
		}
		if ok && since <= sent {
			a.deliveredAny.Add(1)
			a.Outbox.Skip(a.queue.Dismiss([]string{s})...)
		}
	}
	a.sweepTombstonesLocked()
}

// sweepTombstonesLocked removes the tags and patterns that are no longer queued. The lock of
// pending is held.
func (a *Coordinator) sweepTombstonesLocked() {
	p := &a.pending
	for t := range p.tags {
		if !a.queue.HasTag(aTag + t) {
			delete(p.tags, t)
		}
	}
	for pat := range p.patterns {
		if !a.queue.HasTag(aPattern + pat) {
			delete(p.patterns, pat)
		}
	}
	p.countLocked()
}
