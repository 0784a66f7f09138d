package prometheus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// fixed is a cache whose numbers are known.
type fixed struct {
	name string
	s    metrics.Snapshot
}

func (f *fixed) Name() string             { return f.name }
func (f *fixed) Totals() metrics.Snapshot { return f.s }

// numbered returns a snapshot whose integers are all different, and sums of them as well.
func numbered() metrics.Snapshot {
	var s metrics.Snapshot
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Uint64 {
			f.SetUint(1_000_000 + 1<<(i%40) + uint64(i))
		}
	}
	s.BacklogAge = 1500 * time.Millisecond
	s.Breaker, s.Listener = metrics.HalfOpen, metrics.Up
	s.Get.Record(40*time.Nanosecond, 3)
	s.GetMany.Record(time.Microsecond, 5)
	s.Set.Record(time.Millisecond, 7)
	s.Delete.Record(time.Second, 11)
	s.Load.Record(2*time.Minute, 13)
	s.Remote.Record(0, 17)
	return s
}

func registered(t *testing.T, collectors ...prometheus.Collector) *prometheus.Registry {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	for _, c := range collectors {
		if err := reg.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	return reg
}

// scrape gets all series by HTTP, in the text format, as "name{label="value",…}".
func scrape(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for name, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			slices.Sort(labels)
			id := func(suffix string, more ...string) string {
				return name + suffix + "{" + strings.Join(append(slices.Clone(labels), more...), ",") + "}"
			}
			switch {
			case m.Histogram != nil:
				out[id("_count")], out[id("_sum")] = float64(m.Histogram.GetSampleCount()), m.Histogram.GetSampleSum()
				for _, b := range m.Histogram.Bucket {
					out[id("_bucket", fmt.Sprintf("le=%q", fmt.Sprint(b.GetUpperBound())))] = float64(b.GetCumulativeCount())
				}
			case m.Counter != nil:
				out[id("")] = m.Counter.GetValue()
			default:
				out[id("")] = m.Gauge.GetValue()
			}
		}
	}
	return out
}

