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
	tags     map[partTag]int64         // local time of the latest invalidation
	patterns map[string]pendingPattern // likewise
	parts    map[uint8]int64           // likewise for everything of a part, where there are several
	all      int64                     // likewise for everything; never: not pending
}

// partTag is a tag in a part.
type partTag struct {
	part uint8
	tag  string
}

type pendingPattern struct {
	glob  *glob.Pattern
	since int64
}

func (p *pendingTombstones) init() {
	p.tags, p.patterns, p.parts, p.all = map[partTag]int64{}, map[string]pendingPattern{}, map[uint8]int64{}, never
}

func (p *pendingTombstones) countLocked() {
	n := len(p.tags) + len(p.patterns) + len(p.parts)
	if p.all != never {
		n++
	}
	p.n.Store(int64(n))
}

// pendingSince returns the local time of the latest pending invalidation that affects a key with these
// tags; never if none does.
func (a *Coordinator) pendingSince(redisKey string, tags []string) int64 {
	p := &a.pending
	if p.n.Load() == 0 {
		return never
	}
	encoded, part := a.encoded(redisKey), a.Of(redisKey).of
	p.mu.RLock()
	defer p.mu.RUnlock()
	at := p.all
	if s, ok := p.parts[part]; ok {
		at = max(at, s)
	}
	for _, t := range tags {
		if s, ok := p.tags[partTag{part, t}]; ok {
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

// anyPattern reports whether an invalidation by pattern is pending.
func (p *pendingTombstones) anyPattern() bool {
	if p.n.Load() == 0 {
		return false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.patterns) > 0
}

// pendAll notes that an invalidation of everything is pending for this part.
func (a *Coordinator) pendAll(p *Part, since int64) {
	t := &a.pending
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pendAllLocked(p.of, since)
	t.countLocked()
}

func (p *pendingTombstones) pendAllLocked(part uint8, since int64) {
	if before, ok := p.parts[part]; !ok || before < since {
		p.parts[part] = since
	}
}

// addTombstones queues invalidations of tags and patterns, or of everything if there are
// neither. They are pending unless Redis has acknowledged them once. Where there are several parts,
// patterns are pending even so: no reconciliation waits until they are delivered, which takes all nodes.
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
	case len(subjects) == 0:
		if !past.Acked {
			p.all = max(p.all, at)
		}
	default:
		for _, s := range subjects {
			u := parseSubject(s)
			if past.Acked && (u.kind != aPattern || len(a.parts) == 1) {
				continue
			}
			switch u.kind {
			case aPartAll:
				p.pendAllLocked(u.part, at)
			case aPattern:
				if before, ok := p.patterns[u.name]; !ok || before.since < at {
					p.patterns[u.name] = pendingPattern{glob.Compile(u.name), at}
				}
			default:
				t := partTag{u.part, u.name}
				if before, ok := p.tags[t]; !ok || before < at {
					p.tags[t] = at
				}
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
		var since int64
		var ok bool
		switch u := parseSubject(s); u.kind {
		case aPartAll:
			since, ok = p.parts[u.part]
		case aPattern:
			var pat pendingPattern
			pat, ok = p.patterns[u.name]
			since = pat.since
		default:
			since, ok = p.tags[partTag{u.part, u.name}]
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
		if !a.queue.HasTag(a.parts[t.part].tagSubject(t.tag)) {
			delete(p.tags, t)
		}
	}
	for part := range p.parts {
		if !a.queue.HasTag(a.parts[part].allSubject()) {
			delete(p.parts, part)
		}
	}
	for pat := range p.patterns {
		if !a.queue.HasTag(aPattern + pat) {
			delete(p.patterns, pat)
		}
	}
	p.countLocked()
}
