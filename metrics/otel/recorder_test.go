package otel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/metrics/metricstest"
	"github.com/delqhi/cache/strategy"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// watched is a Recorder with what it exports.
type watched struct {
	*Recorder
	t      *testing.T
	spans  *tracetest.InMemoryExporter
	tracer trace.Tracer // of the program
	server string       // the address of Redis
	reader *metric.ManualReader
	meters *metric.MeterProvider
}

func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, spans: tracetest.NewInMemoryExporter(), reader: metric.NewManualReader()}
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans))
	w.meters = metric.NewMeterProvider(metric.WithReader(w.reader))
	w.tracer = tracers.Tracer("program")
	var err error
	if w.Recorder, err = NewRecorder(tracers, w.meters); err != nil {
		t.Fatal(err)
	}
	return w
}

// only returns the span of a name.
func (w *watched) only(name string) tracetest.SpanStub {
	w.t.Helper()
	var found []tracetest.SpanStub
	for _, s := range w.spans.GetSpans() {
		if s.Name == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		w.t.Fatalf("%d spans %q", len(found), name)
	}
	return found[0]
}

// operation returns the span of an operation of the cache on Redis.
func (w *watched) operation(op string) tracetest.SpanStub {
	w.t.Helper()
	for _, s := range w.spans.GetSpans() {
		if value(s, "cache.operation") == op {
			return w.only(s.Name)
		}
	}
	w.t.Fatalf("no span of the operation %q", op)
	return tracetest.SpanStub{}
}

func value(s tracetest.SpanStub, key string) string {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return "none"
}

func TestTheRecorderKeepsTheContract(t *testing.T) {
	if err := metricstest.CheckRecorder(func() metrics.Recorder { return watch(t).Recorder }); err != nil {
		t.Error(err)
	}
	if err := metricstest.CheckRecorder(func() metrics.Recorder {
		r, err := NewRecorder(tracenoop.NewTracerProvider(), noop.NewMeterProvider())
		if err != nil {
			t.Error(err)
		}
		return r
	}); err != nil {
		t.Errorf("without providers that do something: %v", err)
	}
	if err := metricstest.CheckRecorder(func() metrics.Recorder {
		r, err := NewRecorder(nil, nil)
		if err != nil {
			t.Error(err)
		}
		return r
	}); err != nil {
		t.Errorf("with the global providers: %v", err)
	}
}

// A request that loads: its trace has the operations on Redis and the load, and in that
// what the loader does.
func TestALoadIsPartOfItsRequest(t *testing.T) {
	w := watch(t)
	c := newCache(t, w, cache.SourceFunc(func(ctx context.Context, _ string) (int, error) {
		_, span := w.tracer.Start(ctx, "query")
		span.End()
		return 1, nil
	}))
	ctx, request := w.tracer.Start(t.Context(), "request")
	if _, err := c.Get(ctx, "secret-key"); err != nil {
		t.Fatal(err)
	}
	request.End()
	load, query := w.only("load users"), w.only("query")
	if load.Parent.SpanID() != request.SpanContext().SpanID() || query.Parent.SpanID() != load.SpanContext.SpanID() {
		t.Errorf("request %v > load %v > query %v: not nested", request.SpanContext().SpanID(), load.Parent.SpanID(), query.Parent.SpanID())
	}
	if load.SpanKind != trace.SpanKindInternal || load.Status.Code != codes.Unset || len(load.Links) != 0 {
		t.Errorf("the load: %+v", load)
	}
	for key, want := range map[string]string{
		"cache.name": "users", "cache.load.purpose": "request", "cache.load.keys": "1", "cache.outcome": "succeeded",
		"cache.load.found": "1", "cache.load.not_found": "0",
	} {
		if got := value(load, key); got != want {
			t.Errorf("%s of the load is %q, want %q", key, got, want)
		}
	}
	host, port, err := net.SplitHostPort(w.server)
	if err != nil {
		t.Fatal(err)
	}
	// The read asks for the logical clock as well, which this process does not follow.
	for name, want := range map[string]string{ // read, lease, fill
		"get": "mget " + w.server, "set_nx": "set " + w.server, "compare_and_set": "evalsha compare_and_set",
	} {
		op := w.operation(name)
		if op.Name != want {
			t.Errorf("%s has a span %q, want %q", name, op.Name, want)
		}
		if value(op, "server.address") != host || value(op, "server.port") != port || value(op, "db.namespace") != "3" {
			t.Errorf("%s: %v", name, op.Attributes)
		}
		if op.Parent.SpanID() != request.SpanContext().SpanID() || op.SpanKind != trace.SpanKindClient {
			t.Errorf("%s: parent %v, kind %v", name, op.Parent.SpanID(), op.SpanKind)
		}
		if value(op, "db.system.name") != "redis" || value(op, "cache.name") != "users" || value(op, "cache.outcome") != "succeeded" {
			t.Errorf("%s: %v", name, op.Attributes)
		}
		if op.EndTime.Before(op.StartTime) {
			t.Errorf("%s ends before it begins", name)
		}
	}
	for _, s := range w.spans.GetSpans() {
		for _, a := range s.Attributes {
			if strings.Contains(a.Value.String(), "secret") {
				t.Errorf("a key in %s of %s", a.Key, s.Name)
			}
		}
	}
}