func TestEverySeriesHasItsNumber(t *testing.T) {
	s := numbered()
	c, err := NewCollector(&fixed{"users", s})
	if err != nil {
		t.Fatal(err)
	}
	got := scrape(t, registered(t, c))
	want := map[string]float64{}
	add := func(series string, n uint64) { want[series] = float64(n) }
	add(`cache_requests_total{cache="users",result="hit",tier="local"}`, s.LocalHits)
	add(`cache_requests_total{cache="users",result="hit",tier="remote"}`, s.RemoteHits)
	add(`cache_requests_total{cache="users",result="miss",tier="none"}`, s.Misses())
	add(`cache_stale_hits_total{cache="users"}`, s.StaleHits)
	add(`cache_absent_hits_total{cache="users"}`, s.AbsentHits)
	add(`cache_outage_hits_total{cache="users"}`, s.OutageHits)
	add(`cache_outage_fills_total{cache="users"}`, s.OutageFills)
	add(`cache_misses_total{cache="users",reason="absent"}`, s.MissAbsent)
	add(`cache_misses_total{cache="users",reason="expired"}`, s.MissExpired)
	add(`cache_misses_total{cache="users",reason="undecodable"}`, s.MissUndecodable)
	add(`cache_misses_total{cache="users",reason="foreign"}`, s.MissForeign)
	add(`cache_misses_total{cache="users",reason="incompatible"}`, s.MissIncompatible)
	add(`cache_misses_total{cache="users",reason="unavailable"}`, s.MissUnavailable)
	add(`cache_shared_loads_total{cache="users",scope="process"}`, s.Coalesced)
	add(`cache_shared_loads_total{cache="users",scope="fleet"}`, s.Awaited)
	add(`cache_unloaded_misses_total{cache="users"}`, s.Unloaded)
	add(`cache_stale_covers_total{cache="users"}`, s.StaleCovers)
	add(`cache_defaults_total{cache="users"}`, s.Defaults)
	add(`cache_fallbacks_total{cache="users"}`, s.Fallbacks)
	add(`cache_loads_total{cache="users"}`, s.Loads)
	add(`cache_refreshes_total{cache="users"}`, s.Refreshes)
	add(`cache_load_errors_total{cache="users"}`, s.LoadErrors)
	add(`cache_load_panics_total{cache="users"}`, s.LoadPanics)
	add(`cache_loads_not_found_total{cache="users"}`, s.NotFound)
	add(`cache_load_batches_total{cache="users"}`, s.Batches)
	add(`cache_batched_loads_total{cache="users"}`, s.Batched)
	add(`cache_unasked_values_total{cache="users"}`, s.Unasked)
	add(`cache_unstored_loads_total{cache="users",reason="outdated"}`, s.Outdated)
	add(`cache_unstored_loads_total{cache="users",reason="not_kept"}`, s.NotKept)
	add(`cache_writes_total{cache="users",operation="set"}`, s.Sets)
	add(`cache_writes_total{cache="users",operation="delete"}`, s.Deletes)
	add(`cache_writes_total{cache="users",operation="touch"}`, s.Touched)
	add(`cache_write_errors_total{cache="users"}`, s.WriteErrors)
	add(`cache_invalidations_total{cache="users",direction="sent"}`, s.InvalidationsSent)
	add(`cache_invalidations_total{cache="users",direction="received"}`, s.InvalidationsReceived)
	add(`cache_local_flushes_total{cache="users"}`, s.Flushes)
	add(`cache_local_evictions_total{cache="users"}`, s.Evictions)
	add(`cache_local_entries{cache="users"}`, s.LocalEntries)
	add(`cache_local_bytes{cache="users"}`, s.LocalBytes)
	add(`cache_audited_hits_total{cache="users",with="fleet"}`, s.Audited)
	add(`cache_audited_hits_total{cache="users",with="source"}`, s.AuditedSource)
	add(`cache_audit_stale_hits_total{cache="users",extent="within"}`, s.StaleWithin)
	add(`cache_audit_stale_hits_total{cache="users",extent="beyond"}`, s.StaleBeyond)
	add(`cache_audit_stale_hits_total{cache="users",extent="source"}`, s.SourceAhead)
	add(`cache_audits_dropped_total{cache="users"}`, s.AuditsDropped)
	add(`cache_remote_errors_total{cache="users"}`, s.RemoteErrors)
	add(`cache_remote_refused_total{cache="users"}`, s.RemoteRefused)
	add(`cache_misfits_total{cache="users"}`, s.Misfits)
	add(`cache_undecodable_records_total{cache="users"}`, s.Undecodable)
	add(`cache_breaker_state{cache="users",state="closed"}`, 0)
	add(`cache_breaker_state{cache="users",state="half-open"}`, 1)
	add(`cache_breaker_state{cache="users",state="open"}`, 0)
	add(`cache_listener_up{cache="users"}`, 1)
	add(`cache_write_behind_applied_total{cache="users"}`, s.Applied)
	add(`cache_write_behind_errors_total{cache="users"}`, s.ApplyErrors)
	add(`cache_write_behind_buried_total{cache="users"}`, s.Buried)
	add(`cache_write_behind_backlog{cache="users"}`, s.Backlog)
	add(`cache_write_behind_dead_letters{cache="users"}`, s.DeadLetters)
	want[`cache_write_behind_backlog_age_seconds{cache="users"}`] = 1.5
	histogram := func(name, operation string, h metrics.Histogram) {
		labels := `cache="users"`
		if operation != "" {
			labels += `,operation="` + operation + `"`
		}
		want[name+`_count{`+labels+`}`], want[name+`_sum{`+labels+`}`] = float64(h.Count), h.Sum.Seconds()
		for _, bound := range metrictable.Bounds() {
			var n uint64
			if h.Mean().Seconds() <= bound { // all of it was of one duration
				n = h.Count
			}
			add(name+`_bucket{`+labels+`,le="`+fmt.Sprint(bound)+`"}`, n)
		}
		add(name+`_bucket{`+labels+`,le="+Inf"}`, h.Count)
	}
	histogram("cache_operation_duration_seconds", "get", s.Get)
	histogram("cache_operation_duration_seconds", "get_many", s.GetMany)
	histogram("cache_operation_duration_seconds", "set", s.Set)
	histogram("cache_operation_duration_seconds", "delete", s.Delete)
	histogram("cache_load_duration_seconds", "", s.Load)
	histogram("cache_remote_duration_seconds", "", s.Remote)
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
}

