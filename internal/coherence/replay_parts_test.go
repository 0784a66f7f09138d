package coherence

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
)

// slow is a cluster whose tombstones take a while.
type slow struct{ *parted }

func (s slow) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (logicalclock.Reading, error) {
	time.Sleep(100 * time.Millisecond)
	return s.parted.AddTombstones(ctx, names, known, n)
}

// onParts makes a coordinator of a cluster that does nothing in the background, and knows all clocks.
func onParts(t *testing.T, st store.Store) *Coordinator {
	t.Helper()
	a, _ := onNames(t, store.NewNames("", "n"), None, true, st)
	a.started = true
	for _, p := range a.parts {
		if err := p.FetchTombstones(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// What Redis has lost of an invalidation of everything, it has again in each part before a record of that
// part is read, though all parts are reconciled at once.
func TestLostTombstonesOfAllPartsAreMadeBeforeReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := slow{newParted()}
		a := onParts(t, st)
		raws := make([][]byte, len(a.parts))
		for i, p := range a.parts {
			raws[i] = st.Memory.Do(t.Context(), []store.Command{{Op: store.Get, Key: p.names.Epoch}})[0].Record.Raw
			l := p.beginLook()
			m, _, err := a.invalidator.InvalidateTags(t.Context(), p.of, nil)
			if err == nil {
				err = p.ownTombstones(t.Context(), nil, nil, m, l)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for i, p := range a.parts {
			st.Memory.Do(t.Context(), []store.Command{{Op: store.Set, Key: p.names.Epoch, Frame: raws[i], TTL: time.Hour}})
		}
		a.Suspect()
		errs := make(chan error, len(a.parts))
		for _, p := range a.parts {
			go func() {
				err := p.Reconcile(t.Context())
				raw := st.Memory.Do(t.Context(), []store.Command{{Op: store.Get, Key: p.names.Epoch}})[0].Record.Raw
				if e, ok := logicalclock.ParseEpoch(raw); err == nil && (!ok || e.All.Last() == 0) {
					err = errors.New("the invalidation is still lost: " + string(raw))
				}
				errs <- err
			}()
		}
		for range a.parts {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		a.Close()
	})
}

// The keys of a pattern that Redis may have lost are not trusted until it is delivered, in any part, though
// only one reconciliation has queued it.
func TestLostPatternsArePendingInAllParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newParted()
		a := onParts(t, st)
		a.notedPattern("*", now())
		keys := keysOf(a)
		for i := range keys {
			keys[i] = a.cfg.Names.Data + keys[i]
			st.Memory.Do(t.Context(), []store.Command{{Op: store.Set, Key: keys[i], Frame: []byte("old"), TTL: time.Hour}})
		}
		a.Suspect()
		outdated := func(key string) bool {
			r, err := a.BeginRead(t.Context(), now(), 1, func(int) string { return key })
			if err != nil {
				t.Fatal(err)
			}
			rec := st.Memory.Do(t.Context(), []store.Command{{Op: store.Get, Key: key}})[0].Record
			return rec.State == store.Missing || a.EndRead(&r) || a.Outdated(t.Context(), &r, key, rec, nil)
		}
		for i, key := range keys {
			if !outdated(key) {
				t.Errorf("part %d: an old record is trusted", i)
			}
		}
		if !a.notify(t.Context()) {
			t.Error("the pattern is not delivered")
		}
		for i, key := range keys {
			st.Memory.Do(t.Context(), []store.Command{{Op: store.Set, Key: key, Frame: []byte("new"), TTL: time.Hour}})
			if outdated(key) {
				t.Errorf("part %d: a new record is not trusted", i)
			}
		}
		a.Close()
	})
}