// A refresh outlives its reader: it has a trace of its own, with a link to the reader's.
func TestARefreshIsLinkedToItsReader(t *testing.T) {
	w := watch(t)
	refreshed := make(chan struct{}, 1)
	first := true
	c := newCache(t, w, cache.SourceFunc(func(ctx context.Context, _ string) (int, error) {
		if !first {
			defer func() { refreshed <- struct{}{} }()
			_, span := w.tracer.Start(ctx, "query")
			span.End()
		}
		first = false
		return 1, nil
	}), cache.WithStrategy(strategy.EarlyExpiration(1e15))) // every hit is early
	if _, err := c.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	w.spans.Reset()
	ctx, reader := w.tracer.Start(t.Context(), "reader")
	if _, err := c.Get(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	reader.End()
	<-refreshed
	c.Close() // waits for it
	refresh := w.only("refresh users")
	if refresh.Parent.IsValid() || refresh.SpanContext.TraceID() == reader.SpanContext().TraceID() {
		t.Errorf("the refresh is in the trace of its reader: parent %v", refresh.Parent.SpanID())
	}
	if len(refresh.Links) != 1 || !refresh.Links[0].SpanContext.Equal(reader.SpanContext()) {
		t.Errorf("the refresh is linked to %+v", refresh.Links)
	}
	if value(refresh, "cache.outcome") != "succeeded" || value(refresh, "cache.name") != "users" {
		t.Errorf("the refresh: %v", refresh.Attributes)
	}
	load := w.only("load users")
	if load.Parent.SpanID() != refresh.SpanContext.SpanID() || value(load, "cache.load.purpose") != "refresh" {
		t.Errorf("the load: parent %v, %v", load.Parent.SpanID(), load.Attributes)
	}
	if query := w.only("query"); query.Parent.SpanID() != load.SpanContext.SpanID() {
		t.Errorf("the loader's span is not in the load")
	}
	ops := 0 // the lock and the fill
	for _, s := range w.spans.GetSpans() {
		if value(s, "db.system.name") == "redis" && s.Parent.SpanID() == refresh.SpanContext.SpanID() {
			ops++
		}
	}
	if ops < 2 {
		t.Errorf("%d operations on Redis are part of the refresh", ops)
	}

	// A refresh for a reader that is not traced has no link.
	w.spans.Reset()
	_, end := w.StartRefresh(t.Context(), t.Context(), metrics.RefreshEvent{Cache: "users"})
	end(metrics.Refused)
	if s := w.only("refresh users"); len(s.Links) != 0 || s.Status.Code != codes.Unset || value(s, "cache.outcome") != "refused" {
		t.Errorf("%+v", s)
	}
}

func TestOutcomesAreStatuses(t *testing.T) {
	for outcome, want := range map[metrics.Outcome]codes.Code{
		metrics.Succeeded: codes.Unset, metrics.Canceled: codes.Unset, metrics.Failed: codes.Error,
		metrics.TimedOut: codes.Error, metrics.Panicked: codes.Error, metrics.Refused: codes.Error,
	} {
		w := watch(t)
		ctx, end := w.StartLoad(t.Context(), metrics.LoadEvent{Cache: "users", Keys: 2})
		w.RemoteOperation(ctx, metrics.RemoteEvent{Cache: "users", Op: "get", Command: "mget", Commands: 1, Keys: 2, Duration: time.Second, Outcome: outcome})
		end(metrics.LoadResult{Outcome: outcome})
		for _, name := range []string{"load users", "mget"} {
			s := w.only(name)
			kind := "none"
			if want == codes.Error {
				kind = outcome.String()
			}
			if s.Status.Code != want || value(s, "error.type") != kind {
				t.Errorf("%s that %v: %+v, error type %s", name, outcome, s.Status, value(s, "error.type"))
			}
		}
		if op := w.only("mget"); op.EndTime.Sub(op.StartTime) != time.Second {
			t.Errorf("an operation of a second took %v", op.EndTime.Sub(op.StartTime))
		}
	}
}

// The attributes of an operation, on its span and, but for the size of a batch, on its duration,
// are those of the semantic conventions for databases.
func TestOperationsFollowTheConventions(t *testing.T) {
	server := metrics.RemoteServer{Address: "redis.example.com", Database: "0"}
	elsewhere := metrics.RemoteServer{Address: "a,b", Port: 7000, Database: "0"}
	for _, tt := range []struct {
		event metrics.RemoteEvent
		name  string
		want  string // attributes beside those that all have
	}{
		{metrics.RemoteEvent{Op: "get", Keys: 1, Command: "get", Commands: 1, Server: server}, "get redis.example.com",
			"cache.operation=get db.namespace=0 db.operation.name=get server.address=redis.example.com"},
		{metrics.RemoteEvent{Op: "get", Keys: 100, Command: "mget", Commands: 1, Server: elsewhere}, "mget a,b:7000",
			"cache.operation=get db.namespace=0 db.operation.name=mget server.address=a,b server.port=7000"},
		{metrics.RemoteEvent{Op: "get", Keys: 100, Command: "get", Commands: 100}, "PIPELINE get",
			"cache.operation=get db.operation.batch.size=100 db.operation.name=PIPELINE get"},
		{metrics.RemoteEvent{Op: "set", Keys: 1, Commands: 2}, "PIPELINE",
			"cache.operation=set db.operation.batch.size=2 db.operation.name=PIPELINE"},
		{metrics.RemoteEvent{Op: "set", Keys: 1, Command: "evalsha", Script: "set", Commands: 1, Server: server}, "evalsha set",
			"cache.operation=set db.namespace=0 db.operation.name=evalsha db.stored_procedure.name=set server.address=redis.example.com"},
		{metrics.RemoteEvent{Op: "masters"}, "masters", "cache.operation=masters db.operation.name=masters"},
		{metrics.RemoteEvent{Op: "set", Command: "set", Commands: 1, Outcome: metrics.Failed, Status: "OOM"}, "set",
			"cache.operation=set db.operation.name=set db.response.status_code=OOM error.type=OOM"},
		{metrics.RemoteEvent{Op: "set", Command: "set", Commands: 1, Outcome: metrics.TimedOut}, "set",
			"cache.operation=set db.operation.name=set error.type=timed-out"},
		{metrics.RemoteEvent{Op: "set", Command: "set", Commands: 1, Outcome: metrics.Canceled}, "set",
			"cache.operation=set db.operation.name=set"},
	} {
		w := watch(t)
		ctx, _ := w.tracer.Start(t.Context(), "request")
		tt.event.Cache, tt.event.Duration = "users", time.Millisecond
		w.RemoteOperation(ctx, tt.event)
		span := w.only(tt.name)
		want := append(strings.Split(strings.ReplaceAll(tt.want, "PIPELINE get", "PIPELINE+get"), " "),
			"cache.name=users", "cache.outcome="+tt.event.Outcome.String(), "db.system.name=redis")
		slices.Sort(want)
		var got []string
		for _, a := range span.Attributes {
			got = append(got, string(a.Key)+"="+strings.ReplaceAll(a.Value.String(), " ", "+"))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: attributes\n%q, want\n%q", tt.name, got, want)
		}
		measured := slices.DeleteFunc(want, func(a string) bool { return strings.HasPrefix(a, "db.operation.batch.size=") })
		series := "db.client.operation.duration{" + strings.ReplaceAll(strings.Join(measured, ","), "+", " ") + "} sum"
		if sums := collect(t, w.reader); sums[series] != 0.001 {
			t.Errorf("%s: no %s in %v", tt.name, series, sums)
		}
		if !strings.Contains(span.InstrumentationScope.SchemaURL, "/1.") {
			t.Errorf("the schema of the spans is %q", span.InstrumentationScope.SchemaURL)
		}
	}
}

// The names of instruments follow the conventions: those of UpDownCounters are singular, no
// namespace is plural, and none has total in it.
func TestNamesFollowTheConventions(t *testing.T) {
	w := watch(t)
	if _, err := Observe(w.meters, &fixed{name: "users"}); err != nil {
		t.Fatal(err)
	}
	_, end := w.StartLoad(t.Context(), metrics.LoadEvent{Cache: "users", Keys: 1})
	end(metrics.LoadResult{})
	var rm metricdata.ResourceMetrics
	if err := w.reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	counters := 0
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			parts := strings.Split(m.Name, ".")
			for i, part := range parts {
				last := i == len(parts)-1
				plural := strings.HasSuffix(part, "s") && !strings.HasSuffix(part, "ss")
				if part == "total" || plural && !last {
					t.Errorf("%s: %q", m.Name, part)
				}
				if sum, ok := m.Data.(metricdata.Sum[int64]); ok && last {
					counters++
					if plural && !sum.IsMonotonic {
						t.Errorf("%s goes up and down, and is plural", m.Name)
					}
				}
			}
		}
	}
	if counters < 10 {
		t.Errorf("%d counters were looked at", counters)
	}
}

