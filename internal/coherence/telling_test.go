package coherence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

var errLost = errors.New("no answer")

// wire is a store that records what is told, and fails as a test has it.
type wire struct {
	*storetest.Memory
	mu     sync.Mutex // pieces of a call go at the same time
	fail   func(op store.Op, key string) error
	before func(cmds []store.Command)
	mark   func(n logicalclock.NewTombstone) error
	post   error
	scan   error
	told   []message.Message
	marks  []logicalclock.NewTombstone
	asked  int // Marks
}

func (w *wire) hear(msg string) {
	n, err := message.Parse(msg)
	if err != nil {
		panic(err)
	}
	w.told = append(w.told, n)
}

func (w *wire) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.before != nil {
		w.before(cmds)
	}
	replies := w.Memory.Do(ctx, cmds)
	for i, c := range cmds {
		if c.Notify.Channel != "" {
			w.hear(c.Notify.Message)
		}
		if w.fail != nil {
			if err := w.fail(c.Op, c.Key); err != nil {
				replies[i] = store.Reply{Err: err}
			}
		}
	}
	return replies
}

func (w *wire) Publish(ctx context.Context, t store.Notify) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hear(t.Message)
	if w.post != nil {
		return w.post
	}
	return w.Memory.Publish(ctx, t)
}

func (w *wire) Scan(ctx context.Context, master, pattern string, cursor uint64) ([]string, uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.scan != nil {
		return nil, 0, w.scan
	}
	return w.Memory.Scan(ctx, master, pattern, cursor)
}

func (w *wire) ReadClock(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	return w.Memory.ReadClock(ctx, names, known, tags)
}

func (w *wire) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (logicalclock.Reading, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marks = append(w.marks, n)
	if w.mark != nil {
		if err := w.mark(n); err != nil {
			return logicalclock.Reading{}, err
		}
	}
	return w.Memory.AddTombstones(ctx, names, known, n)
}

func (w *wire) put(key string, rec store.Record) {
	w.Memory.Do(context.Background(), []store.Command{{Op: store.Set, Key: key, Frame: rec.Raw}})
}

func (w *wire) has(key string) bool {
	return w.Memory.Do(context.Background(), []store.Command{{Op: store.Get, Key: key}})[0].Record.State != store.Missing
}

func storedAt(at int64) store.Record {
	return recordOf(frame.Header{Kind: frame.Value, Limit: math.MaxInt64, Stored: at})
}

// failedNumber returns a number that is open in an outbox.
func (a *Coordinator) failedNumber() []uint64 {
	_, sent := a.Outbox.Next(0)
	return sent.Resolve(false, errLost)
}

// publishedNumber returns a number that was acknowledged.
func (a *Coordinator) publishedNumber() uint64 {
	n, sent := a.Outbox.Next(0)
	sent.Resolve(true, nil)
	return n.Number
}

// open reports whether a number is open.
func (a *Coordinator) isOpen() bool {
	n := a.publishedNumber()
	tally, _ := a.Outbox.Watermark(false)
	return tally.Number != n
}

