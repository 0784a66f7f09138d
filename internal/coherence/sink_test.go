package coherence

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// tier is a local tier that records what is done to it, and what an operator is told.
type tier struct {
	mu       sync.Mutex
	removed  []string
	matching func(string) bool
	flushes  int

	received, flushed, changedAny int
	heard                         []bool
	changed                       []string
	downgraded                    int
	overflowed                    int
}

func (l *tier) Remove(encoded string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removed = append(l.removed, encoded)
	return true
}

func (l *tier) RemoveMatching(match func(string) bool) { l.matching = match }
func (l *tier) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushes++
}

func (l *tier) Received(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.received += n
}

func (l *tier) Flushed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushed++
}

func (l *tier) ConnectionChanged(is bool, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, is)
}

func (l *tier) Downgraded(error) { l.downgraded++ }
func (l *tier) Overflowed()      { l.overflowed++ }
func (l *tier) Retried(int)      {}

func (l *tier) keyChanged(encoded string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed = append(l.changed, encoded)
}

func (l *tier) anyChanged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changedAny++
}

// onTier makes a coordinator, which runs nothing in the background until it is asked to.
func onTier(t *testing.T, transport Transport, local bool, st store.Store) (*Coordinator, *tier) {
	t.Helper()
	return onNames(t, store.Names{Data: "n:", Channel: ":{c:n}:news", Epoch: ":{c:n}:epoch", Tags: ":{c:n}:tags"}, transport, local, st)
}

// onNames is onTier for a cache of these names.
func onNames(t *testing.T, names store.Names, transport Transport, local bool, st store.Store) (*Coordinator, *tier) {
	t.Helper()
	l := &tier{}
	guard := client.New(st, time.Second)
	t.Cleanup(guard.Close)
	cfg := Config{
		Client: guard, Names: names,
		Fences: fence.NewTable(), Events: l, Transport: transport, StartTimeout: time.Second,
		Quote:      func(s string) string { return s },
		Changed:    l.keyChanged,
		ChangedAny: l.anyChanged,
	}
	if local {
		cfg.Local = l
	}
	a := New(cfg)
	t.Cleanup(a.Close)
	return a, l
}

func woken(w *Waiter) bool {
	select {
	case <-w.C:
		return true
	default:
		return false
	}
}

// moved reports whether a key's fence was moved while f ran.
func (a *Coordinator) moved(key string, f func()) bool {
	fence := a.cfg.Fences.Token(key)
	f()
	return !a.cfg.Fences.Valid(key, fence)
}

// What is dropped is out of the local tier, or else its fence is moved, and every reader that waits
// for it looks again.
func TestWhatIsDroppedMovesItsFence(t *testing.T) {
	for _, local := range []bool{true, false} {
		a, l := onTier(t, Broadcast, local, storetest.NewMemory())
		s := &session{p: a.parts[0], subscribed: make(chan struct{})}
		w, other := a.Wait("k"), a.Wait("other")
		told := message.Message{Sender: 7, Number: 1, Kind: message.Invalidated, Keys: []string{"k", "l"}}
		moved := a.moved("k", func() { s.Message(string(told.Append(nil))) })
		if moved == local || local != slices.Equal(l.removed, []string{"k", "l"}) || !woken(w) || woken(other) || l.received != 2 || l.flushes != 0 {
			t.Errorf("with a local tier: %v: fence moved %v, %+v", local, moved, l)
		}
		if !slices.Equal(l.changed, []string{"k", "l"}) {
			t.Errorf("changed: %q", l.changed)
		}
		told = message.Message{Sender: 7, Kind: message.Loaded, Keys: []string{"k"}}
		s.Message(string(told.Append(nil)))
		if !woken(w) || len(l.removed) > 2 || l.received != 2 {
			t.Errorf("a load's end: %+v", l)
		}
		told = message.Message{Sender: 7, Number: 3, Kind: message.Pattern, Pattern: "k*"}
		moved = a.moved("other", func() { s.Message(string(told.Append(nil))) })
		if moved == local || local && (l.matching == nil || !l.matching("kx") || l.matching("x")) || !woken(w) || !woken(other) || l.received != 3 || l.changedAny != 1 {
			t.Errorf("a pattern: fence moved %v, %+v", moved, l)
		}
		moved = a.moved("other", a.flush)
		if moved == local || local != (l.flushes == 1) || !woken(w) || l.changedAny != 2 {
			t.Errorf("a flush: fence moved %v, %+v", moved, l)
		}
		w.Close()
		other.Close()
	}
}

