package engine

import (
	"context"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/local"
)

func TestRecordingAllocatesNothing(t *testing.T) {
	s := newStats(nil)
	for name, f := range map[string]func(){
		"a local hit": func() { s.localHits.Add(1); s.sampled(local.Now(), 0) },
		"a miss":      func() { s.miss(notFound) },
		"a write":     func() { s.wrote(&s.sets, nil) },
		"a duration":  func() { s.getHist.Record(time.Millisecond) },
		"a remote operation": func() {
			s.remoteOp(context.Background(), time.Millisecond, nil)
		},
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("counting %s makes %v allocations", name, n)
		}
	}
}
