package otel

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/metrics/otel/histogram"
	"go.opentelemetry.io/otel/sdk/metric"
)

// fixed is a cache whose numbers are known.
type fixed struct {
	name string
	s    metrics.Snapshot
}

func (f *fixed) Name() string             { return f.name }
func (f *fixed) Totals() metrics.Snapshot { return f.s }

// observed collects what Observe and the histograms show of caches.
func observed(t *testing.T, caches ...metrics.Cache) map[string]float64 {
	t.Helper()
	reader := metric.NewManualReader(metric.WithProducer(histogram.NewProducer(caches...)))
	r, err := Observe(metric.NewMeterProvider(metric.WithReader(reader)), caches...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Unregister()
	return collect(t, reader)
}

func TestEverySeriesHasItsNumber(t *testing.T) {
	var s metrics.Snapshot
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() { // all different, and sums of them as well
		if f := v.Field(i); f.Kind() == reflect.Uint64 {
			f.SetUint(1_000_000 + 1<<(i%40) + uint64(i))
		}
	}
	s.BacklogAge, s.Breaker, s.Listener = 1500*time.Millisecond, metrics.Open, metrics.Down
	s.Get.Record(40*time.Nanosecond, 3)
	s.GetMany.Record(time.Microsecond, 5)
	s.Set.Record(time.Millisecond, 7)
	s.Delete.Record(time.Second, 11)
	s.Load.Record(2*time.Minute, 13)
	s.Remote.Record(0, 17)
	want := map[string]float64{
		"cache.requests{cache.name=users,cache.result=hit,cache.tier=local}":    float64(s.LocalHits),
		"cache.requests{cache.name=users,cache.result=hit,cache.tier=remote}":   float64(s.RemoteHits),
		"cache.requests{cache.name=users,cache.result=miss,cache.tier=none}":    float64(s.Misses()),
		"cache.stale_hits{cache.name=users}":                                    float64(s.StaleHits),
		"cache.absent_hits{cache.name=users}":                                   float64(s.AbsentHits),
		"cache.outage_hits{cache.name=users}":                                   float64(s.OutageHits),
		"cache.outage_fills{cache.name=users}":                                  float64(s.OutageFills),
		"cache.misses{cache.miss.reason=absent,cache.name=users}":               float64(s.MissAbsent),
		"cache.misses{cache.miss.reason=expired,cache.name=users}":              float64(s.MissExpired),
		"cache.misses{cache.miss.reason=undecodable,cache.name=users}":          float64(s.MissUndecodable),
		"cache.misses{cache.miss.reason=foreign,cache.name=users}":              float64(s.MissForeign),
		"cache.misses{cache.miss.reason=incompatible,cache.name=users}":         float64(s.MissIncompatible),
		"cache.misses{cache.miss.reason=unavailable,cache.name=users}":          float64(s.MissUnavailable),
		"cache.shared_loads{cache.name=users,cache.scope=process}":              float64(s.Coalesced),
		"cache.shared_loads{cache.name=users,cache.scope=fleet}":                float64(s.Awaited),
		"cache.unloaded_misses{cache.name=users}":                               float64(s.Unloaded),
		"cache.stale_covers{cache.name=users}":                                  float64(s.StaleCovers),
		"cache.defaults{cache.name=users}":                                      float64(s.Defaults),
		"cache.fallbacks{cache.name=users}":                                     float64(s.Fallbacks),
		"cache.loads{cache.name=users}":                                         float64(s.Loads),
		"cache.refreshes{cache.name=users}":                                     float64(s.Refreshes),
		"cache.load.errors{cache.name=users}":                                   float64(s.LoadErrors),
		"cache.load.panics{cache.name=users}":                                   float64(s.LoadPanics),
		"cache.load.not_found{cache.name=users}":                                float64(s.NotFound),
		"cache.load.batches{cache.name=users}":                                  float64(s.Batches),
		"cache.load.batched{cache.name=users}":                                  float64(s.Batched),
		"cache.load.unasked{cache.name=users}":                                  float64(s.Unasked),
		"cache.unstored_loads{cache.name=users,cache.unstored.reason=outdated}": float64(s.Outdated),
		"cache.unstored_loads{cache.name=users,cache.unstored.reason=not_kept}": float64(s.NotKept),
		"cache.writes{cache.name=users,cache.operation=set}":                    float64(s.Sets),
		"cache.writes{cache.name=users,cache.operation=delete}":                 float64(s.Deletes),
		"cache.writes{cache.name=users,cache.operation=touch}":                  float64(s.Touched),
		"cache.write.errors{cache.name=users}":                                  float64(s.WriteErrors),
		"cache.invalidations{cache.direction=sent,cache.name=users}":            float64(s.InvalidationsSent),
		"cache.invalidations{cache.direction=received,cache.name=users}":        float64(s.InvalidationsReceived),
		"cache.local.flushes{cache.name=users}":                                 float64(s.Flushes),
		"cache.local.evictions{cache.name=users}":                               float64(s.Evictions),
		"cache.local.entry.count{cache.name=users}":                             float64(s.LocalEntries),
		"cache.local.size{cache.name=users}":                                    float64(s.LocalBytes),
		"cache.audit.hits{cache.audit.with=fleet,cache.name=users}":             float64(s.Audited),
		"cache.audit.hits{cache.audit.with=source,cache.name=users}":            float64(s.AuditedSource),
		"cache.audit.stale_hits{cache.audit.extent=within,cache.name=users}":    float64(s.StaleWithin),
		"cache.audit.stale_hits{cache.audit.extent=beyond,cache.name=users}":    float64(s.StaleBeyond),
		"cache.audit.stale_hits{cache.audit.extent=source,cache.name=users}":    float64(s.SourceAhead),
		"cache.audit.dropped{cache.name=users}":                                 float64(s.AuditsDropped),
		"cache.remote.errors{cache.name=users}":                                 float64(s.RemoteErrors),
		"cache.remote.refused{cache.name=users}":                                float64(s.RemoteRefused),
		"cache.misfits{cache.name=users}":                                       float64(s.Misfits),
		"cache.undecodable_records{cache.name=users}":                           float64(s.Undecodable),
		"cache.breaker.state{cache.name=users,cache.state=closed}":              0,
		"cache.breaker.state{cache.name=users,cache.state=half-open}":           0,
		"cache.breaker.state{cache.name=users,cache.state=open}":                1,
		"cache.listener.up{cache.name=users}":                                   0,
		"cache.write_behind.applied{cache.name=users}":                          float64(s.Applied),
		"cache.write_behind.errors{cache.name=users}":                           float64(s.ApplyErrors),
		"cache.write_behind.buried{cache.name=users}":                           float64(s.Buried),
		"cache.write_behind.backlog{cache.name=users}":                          float64(s.Backlog),
		"cache.write_behind.dead_letters{cache.name=users}":                     float64(s.DeadLetters),
		"cache.write_behind.backlog_age{cache.name=users}":                      1.5,
	}
	for series, h := range map[string]metrics.Histogram{
		"cache.operation.duration{cache.name=users,cache.operation=get}":      s.Get,
		"cache.operation.duration{cache.name=users,cache.operation=get_many}": s.GetMany,
		"cache.operation.duration{cache.name=users,cache.operation=set}":      s.Set,
		"cache.operation.duration{cache.name=users,cache.operation=delete}":   s.Delete,
		"cache.load.duration{cache.name=users}":                               s.Load,
		"cache.remote.duration{cache.name=users}":                             s.Remote,
	} {
		want[series+" count"], want[series+" sum"] = float64(h.Count), h.Sum.Seconds()
	}
	got := observed(t, &fixed{"users", s})
	if !maps.Equal(got, want) {
		for _, name := range slices.Sorted(maps.Keys(got)) {
			if n, ok := want[name]; !ok || n != got[name] {
				t.Errorf("%s %v, want %v", name, got[name], n)
			}
		}
		for name := range want {
			if _, ok := got[name]; !ok {
				t.Errorf("no %s", name)
			}
		}
	}
	if _, ok := observed(t, &fixed{name: "users"})["cache.listener.up{cache.name=users}"]; ok {
		t.Error("a cache without Redis has a listener")
	}
}

func TestCachesComeAndGo(t *testing.T) {
	reader := metric.NewManualReader()
	meters := metric.NewMeterProvider(metric.WithReader(reader))
	if _, err := Observe(meters, &fixed{name: "users"}, &fixed{name: "users"}); err == nil || !strings.Contains(err.Error(), `"users"`) {
		t.Errorf("two caches of one name: %v", err)
	}
	if _, err := Observe(meters, nil); err == nil {
		t.Error("nil is taken for a cache")
	}
	users, err := Observe(meters, &fixed{"users", metrics.Snapshot{Loads: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Observe(meters, &fixed{"tasks", metrics.Snapshot{Loads: 2}}); err != nil {
		t.Fatal(err)
	}
	got := collect(t, reader)
	if got["cache.loads{cache.name=users}"] != 1 || got["cache.loads{cache.name=tasks}"] != 2 {
		t.Errorf("of two calls: %v", got)
	}
	if err := users.Unregister(); err != nil {
		t.Error(err)
	}
	got = collect(t, reader)
	if _, ok := got["cache.loads{cache.name=users}"]; ok || got["cache.loads{cache.name=tasks}"] != 2 {
		t.Errorf("after one of them has ended: %v", got)
	}
}

// relay is one whose numbers are known.
type relay []metrics.Outbox

func (r relay) Outboxes() []metrics.Outbox { return r }

func TestAnOutboxIsObserved(t *testing.T) {
	reader := metric.NewManualReader()
	meters := metric.NewMeterProvider(metric.WithReader(reader))
	if _, err := ObserveRelays(meters, nil); err == nil {
		t.Error("nil is taken for a relay")
	}
	r, err := ObserveRelays(meters, relay{
		{
			Cache: "users", Held: true, Unavailable: true, Lag: 1500 * time.Millisecond, Backlog: 3, DeadLetters: 4,
			Applied: 5, Merged: 6, Replaced: 7, Waited: 2500 * time.Millisecond, Postponed: 8, Refused: 9, Buried: 10, DatabaseErrors: 11,
		},
		{Cache: "orders", Applied: 1},
	}, relay{{Cache: "orders", Applied: 2}})
	if err != nil {
		t.Fatal(err)
	}
	got := collect(t, reader)
	for name, n := range map[string]float64{
		"held": 1, "lag": 1.5, "backlog": 3, "dead_letters": 4, "unavailable": 1, "applied": 5, "merged": 6, "replaced": 7, "wait": 2.5,
		"postponed": 8, "refused": 9, "buried": 10, "database.errors": 11,
	} {
		if is, ok := got["cache.outbox."+name+"{cache.name=users}"]; !ok || is != n {
			t.Errorf("%s is %v, there %v, want %v", name, is, ok, n)
		}
	}
	if n := got["cache.outbox.applied{cache.name=orders}"]; n != 3 {
		t.Errorf("of two relays: %v", n)
	}
	if _, ok := got["cache.outbox.lag{cache.name=orders}"]; ok {
		t.Error("a lag is shown where it is not known")
	}
	if err := r.Unregister(); err != nil {
		t.Error(err)
	}
	if got := collect(t, reader); len(got) != 0 {
		t.Errorf("after the end: %v", got)
	}
}