// What this process has told itself is skipped while its outcome decides, and not if its
// number has failed, or is none of its own.
func TestOwnNoticesAreSkippedUnlessTheyFailed(t *testing.T) {
	a, l := onTier(t, Broadcast, true, storetest.NewMemory())
	s := &session{p: a.parts[0], subscribed: make(chan struct{})}
	hear := func(number uint64) bool {
		n := message.Message{Sender: a.Outbox.Sender(), Number: number, Kind: message.Invalidated, Keys: []string{"k"}}
		l.removed = nil
		s.Message(string(n.Append(nil)))
		return len(l.removed) > 0
	}
	flying, _ := a.Outbox.Next(0)
	done, failed := a.publishedNumber(), a.failedNumber()[0]
	for number, want := range map[uint64]bool{flying.Number: false, done: false, failed: true, failed + 1: true} {
		if got := hear(number); got != want {
			t.Errorf("%d is acted on: %v", number, got)
		}
	}
	tally := message.Message{Sender: a.Outbox.Sender(), Number: 100, Kind: message.Watermark}
	s.Message(string(tally.Append(nil)))
	if l.received = 0; a.inbox.Tick(now() + int64(time.Hour)) {
		t.Error("this process misses its own")
	}
}

// A gap, a newer version and tombstones that can't be read may concern everything.
func TestWhatMayConcernEverythingFlushes(t *testing.T) {
	head := func(sender byte) string {
		return "\xC5dn\x01\x09" + "\x00\x00\x00\x00\x00\x00\x00" + string([]byte{sender}) + "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x01\x00"
	}
	marked := message.Message{Sender: 7, Number: 1, Kind: message.TagsInvalidated, Tags: []string{"t"}}
	for name, c := range map[string]struct {
		text  string
		flush bool
	}{
		"a newer version":       {"\xC5dn\x02", true},
		"a newer kind":          {head(7), true},
		"foreign bytes":         {"hello", false},
		"marks without a text":  {string(marked.Append(nil)), true},
		"marks of another form": {string(marked.Append(nil)) + "nonsense", true},
	} {
		a, l := onTier(t, Broadcast, true, storetest.NewMemory())
		s := &session{p: a.parts[0], subscribed: make(chan struct{})}
		if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		s.Message(c.text)
		_, _, known := a.parts[0].Clock.Version()
		if (l.flushes > 0) != c.flush || (l.flushed > 0) != c.flush || known == c.flush && name != "foreign bytes" && c.flush {
			t.Errorf("%s: %+v, the clock is known: %v", name, l, known)
		}
	}
	// The number of a newer kind counts: what comes after it is not taken for a gap.
	a, l := onTier(t, Broadcast, true, storetest.NewMemory())
	s := &session{p: a.parts[0], subscribed: make(chan struct{})}
	s.Subscribed()
	s.Message(head(7))
	next := message.Message{Sender: 7, Number: 2, Kind: message.Invalidated}
	s.Message(string(next.Append(nil)))
	tally := message.Message{Sender: 7, Number: 2, Kind: message.Watermark}
	s.Message(string(tally.Append(nil)))
	if a.inbox.Tick(now() + int64(time.Hour)) {
		t.Error("the number of a newer kind is missing")
	}
	// A number that is missing is a gap.
	l.flushes = 0
	lost := message.Message{Sender: 7, Number: 2 + 5000, Kind: message.Invalidated}
	for n := range uint64(1100) {
		lost.Number = 5 + n
		s.Message(string(lost.Append(nil)))
	}
	if l.flushes == 0 {
		t.Error("a gap flushes nothing")
	}
}

