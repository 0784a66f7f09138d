package benchmarks

import (
	"flag"
	"testing"
)

// Every benchmark runs, once and with as little as it can do, so that one that is
// broken is noticed where the tests run and not in a measurement.
func TestEveryBenchmarkRuns(t *testing.T) {
	small = true
	defer func() { small = false }()
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string]func(*testing.B){
		"LocalHit": BenchmarkLocalHit, "InProcess": BenchmarkInProcess, "Scaling": BenchmarkScaling, "RemoteHit": BenchmarkRemoteHit, "Set": BenchmarkSet,
		"Miss": BenchmarkMiss, "GetMany": BenchmarkGetMany, "SetMany": BenchmarkSetMany, "Stampede": BenchmarkStampede,
		"Invalidation": BenchmarkInvalidation, "Memory": BenchmarkMemory, "HitRatio": BenchmarkHitRatio, "Fleet": BenchmarkFleet,
		"InProcessSet": BenchmarkInProcessSet, "InProcessLoad": BenchmarkInProcessLoad, "InProcessGetMany": BenchmarkInProcessGetMany,
		"Decoded": BenchmarkDecoded, "LargeBesideSmall": BenchmarkLargeBesideSmall,
	} {
		t.Run(name, func(t *testing.T) {
			failures.list = nil
			r := testing.Benchmark(run)
			for _, f := range failures.list {
				t.Error(f)
			}
			if r.N == 0 && !t.Failed() {
				t.Error("it did not run")
			}
		})
	}
}
