package metricstest_test

import (
	"context"
	"fmt"

	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/metrics/metricstest"
)

// colored is a Recorder with a mistake: it knows only two outcomes.
type colored struct{ metrics.Discard }

var colors = []string{metrics.Succeeded: "green", metrics.Failed: "red"}

func (colored) RemoteOperation(_ context.Context, op metrics.RemoteEvent) {
	_ = colors[op.Outcome]
}

func ExampleCheckRecorder() {
	fmt.Println(metricstest.CheckRecorder(func() metrics.Recorder { return metrics.Discard{} }))
	fmt.Println(metricstest.CheckRecorder(func() metrics.Recorder { return colored{} }) != nil)
	// Output:
	// <nil>
	// true
}

func ExampleCheckSnapshot() {
	s := metrics.Snapshot{LocalHits: 8, MissAbsent: 2, Loads: 2}
	fmt.Println(metricstest.CheckSnapshot(s))
	s.Loads = 1
	fmt.Println(metricstest.CheckSnapshot(s) != nil)
	// Output:
	// <nil>
	// true
}