// What becomes of a key that is told later, by what Redis has under it.
func TestWhatBecomesOfAKeyThatIsToldLater(t *testing.T) {
	for name, c := range map[string]struct {
		rec      func(at int64) store.Record
		mine     bool // the token is of what is there
		fail     func(op store.Op, key string) error
		post     error
		race     bool
		done     bool
		there    bool
		told     int  // messages
		dropped  bool // from the local tier
		redone   int
		leftOpen bool
	}{
		"an older record":                {rec: func(at int64) store.Record { return storedAt(at - 1) }, done: true, told: 1, dropped: true},
		"a newer record":                 {rec: func(at int64) store.Record { return storedAt(at + 1) }, done: true, there: true, told: 1, dropped: true},
		"nothing":                        {done: true, told: 1, dropped: true},
		"this process's own":             {rec: func(at int64) store.Record { return storedAt(at - 1) }, mine: true, done: true, there: true},
		"an older record in between":     {rec: func(at int64) store.Record { return storedAt(at - 1) }, race: true, told: 1, there: true},
		"no answer to the look":          {rec: func(at int64) store.Record { return storedAt(at - 1) }, fail: func(op store.Op, _ string) error { return map[bool]error{true: errLost}[op == store.GetHeader] }, there: true, leftOpen: true},
		"no answer to the change":        {rec: func(at int64) store.Record { return storedAt(at - 1) }, fail: func(op store.Op, _ string) error { return map[bool]error{true: errLost}[op == store.CompareAndDelete] }, told: 1, leftOpen: true},
		"no answer to the message alone": {post: errLost, told: 1, leftOpen: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			st := &wire{Memory: storetest.NewMemory(), fail: c.fail, post: c.post}
			a, l := onTier(t, Broadcast, true, st)
			at := time.Now().UnixMicro()
			time.Sleep(time.Second)
			it := retryqueue.Item{Key: "n:k", At: at, Numbers: a.failedNumber()}
			if c.rec != nil {
				rec := c.rec(at)
				if st.put("n:k", rec); c.mine {
					it.Token = rec.CASToken().Token
				}
			}
			a.addItem(it)
			if c.race {
				st.before = func(cmds []store.Command) {
					if cmds[0].Op == store.CompareAndDelete {
						st.put("n:k", storedAt(at-2))
					}
				}
			}
			w := a.Wait("k")
			defer w.Close()
			before := a.deliveredAny.Load()
			if got := a.notify(t.Context()); got != c.done || a.Pending("n:k") == c.done {
				t.Errorf("%s: all is told: %v", name, got)
			}
			if counted := a.deliveredAny.Load() != before; counted != c.done {
				t.Errorf("%s: a delivery is counted: %v", name, counted)
			}
			if st.has("n:k") != c.there || len(st.told) != c.told || slices.Equal(l.removed, []string{"k"}) != c.dropped || woken(w) != c.dropped {
				t.Errorf("%s: there %v, told %+v, dropped %q", name, !c.there, st.told, l.removed)
			}
			for _, n := range st.told {
				if n.Kind != message.Invalidated || !slices.Equal(n.Keys, []string{"k"}) {
					t.Errorf("%s: told %+v", name, n)
				}
			}
			if open := a.isOpen(); open != (c.leftOpen || c.race) {
				t.Errorf("%s: a number is open: %v", name, open)
			}
			short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			why, err := a.Sync(short)
			if (err == nil) != c.done || errors.Is(why, errLost) != c.leftOpen {
				t.Errorf("%s: Sync: %v, %v", name, why, err)
			}
			st.fail, st.post, st.before = nil, nil, nil
			if !a.notify(t.Context()) || a.isOpen() {
				t.Errorf("%s: it is not settled the second time", name)
			}
			if why, err := a.Sync(t.Context()); why != nil || err != nil {
				t.Errorf("%s: Sync: %v, %v", name, why, err)
			}
			a.stop()
		})
	}
}

// Redis may lose what was delivered late as well, while its replica is promoted: it is replayed to the
// next server.
func TestWhatIsDeliveredLateIsReplayed(t *testing.T) {
	old := func() store.Record { return storedAt(time.Now().Add(-time.Minute).UnixMicro()) }
	for name, c := range map[string]struct {
		queue func(a *Coordinator)
		was   bool // Redis has the old record when it is delivered
	}{
		"a key":                  {func(a *Coordinator) { a.addItem(retryqueue.Item{Key: "n:k", At: time.Now().UnixMicro()}) }, true},
		"a key that Redis lacks": {func(a *Coordinator) { a.addItem(retryqueue.Item{Key: "n:k", At: time.Now().UnixMicro()}) }, false},
		"a key after an earlier write": {func(a *Coordinator) {
			a.noted(retryqueue.Item{Key: "n:k", At: time.Now().Add(-time.Minute).UnixMicro(), Token: old().CASToken().Token}, now()-1)
			a.addItem(retryqueue.Item{Key: "n:k", At: time.Now().UnixMicro()})
		}, true},
		"a pattern":                   {func(a *Coordinator) { a.schedulePattern("k*", nil, now()) }, true},
		"a pattern, and none matches": {func(a *Coordinator) { a.schedulePattern("k*", nil, now()) }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			st := &wire{Memory: storetest.NewMemory()}
			a, _ := onTier(t, None, true, st)
			a.started = true // nothing in the background
			a.look(t.Context())
			c.queue(a)
			if c.was {
				st.put("n:k", old())
			}
			if !a.notify(t.Context()) || st.has("n:k") {
				t.Fatalf("%s: it is not delivered", name)
			}
			time.Sleep(time.Second)
			st.put("n:k", old()) // by the replica, which has not received that
			st.Succeed()
			a.parts[0].replayRecent(t.Context(), a.look(t.Context()), 0)
			if !a.Pending("n:k") {
				t.Errorf("%s: the record of the new master is trusted", name)
			}
			if !a.notify(t.Context()) || st.has("n:k") {
				t.Errorf("%s: the old record has come back", name)
			}
			a.stop()
		})
	}
}

