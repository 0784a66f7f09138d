package coherence

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

func recordOf(h frame.Header) store.Record {
	h.ID = frame.NewID()
	raw, err := frame.Finish(append(frame.AppendHeader(nil, &h), "payload"...), 0, "n:k")
	if err != nil {
		panic(err)
	}
	return store.Record{State: store.Found, Raw: raw}
}

// A record is newer than an invalidation if what it was made of began later, by a clock that
// is known and has not gone back.
func TestWhichRecordsAreNewerThanAnInvalidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewMemory()
		a, _ := onTier(t, Broadcast, true, st)
		now := time.Now().UnixMicro()
		at := now - 10_000_000
		value := func(stored int64, cost uint32) store.Record {
			return recordOf(frame.Header{Kind: frame.Value, Limit: math.MaxInt64, Stored: stored, Cost: cost})
		}
		cut := value(now, 0)
		cut.Raw = cut.Raw[:frame.HeadLen-1]
		for name, c := range map[string]struct {
			it   retryqueue.Item
			rec  store.Record
			want bool
		}{
			"just after it":                        {retryqueue.Item{At: at}, value(at+1, 0), true},
			"at the same time":                     {retryqueue.Item{At: at}, value(at, 0), false},
			"before":                               {retryqueue.Item{At: at}, value(at-1, 0), false},
			"whose load began just after it":       {retryqueue.Item{At: at}, value(at+1000, 999), true},
			"whose load began at the same time":    {retryqueue.Item{At: at}, value(at+1000, 1000), false},
			"made of an older one":                 {retryqueue.Item{At: at}, value(at+1000, frame.OfOlder), false},
			"made of an older one, acknowledged":   {retryqueue.Item{At: at, Acked: true}, value(at+1, frame.OfOlder), true},
			"about then, acknowledged":             {retryqueue.Item{At: at, Acked: true}, value(at-clockSlack+1, 0), true},
			"before about then, acknowledged":      {retryqueue.Item{At: at, Acked: true}, value(at-clockSlack, 0), false},
			"the latest that is believed":          {retryqueue.Item{At: at}, value(now+invalidation.ClocksApart, 0), true},
			"of the future":                        {retryqueue.Item{At: at}, value(now+invalidation.ClocksApart+1, 0), false},
			"an absence":                           {retryqueue.Item{At: at}, recordOf(frame.Header{Kind: frame.Absence, Limit: math.MaxInt64, Stored: now}), true},
			"a failure":                            {retryqueue.Item{At: at}, recordOf(frame.Header{Kind: frame.Failure, Limit: math.MaxInt64, Stored: now}), false},
			"a lease":                              {retryqueue.Item{At: at}, store.Record{State: store.Found, Raw: frame.AppendLease(nil, frame.NewID())}, false},
			"a value cut off":                      {retryqueue.Item{At: at - 20*365*24*3600*1_000_000}, cut, false},
			"of a time that is not known":          {retryqueue.Item{}, value(now, 0), false},
			"nothing":                              {retryqueue.Item{At: at}, store.Record{}, false},
			"another type with a record's content": {retryqueue.Item{At: at}, store.Record{State: store.WrongType, Raw: value(now, 0).Raw}, false},
		} {
			c.it.Key = "n:k"
			if got := a.newer(t.Context(), &c.it, c.rec); got != c.want {
				t.Errorf("%s: %v", name, got)
			}
		}
		st.Fail(errors.New("no answer"))
		if a.newer(t.Context(), &retryqueue.Item{Key: "n:k", At: at}, value(at+1, 0)) {
			t.Error("a record is newer by a clock that is not known")
		}
		if at := a.date(t.Context(), "n:k", retryqueue.Past{Since: 1}); at != 0 {
			t.Errorf("a time by a clock that is not known: %d", at)
		}
	})
}

