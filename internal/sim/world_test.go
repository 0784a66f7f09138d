package sim_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/storetest"
)

// world is what is true: the versions of all keys, what each node may still serve of
// them, and a log of what happened.
type world struct {
	marks  marks
	t      *testing.T
	seed   uint64
	faults fault
	policy invalidation.Policy
	calms  int // of so many changes one is made: what is old shows only until it is changed again
	store  *storetest.Memory
	single bool // of one node, which carries out commands in their order
	parted bool // of several logical clocks, each for a part of the keys
	values bool // values stay in the nodes (LocalValues)
	shared bool // two nodes at a time are of one process, and share a session
	direct bool // sessions are told that no message is lost alone, and none is
	moving bool // of several parts, whose slots are on several masters, and may move; see cluster_test.go
	*cluster
	began time.Time
	down  [3]atomic.Bool // which master of a cluster is
	*dice                // of the world itself
	rng   *rand.Rand     // of how it is
	calm  chan struct{}  // closed: no faults any more
	over  atomic.Bool    // … and all nodes receive notifications again

	mu     sync.Mutex // guards what follows
	regs   map[string]*register
	events []string
	failed string
	nodes  int // ever started
	last   *simProcess
	drawn  map[string]uint64
}

// random returns the random numbers of one thing that happens. They depend on what it is
// and on how many of its kind there were, and not on what else happens meanwhile: a
// world is to go the same way again.
func (w *world) draw(what ...string) *dice {
	name := strings.Join(what, " ")
	w.mu.Lock()
	n := w.drawn[name]
	w.drawn[name]++
	w.mu.Unlock()
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return newDice(w.seed, h.Sum64()+n)
}

func (w *world) now() time.Duration { return time.Since(w.began) }

// may reports whether a fault may happen at this time.
func (w *world) may(f fault) bool {
	select {
	case <-w.calm:
		return false
	default:
		return w.faults&f != 0
	}
}

const keptEvents = 1500

func (w *world) log(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) == keptEvents {
		w.events = append(w.events[:0], w.events[1:]...)
	}
	w.events = append(w.events, fmt.Sprintf("%14v  ", w.now())+fmt.Sprintf(format, args...))
}

// wire logs what goes over the network.
func (w *world) wire(format string, args ...any) {
	if *simWire {
		w.log(format, args...)
	}
}

// violated notes the first violation; what follows from it is of no interest.
func (w *world) violated(format string, args ...any) {
	w.log("VIOLATED: "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == "" {
		w.failed = fmt.Sprintf(format, args...) + "\n" + strings.Join(w.events[max(0, len(w.events)-*simEvents):], "\n")
	}
}

func (w *world) broken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed != ""
}

// Keys of three kinds. What begins with s is in the source and is only ever
// invalidated, by several at once. w is in the source, and written by one at a time,
// source first. c is in the cache alone, and written by one at a time.
var (
	simKeys = []string{"s0", "s1", "s2", "w0", "w1", "c0", "c1"}
	simTags = map[string][]string{"s0": {"a"}, "s1": {"a", "b"}, "w0": {"b"}, "c0": {"a"}}
)

func inSource(key string) bool { return key[0] != 'c' }

// marks is when something was invalidated by tag, or everything was.
type marks struct {
	mu      sync.Mutex
	running int
	last    time.Duration
	ended   []time.Duration // of late
}

func (m *marks) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running++
}

func (m *marks) end(at time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running--
	m.last = max(m.last, at)
	m.ended = append(m.ended, at)
}

// marksAge is how long ago one may have been of which a load does not know.
const marksAge = time.Second + 5*mostLatency

// count is how many a load that begins now may not know of.
func (m *marks) count(now time.Duration) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = slices.DeleteFunc(m.ended, func(at time.Duration) bool { return at < now-marksAge })
	return m.running + len(m.ended)
}

// since is up to when a load may have begun without knowing of one. Where nothing is heard, it
// may be stamped with a logical time of up to a second ago.
func (m *marks) since() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running > 0 {
		return math.MaxInt64
	}
	return m.last + marksAge
}

// register is one key.
type register struct {
	key   string
	alone chan struct{} // has one token: that of the one who writes

	mu         sync.Mutex // guards what follows
	version    int
	changes    int           // under way
	changed    time.Duration // when the last one ended
	bounds     []bound
	lateWrites map[int]time.Duration // versions that may be served though they are too old
	failed     map[int]bool          // versions whose caller was given an error
	loads      map[int]loadUnderWay
	loadID     int
	began      time.Duration // when the last change began
	clear      time.Duration // how much later that was than the one before
	kept       int           // the version that is to be found until the next change begins; 0: none
}