// A tombstone that can't be made again stays queued.
func TestLostTombstonesThatCanNotBeMadeAreQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newParted()
		a := onParts(t, st)
		p := a.parts[2]
		told := retryqueue.Replay{
			Tags:  []string{p.allSubject(), p.tagSubject("x"), aPattern + "k*"},
			Pasts: map[string]retryqueue.Past{p.allSubject(): {Since: now(), Acked: true}, p.tagSubject("x"): {Since: now(), Acked: true}},
		}
		st.freeze(st.Endpoint(p.names.Epoch))
		p.replayTombstones(t.Context(), &told)
		if len(told.Tags) != 1 || told.Tags[0] != aPattern+"k*" || !a.queue.HasTag(p.allSubject()) || !a.queue.HasTag(p.tagSubject("x")) || a.failure.Load() == nil {
			t.Errorf("left: %q, queued: %d", told.Tags, a.queue.Len())
		}
		st.freeze("")
		if !a.notify(t.Context()) || a.failure.Load() != nil {
			t.Error("they are not made later")
		}
	})
}

// A read waits for the invalidations of its own part, and not for a node that has the keys of another and
// does not answer, known to be down or not.
func TestAReconciliationWaitsForItsOwnNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newParted()
		a := onParts(t, st)
		for _, k := range keysOf(a) {
			key := a.cfg.Names.Data + k
			st.Memory.Do(t.Context(), []store.Command{{Op: store.Set, Key: key, Frame: []byte("old"), TTL: time.Hour}})
			a.addItem(retryqueue.Item{Key: key})
		}
		st.freeze("low")
		a.Suspect()
		begin := time.Now()
		for i, k := range keysOf(a) {
			p, key := a.parts[i], a.cfg.Names.Data+k
			if st.Endpoint(key) == "low" {
				continue
			}
			if err := p.Reconcile(t.Context()); err != nil {
				t.Error(err)
			}
			if _, pending := a.queue.Find(key); pending || st.Memory.Do(t.Context(), []store.Command{{Op: store.Get, Key: key}})[0].Record.State != store.Missing {
				t.Errorf("part %d: what is pending is not delivered", i)
			}
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("they waited for %v", d)
		}
		if a.queue.Len() == 0 {
			t.Error("nothing is left for the other node")
		}
		a.stop()
	})
}

// What is delivered later is delivered although one node does not answer.
func TestANodeThatDoesNotAnswerKeepsNothingOfOthersQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newParted()
		a := onParts(t, st)
		for _, k := range keysOf(a) {
			key := a.cfg.Names.Data + k
			st.Memory.Do(t.Context(), []store.Command{{Op: store.Set, Key: key, Frame: []byte("old"), TTL: time.Hour}})
			a.addItem(retryqueue.Item{Key: key})
		}
		st.freeze("low")
		if a.notify(t.Context()) {
			t.Error("nothing is left")
		}
		for i, k := range keysOf(a) {
			key := a.cfg.Names.Data + k
			_, pending := a.queue.Find(key)
			if lost := st.Endpoint(key) == "low"; pending != lost {
				t.Errorf("part %d: pending %v", i, pending)
			}
		}
		a.stop()
	})
}

// slowScan is a cluster whose keys take a while to be searched.
type slowScan struct {
	*parted
	takes time.Duration
}

func (s *slowScan) Scan(ctx context.Context, master, pattern string, cursor uint64) ([]string, uint64, error) {
	select {
	case <-time.After(s.takes):
		return s.parted.Scan(ctx, master, pattern, cursor)
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// A read waits for a pattern that Redis may have lost, which is delivered in the background for all parts at
// once; but not for long.
func TestAReadWaitsForALostPattern(t *testing.T) {
	for takes, want := range map[time.Duration]time.Duration{
		patternWait / 2: patternWait / 2,
		2 * patternWait: patternWait,
	} {
		synctest.Test(t, func(t *testing.T) {
			st := &slowScan{newParted(), takes}
			a := onParts(t, st)
			a.wg.Go(a.maintain)
			a.notedPattern("*", now())
			a.parts[2].wentBack() // so that no identity of the servers shows that nothing is lost
			began := time.Now()
			if err := a.parts[2].Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(began); d != want {
				t.Errorf("a search takes %v, and a read waits for %v, not %v", takes, d, want)
			}
			if delivered := a.queue.Len() == 0; delivered != (takes < patternWait) {
				t.Errorf("a search takes %v: delivered %v", takes, delivered)
			}
			a.Close()
		})
	}
}
