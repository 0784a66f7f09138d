package writebehind

import (
	"slices"
	"time"
)

// A write that has failed is retried after retryFirst, and three times as long each time after
// that: soon if it was a collision, patiently if the source is down. Ten attempts take two to
// four minutes.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = time.Minute
)

// backoff is the delay before the retry of a write with so many failed attempts. rnd in [0, 1)
// spreads writes that fail together: between half of the delay and the whole.
func backoff(attempts int, rnd float64) time.Duration {
	d := retryFirst
	for range attempts - 1 {
		if d = 3 * d; d >= retryMost {
			d = retryMost
			break
		}
	}
	return d/2 + time.Duration(rnd*float64(d/2))
}

// retries are the writes of a partition that have failed, in groups that have failed together.
// Their values are in Redis only: by the time of the next attempt there may be a newer one.
type retries struct {
	ids    map[string]string // by key, the id of the write that has failed
	groups []*group          // sorted by due
}

type group struct {
	due      time.Time
	attempts int
	entries  []known
}

type known struct{ key, id string }

func newRetries() retries { return retries{ids: map[string]string{}} }

func (r *retries) len() int { return len(r.ids) }

// has reports whether this very write of a key waits for its next attempt.
func (r *retries) has(key, id string) bool {
	have, ok := r.ids[key]
	return ok && have == id
}

func (r *retries) forget(key string) { delete(r.ids, key) }

func (r *retries) add(attempts int, entries []Entry, after time.Duration) {
	g := &group{due: time.Now().Add(after), attempts: attempts}
	for i := range entries {
		r.ids[entries[i].Key] = entries[i].ID
		g.entries = append(g.entries, known{entries[i].Key, entries[i].ID})
	}
	i, _ := slices.BinarySearchFunc(r.groups, g, func(a, b *group) int {
		if a.due.After(b.due) {
			return 1
		}
		return -1 // after groups of the same time
	})
	r.groups = slices.Insert(r.groups, i, g)
}

// due returns the first group if it is due, else nil.
func (r *retries) due() *group {
	if len(r.groups) == 0 || time.Now().Before(r.groups[0].due) {
		return nil
	}
	return r.groups[0]
}

// keys returns at most n keys of the first group that still wait for a retry.
func (r *retries) keys(g *group, n int) []string {
	g.entries = slices.DeleteFunc(g.entries, func(k known) bool { return !r.has(k.key, k.id) })
	if len(g.entries) == 0 {
		r.groups = slices.Delete(r.groups, 0, 1)
		return nil
	}
	keys := make([]string, min(n, len(g.entries)))
	for i := range keys {
		keys[i] = g.entries[i].key
	}
	return keys
}

// looked removes the first n keys of the first group: they have been fetched.
func (r *retries) looked(g *group, n int) {
	for _, k := range g.entries[:n] {
		r.forget(k.key)
	}
	if g.entries = g.entries[n:]; len(g.entries) == 0 {
		r.groups = slices.Delete(r.groups, 0, 1)
	}
}

// next is the time until a group is due, or d if that is less.
func (r *retries) next(d time.Duration) time.Duration {
	if len(r.groups) == 0 {
		return d
	}
	return min(max(time.Until(r.groups[0].due), 0), d)
}
