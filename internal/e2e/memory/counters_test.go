package memory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/metrics/metricstest"
)

// tally is what one process did, as the workload itself counts it.
type tally struct {
	someHits                                                 atomic.Uint64 // of one tier or the other
	localHits, remoteHits, staleHits, absentHits             atomic.Uint64
	missAbsent, missExpired, missForeign, missUnavailable    atomic.Uint64
	coalesced, awaited, unloaded, fallbacks                  atomic.Uint64
	loads, refreshes, loadErrors, loadPanics, notFound       atomic.Uint64
	notKept, sets, deletes, writeErrors                      atomic.Uint64
	getMany, setCalls, deleteCalls, loadCalls, remote, sends atomic.Uint64
}

// process is a cache with a loader that counts by itself.
type process struct {
	*cache.Cache[string, string]
	done tally
	gate chan struct{} // what loads of keys that begin with "slow" wait for
	t    *testing.T
}

// counted records the process's events.
type counted struct {
	metrics.Discard
	p *process
}

func (r counted) RemoteOperation(context.Context, metrics.RemoteEvent) { r.p.done.remote.Add(1) }

func newProcess(t *testing.T, store *storetest.Memory) *process {
	p := &process{t: t, gate: make(chan struct{})}
	p.Cache = onMemory(t, store, cache.Source[string, string]{
		Load: func(_ context.Context, key string) (string, error) {
			p.done.loads.Add(1)
			p.done.loadCalls.Add(1)
			kind, _, _ := strings.Cut(key, " ")
			switch kind {
			case "slow":
				<-p.gate
			case "absent":
				p.done.notFound.Add(1)
				return "", cache.ErrNotFound
			case "bad":
				p.done.loadErrors.Add(1)
				return "", errFlaky
			case "panic":
				p.done.loadErrors.Add(1)
				p.done.loadPanics.Add(1)
				panic("a loader")
			}
			return "value of " + key, nil
		},
		Tags: func(key, _ string) []string {
			if strings.HasPrefix(key, "tagged ") {
				return []string{key}
			}
			return nil
		},
	}, cache.WithRecorder(counted{p: p}))
	return p
}

func (p *process) want(what string, err error, target error) {
	if !errors.Is(err, target) {
		p.t.Errorf("%s: %v, want %v", what, err, target)
	}
}

