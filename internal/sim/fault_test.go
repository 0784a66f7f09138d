package sim_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// delivery is what becomes of notifications.
func (w *world) delivery() func(storetest.Delivery) (int, time.Duration) {
	return func(dl storetest.Delivery) (int, time.Duration) {
		d := w.draw("delivery", strconv.Itoa(dl.Listener), strconv.Itoa(int(dl.Kind)))
		copies, delay := 1, d.upTo(mostDelay)
		if w.may(slowNotices) && d.one(20) {
			delay = d.upTo(slowDelay)
		}
		if w.may(twice) && d.one(10) {
			copies = 2
		}
		if w.may(drops) && d.one(10) && dl.Kind == storetest.DeliverMessage && !dl.ByKey && !w.parted { // otherwise the node itself publishes it
			if n, err := message.Parse(dl.Text); err == nil && n.Kind != message.Watermark {
				copies = 0
			}
		}
		switch {
		case w.moving:
			delay += w.stall(dl)
		case dl.Kind == storetest.DeliverPulse && w.lacksSlots(dl.Slots):
			copies = 0
		}
		return copies, delay
	}
}

// strike has a fault happen.
func (w *world) strike(ctx context.Context, f fault, alive *[]*simNode, start func()) {
	n := (*alive)[w.n(len(*alive))]
	switch f {
	case freezes:
		d := w.upTo(700 * time.Millisecond)
		w.log("node %d: frozen for %v", n.id, d)
		n.net.frozen.Store(int64(w.now() + d))
	case cuts:
		if w.one(4) {
			w.log("all sessions are cut")
			w.store.CutListeners(errors.New("sim: cut"))
			break
		}
		d := w.upTo(400 * time.Millisecond)
		w.log("node %d: deaf for %v", n.id, d)
		n.net.cut(d)
	case partitions:
		d, whole := time.Second+w.upTo(2500*time.Millisecond), w.one(2)
		w.log("node %d: cut off for %v, from commands as well: %v", n.id, d, whole)
		if whole {
			n.net.away.Store(int64(w.now() + d))
		}
		n.net.cut(d)
	case crashes:
		w.log("node %d: crashes", n.id)
		n.crash()
		*alive = slices.DeleteFunc(*alive, func(o *simNode) bool { return o == n })
		start()
	case skews:
		d := time.Duration(w.n(3)-1) * time.Hour
		w.log("the store's clock jumps to %v", d)
		w.store.SetSkew(d)
	case outages, restarts:
		w.log("the store is down")
		w.store.Fail(errStoreDown)
		_ = sleep(ctx, w.upTo(2500*time.Millisecond))
		w.store.Fail(nil)
		if f == restarts {
			w.wipe()
			w.store.Succeed()
		}
		w.store.CutListeners(errStoreDown)
		w.log("the store is back; empty: %v", f == restarts)
	case masterOutages:
		w.masterOutage(ctx, w.n(len(w.down)))
	case moves:
		w.move()
	case evictions:
		w.evict()
	case foreignWriters:
		w.foreignWrite()
	}
}

// foreignWrite is another program, which changes a key and publishes nothing.
func (w *world) foreignWrite() {
	r := w.register([]string{"s0", "s1", "s2"}[w.n(3)])
	version := r.next(w.now())
	ctx, cmd := context.Background(), store.Command{Op: store.Delete, Key: "sim:" + r.key}
	// A DEL of what Redis does not have would be no change: it has no values that stay in the
	// nodes, and need not have what was loaded with SkipRemote.
	if w.values || w.one(2) || w.store.Do(ctx, []store.Command{{Op: store.Get, Key: cmd.Key}})[0].Record.State == store.Missing {
		cmd = store.Command{Op: store.Set, Key: cmd.Key, Frame: []byte("OK")}
	}
	w.store.Do(ctx, []store.Command{cmd})
	w.log("another program changes %s to version %d: %v", r.key, version, cmd.Op)
	r.settled(bound{version: version, from: w.now(), node: -2, foreign: true}, w.now())
	r.over(w.now())
}

// masterOutage has a master of a cluster, which has some of the keys and the logical clocks of their
// parts, not answer for a while. Then it is as it was, or was started anew, with or without what it had.
func (w *world) masterOutage(ctx context.Context, m int) {
	how := w.n(4)
	w.log("master %d is down, and then: %d", m, how)
	w.down[m].Store(true)
	if w.moving {
		w.store.SetDown(m, errMasterDown, how == 0 || w.one(2))
		if how > 0 {
			w.store.CutNode(m, errMasterDown)
		}
	} else if how > 0 && w.one(2) {
		w.store.CutListenersOf(errMasterDown, w.lacksSlots)
	}
	_ = sleep(ctx, w.upTo(2500*time.Millisecond))
	if how == 3 {
		w.lose(func(key string) bool { return w.masterOf(key) == m })
	}
	if how > 0 {
		w.store.Succeed()
	}
	if w.moving {
		w.store.SetDown(m, nil, false)
	}
	w.down[m].Store(false)
	w.log("master %d is back", m)
}

// masterOf returns the number of the master of a cluster that has a key.
func masterOf(key string) int { return int(store.PartOf(key)) * len(world{}.down) / store.Parts }

// masterOf is that of a world whose slots may move.
func (w *world) masterOf(key string) int {
	if w.moving {
		return w.store.NodeOf(key)
	}
	return masterOf(key)
}

// keyOfMaster returns a key that a master has.
func keyOfMaster(m int) string {
	for i := 0; ; i++ {
		if k := strconv.Itoa(i); masterOf(k) == m {
			return k
		}
	}
}

// lacks reports whether the master of a key is down.
func (w *world) lacks(key string) bool {
	return w.faults&masterOutages != 0 && key != "" && w.down[w.masterOf(key)].Load()
}

// lacksSlots reports whether the master of slots, which are those of a part, is down.
func (w *world) lacksSlots(r store.SlotRange) bool { return w.lacks(store.SlotTag(r.First)) }

// lacksAny reports whether a master is down.
func (w *world) lacksAny() bool {
	for i := range w.down {
		if w.down[i].Load() {
			return true
		}
	}
	return false
}

// wipe loses everything.
func (w *world) wipe() { w.lose(func(string) bool { return true }) }

// lose loses the keys of which that is true.
func (w *world) lose(of func(key string) bool) {
	names := store.NewNames("", "sim")
	var keys []string
	for _, p := range names.Parted(w.parted) {
		keys = append(keys, p.Epoch, p.Tags)
	}
	for _, k := range simKeys {
		keys = append(keys, names.Data+k)
	}
	for _, k := range slices.DeleteFunc(keys, func(k string) bool { return !of(k) }) {
		w.store.Do(context.Background(), []store.Command{{Op: store.Delete, Key: k}})
	}
}

func (w *world) evict() {
	names := store.NewNames("", "sim")
	data := names.Data + simKeys[w.n(len(simKeys))]
	if w.parted {
		names = names.Parted(true)[store.PartOf(names.Data+simKeys[w.n(len(simKeys))])]
	}
	key := []string{names.Epoch, names.Tags, data}[w.n(3)]
	w.log("evicted: %s", key)
	w.store.Do(context.Background(), []store.Command{{Op: store.Delete, Key: key}})
}

var (
	errStoreDown  = errors.New("sim: the store is down")
	errMasterDown = errors.New("sim: a master is down")
)