func TestWhichRecordsEndInTime(t *testing.T) {
	const at = int64(1_700_000_000_000_000)
	value := func(limit int64) store.Record { return recordOf(frame.Header{Kind: frame.Value, Limit: limit}) }
	lazy, delayed := invalidation.Policy{Mode: invalidation.Lazy}, invalidation.Policy{Mode: invalidation.Delayed, Delay: time.Second}
	cut := value(0)
	cut.Raw = cut.Raw[:frame.HeadLen-1]
	for name, c := range map[string]struct {
		policy invalidation.Policy
		at     int64
		rec    store.Record
		want   bool
	}{
		"lazy":                        {lazy, at, value(0), true},
		"lazy, earlier":               {lazy, at, value(-1), true},
		"lazy, fresh":                 {lazy, at, value(1), false},
		"lazy, an absence":            {lazy, at, recordOf(frame.Header{Kind: frame.Absence}), true},
		"lazy, a second lease":        {lazy, at, store.Record{State: store.Found, Raw: frame.AppendLeaseSince(nil, frame.NewID(), 5, true)}, false},
		"lazy, cut off":               {lazy, at, cut, false},
		"lazy, nothing":               {lazy, at, store.Record{Raw: value(0).Raw}, false},
		"delayed":                     {delayed, at, value(at + 1_000_000 + invalidation.ClocksApart), true},
		"delayed, later":              {delayed, at, value(at + 1_000_000 + invalidation.ClocksApart + 1), false},
		"delayed, of an unknown time": {delayed, 0, value(1), false},
		"immediate":                   {invalidation.Policy{}, at, value(0), false},
	} {
		a := &Coordinator{cfg: Config{Policy: c.policy}}
		if got := a.endsInTime(c.at, c.rec); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// estimating is a store that has measured its clock, and may have several nodes.
type estimating struct {
	*storetest.Memory
	nodes   bool
	unknown bool
	wrong   int64 // by how much the measurement may be, in µs
}

func (e *estimating) ClockError(string) int64 { return e.wrong }

func (e *estimating) OneNode() bool { return !e.nodes }

func (e *estimating) EstimateAt(key string, _ time.Time) (int64, bool) {
	now, err := e.Now(context.Background(), key)
	return now, !e.unknown && err == nil
}

// The time of an invalidation is what was estimated at the time, if the clock was not set
// since, and else what has passed before now, by a thousandth later than it may be.
func TestTheTimeOfAnInvalidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &estimating{Memory: storetest.NewMemory()}
		a, _ := onTier(t, Broadcast, true, store)
		time.Sleep(time.Minute)
		began, was := now(), time.Now().UnixMicro()
		time.Sleep(time.Second)
		p := a.parts[0].pastOf(began)
		if p.Since != began || p.At != was || p.Acked {
			t.Fatalf("%+v, want the time %d", p, was)
		}
		store.unknown = true
		if p := a.parts[0].pastOf(began); p.At != 0 || p.Since != began {
			t.Errorf("without an estimate: %+v", p)
		}
		time.Sleep(99 * time.Second)
		const later = 100_000_000 / driftPart
		for name, c := range map[string]struct {
			past  retryqueue.Past
			key   string
			nodes bool
			skew  time.Duration
			want  int64
		}{
			"as it was estimated":              {p, "n:k", false, 0, was},
			"the clock's node":                 {p, a.cfg.Names.Epoch, true, 0, was},
			"another node":                     {p, "n:k", true, 0, was + later},
			"not estimated":                    {retryqueue.Past{Since: began}, "n:k", false, 0, was + later},
			"the clock was set a little":       {p, "n:k", false, clockSteps*time.Microsecond - time.Microsecond, was},
			"the clock was set":                {p, "n:k", false, clockSteps * time.Microsecond, was + later + clockSteps},
			"the clock was set back":           {p, "n:k", false, -time.Hour, was},
			"of later than now":                {retryqueue.Past{Since: now() + int64(time.Hour)}, "n:k", false, 0, was + 100_000_000},
			"before the clock's own beginning": {retryqueue.Past{Since: began}, "n:k", false, -100 * 365 * 24 * time.Hour, 0},
		} {
			store.nodes = c.nodes
			store.SetSkew(c.skew)
			if got := a.date(t.Context(), c.key, c.past); got != c.want {
				t.Errorf("%s: %d, want %d", name, got, c.want)
			}
		}
		// It is the latest that it may have been.
		store.unknown, store.nodes, store.wrong = false, false, 100
		store.SetSkew(0)
		if p, at := a.parts[0].pastOf(now()), time.Now().UnixMicro()+100; p.At != at {
			t.Errorf("%+v, want the time %d", p, at)
		}
		if got := a.date(t.Context(), "n:k", retryqueue.Past{Since: now()}); got != time.Now().UnixMicro()+100 {
			t.Errorf("%d, which may be too early", got)
		}
		store.wrong = 0
		// Records may be dated by the logical clock where Redis's was set back.
		store.unknown, store.nodes = false, false
		store.SetSkew(0)
		if err := a.parts[0].FetchTombstones(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		store.SetSkew(-time.Hour)
		if p, tick := a.parts[0].pastOf(now()), a.parts[0].Clock.Known().Tick; p.At != tick {
			t.Errorf("%+v, want the time %d", p, tick)
		}
		store.wrong = 100
		store.Fail(errors.New("down")) // so that they stay in the queue
		a.scheduleRetry(retryqueue.Item{Key: "n:k", At: was})
		a.scheduleRetry(retryqueue.Item{Key: "n:l"})
		for key, want := range map[string]int64{"n:k": was + 100, "n:l": 0} {
			if it, ok := a.queue.Find(key); !ok || it.At != want {
				t.Errorf("%s: %+v, want the time %d", key, it, want)
			}
		}
	})
}