func TestNamesAndUnitsAreThoseOfPrometheus(t *testing.T) {
	c, err := NewCollector(&fixed{"users", numbered()})
	if err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(registered(t, c, usedRecorder(t, "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// A native histogram is what the original is, within the width of a bucket of each.
func TestNativeHistogramsAreClose(t *testing.T) {
	var h metrics.Histogram
	for d := time.Duration(20); d < time.Minute; d += d / 7 {
		h.Record(d, 1)
	}
	c, err := NewCollector(&fixed{"users", metrics.Snapshot{Load: h}})
	if err != nil {
		t.Fatal(err)
	}
	families, err := registered(t, c).Gather()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "cache_load_duration_seconds" })
	m := families[i].Metric[0].Histogram
	if m.GetSchema() != schema || m.GetSampleCount() != h.Count || len(m.Bucket) == 0 {
		t.Fatalf("schema %d, %d of %d samples, %d classic buckets", m.GetSchema(), m.GetSampleCount(), h.Count, len(m.Bucket))
	}
	var below, n int64
	index, delta := int32(0), 0
	for _, span := range m.PositiveSpan {
		index += span.GetOffset()
		for range span.GetLength() {
			n += m.PositiveDelta[delta]
			delta++
			below += n
			// The middle of the original's bucket, which Quantile returns, is in the bucket here.
			low, end := math.Exp2(float64(index-1)/8), math.Exp2(float64(index)/8)
			if q := h.Quantile((float64(below) - 0.5) / float64(h.Count)).Seconds(); n > 0 && (q <= low || q > end) {
				t.Errorf("%d durations are up to %v s, and in the original up to %v s", below, end, q)
			}
			index++
		}
	}
	if below != int64(h.Count) {
		t.Errorf("%d durations in the native buckets, want %d", below, h.Count)
	}
}

func TestNamesTellCachesApart(t *testing.T) {
	users, tasks, again := &fixed{name: "users"}, &fixed{name: "tasks"}, &fixed{name: "users"}
	if _, err := NewCollector(users, tasks, again); err == nil || !strings.Contains(err.Error(), `"users"`) {
		t.Errorf("two caches of one name: %v", err)
	}
	if _, err := NewCollector(nil); err == nil {
		t.Error("nil is taken for a cache")
	}
	c, err := NewCollector(users)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Add(tasks, again); err == nil {
		t.Error("a second cache of one name was added")
	}
	reg := registered(t, c)
	has := func(name string) bool { _, ok := scrape(t, reg)[`cache_loads_total{cache="`+name+`"}`]; return ok }
	if !has("users") || has("tasks") {
		t.Error("an Add that failed has added something")
	}
	if err := c.Add(tasks); err != nil {
		t.Error(err)
	}
	c.Remove("users", "nobody")
	if has("users") || !has("tasks") {
		t.Error("users is not removed, or tasks not there")
	}
	// Caches of one name, told apart by other labels.
	other, err := NewCollector(&fixed{name: "tasks"})
	if err != nil {
		t.Fatal(err)
	}
	if err := prometheus.WrapRegistererWith(prometheus.Labels{"shard": "2"}, reg).Register(other); err == nil {
		t.Error("the registry takes metrics of one name with different labels") // it wants all of them wrapped
	}
	both := prometheus.NewRegistry()
	prometheus.WrapRegistererWith(prometheus.Labels{"shard": "1"}, both).MustRegister(c)
	prometheus.WrapRegistererWith(prometheus.Labels{"shard": "2"}, both).MustRegister(other)
	if got := scrape(t, both); len(got) == 0 {
		t.Error("nothing of the two")
	}
}

// A cache at work: what it counts, the collector shows, also after a reset.
func TestACacheIsScraped(t *testing.T) {
	ctx := context.Background()
	rec := NewRecorder()
	bad := errors.New("no")
	c, err := cache.NewFrom(nil, "users", cache.SourceFunc(func(_ context.Context, key string) (int, error) {
		if key == "bad" {
			return 0, bad
		}
		return 1, nil
	}), cache.LocalOnly(), cache.WithStrategy(strategy.LRU(100)), cache.WithRecorder(rec))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	col, err := NewCollector(c)
	if err != nil {
		t.Fatal(err)
	}
	reg := registered(t, col, rec)
	for round := range uint64(3) {
		key := fmt.Sprint(round)
		for range 10 {
			if _, err := c.Get(ctx, key); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Get(ctx, "bad"); !errors.Is(err, bad) {
			t.Fatal(err)
		}
		got := scrape(t, reg)
		for series, n := range map[string]uint64{
			`cache_requests_total{cache="users",result="hit",tier="local"}`:                    9,
			`cache_requests_total{cache="users",result="hit",tier="remote"}`:                   0,
			`cache_requests_total{cache="users",result="miss",tier="none"}`:                    2,
			`cache_misses_total{cache="users",reason="absent"}`:                                2,
			`cache_loads_total{cache="users"}`:                                                 2,
			`cache_load_errors_total{cache="users"}`:                                           1,
			`cache_load_duration_seconds_count{cache="users"}`:                                 2,
			`cache_local_entries{cache="users"}`:                                               1,
			`cache_load_calls_total{cache="users",outcome="succeeded",purpose="request"}`:      1,
			`cache_load_calls_total{cache="users",outcome="failed",purpose="request"}`:         1,
			`cache_loads_in_flight{cache="users"}`:                                             0,
			`cache_operation_duration_seconds_bucket{cache="users",operation="set",le="+Inf"}`: 0,
		} {
			if want := float64(n * (round + 1)); got[series] != want {
				t.Errorf("round %d: %s %v, want %v", round, series, got[series], want)
			}
		}
		if _, ok := got[`cache_listener_up{cache="users"}`]; ok {
			t.Error("a cache without Redis has a listener")
		}
		c.ResetMetrics()
		if c.Metrics().Requests() != 0 {
			t.Error("not reset")
		}
	}
}

// relay is one whose numbers are known.
type relay []metrics.Outbox

func (r relay) Outboxes() []metrics.Outbox { return r }

func numberedOutbox() metrics.Outbox {
	return metrics.Outbox{
		Cache: "users", Held: true, Unavailable: true, Lag: 1500 * time.Millisecond, Backlog: 3, DeadLetters: 4,
		Applied: 5, Merged: 6, Replaced: 7, Waited: 2500 * time.Millisecond, Postponed: 8, Refused: 9, Buried: 10, DatabaseErrors: 11,
	}
}

func TestAnOutboxIsScraped(t *testing.T) {
	var c Collector
	reg := registered(t, &c)
	if err := c.AddRelays(nil); err == nil {
		t.Error("nil is taken for a relay")
	}
	if got := scrape(t, reg); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if err := c.AddRelays(relay{numberedOutbox(), {Cache: "orders", Applied: 1}}, relay{{Cache: "orders", Applied: 2}, {Cache: "\xff"}}); err != nil {
		t.Fatal(err)
	}
	got := scrape(t, reg)
	want := map[string]float64{
		`cache_outbox_held`: 1, `cache_outbox_lag_seconds`: 1.5, `cache_outbox_backlog`: 3, `cache_outbox_dead_letters`: 4, `cache_outbox_unavailable`: 1,
		`cache_outbox_applied_total`: 5, `cache_outbox_merged_total`: 6, `cache_outbox_replaced_total`: 7, `cache_outbox_wait_seconds_total`: 2.5,
		`cache_outbox_postponed_total`: 8, `cache_outbox_refused_total`: 9, `cache_outbox_buried_total`: 10, `cache_outbox_database_errors_total`: 11,
	}
	for name, n := range want {
		if is, ok := got[name+`{cache="users"}`]; !ok || is != n {
			t.Errorf("%s is %v, there %v, want %v", name, is, ok, n)
		}
	}
	if n := got[`cache_outbox_applied_total{cache="orders"}`]; n != 3 {
		t.Errorf("of two relays: %v", n)
	}
	if n, ok := got[`cache_outbox_held{cache="orders"}`]; n != 0 || !ok {
		t.Errorf("held elsewhere: %v, there %v", n, ok)
	}
	for _, name := range []string{"lag_seconds", "backlog", "dead_letters", "unavailable"} {
		if _, ok := got[`cache_outbox_`+name+`{cache="orders"}`]; ok {
			t.Errorf("%s is shown where it is not known", name)
		}
	}
	if len(got) != 3*len(want)-2*4 {
		t.Errorf("%d series", len(got))
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
