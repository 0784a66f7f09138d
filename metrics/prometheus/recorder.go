package prometheus

import (
	"context"
	"time"

	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// Recorder counts what can be observed only as it happens. One is enough for any number of
// caches, which get it by cache.WithRecorder; and it is registered like every other collector.
type Recorder struct {
	remote   *prometheus.HistogramVec
	loads    *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
	behind   *prometheus.CounterVec
	changes  *prometheus.CounterVec
	all      []prometheus.Collector
}

var (
	_ metrics.RefreshRecorder = (*Recorder)(nil)
	_ prometheus.Collector    = (*Recorder)(nil)
)

// NewRecorder returns a Recorder of which nothing is registered yet. The names of its metrics
// have no namespace: see [Namespace.NewRecorder].
func NewRecorder() *Recorder { return newRecorder("") }

// NewRecorder returns a Recorder whose metrics are in the namespace, and of which nothing is
// registered yet. The error says if the namespace can't begin the name of a metric.
func (n Namespace) NewRecorder() (*Recorder, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	return newRecorder(n), nil
}

func newRecorder(n Namespace) *Recorder {
	r := &Recorder{
		remote: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            n.name("cache_remote_operation_duration_seconds"),
			Help:                            "How long operations on Redis take, by kind and outcome; a batch is one, and many kinds in one are mixed.",
			Buckets:                         metrictable.Bounds(),
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"cache", "operation", "outcome"}),
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: n.name("cache_load_calls_total"),
			Help: "Calls of loaders that have ended, by what they were for and their outcome.",
		}, []string{"cache", "purpose", "outcome"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: n.name("cache_loads_in_flight"),
			Help: "Calls of loaders under way.",
		}, []string{"cache"}),
		behind: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: n.name("cache_background_refreshes_total"),
			Help: "Refreshes behind a reader's back that have ended, by outcome; refused: another process was at it.",
		}, []string{"cache", "outcome"}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: n.name("cache_state_changes_total"),
			Help: "Changes of state of a part of the cache, by the new state.",
		}, []string{"cache", "part", "state"}),
	}
	r.all = []prometheus.Collector{r.remote, r.loads, r.inFlight, r.behind, r.changes}
	return r
}

// StartLoad implements [metrics.Recorder].
func (r *Recorder) StartLoad(ctx context.Context, load metrics.LoadEvent) (context.Context, func(metrics.LoadResult)) {
	cache, purpose := label(load.Cache), "request"
	if load.Refresh {
		purpose = "refresh"
	}
	inFlight := r.inFlight.WithLabelValues(cache)
	inFlight.Inc()
	return ctx, func(res metrics.LoadResult) {
		inFlight.Dec()
		r.loads.WithLabelValues(cache, purpose, res.Outcome.String()).Inc()
	}
}

// RemoteOperation implements [metrics.Recorder].
func (r *Recorder) RemoteOperation(_ context.Context, op metrics.RemoteEvent) {
	r.remote.WithLabelValues(label(op.Cache), label(op.Op), op.Outcome.String()).Observe(op.Duration.Seconds())
}

// StateChange implements [metrics.Recorder].
func (r *Recorder) StateChange(change metrics.StateEvent) {
	r.changes.WithLabelValues(label(change.Cache), change.Part.String(), change.State.String()).Inc()
}

// StartRefresh implements [metrics.RefreshRecorder].
func (r *Recorder) StartRefresh(ctx, _ context.Context, refresh metrics.RefreshEvent) (context.Context, func(metrics.Outcome)) {
	return ctx, func(o metrics.Outcome) { r.behind.WithLabelValues(label(refresh.Cache), o.String()).Inc() }
}

// Describe implements [prometheus.Collector].
func (r *Recorder) Describe(descs chan<- *prometheus.Desc) {
	for _, c := range r.all {
		c.Describe(descs)
	}
}

// Collect implements [prometheus.Collector].
func (r *Recorder) Collect(out chan<- prometheus.Metric) {
	for _, c := range r.all {
		c.Collect(out)
	}
}
