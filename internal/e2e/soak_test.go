package e2e_test

import (
	"flag"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
)

var (
	soakFor  = flag.Duration("soak", 3*time.Second, "how long random faults come over a server, and as long over a cluster")
	soakSeed = flag.Uint64("soak.seed", uint64(time.Now().UnixNano()), "of the faults' order and times")
)

// soakGrowth is how much more memory may be in use at the end of a soak than near its
// beginning: the pools of connections have grown by then, with 64 KiB for each, and more than that is a
// leak in an hour.
const soakGrowth = 64 << 20

// Faults come and go at random, two at a time, for as long as one likes: no read fails,
// none is wrong or too old, all is as it was when they are over, and neither goroutines nor
// memory grow.
func TestSoak(t *testing.T) {
	redistest.Long(t)
	redistest.Require(t)
	t.Logf("-soak.seed %d", *soakSeed)
	for _, name := range []string{"single", "cluster, all masters"} {
		t.Run(name, func(t *testing.T) {
			c := newChaos(t, name)
			rnd := rand.New(rand.NewPCG(*soakSeed, 0))
			c.start()
			c.stop()
			goroutines, _ := c.goroutines()
			memory := inUse()
			for end := time.Now().Add(*soakFor); time.Now().Before(end) && !t.Failed(); {
				c.start()
				// Some rounds, then a look at what is left of them.
				for range 1 + rnd.IntN(4) {
					c.suffer(rnd)
					pause(t.Context(), time.Duration(rnd.IntN(500))*time.Millisecond)
				}
				c.stop()
				c.flat(goroutines)
			}
			if now := inUse(); now > memory+soakGrowth {
				t.Errorf("%d bytes are in use, after %d", now, memory)
			}
		})
	}
}

// suffer lets two faults, chosen at random, come at the same time and go.
func (c *chaos) suffer(rnd *rand.Rand) {
	c.t.Helper()
	all := names(faults)
	first, second := all[rnd.IntN(len(all))], all[rnd.IntN(len(all))]
	if faults[first].servers && faults[second].servers {
		second = "slices" // a process can't have both
	}
	for _, name := range []string{first, second} {
		defer c.site.suffers(c.t, name, rand.New(rand.NewPCG(rnd.Uint64(), 0)))()
	}
	pause(c.t.Context(), time.Duration(100+rnd.IntN(1400))*time.Millisecond)
	c.t.Logf("%s, %s", first, second)
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
