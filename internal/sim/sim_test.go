package sim_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// The simulation runs a fleet of processes on one store, over a network on which
// everything takes a random time and goes wrong in random ways, with a random load of
// operations, and checks of every answer that it keeps the promises. A seed decides
// what happens, but for the few random numbers of the cache itself and of Go's select
// and maps: a seed that fails does so again more often than not.
var (
	simSeeds  = flag.Int("sim.seeds", 100, "how many worlds to simulate")
	simSeed   = flag.Uint64("sim.seed", 1, "the first world's seed")
	simFaults = flag.Int("sim.faults", -1, "bits of the faults that may happen; -1: as the seed says")
	simEvents = flag.Int("sim.events", 40, "how many of the last events to print of a world that breaks a promise")
	simWire   = flag.Bool("sim.wire", false, "include in them what goes over the network")
	simValues = flag.Int("sim.values", 40, "how many worlds to simulate in which values stay in the nodes")
	simMoves  = flag.Int("sim.moves", 10, "how many worlds to simulate that are clusters whose slots move")
	simLog    = flag.Bool("sim.log", false, "print what happens in worlds that break no promise, too")
)

// simTime is how long a world is at work.
const simTime = 4 * time.Second

func TestSimulation(t *testing.T) { simulateAll(t, *simSeeds, "TestSimulation$", "seeds", simulate) }

func TestSimulationOfLocalValues(t *testing.T) {
	simulateAll(t, *simValues, "TestSimulationOfLocalValues", "values", simulateValues)
}

func TestSimulationOfMovingSlots(t *testing.T) {
	simulateAll(t, *simMoves, "TestSimulationOfMovingSlots", "moves", simulateMoves)
}

func simulateAll(t *testing.T, seeds int, name, arg string, simulate func(*testing.T, uint64) *world) {
	var broken atomic.Int32
	for i := range seeds {
		seed := *simSeed + uint64(i)
		t.Run(fmt.Sprintf("%d", seed), func(t *testing.T) {
			t.Parallel()
			if broken.Load() >= 3 {
				t.Skip("enough is broken")
			}
			synctest.Test(t, func(t *testing.T) {
				if w := simulate(t, seed); w.failed != "" {
					broken.Add(1)
					t.Errorf("%s\n\nfaults: %v\npolicy: %+v\nagain: go test -run %s ./internal/sim -args -sim.%s 1 -sim.seed %d", w.failed, w.faults, w.policy, name, arg, seed)
				} else if *simLog {
					for _, e := range w.events {
						t.Log(e)
					}
				}
			})
		})
	}
}

// chooseFaults has a third of all worlds without faults, a third with one kind of
// them, and a third with several.
func chooseFaults(rng *rand.Rand) (f fault) {
	if *simFaults >= 0 {
		return fault(*simFaults)
	}
	kinds := rng.IntN(3)
	if kinds == 2 {
		kinds = 2 + rng.IntN(4)
	}
	for range kinds {
		f |= 1 << rng.IntN(len(faultNames)-2) // the last two are chosen by newWorld
	}
	if f&drops != 0 {
		f &^= crashes // who dies can't say what he had said
	}
	return f
}

func simulate(t *testing.T, seed uint64) *world { return newWorld(t, seed, false, false).run() }

func simulateValues(t *testing.T, seed uint64) *world { return newWorld(t, seed, true, false).run() }

func simulateMoves(t *testing.T, seed uint64) *world {
	return newWorld(t, seed, seed%4 == 0, true).run()
}

func newWorld(t *testing.T, seed uint64, values, moving bool) *world {
	rng := rand.New(rand.NewPCG(seed, 0))
	w := &world{
		t: t, seed: seed, values: values, faults: chooseFaults(rng), store: storetest.NewMemory(), began: time.Now(),
		dice: newDice(seed, 1), rng: rng, moving: moving, calm: make(chan struct{}), regs: map[string]*register{}, drawn: map[string]uint64{},
	}
	if m := rng.IntN(4); m < 3 && !values {
		w.policy = invalidation.Policy{Mode: invalidation.Mode(m)}
	}
	if w.policy.Mode == invalidation.Delayed {
		w.policy.Delay = 100 * time.Millisecond
	}
	w.single = rng.IntN(2) == 0
	w.parted = !w.single && seed%2 == 0
	if moving {
		w.single, w.parted = false, true
		w.faults = w.faults&^(drops|outages|restarts) | moves // of the masters each may be down
		if *simFaults >= 0 {
			w.faults = fault(*simFaults)
		} else if seed%3 == 0 {
			w.faults |= masterOutages
		}
		w.beCluster(rand.New(rand.NewPCG(seed, 2)))
	} else if w.parted && seed%4 == 0 && *simFaults < 0 {
		w.faults |= masterOutages
	}
	w.calms = []int{1, 5, 40}[rng.IntN(3)]
	w.direct = w.faults&drops == 0 && seed%3 != 0
	w.shared = w.faults&crashes == 0 && seed%4 < 2
	for _, k := range simKeys {
		w.regs[k] = &register{key: k, alone: make(chan struct{}, 1), version: 1, lateWrites: map[int]time.Duration{}, failed: map[int]bool{}, loads: map[int]loadUnderWay{}}
		w.regs[k].alone <- struct{}{}
	}
	w.store.Intercept(w.delivery())
	return w
}

