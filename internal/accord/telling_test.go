package accord

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
	"github.com/delqhi/cache/internal/notice"
	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/internal/untold"
)

var errLost = errors.New("no answer")

// wire is a store that records what is told, and fails as a test has it.
type wire struct {
	*remote.Memory
	mu     sync.Mutex // pieces of a call go at the same time
	fail   func(op remote.Op, key string) error
	before func(cmds []remote.Command)
	mark   func(n remote.NewMark) error
	post   error
	scan   error
	told   []notice.Notice
	marks  []remote.NewMark
	asked  int // Marks
}

func (w *wire) hear(message string) {
	n, err := notice.Parse(message)
	if err != nil {
		panic(err)
	}
	w.told = append(w.told, n)
}

func (w *wire) Do(ctx context.Context, cmds []remote.Command) []remote.Reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.before != nil {
		w.before(cmds)
	}
	replies := w.Memory.Do(ctx, cmds)
	for i, c := range cmds {
		if c.Tell.Channel != "" {
			w.hear(c.Tell.Message)
		}
		if w.fail != nil {
			if err := w.fail(c.Op, c.Key); err != nil {
				replies[i] = remote.Reply{Err: err}
			}
		}
	}
	return replies
}

func (w *wire) Publish(ctx context.Context, t remote.Tell) error {
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

func (w *wire) Marks(ctx context.Context, names remote.Names, known remote.Known, tags []string) (remote.Marks, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	return w.Memory.Marks(ctx, names, known, tags)
}

func (w *wire) Mark(ctx context.Context, names remote.Names, known remote.Known, n remote.NewMark) (remote.Marks, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marks = append(w.marks, n)
	if w.mark != nil {
		if err := w.mark(n); err != nil {
			return remote.Marks{}, err
		}
	}
	return w.Memory.Mark(ctx, names, known, n)
}

func (w *wire) put(key string, rec remote.Record) {
	w.Memory.Do(context.Background(), []remote.Command{{Op: remote.Set, Key: key, Frame: rec.Raw}})
}

func (w *wire) has(key string) bool {
	return w.Memory.Do(context.Background(), []remote.Command{{Op: remote.Get, Key: key}})[0].Record.State != remote.Missing
}

func storedAt(at int64) remote.Record {
	return recordOf(frame.Header{Kind: frame.Value, Limit: math.MaxInt64, Stored: at})
}

// failed returns a number that is open in an outbox.
func (a *Accord) failedNumber() uint64 {
	n := a.Outbox.Begin()
	a.Outbox.Failed(n)
	return n
}

// open reports whether a number is open.
func (a *Accord) isOpen() bool {
	n := a.Outbox.Begin()
	a.Outbox.Done(n)
	tally, _ := a.Outbox.Tally(false)
	return tally.Number != n
}

// What becomes of a key that is told later, by what Redis has under it.
func TestWhatBecomesOfAKeyThatIsToldLater(t *testing.T) {
	for name, c := range map[string]struct {
		rec      func(at int64) remote.Record
		mine     bool // the token is of what is there
		fail     func(op remote.Op, key string) error
		post     error
		race     bool
		done     bool
		there    bool
		told     int  // notices
		dropped  bool // from the local tier
		redone   int
		leftOpen bool
	}{
		"an older record":                {rec: func(at int64) remote.Record { return storedAt(at - 1) }, done: true, told: 1, dropped: true},
		"a newer record":                 {rec: func(at int64) remote.Record { return storedAt(at + 1) }, done: true, there: true, told: 1, dropped: true},
		"nothing":                        {done: true, told: 1, dropped: true},
		"this process's own":             {rec: func(at int64) remote.Record { return storedAt(at - 1) }, mine: true, done: true, there: true},
		"an older record in between":     {rec: func(at int64) remote.Record { return storedAt(at - 1) }, race: true, told: 1, there: true},
		"no answer to the look":          {rec: func(at int64) remote.Record { return storedAt(at - 1) }, fail: func(op remote.Op, _ string) error { return map[bool]error{true: errLost}[op == remote.Head] }, there: true, leftOpen: true},
		"no answer to the change":        {rec: func(at int64) remote.Record { return storedAt(at - 1) }, fail: func(op remote.Op, _ string) error { return map[bool]error{true: errLost}[op == remote.Release] }, told: 1, leftOpen: true},
		"no answer to the message alone": {post: errLost, told: 1, leftOpen: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := &wire{Memory: remote.NewMemory(), fail: c.fail, post: c.post}
			a, l := onTier(t, Broadcast, true, store)
			at := time.Now().UnixMicro()
			time.Sleep(time.Second)
			it := untold.Item{Key: "n:k", At: at, Numbers: []uint64{a.failedNumber()}}
			if c.rec != nil {
				rec := c.rec(at)
				if store.put("n:k", rec); c.mine {
					it.Token = rec.Seen().Token
				}
			}
			a.addItem(it)
			if c.race {
				store.before = func(cmds []remote.Command) {
					if cmds[0].Op == remote.Release {
						store.put("n:k", storedAt(at-2))
					}
				}
			}
			w := a.Wait("k")
			defer w.Close()
			before, _ := a.Pendings()
			if got := a.tell(t.Context()); got != c.done || a.Distrusted("n:k") == c.done {
				t.Errorf("%s: all is told: %v", name, got)
			}
			if after, _ := a.Pendings(); after == before {
				t.Errorf("%s: answers from before count", name)
			}
			if store.has("n:k") != c.there || len(store.told) != c.told || slices.Equal(l.removed, []string{"k"}) != c.dropped || woken(w) != c.dropped {
				t.Errorf("%s: there %v, told %+v, dropped %q", name, !c.there, store.told, l.removed)
			}
			for _, n := range store.told {
				if n.Kind != notice.Dropped || !slices.Equal(n.Keys, []string{"k"}) {
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
			store.fail, store.post, store.before = nil, nil, nil
			if !a.tell(t.Context()) || a.isOpen() {
				t.Errorf("%s: it is not settled the second time", name)
			}
			if why, err := a.Sync(t.Context()); why != nil || err != nil {
				t.Errorf("%s: Sync: %v, %v", name, why, err)
			}
			a.stop()
		})
	}
}

// What fails keeps nothing else from being told, unless all of a batch fails.
func TestWhatFailsKeepsNothingElse(t *testing.T) {
	store := &wire{Memory: remote.NewMemory()}
	a, _ := onTier(t, Broadcast, true, store)
	looks := 0
	store.fail = func(op remote.Op, key string) error {
		if looks++; op == remote.Head && key == "n:0" {
			return errLost
		}
		return nil
	}
	for i := range 2*toldAtOnce + 1 {
		a.addItem(untold.Item{Key: fmt.Sprint("n:", i)})
	}
	if a.tell(t.Context()) || a.queue.Len() != 1 {
		t.Errorf("%d are left, want 1", a.queue.Len())
	}
	looks = 0
	store.fail = func(remote.Op, string) error { looks++; return errLost }
	for i := range 2*toldAtOnce + 1 {
		a.addItem(untold.Item{Key: fmt.Sprint("n:", i)})
	}
	if a.tell(t.Context()) || looks > toldAtOnce || a.queue.Len() != 2*toldAtOnce+1 {
		t.Errorf("%d looks, %d are left", looks, a.queue.Len())
	}
}

// Tags, patterns and everything are told with the times of their calls.
func TestMarksAreToldWithTheirTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &wire{Memory: remote.NewMemory()}
		a, l := onTier(t, None, true, store)
		a.started = true // nothing in the background
		time.Sleep(time.Minute)
		date := func(ago time.Duration) int64 {
			passed := ago.Microseconds()
			return time.Now().UnixMicro() - passed + passed/driftPart
		}
		n := a.failedNumber()
		a.UntoldMarks([]string{"t"}, n, now()-int64(30*time.Second))
		a.UntoldMarks([]string{"u"}, 0, now()-int64(20*time.Second))
		if l.flushes != 2 || !a.DistrustedTag("t") {
			t.Errorf("%d flushes", l.flushes)
		}
		a.UntoldPattern("p*", []uint64{a.failedNumber()}, now()-int64(30*time.Second))
		old, fresh := storedAt(date(31*time.Second)), storedAt(date(10*time.Second))
		store.put("n:p1", old)
		store.put("n:p2", fresh)
		store.put("n:x", old)
		store.scan = errLost
		if a.tell(t.Context()) || a.DistrustedTag("t") || a.DistrustedTag("u") || !a.Distrusted("n:p1") || a.pending.n.Load() != 1 {
			t.Errorf("a pattern that fails: %d are pending", a.pending.n.Load())
		}
		if len(store.marks) != 1 || !slices.Equal(store.marks[0].Tags, []string{"t", "u"}) || !slices.Equal(store.marks[0].Before, []int64{date(30 * time.Second), date(20 * time.Second)}) {
			t.Errorf("marks %+v", store.marks)
		}
		store.scan = nil
		if !a.tell(t.Context()) || store.has("n:p1") || !store.has("n:p2") || !store.has("n:x") || l.matching == nil || a.isOpen() {
			t.Error("the pattern is not told")
		}
		store.marks = nil
		a.UntoldMarks(nil, a.failedNumber(), now()-int64(5*time.Second))
		store.mark = func(remote.NewMark) error { return errLost }
		if a.tell(t.Context()) || !a.Distrusted("n:x") || !a.isOpen() {
			t.Error("everything that fails is told")
		}
		store.mark = nil
		if !a.tell(t.Context()) || a.Distrusted("n:x") || a.isOpen() || a.pending.n.Load() != 0 {
			t.Error("everything is not told")
		}
		for _, m := range store.marks {
			if m.Tags != nil || !slices.Equal(m.Before, []int64{date(5 * time.Second)}) {
				t.Errorf("everything: %+v", m)
			}
		}
		// Tags that fail are told again, and those alone.
		store.marks = nil
		a.UntoldMarks([]string{"t"}, 0, now())
		store.mark = func(remote.NewMark) error { return errLost }
		if a.tell(t.Context()) || !a.DistrustedTag("t") || !a.isOpen() {
			t.Error("a tag that fails is told")
		}
		store.mark = nil
		if !a.tell(t.Context()) || a.DistrustedTag("t") || a.isOpen() {
			t.Error("the tag is not told")
		}
	})
}