// What is pending concerns the keys that it matches and the tags that it names, from its own
// time on.
func TestWhatIsPendingConcerns(t *testing.T) {
	a, _ := onTier(t, Broadcast, true, storetest.NewMemory())
	p := &a.pending
	at := func(subjects []string, since int64) { a.addTombstones(subjects, nil, retryqueue.Past{Since: since}) }
	if a.pendingSince("n:k", []string{"t"}) != never || p.n.Load() != 0 || a.AnyPending() || a.Pending("n:k") || a.isConcerned("n:k", "t") {
		t.Error("nothing is pending")
	}
	at([]string{aTag + "t"}, 10)
	at([]string{aTag + "t"}, 5) // an earlier one, that is sent again
	at([]string{aTag + "u"}, 20)
	if got := []int64{a.pendingSince("n:k", nil), a.pendingSince("n:k", []string{"v"}), a.pendingSince("n:k", []string{"t"}), a.pendingSince("n:k", []string{"t", "u"}), a.pendingSince("n:k", []string{"u", "t"})}; got[0] != never || got[1] != never || got[2] != 10 || got[3] != 20 || got[4] != 20 {
		t.Errorf("tags: %d", got)
	}
	if a.pendingSince("n:k", nil) != never || a.Pending("n:k") || !a.PendingTag("n:k", "t") || a.PendingTag("n:k", "v") || !a.AnyPending() || a.isConcerned("n:k") || !a.isConcerned("n:k", "t") {
		t.Error("a tag distrusts a key")
	}
	at([]string{aPattern + "k*"}, 30)
	at([]string{aPattern + "k*"}, 25)
	at([]string{aPattern + "kl*"}, 15)
	if got := []int64{a.pendingSince("n:kx", nil), a.pendingSince("n:kl", nil), a.pendingSince("n:x", nil), a.pendingSince("n:kx", []string{"u"}), a.pendingSince("n:x", []string{"u"})}; got[0] != 30 || got[1] != 30 || got[2] != never || got[3] != 30 || got[4] != 20 {
		t.Errorf("patterns: %d", got)
	}
	if !a.Pending("n:kx") || a.Pending("n:x") || a.Pending("m") || a.Pending("") {
		t.Error("a pattern distrusts other keys than it matches")
	}
	if n := p.n.Load(); n != 4 {
		t.Errorf("%d are pending", n)
	}
	at(nil, 40)
	at(nil, 35)
	if a.pendingSince("n:x", nil) != 40 || a.pendingSince("n:kx", []string{"u"}) != 40 || !a.Pending("n:x") || p.n.Load() < 1 {
		t.Error("everything is pending")
	}
}

func TestWhatIsSentAgainToMakeSureIsNotPending(t *testing.T) {
	a, _ := onTier(t, Broadcast, true, storetest.NewMemory())
	a.addTombstones([]string{aTag + "t", aPattern + "p"}, nil, retryqueue.Past{Since: 5, Acked: true})
	if a.pending.n.Load() != 0 || a.queue.Len() == 0 || a.Pending("n:p") {
		t.Error("tags and patterns are pending")
	}
	a.addTombstones(nil, nil, retryqueue.Past{Since: 5, Acked: true})
	if a.pending.n.Load() != 0 || !a.queue.All() {
		t.Error("everything is pending")
	}
}

// Where too much is pending, everything is, from then on.
func TestTooMuchIsEverything(t *testing.T) {
	for name, add := range map[string]func(a *Coordinator, i int){
		"keys": func(a *Coordinator, i int) { a.scheduleRetry(retryqueue.Item{Key: "n:" + string(rune('a'+i))}) },
		"tags": func(a *Coordinator, i int) {
			a.parts[0].scheduleTombstones([]string{string(rune('a' + i))}, nil, now()-int64(time.Hour))
		},
		"patterns": func(a *Coordinator, i int) { a.schedulePattern(string(rune('a'+i)), nil, now()-int64(time.Hour)) },
	} {
		synctest.Test(t, func(t *testing.T) {
			store := storetest.NewMemory()
			store.Fail(errors.New("no answer"))
			a, l := onTier(t, None, true, store)
			a.queue = retryqueue.NewQueue(2)
			time.Sleep(time.Minute)
			before := now()
			add(a, 0)
			add(a, 1)
			if a.pendingSince("n:zz", nil) != never || l.overflowed != 0 {
				t.Errorf("%s: two are too much", name)
			}
			add(a, 2)
			if at := a.pendingSince("n:zz", nil); at < before || l.overflowed != 1 {
				t.Errorf("%s: everything is pending since %d, want %d at least; %d times", name, at, before, l.overflowed)
			}
			a.Close()
		})
	}
}