// loadUnderWay is a load that has not ended.
type loadUnderWay struct {
	began time.Duration
	node  int
}

// bound says that from some time on nothing older than a version is served.
type bound struct {
	version int
	from    time.Duration
	node    int  // on that node at once, on others after they have heard; -1: everywhere at once
	foreign bool // by another program, which sends no message
}

func (w *world) register(key string) *register {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.regs[key]
}

// next makes a new version: a change begins.
func (r *register) next(now time.Duration) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear, r.began, r.kept = now-r.began, now, 0
	r.version++
	r.changes++
	return r.version
}

// certain is by how much later a write begins than the change before it if none of what is
// sent later of that may hit it: clocks drift.
const certain = 20 * time.Millisecond

// keeping are the faults that take no acknowledged write.
const keeping = lostRequests | lostReplies | freezes | slowNotices | twice | drops | cuts | crashes | impatience | partitions | moves

// stored says that Redis has acknowledged a version, which is not made of another; it says nothing
// of values that stay in their nodes, which a change elsewhere may drop at any time. What
// failed before is told later, by this node and by others, and is to leave it alone, however
// it was called for:
//
//  1. one node invalidates tags, a pattern or everything; that fails
//  2. another node writes, and Redis acknowledges
//  3. the first node tells Redis of 1, as of now: what was written in 2 is gone
func (w *world) stored(r *register, version int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !w.values && !inSource(r.key) && r.version == version && r.clear >= certain && w.faults&^keeping == 0 {
		r.kept = version
	}
}

// missing returns the version that a read which finds nothing, and began at a version, had to
// find; 0: none.
func (r *register) missing(version int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.version != version {
		return 0
	}
	return r.kept
}

// over says that a change has ended, or will have.
func (r *register) over(at time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes--
	r.changed = max(r.changed, at)
}

func (r *register) current() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version
}

// settled says that a version was acknowledged.
func (r *register) settled(b bound, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bounds = append(r.bounds, b)
	if len(r.bounds) > 64 {
		r.bounds = r.bounds[1:]
	}
	for v, at := range r.lateWrites {
		if at < now-10*time.Second {
			delete(r.lateWrites, v)
		}
	}
}

// fails says that the caller of a change was given an error.
func (r *register) fails(version int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed[version] = true
}

func (r *register) hasFailed(version int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed[version]
}

func (r *register) wroteLate(version int, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lateWrites[version] = now
}

// least is the oldest version that a read which begins now on n may return.
func (r *register) least(n *simNode, now time.Duration) (version int, why bound) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.bounds {
		from := b.from
		if b.node != n.id && b.node != -1 {
			lag, ok := n.lag(b.foreign)
			if !ok {
				continue
			}
			from += lag
		}
		if now >= from && b.version > version {
			version, why = b.version, b
		}
	}
	return version, why
}

// allowed reports whether a version may be served where nothing older than least may.
func (r *register) allowed(version, least int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if version > r.version {
		return false
	}
	_, late := r.lateWrites[version]
	return version >= least || late
}

// Every seventh version of some keys in the source is that there is nothing. They have
// no tags: an absence has none.
func absentAt(key string, version int) bool { return version%7 == 0 && simTags[key] == nil }

// allowedAbsence reports whether it may be said that there is no such thing.
func (r *register) allowedAbsence(least int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for v := max(least, 0); v <= r.version; v++ {
		if absentAt(r.key, v) {
			return true
		}
	}
	return false
}

func value(key string, version int) string { return fmt.Sprintf("%s:%d", key, version) }

func parseValue(s string) (key string, version int, ok bool) {
	key, v, ok := strings.Cut(s, ":")
	version, err := strconv.Atoi(v)
	return key, version, ok && err == nil
}

type loadKind struct{}

// How long the source takes: usually, and at the most.
const (
	usualLoad = 60 * time.Millisecond
	mostLoad  = 300 * time.Millisecond
)

var errSource = errors.New("sim: the source failed")