func TestAnOperationBeginsNoTrace(t *testing.T) {
	w := watch(t)
	w.RemoteOperation(t.Context(), metrics.RemoteEvent{Cache: "users", Op: "get", Keys: 1})
	if n := len(w.spans.GetSpans()); n != 0 {
		t.Errorf("%d spans", n)
	}
}

func TestTheRecorderMeasuresEvents(t *testing.T) {
	w := watch(t)
	ctx := t.Context()
	_, end := w.StartLoad(ctx, metrics.LoadEvent{Cache: "users", Keys: 1})
	w.StartLoad(ctx, metrics.LoadEvent{Cache: "users", Keys: 1, Refresh: true})
	end(metrics.LoadResult{Duration: 2 * time.Second, Outcome: metrics.Failed})
	w.RemoteOperation(ctx, metrics.RemoteEvent{Cache: "users", Op: "get", Keys: 1, Duration: time.Millisecond})
	w.StateChange(metrics.StateEvent{Cache: "users", Part: metrics.Listener, State: metrics.Up})
	got := collect(t, w.reader)
	for series, want := range map[string]float64{
		"cache.load.call.duration{cache.load.purpose=request,cache.name=users,cache.outcome=failed} count": 1,
		"cache.load.call.duration{cache.load.purpose=request,cache.name=users,cache.outcome=failed} sum":   2,
		"cache.load.active{cache.name=users}": 1,
		"db.client.operation.duration{cache.name=users,cache.operation=get,cache.outcome=succeeded,db.operation.name=get,db.system.name=redis} count": 1,
		"db.client.operation.duration{cache.name=users,cache.operation=get,cache.outcome=succeeded,db.operation.name=get,db.system.name=redis} sum":   0.001,
		"cache.state.changes{cache.name=users,cache.part=listener,cache.state=up}":                                                                    1,
	} {
		if n, ok := got[series]; !ok || n != want {
			t.Errorf("%s is %v (there: %t), want %v", series, n, ok, want)
		}
	}
}