// What fails keeps nothing else from being told, unless all of a batch fails.
func TestWhatFailsKeepsNothingElse(t *testing.T) {
	st := &wire{Memory: storetest.NewMemory()}
	a, _ := onTier(t, Broadcast, true, st)
	looks := 0
	st.fail = func(op store.Op, key string) error {
		if looks++; op == store.GetHeader && key == "n:0" {
			return errLost
		}
		return nil
	}
	for i := range 2*retryBatch + 1 {
		a.addItem(retryqueue.Item{Key: fmt.Sprint("n:", i)})
	}
	if a.notify(t.Context()) || a.queue.Len() != 1 {
		t.Errorf("%d are left, want 1", a.queue.Len())
	}
	looks = 0
	st.fail = func(store.Op, string) error { looks++; return errLost }
	for i := range 2*retryBatch + 1 {
		a.addItem(retryqueue.Item{Key: fmt.Sprint("n:", i)})
	}
	if a.notify(t.Context()) || looks > retryBatch || a.queue.Len() != 2*retryBatch+1 {
		t.Errorf("%d looks, %d are left", looks, a.queue.Len())
	}
}

// Tags, patterns and everything are told with the times of their calls.
func TestMarksAreToldWithTheirTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &wire{Memory: storetest.NewMemory()}
		a, l := onTier(t, None, true, store)
		a.started = true // nothing in the background
		time.Sleep(time.Minute)
		date := func(ago time.Duration) int64 {
			passed := ago.Microseconds()
			return time.Now().UnixMicro() - passed + passed/driftPart
		}
		n := a.failedNumber()
		a.parts[0].scheduleTombstones([]string{"t"}, n, now()-int64(30*time.Second))
		a.parts[0].scheduleTombstones([]string{"u"}, nil, now()-int64(20*time.Second))
		if l.flushes != 2 || !a.PendingTag("n:k", "t") {
			t.Errorf("%d flushes", l.flushes)
		}
		a.schedulePattern("p*", a.failedNumber(), now()-int64(30*time.Second))
		old, fresh := storedAt(date(31*time.Second)), storedAt(date(10*time.Second))
		store.put("n:p1", old)
		store.put("n:p2", fresh)
		store.put("n:x", old)
		store.scan = errLost
		if a.notify(t.Context()) || a.PendingTag("n:k", "t") || a.PendingTag("n:k", "u") || !a.Pending("n:p1") || a.pending.n.Load() != 1 {
			t.Errorf("a pattern that fails: %d are pending", a.pending.n.Load())
		}
		if len(store.marks) != 1 || !slices.Equal(store.marks[0].Tags, []string{"t", "u"}) || !slices.Equal(store.marks[0].Before, []int64{date(30 * time.Second), date(20 * time.Second)}) {
			t.Errorf("marks %+v", store.marks)
		}
		store.scan = nil
		if !a.notify(t.Context()) || store.has("n:p1") || !store.has("n:p2") || !store.has("n:x") || l.matching == nil || a.isOpen() {
			t.Error("the pattern is not told")
		}
		store.marks = nil
		a.parts[0].scheduleTombstones(nil, a.failedNumber(), now()-int64(5*time.Second))
		store.mark = func(logicalclock.NewTombstone) error { return errLost }
		if a.notify(t.Context()) || !a.Pending("n:x") || !a.isOpen() {
			t.Error("everything that fails is told")
		}
		store.mark = nil
		if !a.notify(t.Context()) || a.Pending("n:x") || a.isOpen() || a.pending.n.Load() != 0 {
			t.Error("everything is not told")
		}
		for _, m := range store.marks {
			if m.Tags != nil || !slices.Equal(m.Before, []int64{date(5 * time.Second)}) {
				t.Errorf("everything: %+v", m)
			}
		}
		// Tags that fail are told again, and those alone.
		store.marks = nil
		a.parts[0].scheduleTombstones([]string{"t"}, nil, now())
		store.mark = func(logicalclock.NewTombstone) error { return errLost }
		if a.notify(t.Context()) || !a.PendingTag("n:k", "t") || !a.isOpen() {
			t.Error("a tag that fails is told")
		}
		store.mark = nil
		if !a.notify(t.Context()) || a.PendingTag("n:k", "t") || a.isOpen() {
			t.Error("the tag is not told")
		}
	})
}