// What this process was acknowledged, and Redis still has, is not told again.
func TestMarksThatRedisHasAreNotToldAgain(t *testing.T) {
	for _, tags := range [][]string{nil, {"t", "u"}} {
		for name, lost := range map[string]bool{"Redis has it": false, "Redis has lost it": true} {
			store := &wire{Memory: remote.NewMemory()}
			a, _ := onTier(t, Broadcast, true, store)
			a.started = true
			l := a.BeginLook()
			m, err := a.cfg.Guard.Mark(t.Context(), a.cfg.Names, a.Ages.Known(), remote.NewMark{Tags: tags})
			if err != nil || a.OwnMarks(t.Context(), tags, m, l) != nil {
				t.Fatal(err)
			}
			if lost {
				store.Memory.Do(t.Context(), []remote.Command{{Op: remote.Delete, Key: a.cfg.Names.Epoch}, {Op: remote.Delete, Key: a.cfg.Names.Tags}})
			}
			told := a.recent.Since(now(), nothing)
			a.withoutMarked(t.Context(), &told)
			if told.All != (lost && tags == nil) || (len(told.Tags) == 2) != (lost && tags != nil) || !lost && len(told.Tags) != 0 {
				t.Errorf("%s: %+v", name, told)
			}
			a.tellRecentAgain(t.Context(), nothing)
			if (a.queue.Len() > 0) != lost || a.queue.All() != (lost && tags == nil) || a.pending.n.Load() != 0 {
				t.Errorf("%s: %d are told again, %d are pending", name, a.queue.Len(), a.pending.n.Load())
			}
			select {
			case <-a.nudged:
				if !lost {
					t.Errorf("%s: housekeeping is woken", name)
				}
			default:
				if lost {
					t.Errorf("%s: housekeeping is not woken", name)
				}
			}
			store.Fail(errLost)
			told = a.recent.Since(now(), nothing)
			if a.withoutMarked(t.Context(), &told); !told.All && len(told.Tags) != 2 {
				t.Errorf("%s: without an answer %+v", name, told)
			}
			store.asked = 0
			if a.withoutMarked(t.Context(), &untold.Told{}); store.asked != 0 {
				t.Error("Redis is asked about nothing")
			}
			store.Fail(nil)
		}
	}
}

// A later write of a key that is to be told takes the place of the earlier one.
func TestALaterAcknowledgementCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := onTier(t, Broadcast, true, remote.NewMemory())
		a.addItem(untold.Item{Key: "n:k", At: 5})
		time.Sleep(time.Second)
		a.Noted(untold.Item{Key: "n:other", At: 7}, now())
		if len(a.answers) != 0 {
			t.Error("another key wakes housekeeping")
		}
		a.Noted(untold.Item{Key: "n:k", At: 7, Token: "token"}, now())
		if it, ok := a.queue.Find("n:k"); !ok || it.At != 7 || it.Token != "token" || len(a.answers) != 1 {
			t.Errorf("%+v", it)
		}
		// It is not told again as something older by what is recent.
		a.tellRecentAgain(t.Context(), nothing)
		if it, _ := a.queue.Find("n:k"); it.Acked {
			t.Errorf("%+v", it)
		}
		if it, ok := a.queue.Find("n:other"); !ok || !it.Acked {
			t.Errorf("%+v, %v", it, ok)
		}
		a.NotedPattern("p*", now())
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
