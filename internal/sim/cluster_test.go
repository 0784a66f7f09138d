package sim_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// cluster is what is special about a world whose slots are on several masters, and may move. Some
// parts of the keys are split: the slot of their channel is on one master, and that of a key on another one.
type cluster struct {
	lossy     bool // what a master passes on to another may be lost
	epochless bool // a master may take over slots without a new epoch
	moved     atomic.Int64
	stalled   [3]atomic.Int64 // by master, until then: connections to it of some listeners
}

// mastersPause is for how long slots may have moved without a new epoch and without a session's notice.
const mastersPause = 5 * time.Second

// How long it takes until a master knows that slots have moved.
const (
	toldOwner  = 20 * time.Millisecond // the former one, which is told
	toldOthers = 400 * time.Millisecond
)

// beCluster makes the world such a cluster.
func (w *world) beCluster(rng *rand.Rand) {
	w.cluster = &cluster{lossy: rng.IntN(3) == 0, epochless: rng.IntN(3) == 0}
	var l storetest.Layout
	for i := range w.down {
		l = append(l, storetest.SlotOwner{SlotRange: store.SlotRange{First: i * store.Slots / len(w.down), Next: (i + 1) * store.Slots / len(w.down)}, Node: i})
	}
	for _, k := range simKeys {
		if rng.IntN(2) == 0 {
			l = l.With(sideOf(k, rng.IntN(2) == 0), rng.IntN(len(w.down)))
		}
	}
	w.store.SetCluster(len(w.down), l, rng.IntN(5) == 0, func(from, to int) (time.Duration, bool) {
		d := w.draw("bus", strconv.Itoa(from), strconv.Itoa(to))
		return d.upTo(mostDelay), w.lossy && w.may(moves) && d.one(5)
	})
}

// sideOf returns the slots of the part of a key, on this side of the slot that is in the middle between that of the
// key and that of the channel, or on the other side.
func sideOf(key string, own bool) store.SlotRange {
	part := int(store.PartOf("sim:" + key))
	slots := store.PartSlots(part)
	channel, slot := store.SlotOf(store.NewNames("", "sim").Parted(true)[part].Channel), store.SlotOf("sim:"+key)
	cut := (channel+slot)/2 + 1
	if own == (slot < channel) {
		return store.SlotRange{First: slots.First, Next: cut}
	}
	return store.SlotRange{First: cut, Next: slots.Next}
}

// move has slots move to another master, or a master stall.
func (w *world) move() {
	if w.one(5) {
		m, d := w.n(len(w.down)), time.Second+w.upTo(2*time.Second)
		w.log("the connections of some to master %d stall for %v", m, d)
		w.stalled[m].Store(int64(w.now() + d))
		return
	}
	key := simKeys[w.n(len(simKeys))]
	slots := store.PartSlots(int(store.PartOf("sim:" + key)))
	switch w.n(4) {
	case 0:
		slots = sideOf(key, true)
	case 1:
		slots = sideOf(key, false)
	case 2:
		slots = store.SlotRange{First: store.SlotOf("sim:" + key), Next: store.SlotOf("sim:"+key) + 1}
	}
	to, newEpoch := w.n(len(w.down)), !w.epochless || w.one(4)
	if w.lacksAny() {
		return // no master gives or takes keys while another one does not answer
	}
	former := w.store.NodesOf(slots)
	w.log("slots %v, of %s, move from masters %v to %d; new epoch: %v", slots, key, former, to, newEpoch)
	w.moved.Add(1)
	w.store.Move(slots, to, newEpoch)
	w.moved.Add(1)
	for m := range w.down {
		if m == to {
			continue
		}
		d := w.upTo(toldOthers)
		if slices.Contains(former, m) {
			d = w.upTo(toldOwner)
		}
		go func() {
			for time.Sleep(d); w.down[m].Load(); {
				time.Sleep(d)
			}
			w.store.Learn(m)
			w.log("master %d knows", m)
		}()
	}
}

// movedSoFar returns how often slots have begun or ceased to move.
func (w *world) movedSoFar() int64 {
	if !w.moving {
		return 0
	}
	return w.moved.Load()
}

// stall returns how long a delivery waits on its connection.
func (w *world) stall(dl storetest.Delivery) time.Duration {
	if dl.Listener%2 == 0 {
		return 0
	}
	return max(0, time.Duration(w.stalled[dl.Node].Load())-w.now())
}

// clientOf returns the client of a node's process.
func (w *world) clientOf(id int, p *simProcess) *storetest.ClusterClient {
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.client != nil {
			return p.client
		}
	}
	d := w.draw("client", strconv.Itoa(id))
	c := w.store.NewClusterClient(func() int {
		// All are asked at once, and the first answer is taken.
		m := d.n(len(w.down))
		for range w.down {
			if !w.down[m].Load() {
				break
			}
			m = (m + 1) % len(w.down)
		}
		return m
	}, func() time.Duration { return d.upTo(mostLatency) })
	if p != nil {
		p.client = c
	}
	return c
}