// What this process was acknowledged, and Redis still has, is not told again.
func TestMarksThatRedisHasAreNotToldAgain(t *testing.T) {
	for _, tags := range [][]string{nil, {"t", "u"}} {
		for name, lost := range map[string]bool{"Redis has it": false, "Redis has lost it": true} {
			st := &wire{Memory: storetest.NewMemory()}
			a, _ := onTier(t, Broadcast, true, st)
			a.started = true
			l := a.parts[0].BeginEpochRead(now())
			m, err := a.cfg.Client.AddTombstones(t.Context(), a.cfg.Names, a.parts[0].Clock.Known(), logicalclock.NewTombstone{Tags: tags})
			if err != nil || a.parts[0].ownTombstones(t.Context(), tags, nil, m, l) != nil {
				t.Fatal(err)
			}
			if lost {
				st.Memory.Do(t.Context(), []store.Command{{Op: store.Delete, Key: a.cfg.Names.Epoch}, {Op: store.Delete, Key: a.cfg.Names.Tags}})
			}
			told := a.recent.Since(now(), nothing)
			a.withoutTombstoned(t.Context(), &told)
			if told.All != (lost && tags == nil) || (len(told.Tags) == 2) != (lost && tags != nil) || !lost && len(told.Tags) != 0 {
				t.Errorf("%s: %+v", name, told)
			}
			a.parts[0].replayRecent(t.Context(), nothing, 0)
			if (a.queue.Len() > 0) != lost || a.queue.All() != (lost && tags == nil) || a.pending.n.Load() != 0 {
				t.Errorf("%s: %d are told again, %d are pending", name, a.queue.Len(), a.pending.n.Load())
			}
			select {
			case <-a.woken:
				if !lost {
					t.Errorf("%s: housekeeping is woken", name)
				}
			default:
				if lost {
					t.Errorf("%s: housekeeping is not woken", name)
				}
			}
			st.Fail(errLost)
			told = a.recent.Since(now(), nothing)
			if a.withoutTombstoned(t.Context(), &told); !told.All && len(told.Tags) != 2 {
				t.Errorf("%s: without an answer %+v", name, told)
			}
			st.asked = 0
			if a.withoutTombstoned(t.Context(), &retryqueue.Replay{}); st.asked != 0 {
				t.Error("Redis is asked about nothing")
			}
			st.Fail(nil)
		}
	}
}

// A later write of a key that is to be told takes the place of the earlier one.
func TestALaterAcknowledgementCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := onTier(t, Broadcast, true, storetest.NewMemory())
		a.addItem(retryqueue.Item{Key: "n:k", At: 5})
		time.Sleep(time.Second)
		a.noted(retryqueue.Item{Key: "n:other", At: 7}, now())
		if len(a.redisUp) != 0 {
			t.Error("another key wakes housekeeping")
		}
		a.noted(retryqueue.Item{Key: "n:k", At: 7, Token: "token"}, now())
		if it, ok := a.queue.Find("n:k"); !ok || it.At != 7 || it.Token != "token" || len(a.redisUp) != 1 {
			t.Errorf("%+v", it)
		}
		// It is not told again as something older by what is recent.
		a.parts[0].replayRecent(t.Context(), nothing, 0)
		if it, _ := a.queue.Find("n:k"); it.Acked {
			t.Errorf("%+v", it)
		}
		if it, ok := a.queue.Find("n:other"); !ok || !it.Acked {
			t.Errorf("%+v, %v", it, ok)
		}
		a.notedPattern("p*", now())
		if told := a.recent.Since(now(), nothing); !slices.Contains(told.Tags, aPattern+"p*") {
			t.Errorf("recent: %+v", told)
		}
	})
}

// set changes what a test has it do.
func (w *wire) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}
