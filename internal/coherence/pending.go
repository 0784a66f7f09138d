package coherence

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/delqhi/cache/internal/glob"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// ErrPending says of a key that what Redis holds under it was replaced or invalidated by
// this process, and Redis did not acknowledge it: it is not read until Redis has been told.
var ErrPending = errors.New("what this process has written or invalidated, Redis has not acknowledged yet")

// pendingTombstones are the tags and patterns that are to be told, and since when: what was
// stored later is none of their concern. While there are none, a look costs one atomic
// load.
type pendingTombstones struct {
	n atomic.Int64 // how many there are

	mu       sync.RWMutex              // guards what follows; taken before the lock of the queue
	tags     map[string]int64          // local time of the latest
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

// since returns the local time of the latest of them that concern a key with these tags;
// never if none does.
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

// matches reports whether everything, or a pattern that matches a key, is pending.
func (p *pendingTombstones) matches(encoded string) bool { return p.since(encoded, nil) != never }

// addTombstones adds tags and patterns, or everything if there are neither, to what is to be
// told. They are pending unless Redis has acknowledged them once.
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
		p.all = now() // later than all that it stands for
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

// addItem adds a key to what is to be told: as of now, if it does not say since when.
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

// completeTombstones takes out what is not to be told any more.
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
// after the local time sent: an earlier attempt need not be repeated.
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

// sweepTombstonesLocked forgets the tags and patterns that are not in the queue any more. The
// lock of pending is held.
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

// PendingCount counts what was told later: an answer of Redis that was asked for before it has
// changed may be older than what was told. any reports whether there is something that is
// to be told.
func (a *Coordinator) PendingCount() (told uint64, any bool) {
	return a.deliveredAny.Load(), a.AnyPending()
}

// Concerned reports whether what Redis holds under a key may be of what it is to be told.
func (a *Coordinator) Concerned(redisKey string) bool {
	return a.pending.n.Load() > 0 || a.queue.Has(redisKey)
}

// Outdated reports whether a record that Redis holds under a key was replaced or
// invalidated by this process, as far as is known: Redis has not been told of that, or may
// have lost it. Where nothing is to be told it costs one atomic load.
func (a *Coordinator) Outdated(ctx context.Context, redisKey string, rec store.Record, tags []string) bool {
	if !a.AnyPending() || rec.State != store.Found || len(redisKey) < len(a.cfg.Names.Data) {
		return false
	}
	if it, ok := a.queue.Find(redisKey); ok {
		if (it.Token == "" || rec.Seen().Token != it.Token) && !a.newer(ctx, &it, rec) {
			return true
		}
	}
	since := a.pending.since(redisKey[len(a.cfg.Names.Data):], tags)
	if since == never {
		return false
	}
	it := retryqueue.Item{Key: redisKey, At: a.date(ctx, redisKey, retryqueue.Past{Since: since})}
	return !a.newer(ctx, &it, rec)
}