// work does everything once, with keys of its own.
func (p *process) work(other *process, st *storetest.Memory, id string) {
	ctx := context.Background()
	add := func(counters ...*atomic.Uint64) {
		for _, c := range counters {
			c.Add(1)
		}
	}
	get := func(c *process, key string, target error, opts ...cache.ReadOption) {
		_, err := c.Get(ctx, key, opts...)
		p.want("Get "+key, err, target)
	}
	// hit is a read that one of the tiers answers: it says which. The local tier does not
	// keep what it was given while anything moved the key's fence, which keys share.
	hit := func(c *process, key string, target error, opts ...cache.ReadOption) {
		var info cache.Info
		get(c, key, target, append(opts, cache.Report(&info))...)
		switch info.Tier {
		case metrics.Local:
			add(&c.done.localHits)
		case metrics.Remote:
			add(&c.done.remoteHits)
		default:
			p.t.Errorf("Get %s: the answer is from %v", key, info.Tier)
		}
		if info.Absent {
			add(&c.done.absentHits)
		}
	}
	key := "key " + id
	get(p, key, nil) // loads
	add(&p.done.missAbsent)
	hit(p, key, nil)
	hit(p, key, nil, cache.SkipLocal())
	hit(other, key, nil) // its local tier has not seen it
	hit(other, key, nil)
	_, err := p.Peek(ctx, key)
	p.want("Peek", err, nil)
	add(&p.done.someHits)

	get(p, "absent "+id, cache.ErrNotFound)
	add(&p.done.missAbsent)
	hit(p, "absent "+id, cache.ErrNotFound)
	get(p, "bad "+id, errFlaky)
	add(&p.done.missAbsent)
	_, err = p.Get(ctx, "panic "+id)
	if _, ok := errors.AsType[*cache.PanicError](err); !ok {
		p.t.Errorf("Get of a loader that panics: %v", err)
	}
	add(&p.done.missAbsent)
	_, err = p.Peek(ctx, "nowhere "+id)
	p.want("Peek", err, cache.ErrMiss)
	add(&p.done.missAbsent, &p.done.unloaded)

	many, err := p.GetMany(ctx, []string{key, "absent " + id, "many 1 " + id, "many 2 " + id, key})
	p.want("GetMany", err, nil)
	if len(many) != 3 {
		p.t.Errorf("GetMany: %d values", len(many))
	}
	add(&p.done.getMany, &p.done.someHits, &p.done.someHits, &p.done.absentHits, &p.done.missAbsent, &p.done.missAbsent)

	set := "set " + id
	p.want("Set", p.Set(ctx, set, "v"), nil)
	add(&p.done.sets, &p.done.setCalls, &p.done.sends)
	get(p, set, nil)
	add(&p.done.someHits)
	p.want("Set with an option that is wrong", p.Set(ctx, set, "v", cache.TTL(-1), nil), cache.ErrInvalidOption)
	p.want("SetMany", p.SetMany(ctx, map[string]string{set + " 1": "v", set + " 2": "v"}), nil)
	add(&p.done.sets, &p.done.sets, &p.done.setCalls, &p.done.sends, &p.done.sends)
	for _, want := range []bool{true, false} {
		stored, err := p.SetIfAbsent(ctx, "first "+id, "v")
		p.want("SetIfAbsent", err, nil)
		if stored != want {
			p.t.Errorf("SetIfAbsent: %t", stored)
		}
		add(&p.done.setCalls)
	}
	add(&p.done.sets, &p.done.sends)
	for _, k := range []string{set, "updated " + id} { // the second one is loaded first
		_, err = p.Update(ctx, k, func(string, bool) (string, error) { return "new", nil })
		p.want("Update", err, nil)
		add(&p.done.sets, &p.done.setCalls, &p.done.sends)
	}
	add(&p.done.refreshes)
	p.want("Refresh", p.Refresh(ctx, set), nil)
	add(&p.done.refreshes)
	p.want("Delete", p.Delete(ctx, set, "first "+id), nil)
	add(&p.done.deletes, &p.done.deletes, &p.done.deleteCalls, &p.done.sends, &p.done.sends)

	get(p, "tagged "+id, nil)
	add(&p.done.missAbsent)
	p.want("InvalidateTags", p.InvalidateTags(ctx, "tagged "+id), nil)
	add(&p.done.sends)
	get(p, "tagged "+id, nil)
	add(&p.done.missExpired)

	reply := st.Do(ctx, []store.Command{{Op: store.Set, Key: p.RedisKey("foreign " + id), Frame: []byte("text"), TTL: time.Minute}})
	p.want("a foreign value", reply[0].Err, nil)
	get(p, "foreign "+id, nil)
	add(&p.done.missForeign)

	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = p.Get(over, "not asked for: "+id)
	p.want("Get with a context that has ended", err, context.Canceled)
	_, err = p.Inspect(ctx, key)
	p.want("Inspect", err, nil)
}

// check compares the counters of a cache with what was done to it.
func (p *process) check(t *testing.T) {
	t.Helper()
	m := p.Totals()
	if err := metricstest.CheckSnapshot(m); err != nil {
		t.Error(err)
	}
	local, remote, some := p.done.localHits.Load(), p.done.remoteHits.Load(), p.done.someHits.Load()
	if m.LocalHits < local || m.RemoteHits < remote || m.Hits() != local+remote+some {
		t.Errorf("%d local and %d remote hits, and there were %d, %d, and %d of one or the other", m.LocalHits, m.RemoteHits, local, remote, some)
	}
	for _, c := range []struct {
		name string
		got  uint64
		want *atomic.Uint64
	}{
		{"StaleHits", m.StaleHits, &p.done.staleHits}, {"AbsentHits", m.AbsentHits, &p.done.absentHits},
		{"MissAbsent", m.MissAbsent, &p.done.missAbsent}, {"MissExpired", m.MissExpired, &p.done.missExpired},
		{"MissForeign", m.MissForeign, &p.done.missForeign}, {"MissUnavailable", m.MissUnavailable, &p.done.missUnavailable},
		{"Coalesced", m.Coalesced, &p.done.coalesced}, {"Awaited", m.Awaited, &p.done.awaited}, {"Unloaded", m.Unloaded, &p.done.unloaded},
		{"Fallbacks", m.Fallbacks, &p.done.fallbacks},
		{"Loads", m.Loads, &p.done.loads}, {"Refreshes", m.Refreshes, &p.done.refreshes}, {"LoadErrors", m.LoadErrors, &p.done.loadErrors},
		{"LoadPanics", m.LoadPanics, &p.done.loadPanics}, {"NotFound", m.NotFound, &p.done.notFound},
		{"NotKept", m.NotKept, &p.done.notKept},
		{"Sets", m.Sets, &p.done.sets}, {"Deletes", m.Deletes, &p.done.deletes}, {"WriteErrors", m.WriteErrors, &p.done.writeErrors},
		{"GetMany.Count", m.GetMany.Count, &p.done.getMany}, {"Set.Count", m.Set.Count, &p.done.setCalls},
		{"Delete.Count", m.Delete.Count, &p.done.deleteCalls}, {"Load.Count", m.Load.Count, &p.done.loadCalls},
		{"Remote.Count", m.Remote.Count, &p.done.remote}, {"InvalidationsSent", m.InvalidationsSent, &p.done.sends},
	} {
		if c.got != c.want.Load() {
			t.Errorf("%s is %d, and there were %d", c.name, c.got, c.want.Load())
		}
	}
}