// Tombstones of another process count from then on.
func TestMarksOfOthersAreHeard(t *testing.T) {
	store := storetest.NewMemory()
	a, l := onTier(t, Broadcast, true, store)
	s := &session{p: a.parts[0], subscribed: make(chan struct{})}
	if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	_, before, _ := a.parts[0].Clock.Version()
	for _, tags := range [][]string{{"t"}, nil} {
		l.flushes, l.received = 0, 0
		m, err := store.AddTombstones(t.Context(), a.cfg.Names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: tags})
		if err != nil {
			t.Fatal(err)
		}
		n := message.Message{Sender: 7, Number: 1, Kind: message.TagsInvalidated, Tags: tags}
		moved := a.moved("k", func() { s.Message(string(m.AppendText(n.Append(nil)))) })
		_, after, ok := a.parts[0].Clock.Version()
		if !ok || after <= before || l.received != 1 {
			t.Errorf("%q: the clock goes from %d to %d, %v; %+v", tags, before, after, ok, l)
		}
		if before = after; tags == nil && l.flushes != 1 || tags != nil && (l.flushes != 0 || !moved) {
			t.Errorf("%q: %d flushes, fence moved %v", tags, l.flushes, moved)
		}
	}
	// A time that Redis does not believe is none.
	m, err := store.ReadClock(t.Context(), a.cfg.Names, logicalclock.Known{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Epoch.Clock += 1 << 50
	m.Epoch.Tick = m.Epoch.Clock
	n := message.Message{Sender: 7, Number: 2, Kind: message.TagsInvalidated}
	s.Message(string(m.AppendText(n.Append(nil))))
	if _, after, ok := a.parts[0].Clock.Version(); ok && after != before {
		t.Errorf("the clock goes to %d", after)
	}
}

// What the server tells of by Tracking.
func TestChangesThatTheServerTells(t *testing.T) {
	a, l := onTier(t, Tracking, true, storetest.NewMemory())
	s := &session{p: a.parts[0], subscribed: make(chan struct{})}
	set := &store.Command{Op: store.Set, Key: "n:own", Frame: make([]byte, 40)}
	a.ownBegin(set)
	s.KeysChanged([]string{"n:own", "n:other", "n", "n:"})
	if !slices.Equal(l.removed, []string{"other", ""}) || l.flushes != 0 {
		t.Errorf("%+v", l)
	}
	a.ownEnd(set, &store.Reply{OK: true})
	if keys, _ := a.selfWrites.take(); !slices.Equal(keys, []string{"n:own"}) || len(l.removed) != 2 {
		t.Errorf("%q are looked into, removed %q", keys, l.removed)
	}
	s.KeysChanged(nil)
	if l.flushes != 1 || l.flushed != 1 {
		t.Errorf("a flush: %+v", l)
	}
	// A change during a command that has not taken effect is of another client.
	for name, reply := range map[string]store.Reply{"refused": {}, "lost": {OK: true, Err: errors.New("no answer")}} {
		l.removed = nil
		swap := &store.Command{Op: store.CompareAndSet, Key: "n:" + name, Frame: make([]byte, 40)}
		a.ownBegin(swap)
		s.KeysChanged([]string{swap.Key})
		a.ownEnd(swap, &reply)
		if !slices.Equal(l.removed, []string{name}) {
			t.Errorf("%s: removed %q", name, l.removed)
		}
	}
	// What was removed is forgotten.
	l.removed = nil
	a.ownBegin(set)
	a.ownEnd(set, &store.Reply{OK: true})
	del := &store.Command{Op: store.Delete, Key: set.Key}
	a.ownBegin(del)
	a.ownEnd(del, &store.Reply{OK: true})
	if s.KeysChanged([]string{set.Key}); !slices.Equal(l.removed, []string{"own"}) {
		t.Errorf("after a Delete: removed %q", l.removed)
	}
	// Other keys, and other transports, are no concern of it.
	b, _ := onTier(t, Broadcast, true, storetest.NewMemory())
	for _, c := range []struct {
		a   *Coordinator
		key string
	}{{b, "n:k"}, {a, "m:k"}} {
		cmd := &store.Command{Op: store.Set, Key: c.key, Frame: make([]byte, 40)}
		c.a.ownBegin(cmd)
		c.a.ownEnd(cmd, &store.Reply{OK: true})
		if len(c.a.selfWrites.inFlight) != 0 || c.a.selfWrites.maybeOwn(c.key) {
			t.Errorf("%s is remembered", c.key)
		}
	}
}

// What may be of another client is looked at: it stays if it is what this process stored.
func TestDoubtfulChangesAreLookedInto(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewMemory()
		a, l := onTier(t, Tracking, true, st)
		a.wg.Go(a.verify)
		frame := func(b byte) []byte { return append(make([]byte, 40), b) }
		frames := map[string][]byte{}
		for i, k := range []string{"mine", "theirs", "extended"} {
			f := frame(0)
			f[8] = byte(i + 1)
			frames[k] = f
			c := &store.Command{Op: store.Set, Key: "n:" + k, Frame: f}
			a.ownBegin(c)
			r := a.cfg.Client.Do(t.Context(), []store.Command{*c})
			a.ownEnd(c, &r[0])
		}
		theirs := frame(0)
		theirs[8] = 77
		st.Do(t.Context(), []store.Command{{Op: store.Set, Key: "n:theirs", Frame: theirs}})
		extend := &store.Command{Op: store.Extend, Key: "n:extended", Seen: store.TokenOf(frames["extended"]), TTL: time.Hour}
		a.ownBegin(extend)
		r := a.cfg.Client.Do(t.Context(), []store.Command{*extend})
		a.ownEnd(extend, &r[0])
		s := &session{p: a.parts[0], subscribed: make(chan struct{})}
		s.KeysChanged([]string{"n:mine", "n:theirs", "n:extended"})
		synctest.Wait()
		if !slices.Equal(l.removed, []string{"theirs"}) {
			t.Errorf("removed %q", l.removed)
		}
		st.Fail(errors.New("no answer"))
		s.KeysChanged([]string{"n:mine"})
		synctest.Wait()
		if !slices.Equal(l.removed, []string{"theirs", "mine"}) {
			t.Errorf("without an answer: removed %q", l.removed)
		}
	})
}

