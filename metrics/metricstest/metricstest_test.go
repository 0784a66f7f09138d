package metricstest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/metrics"
)

// spans is a recorder as one would write it.
type spans struct {
	mu    sync.Mutex
	open  int
	ended map[metrics.Outcome]int
	ops   map[string]time.Duration
	state metrics.State
}

func newSpans() metrics.Recorder {
	return &spans{ended: make(map[metrics.Outcome]int), ops: make(map[string]time.Duration)}
}

type spanKey struct{}

func (s *spans) StartLoad(ctx context.Context, _ metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	return context.WithValue(ctx, spanKey{}, s.open), func(r metrics.LoadResult) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
		s.ended[r.Outcome]++
	}
}

func (s *spans) RemoteOperation(_ context.Context, e metrics.RemoteEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops[e.Op] += e.Duration
}

func (s *spans) StateChange(e metrics.StateEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = e.State
}

func TestGoodRecordersPass(t *testing.T) {
	for name, newRecorder := range map[string]func() metrics.Recorder{
		"spans":   newSpans,
		"discard": func() metrics.Recorder { return metrics.Discard{} },
		"fanout":  func() metrics.Recorder { return metrics.Fanout(newSpans(), metrics.Discard{}, newSpans()) },
		"nils":    func() metrics.Recorder { return faulty{} },
	} {
		if err := CheckRecorder(newRecorder); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// faulty is a recorder with one fault; without any it returns nils.
type faulty struct {
	metrics.Discard
	start  func(context.Context, metrics.LoadEvent) (context.Context, func(metrics.LoadResult))
	remote func(metrics.RemoteEvent)
	change func(metrics.StateEvent)
}

func (f faulty) StartLoad(ctx context.Context, e metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
	if f.start == nil {
		return nil, nil
	}
	return f.start(ctx, e)
}

func (f faulty) RemoteOperation(_ context.Context, e metrics.RemoteEvent) {
	if f.remote != nil {
		f.remote(e)
	}
}

func (f faulty) StateChange(e metrics.StateEvent) {
	if f.change != nil {
		f.change(e)
	}
}

func TestFaultyRecordersAreFound(t *testing.T) {
	type ctxFunc = func(context.Context, metrics.LoadEvent) (context.Context, func(metrics.LoadResult))
	withContext := func(f func(context.Context) context.Context) metrics.Recorder {
		return faulty{start: ctxFunc(func(ctx context.Context, _ metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
			return f(ctx), nil
		})}
	}
	for _, c := range []struct {
		name string
		r    metrics.Recorder
		want []string
	}{
		{"none", nil, []string{"no recorder"}},
		{"another context", withContext(func(context.Context) context.Context { return context.Background() }),
			[]string{"a value is lost", "the load's goes on"}},
		{"no cancellation", withContext(context.WithoutCancel), []string{"the load's goes on"}},
		{"its own cause", withContext(func(ctx context.Context) context.Context {
			own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
			context.AfterFunc(ctx, func() { cancel(context.Canceled) })
			return own
		}), []string{"the cause is context canceled"}},
		{"a context that is over", withContext(func(ctx context.Context) context.Context {
			own, cancel := context.WithCancel(ctx)
			cancel()
			return own
		}), []string{"ended before the load did", "the cause is"}},
		{"a deadline", withContext(func(ctx context.Context) context.Context {
			own, cancel := context.WithTimeout(ctx, time.Hour)
			context.AfterFunc(ctx, cancel)
			return own
		}), []string{"it has a deadline"}},
		{"a table too short", faulty{change: func(e metrics.StateEvent) { _ = [...]int{0, 1, 2, 3, 4}[e.State] }},
			[]string{"panicked: runtime error: index out of range [255]"}},
		{"a panic at an operation", faulty{remote: func(metrics.RemoteEvent) { panic("no such operation") }},
			[]string{"goroutines use it at once: panicked: no such operation"}},
		{"a panic at the end", faulty{start: func(ctx context.Context, _ metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
			return ctx, func(metrics.LoadResult) { panic("twice") }
		}}, []string{"panicked: twice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := CheckRecorder(func() metrics.Recorder { return c.r })
				if err == nil {
					t.Fatal("nothing found")
				}
				for _, want := range c.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("found\n%v\nwant %q", err, want)
					}
				}
			})
		})
	}
}

// refresher is a recorder with what comes back from StartRefresh.
type refresher struct {
	metrics.Discard
	start func(ctx, caller context.Context) context.Context
}

func (r refresher) StartRefresh(ctx, caller context.Context, _ metrics.RefreshEvent) (context.Context, func(metrics.Outcome)) {
	return r.start(ctx, caller), nil
}