// isConcerned reports whether anything is pending for a key with these tags.
func (a *Coordinator) isConcerned(redisKey string, tags ...string) bool {
	p := a.pendingFor(redisKey, tags)
	return p.any()
}

// An acknowledgement is for what was called for before it was sent.
func TestAnAcknowledgementIsForWhatIsOlder(t *testing.T) {
	for name, subject := range map[string]string{"a tag": aTag + "x", "a pattern": aPattern + "x"} {
		a, _ := onTier(t, Broadcast, true, storetest.NewMemory())
		open := a.failedNumber()
		a.addTombstones([]string{subject}, open, retryqueue.Past{Since: 10})
		other := map[bool]string{true: aPattern + "x", false: aTag + "x"}[subject == aTag+"x"]
		told := a.deliveredAny.Load()
		a.acknowledgedTombstones([]string{subject}, 9)
		a.acknowledgedTombstones([]string{other}, 100)
		a.acknowledgedTombstones([]string{subject[:1] + "y"}, 100)
		if !a.queue.HasTag(subject) || a.deliveredAny.Load() != told || !a.AnyPending() || a.pending.n.Load() != 1 {
			t.Errorf("%s: it is settled by another one", name)
		}
		a.acknowledgedTombstones([]string{subject}, 10)
		if a.queue.HasTag(subject) || a.deliveredAny.Load() == told || a.AnyPending() || a.pending.n.Load() != 0 {
			t.Errorf("%s: it is pending", name)
		}
		if tally, _ := a.Outbox.Watermark(false); tally.Number != open[0] {
			t.Errorf("%s: its notice is open", name)
		}
	}
}

// What Redis holds is outdated if this process has replaced or invalidated it since.
func TestWhichRecordsAreOutdated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := onTier(t, Broadcast, true, storetest.NewMemory())
		time.Sleep(time.Minute)
		at := time.Now().UnixMicro()
		since := now()
		time.Sleep(10 * time.Second)
		old := recordOf(frame.Header{Kind: frame.Value, Limit: math.MaxInt64, Stored: at - 1_000_000})
		fresh := recordOf(frame.Header{Kind: frame.Value, Limit: math.MaxInt64, Stored: at + 5_000_000})
		is := func(key string, rec store.Record, tags ...string) bool {
			return a.Outdated(t.Context(), nil, key, rec, tags)
		}
		if is("n:k", old) {
			t.Error("nothing is pending")
		}
		a.addItem(retryqueue.Item{Key: "n:k", At: at})
		a.addItem(retryqueue.Item{Key: "n:mine", At: at, Token: old.CASToken().Token})
		if !is("n:k", old) || is("n:k", fresh) || is("n:other", old) || is("n:k", store.Record{}) || is("n", old) || is("n:mine", old) {
			t.Error("keys")
		}
		if !is("n:mine", recordOf(frame.Header{Kind: frame.Value, Limit: math.MaxInt64, Stored: at - 1})) {
			t.Error("a record in the place of this process's own")
		}
		a.addTombstones([]string{aTag + "t"}, nil, retryqueue.Past{Since: since})
		a.addTombstones([]string{aPattern + "p*"}, nil, retryqueue.Past{Since: since})
		if !is("n:x", old, "t") || is("n:x", fresh, "t") || is("n:x", old, "u") || !is("n:pp", old) || is("n:pp", fresh) || !is("n:mine", old, "t") {
			t.Error("tags and patterns")
		}
	})
}

// What Redis is told later, as of an earlier time, is no acknowledgement of a later invalidation.
func TestALateTombstoneAcknowledgesWhatIsOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := onTier(t, Broadcast, true, storetest.NewMemory())
		a.started = true
		defer a.Close()
		ctx := t.Context()
		if err := a.parts[0].Reconcile(ctx); err != nil {
			t.Fatal(err)
		}
		invalidate := func() int64 {
			time.Sleep(time.Second)
			at := now()
			a.parts[0].scheduleTombstones([]string{"x", "y"}, nil, at)
			return at
		}
		invalidate()
		first := a.queue.Take(retryBatch)
		later := invalidate()
		time.Sleep(time.Second)
		told := 0
		if f := a.notifyBatch(ctx, &first, &told); !f.Empty() || told != 2 {
			t.Fatalf("%d told, left: %+v", told, f)
		}
		if at := a.pendingSince("n:k", []string{"x"}); at != later || !a.queue.HasTag(aTag+"y") {
			t.Errorf("pending since %d, want %d", at, later)
		}
		second := a.queue.Take(retryBatch)
		if f := a.notifyBatch(ctx, &second, &told); !f.Empty() || told != 4 || a.AnyPending() {
			t.Errorf("%d told, left: %+v, pending: %v", told, f, a.AnyPending())
		}
	})
}