// Generations of own changes are bounded by time and by number, and a new one forgets only
// those of the one before the last.
func TestGenerationsOfOwnChanges(t *testing.T) {
	at := int64(0)
	o := newOwn()
	st := func(k string) {
		o.begin(k)
		o.end(k, record(k).CASToken(), true, at)
	}
	st("a")
	if at += ownLife; len(o.past) != 0 {
		t.Fatal("there are two generations")
	}
	st("b")
	if len(o.past) != 0 {
		t.Error("a generation ends before its time is over")
	}
	at++
	st("c")
	if !o.maybeOwn("a") || !o.maybeOwn("b") || !o.maybeOwn("c") || len(o.current) != 1 {
		t.Errorf("%d in the generation, %d in the one before", len(o.current), len(o.past))
	}
	o.begin("a")
	if o.end("a", store.CASToken{}, false, at); o.maybeOwn("a") {
		t.Error("what was removed is remembered from the generation before")
	}
	for i := range maxOwn {
		st(fmt.Sprint(i))
	}
	if len(o.current) > maxOwn || len(o.current)+len(o.past) > 2*maxOwn || o.maybeOwn("b") {
		t.Errorf("%d in the generation, %d in the one before", len(o.current), len(o.past))
	}
	for i := range 2 * verifyBatch {
		o.maybeOwn(fmt.Sprint(i))
	}
	seen := map[string]bool{}
	for range 4 {
		keys, _ := o.take()
		if len(keys) > verifyBatch {
			t.Errorf("%d looks at once", len(keys))
		}
		for _, k := range keys {
			if seen[k] {
				t.Errorf("%s is looked at twice", k)
			}
			seen[k] = true
		}
	}
	if len(seen) < 2*verifyBatch {
		t.Errorf("%d are looked at", len(seen))
	}
}

// A look during another command is put off.
func TestALookDuringACommandIsPutOff(t *testing.T) {
	o := newOwn()
	o.stored("k", record("first"))
	o.maybeOwn("k")
	_, versions := o.take()
	o.begin("k")
	if !o.answer("k", versions[0], record("theirs")) {
		t.Error("dropped, though a command is under way")
	}
	if o.end("k", record("second").CASToken(), true, 0); len(o.unverified) != 1 {
		t.Error("it is not looked at again")
	}
	o.forget()
	if o.answer("k", versions[0], record("first")) {
		t.Error("what was forgotten is taken for own")
	}
}

// pass lets time pass, and all that is under way come to rest before and after it.
func pass(d time.Duration) {
	synctest.Wait()
	time.Sleep(d)
	synctest.Wait()
}

// heardOnce reports whether a session was heard, or was not, and whether there was a flush.
func (l *tier) heardOnce(is bool) (heard, flushed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.heard, is), l.flushes > 0
}
