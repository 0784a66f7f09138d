package e2e_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
)

var (
	soakFor  = flag.Duration("soak", 3*time.Second, "how long random troubles come over a server, and as long over a cluster")
	soakSeed = flag.Uint64("soak.seed", uint64(time.Now().UnixNano()), "of the troubles' order and times")
)

// soakGrowth is how much more memory may be in use at the end of a soak than near its
// beginning: pools and maps have grown by then, and more than that is a leak in an hour.
const soakGrowth = 16 << 20

// Troubles come and go at random, two at a time, for as long as one likes: no read fails,
// none is wrong or too old, all is as it was when they are over, and neither goroutines nor
// memory grow.
func TestSoak(t *testing.T) {
	redistest.Long(t)
	redistest.Require(t)
	t.Logf("-soak.seed %d", *soakSeed)
	for _, name := range []string{"single", "cluster, all masters"} {
		t.Run(name, func(t *testing.T) {
			s := newStorm(t, name)
			rnd := rand.New(rand.NewPCG(*soakSeed, 0))
			stop := s.rage()
			defer func() { stop() }()
			s.recover()
			stop()
			s.calm()
			goroutines, _ := s.goroutines()
			memory := inUse()
			for end := time.Now().Add(*soakFor); time.Now().Before(end) && !t.Failed(); {
				stop = s.rage()
				// Some rounds, then a look at what is left of them.
				for range 1 + rnd.IntN(4) {
					s.suffer(rnd)
					pause(t.Context(), time.Duration(rnd.IntN(500))*time.Millisecond)
				}
				s.recover()
				stop()
				s.calm()
				s.flat(goroutines)
			}
			if now := inUse(); now > memory+soakGrowth {
				t.Errorf("%d bytes are in use, after %d", now, memory)
			}
		})
	}
}

// suffer lets two troubles, chosen at random, come at the same time and go.
func (s *storm) suffer(rnd *rand.Rand) {
	s.t.Helper()
	all := names(troubles)
	first, second := all[rnd.IntN(len(all))], all[rnd.IntN(len(all))]
	if (first == "killed" || first == "frozen") && (second == "killed" || second == "frozen") {
		second = "slices" // a process can't have both
	}
	ctx, end := context.WithCancel(context.Background())
	defer end()
	var both sync.WaitGroup
	for _, name := range []string{first, second} {
		seeded := rand.New(rand.NewPCG(rnd.Uint64(), 0))
		both.Go(func() {
			if err := troubles[name].come(ctx, seeded, s.site); err != nil {
				s.fail("%s: %v", name, err)
			}
		})
	}
	pause(s.t.Context(), time.Duration(100+rnd.IntN(1400))*time.Millisecond)
	end()
	both.Wait()
	s.site.heal()
	s.t.Logf("%s, %s", first, second)
}

// inUse returns how many bytes of the heap are in use.
func inUse() uint64 {
	for range 2 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