// Two processes share a Redis. Many goroutines do everything there is to do, and every
// counter is exactly what they did.
func TestCountersAreExactlyWhatHappened(t *testing.T) {
	for _, predict := range []bool{false, true} { // whether every read predicts a miss
		t.Run(fmt.Sprint("prediction ", predict), func(t *testing.T) { countersAreExact(t, predict) })
	}
}

func countersAreExact(t *testing.T, predict bool) {
	const workers, waiters = 24, 8
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		a, b := newProcess(t, store), newProcess(t, store)
		if predict {
			hook.Of(a).PredictMiss()
			hook.Of(b).PredictMiss()
		}
		for _, p := range []*process{a, b} { // both subscribe before anything happens
			_, err := p.Peek(t.Context(), "nothing")
			p.want("Peek", err, cache.ErrMiss)
			p.done.missAbsent.Add(1)
			p.done.unloaded.Add(1)
		}
		synctest.Wait()

		var all sync.WaitGroup
		for i := range workers {
			all.Go(func() { a.work(b, store, fmt.Sprint("a ", i)) })
			all.Go(func() { b.work(a, store, fmt.Sprint("b ", i)) })
		}
		all.Wait()
		synctest.Wait() // all has been received

		// One of a loads, those of b wait for its process, and within each process they
		// share the load, or the wait.
		wait := func(p *process) {
			for range waiters {
				all.Go(func() {
					_, err := p.Get(context.Background(), "slow")
					p.want("Get", err, nil)
				})
				p.done.missAbsent.Add(1)
			}
			synctest.Wait()
			p.done.coalesced.Add(waiters - 1)
		}
		wait(a)
		wait(b)
		b.done.awaited.Add(1)
		close(a.gate)
		all.Wait()
		synctest.Wait()
		for _, p := range []*process{a, b} {
			p.check(t)
		}
		if sent := a.Totals().InvalidationsSent; b.Totals().InvalidationsReceived < sent {
			t.Errorf("b has received %d, and a has sent %d", b.Totals().InvalidationsReceived, sent)
		}

		// Nothing moves any more: all of these are local, by the shortest way there is.
		if _, err := a.Get(t.Context(), "slow"); err != nil {
			t.Error(err)
		}
		quiet := a.Totals()
		for range workers {
			all.Go(func() {
				for range 1000 {
					if _, err := a.Get(context.Background(), "slow"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if d := a.Totals().Sub(quiet); d.LocalHits != 1000*workers || d.Requests() != d.LocalHits || d.Remote.Count != 0 {
			t.Errorf("%d of %d requests are local hits, and there were %d", d.LocalHits, d.Requests(), 1000*workers)
		}

		// A reset takes nothing from the totals, and leaves nothing in the rest.
		before := a.Totals()
		a.ResetMetrics()
		if now := a.Totals(); now != before {
			t.Errorf("the totals changed with a reset: %v", now.Sub(before))
		}
		now := a.Metrics()
		if now.Requests() != 0 || now.Loads != 0 || now.Set.Count != 0 || now.LocalEntries != before.LocalEntries || now.Listener != metrics.Up {
			t.Errorf("after a reset:\n%v", now)
		}
	})
}
