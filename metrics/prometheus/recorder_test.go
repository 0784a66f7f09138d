package prometheus

import (
	"testing"
	"time"

	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/metrics/metricstest"
)

func TestTheRecorderKeepsTheContract(t *testing.T) {
	if err := metricstest.CheckRecorder(func() metrics.Recorder { return NewRecorder() }); err != nil {
		t.Error(err)
	}
}

// usedRecorder returns a recorder of one event of each kind, and of a load in flight.
func usedRecorder(t *testing.T, namespace Namespace) *Recorder {
	r, ctx := newRecorder(namespace), t.Context()
	_, end := r.StartLoad(ctx, metrics.LoadEvent{Cache: "users", Keys: 3})
	r.StartLoad(ctx, metrics.LoadEvent{Cache: "users", Keys: 1})
	end(metrics.LoadResult{Duration: time.Second, Outcome: metrics.TimedOut})
	_, end = r.StartLoad(ctx, metrics.LoadEvent{Cache: "users", Keys: 3, Refresh: true})
	end(metrics.LoadResult{Found: 3})
	r.RemoteOperation(ctx, metrics.RemoteEvent{Cache: "users", Op: "get", Keys: 100, Duration: time.Millisecond})
	r.RemoteOperation(ctx, metrics.RemoteEvent{Cache: "users", Op: "get", Keys: 1, Duration: 3 * time.Millisecond})
	r.StateChange(metrics.StateEvent{Cache: "users", Part: metrics.Breaker, State: metrics.Open})
	_, refreshed := r.StartRefresh(ctx, ctx, metrics.RefreshEvent{Cache: "users"})
	refreshed(metrics.Refused)
	return r
}

func TestTheRecorderCountsEvents(t *testing.T) {
	got := scrape(t, registered(t, usedRecorder(t, "")))
	for series, want := range map[string]float64{
		`cache_load_calls_total{cache="users",outcome="timed-out",purpose="request"}`:                                        1,
		`cache_load_calls_total{cache="users",outcome="succeeded",purpose="refresh"}`:                                        1,
		`cache_loads_in_flight{cache="users"}`:                                                                               1,
		`cache_remote_operation_duration_seconds_count{cache="users",operation="get",outcome="succeeded"}`:                   2,
		`cache_remote_operation_duration_seconds_sum{cache="users",operation="get",outcome="succeeded"}`:                     0.004,
		`cache_remote_operation_duration_seconds_bucket{cache="users",operation="get",outcome="succeeded",le="0.002097151"}`: 1,
		`cache_state_changes_total{cache="users",part="breaker",state="open"}`:                                               1,
		`cache_background_refreshes_total{cache="users",outcome="refused"}`:                                                  1,
	} {
		if n, ok := got[series]; !ok || n != want {
			t.Errorf("%s %v (there: %t), want %v", series, n, ok, want)
		}
	}
}