// load is the source. What it answers is what was true at some moment while it ran.
func (n *simNode) load(ctx context.Context, key string) (string, error) {
	w, r := n.w, n.w.register(key)
	r.mu.Lock()
	r.loadID++
	id := r.loadID
	d := w.draw("load", key)
	now := w.now()
	forced := ctx.Value(loadKind{}) != nil
	if !forced && w.faults == 0 && r.changes == 0 {
		beside, marked := 0, w.marks.since()
		for other, l := range r.loads {
			began := l.began
			if w.values && l.node != n.id {
				continue // each node loads its own
			}
			if began <= r.changed+5*mostLatency { // its lease may have been taken before, and removed
				continue
			}
			// After an invalidation by tag it is not known whether the key is concerned: a second
			// load may begin then, and no third, until there is another one.
			if beside++; beside > max(1, w.marks.count(now)) || began > marked {
				defer w.violated("P4: loads %d and %d of %s run at once, and nothing has happened to it since %v", other, id, key, r.changed)
			}
		}
	}
	if r.loads[id] = (loadUnderWay{now, n.id}); forced || r.changes > 0 {
		r.loads[id] = loadUnderWay{0, n.id} // others may begin beside it
	}
	if forced {
		// It takes the place of the leases of the others. If it fails, or what it stores is outdated
		// by a tag of which its process did not know, the next load begins beside them.
		for other, l := range r.loads {
			r.loads[other] = loadUnderWay{0, l.node}
		}
	}
	r.mu.Unlock()
	w.log("node %d: load %d of %s begins, forced: %v", n.id, id, key, forced)
	defer func() {
		w.log("node %d: load %d of %s ends", n.id, id, key)
		r.mu.Lock()
		delete(r.loads, id)
		if forced && n.transport == coherence.None {
			// It takes the place of a lease, and may be stamped with a logical
			// time of up to a second ago: to others that is no value.
			r.changed = max(r.changed, w.now())
		}
		r.mu.Unlock()
	}()
	took := usualLoad
	if d.one(6) {
		took = mostLoad
	}
	if err := sleep(ctx, d.upTo(took/2)); err != nil {
		return "", err
	}
	version := r.current()
	if err := sleep(ctx, d.upTo(took/2)); err != nil {
		return "", err
	}
	switch {
	case d.one(20):
		return "", errSource
	case !inSource(key) || absentAt(key, version):
		return "", cache.ErrNotFound
	}
	return value(key, version), nil
}

// lag is how much later than its acknowledgement elsewhere a change is seen on a node;
// ok is false if there is no bound.
func (n *simNode) lag(foreign bool) (d time.Duration, ok bool) {
	// A session by key that gives way to one of all keys leaves a node without notifications for a while,
	// too.
	away := n.w.faults != 0 || n.transport == coherence.TrackingKeys
	if d, ok = n.usualLag(foreign); ok && n.outage > 0 && away && !n.w.over.Load() {
		// No longer than the time of an outage after what was last known. A load may have begun
		// so long before a read that shares it.
		d = max(d, n.outage+10*mostLatency+mostLoad+2*hook.DefaultTimeout)
	}
	return d, ok
}

// usualLag is lag where the local tier is not used during an outage.
func (n *simNode) usualLag(foreign bool) (d time.Duration, ok bool) {
	w := n.w
	slack := 10 * mostLatency
	if n.transport == coherence.None || foreign || w.faults != 0 {
		slack += mostLoad // a load that began before, and is shared
	}
	if w.faults&(lostRequests|lostReplies|freezes|outages|lateWrites|crashes|cuts|slowNotices|partitions|masterOutages|moves) != 0 {
		slack += 2 * hook.DefaultTimeout // … may have to wait for Redis as well
	}
	if n.transport == coherence.None || foreign && n.transport == coherence.Broadcast {
		switch {
		case !n.local:
			return slack, true
		case n.localTTL == 0:
			return 0, false
		}
		return n.localTTL + slack, true
	}
	switch {
	case w.faults&drops != 0:
		return 3500*time.Millisecond + slack, true
	case w.moving && w.epochless && (w.lossy || foreign):
		return mastersPause + coherence.HeartbeatTimeout + slack, true
	case w.faults&^(twice|skews|foreignWriters|evictions) != 0:
		return coherence.HeartbeatTimeout + slack, true
	}
	return mostDelay + slack, true
}

// How long a notification takes.
const (
	mostDelay = 5 * time.Millisecond
	slowDelay = 900 * time.Millisecond
)