func newCache(t *testing.T, w *watched, src cache.Source[string, int], opts ...cache.Option) *cache.Cache[string, int] {
	t.Helper()
	w.server = miniredis.RunT(t).Addr()
	rdb, err := cache.NewClient("redis://" + w.server + "/3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rdb.Close() })
	c, err := cache.NewFrom(rdb, "users", src, append([]cache.Option{
		cache.WithRecorder(w), cache.WithLogger(slog.New(slog.DiscardHandler)), cache.WithTimeout(10 * time.Second),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Peek(t.Context(), "nothing"); !errors.Is(err, cache.ErrMiss) {
		t.Fatal(err)
	}
	return c
}

// collect reads all series, as "name{attribute=value,…}".
func collect(t *testing.T, reader metric.Reader) map[string]float64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			id := func(set attribute.Set) string {
				var parts []string
				for _, kv := range set.ToSlice() {
					parts = append(parts, string(kv.Key)+"="+kv.Value.String())
				}
				slices.Sort(parts)
				return m.Name + "{" + strings.Join(parts, ",") + "}"
			}
			if m.Unit == "" || m.Description == "" {
				t.Errorf("%s has unit %q and description %q", m.Name, m.Unit, m.Description)
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					out[id(p.Attributes)] = float64(p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					out[id(p.Attributes)] = float64(p.Value)
				}
			case metricdata.Sum[float64]:
				for _, p := range data.DataPoints {
					out[id(p.Attributes)] = p.Value
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					out[id(p.Attributes)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					out[id(p.Attributes)+" count"], out[id(p.Attributes)+" sum"] = float64(p.Count), p.Sum
				}
			default:
				t.Errorf("%s is a %T", m.Name, data)
			}
		}
	}
	return out
}