// run runs the world.
func (w *world) run() *world {
	ctx, stop := context.WithTimeout(context.Background(), simTime)
	defer stop()
	var wg sync.WaitGroup
	var alive, all []*simNode
	start := func() {
		n := w.startNode()
		alive, all = append(alive, n), append(all, n)
		for range 3 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				defer context.AfterFunc(n.net.ctx, cancel)()
				n.work(ctx)
			})
		}
	}
	for range 2 + w.rng.IntN(2) {
		start()
	}
	for sleep(ctx, w.upTo(500*time.Millisecond)) == nil && !w.broken() {
		var kinds []fault
		for f := fault(1); f < allFaults; f <<= 1 {
			if w.faults&f != 0 {
				kinds = append(kinds, f)
			}
		}
		if len(kinds) > 0 {
			w.strike(ctx, kinds[w.n(len(kinds))], &alive, start)
		}
	}
	<-ctx.Done()
	w.store.Fail(nil)
	close(w.calm)
	wg.Wait()
	w.settle(alive)
	for _, n := range all {
		n.c.Close()
		n.crash()
	}
	for _, n := range all {
		if l := hook.Of(n.c).Loads(); l != 0 {
			w.violated("node %d: %d loads have not ended", n.id, l)
		}
	}
	return w
}

// complete checks what holds when everything is well again.
func (w *world) settle(alive []*simNode) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	time.Sleep(time.Second) // what was held up has arrived
	if w.moving {
		// A subscription that has met a master which hangs has failed, and begun anew: then what
		// a master may have lost is told again.
		time.Sleep(coherence.HeartbeatTimeout + 2*time.Second)
	}
	for _, n := range alive {
		if err := n.c.Sync(ctx); err != nil {
			w.violated("node %d: Sync: %v", n.id, err)
		}
		if l := hook.Of(n.c).Coherence.AnyPending(); l {
			w.violated("node %d: there is something to be told after Sync", n.id)
		}
	}
	w.log("everything is well again")
	for _, n := range alive {
		for _, a := range n.attempts {
			w.register(a.key).settled(bound{version: a.version, from: w.now(), node: n.id}, w.now())
		}
	}
	for range 2 {
		// Nothing of an outage is served any more then, however long that might have been.
		w.over.Store(true)
		time.Sleep(2*coherence.HeartbeatTimeout + time.Second)
		for _, n := range alive {
			for _, key := range simKeys {
				r := w.register(key)
				least, why := r.least(n, w.now())
				v, err := n.c.Peek(ctx, key)
				n.check("last peek", r, least, why, v, err)
				n.checkKept("last peek", r, r.kept, err)
				if inSource(key) {
					v, err = n.c.Get(ctx, key)
					n.check("last get", r, least, why, v, err)
				}
			}
		}
	}
	time.Sleep(hook.LeaseLife + hook.FailureLife)
	for _, k := range simKeys {
		r := w.register(k)
		if len(r.loads) > 0 {
			w.violated("a load of %s has not ended", k)
		}
		rec := w.store.Do(ctx, []store.Command{{Op: store.Get, Key: "sim:" + k}})[0].Record
		if rec.State == store.Missing || string(rec.Raw) == "OK" && w.faults&foreignWriters != 0 {
			continue
		}
		if f, err := frame.Parse("sim:"+k, rec.Raw); err != nil || f.Kind == frame.Lease || f.Kind == frame.Failure {
			w.violated("%s holds a frame of kind %d, %v", k, f.Kind, err)
		}
	}
}