func TestFaultyRefreshRecordersAreFound(t *testing.T) {
	for _, c := range []struct {
		name  string
		start func(ctx, caller context.Context) context.Context
		want  string // "": it is good
	}{
		{"nil", func(_, _ context.Context) context.Context { return nil }, ""},
		{"a value", func(ctx, caller context.Context) context.Context {
			return context.WithValue(ctx, spanKey{}, caller.Value(contextKey{}))
		}, ""},
		{"the reader's", func(_, caller context.Context) context.Context { return caller }, "ended with the reader"},
		{"the reader's values", func(_, caller context.Context) context.Context { return context.WithoutCancel(caller) }, "a value is that of caller"},
		{"no end", func(ctx, _ context.Context) context.Context { return context.WithoutCancel(ctx) }, "the refresh goes on"},
		{"its own cause", func(ctx, _ context.Context) context.Context {
			own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
			context.AfterFunc(ctx, func() { cancel(context.Canceled) })
			return own
		}, "the cause is context canceled"},
		{"a deadline", func(ctx, _ context.Context) context.Context {
			own, cancel := context.WithTimeout(ctx, time.Hour)
			context.AfterFunc(ctx, cancel)
			return own
		}, "it has a deadline"},
		{"a reader that has gone", func(ctx, caller context.Context) context.Context {
			if caller.Err() != nil {
				return caller
			}
			return ctx
		}, "one that begins when the reader has gone is over"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := CheckRecorder(func() metrics.Recorder { return refresher{start: c.start} })
				switch {
				case c.want == "" && err != nil:
					t.Errorf("found %v", err)
				case c.want != "" && (err == nil || !strings.Contains(err.Error(), "a refresh outlives its reader: ") || !strings.Contains(err.Error(), c.want)):
					t.Errorf("found %v, want %q", err, c.want)
				}
			})
		})
	}
}

func TestARecorderThatBlocksIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		err := CheckRecorder(func() metrics.Recorder {
			return faulty{change: func(metrics.StateEvent) { <-release }}
		})
		if err == nil || !strings.Contains(err.Error(), "a method blocks") {
			t.Errorf("found %v", err)
		}
	})
}

func TestSnapshotThatAddsUpPasses(t *testing.T) {
	s := metrics.Snapshot{
		LocalHits: 5, RemoteHits: 5, StaleHits: 10, AbsentHits: 10,
		MissAbsent: 2, MissExpired: 3, MissUnavailable: 5, Coalesced: 4, Awaited: 1, Unloaded: 2,
		Loads: 6, Refreshes: 3, LoadErrors: 2, LoadPanics: 2, NotFound: 4, StaleCovers: 10, Fallbacks: 5,
	}
	s.Load.Record(time.Second, 6)
	if err := CheckSnapshot(s); err != nil {
		t.Error(err)
	}
	if err := CheckSnapshot(metrics.Snapshot{}); err != nil {
		t.Error(err)
	}
}

func TestSnapshotThatDoesNotAddUpIsFound(t *testing.T) {
	for _, c := range []struct {
		change func(*metrics.Snapshot)
		want   string
	}{
		{func(s *metrics.Snapshot) { s.StaleHits = 1 }, "stale hits"},
		{func(s *metrics.Snapshot) { s.AbsentHits = 1 }, "absent hits"},
		{func(s *metrics.Snapshot) { s.Refreshes = 1 }, "refreshes of"},
		{func(s *metrics.Snapshot) { s.MissForeign = 1 }, "1 misses, but"},
		{func(s *metrics.Snapshot) { s.Unloaded = 1 }, "0 misses, but"},
		{func(s *metrics.Snapshot) { s.NotFound = 1 }, "not found"},
		{func(s *metrics.Snapshot) { s.LoadErrors = 1 }, "failed of"},
		{func(s *metrics.Snapshot) { s.LoadPanics = 1 }, "panics of"},
		{func(s *metrics.Snapshot) { s.Load.Record(1, 1) }, "calls of loaders"},
		{func(s *metrics.Snapshot) { s.StaleCovers = 1 }, "stale covers"},
		{func(s *metrics.Snapshot) { s.Fallbacks = 1 }, "fallbacks"},
		{func(s *metrics.Snapshot) { s.MissUndecodable = 1 }, "undecodable records"},
		{func(s *metrics.Snapshot) { s.Breaker = metrics.Up }, "the breaker is up"},
		{func(s *metrics.Snapshot) { s.Listener = metrics.Open }, "the listener is open"},
		{func(s *metrics.Snapshot) { s.Get.Count = 1 }, "histogram Get"},
	} {
		var s metrics.Snapshot
		c.change(&s)
		if err := CheckSnapshot(s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("found %v, want %q", err, c.want)
		}
	}
}
