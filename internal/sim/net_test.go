package sim_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// fault is something that may go wrong in a simulated world.
type fault uint32

const (
	lostRequests   fault = 1 << iota // an operation fails and has no effect
	lostReplies                      // an operation fails and has its effect
	freezes                          // a node's operations are held up
	lateWrites                       // an operation takes effect after its caller gave up
	slowNotices                      // notifications take up to a second
	twice                            // … come twice
	drops                            // … are lost
	cuts                             // sessions end
	crashes                          // nodes die, and others start in their places
	skews                            // the store's clock jumps
	outages                          // the store is down for a while
	restarts                         // … and has lost everything
	evictions                        // keys of data and of the logical clock disappear
	foreignWriters                   // another program writes and deletes keys
	impatience                       // callers give up
	partitions                       // one node is cut off for seconds, or only its sessions are
	masterOutages                    // one master of a cluster is down for a while, with its keys and clocks
	moves                            // slots of a cluster move to other masters
	allFaults      = 1<<iota - 1
)

var faultNames = []string{"lost requests", "lost replies", "freezes", "late writes", "slow notices", "twice", "drops", "cuts", "crashes",
	"skews", "outages", "restarts", "evictions", "foreign writers", "impatience", "partitions", "master outages", "moves"}

func (f fault) String() (s string) {
	for i, name := range faultNames {
		if f&(1<<i) != 0 {
			s += ", " + name
		}
	}
	if s == "" {
		return "none"
	}
	return s[2:]
}

var errLost = errors.New("sim: the connection broke")

// dice are the random numbers of one part of a world. Each part has its own, so that
// what one does changes as little as possible for the others.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func newDice(seed, part uint64) *dice { return &dice{rng: rand.New(rand.NewPCG(seed, part))} }

func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

func (d *dice) one(in int) bool { return d.n(in) == 0 }

func (d *dice) perm(n int) []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Perm(n)
}

// upTo is a time of at most most, to the nanosecond: no two things happen at once.
func (d *dice) upTo(most time.Duration) time.Duration { return time.Duration(d.n(int(most)) + 1) }

// simNet is the network between one node and the store. Whatever takes effect does so
// after one random time, and is answered after another.
type simNet struct {
	*storetest.Memory
	w      *world
	id     int             // of the node
	ctx    context.Context // ends when the node crashes
	frozen atomic.Int64    // until then, as time since the world began
	deaf   atomic.Int64    // likewise
	away   atomic.Int64    // likewise

	sessions sync.Map                 // cut the Listens in progress: *context.CancelCauseFunc
	process  *simProcess              // whose session it shares; nil: it has its own
	client   *storetest.ClusterClient // nil: the world is no cluster whose slots move
}

const mostLatency = 3 * time.Millisecond

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pass takes an operation there and back.
func (n *simNet) pass(ctx context.Context, d *dice, do func(ctx context.Context, late bool)) error {
	there := d.upTo(mostLatency)
	if until := time.Duration(n.frozen.Load()) - n.w.now(); until > 0 {
		there += until
	}
	if n.ctx.Err() != nil || n.w.may(lostRequests) && d.one(25) || n.w.may(partitions) && time.Duration(n.away.Load()) > n.w.now() {
		return n.lost(ctx, d)
	}
	switch {
	case n.w.may(lateWrites) && d.one(4):
		time.Sleep(there) // whether or not anybody still waits
	case sleep(ctx, there) != nil:
		return ctx.Err()
	}
	if n.ctx.Err() != nil {
		return n.lost(ctx, d)
	}
	do(context.WithoutCancel(ctx), ctx.Err() != nil)
	if n.w.may(lostReplies) && d.one(25) {
		return n.lost(ctx, d)
	}
	return sleep(ctx, d.upTo(mostLatency))
}

// lost fails at once or by a timeout.
func (n *simNet) lost(ctx context.Context, d *dice) error {
	if n.ctx.Err() != nil || d.one(2) {
		<-ctx.Done()
		return ctx.Err()
	}
	if err := sleep(ctx, d.upTo(mostLatency)); err != nil {
		return err
	}
	return errLost
}

func (n *simNet) OneNode() bool { return n.w.single }

// Clustered has each part of the keys have a logical clock of its own.
func (n *simNet) Clustered() bool { return n.w.parted }

func (n *simNet) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	replies := make([]store.Reply, len(cmds))
	d := n.draw(cmds[0].Op.String(), cmds[0].Key)
	together := d.one(2)
	unanswered := false
	err := n.pass(ctx, d, func(ctx context.Context, late bool) {
		if together {
			copy(replies, n.exec(n.reading(ctx), cmds))
		} else {
			var firsts []int // of what goes as one
			for i := 0; i < len(cmds); i += 1 + cmds[i].With {
				firsts = append(firsts, i)
			}
			order := d.perm(len(firsts)) // as different nodes of a cluster do
			if n.w.single {
				slices.Sort(order)
			}
			for _, f := range order {
				i := firsts[f]
				copy(replies[i:], n.exec(n.reading(ctx), cmds[i:i+1+cmds[i].With]))
				if len(cmds) > 1 {
					time.Sleep(d.upTo(mostLatency))
				}
			}
		}
		for i := range cmds {
			n.w.wire("node %d: > %v %s: %v", n.id, cmds[i].Op, cmds[i].Key, replies[i].OK)
		}
		n.w.noteLate(cmds, replies, late)
		for i := range cmds {
			n.redirected(cmds[i].Key)
		}
		for i := range cmds {
			if n.w.lacks(cmds[i].Key) { // it may have taken effect before
				replies[i], unanswered = store.Reply{Err: errMasterDown}, true
			}
		}
	})
	if err == nil && unanswered && d.one(2) {
		<-ctx.Done() // the others have answered
	}
	if err != nil {
		for i := range replies {
			replies[i] = store.Reply{Err: err}
		}
	}
	return replies
}

// exec carries out commands on the masters that are not down.
func (n *simNet) exec(ctx context.Context, cmds []store.Command) []store.Reply {
	replies := make([]store.Reply, 0, len(cmds))
	for len(replies) < len(cmds) {
		unit := cmds[len(replies):]
		unit = unit[:min(unit[0].Unit(), len(unit))]
		if n.w.lacks(unit[0].Key) {
			for range unit {
				replies = append(replies, store.Reply{Err: errMasterDown})
			}
			continue
		}
		replies = append(replies, n.Memory.Do(ctx, unit)...)
	}
	return replies
}

// redirected has the client read its layout again if a command with a key was answered by MOVED.
func (n *simNet) redirected(key string) {
	if n.client != nil && n.client.Endpoint(key) != n.w.masterOf(key) {
		n.client.Reload()
	}
}

// passTo is pass for an operation of the master that has a key.
func (n *simNet) passTo(ctx context.Context, key string, d *dice, do func(ctx context.Context, late bool)) error {
	return n.passUnless(ctx, func() bool { return n.w.lacks(key) }, d, func(ctx context.Context, late bool) {
		do(ctx, late)
		if key != "" {
			n.redirected(key)
		}
	})
}

// passUnless is pass for an operation of a master.
func (n *simNet) passUnless(ctx context.Context, isDown func() bool, d *dice, do func(ctx context.Context, late bool)) error {
	down := false
	err := n.pass(ctx, d, func(ctx context.Context, late bool) {
		if down = isDown(); !down {
			do(ctx, late)
		}
	})
	if err == nil && (down || isDown()) { // in the second case it has taken effect
		return n.lost(ctx, d)
	}
	return err
}

func (n *simNet) draw(what ...string) *dice { return n.w.draw(append(what, strconv.Itoa(n.id))...) }

func (n *simNet) ReadClock(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (m logicalclock.Reading, err error) {
	d := n.draw("read_clock")
	if lost := n.passTo(ctx, names.Epoch, d, func(ctx context.Context, _ bool) { m, err = n.Memory.ReadClock(ctx, names, known, tags) }); lost != nil {
		return logicalclock.Reading{}, lost
	}
	return m, err
}

func (n *simNet) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, nm logicalclock.NewTombstone) (m logicalclock.Reading, err error) {
	d := n.draw("add_tombstones")
	if lost := n.passTo(ctx, names.Epoch, d, func(ctx context.Context, _ bool) {
		m, err = n.Memory.AddTombstones(ctx, names, known, nm)
		n.w.wire("node %d: > mark %v, mode %v, before %v: %+v, %v", n.id, nm.Tags, nm.Mode, nm.Before, m, err)
	}); lost != nil {
		return logicalclock.Reading{}, lost
	}
	return m, err
}

func (n *simNet) Publish(ctx context.Context, t store.Notify) (err error) {
	d := n.draw("publish")
	if n.client != nil {
		node := n.client.Endpoint(t.Channel)
		if lost := n.passUnless(ctx, n.w.down[node].Load, d, func(ctx context.Context, _ bool) { err = n.Memory.PublishAt(ctx, node, t) }); lost != nil {
			return lost
		}
		return err
	}
	if lost := n.passTo(ctx, t.Channel, d, func(ctx context.Context, _ bool) { err = n.Memory.Publish(ctx, t) }); lost != nil {
		return lost
	}
	return err
}

func (n *simNet) Scan(ctx context.Context, master, pattern string, cursor uint64) (keys []string, next uint64, err error) {
	d := n.draw("scan")
	if n.client != nil {
		m, _ := strconv.Atoi(master)
		if lost := n.passUnless(ctx, n.w.down[m].Load, d, func(ctx context.Context, _ bool) {
			keys, next, err = n.Memory.Scan(ctx, "", pattern, cursor)
			keys = slices.DeleteFunc(keys, func(k string) bool { return n.w.masterOf(k) != m })
		}); lost != nil {
			return nil, 0, lost
		}
		return keys, next, err
	}
	only := ""
	if master != "" {
		m, _ := strconv.Atoi(master)
		master, only = "", keyOfMaster(m)
	}
	if lost := n.passTo(ctx, only, d, func(ctx context.Context, _ bool) { keys, next, err = n.Memory.Scan(ctx, master, pattern, cursor) }); lost != nil {
		return nil, 0, lost
	}
	if only != "" {
		keys = slices.DeleteFunc(keys, func(k string) bool { return masterOf(k) != masterOf(only) })
	}
	return keys, next, err
}

func (n *simNet) Masters(ctx context.Context) (masters []string, err error) {
	if n.w.faults&masterOutages == 0 && n.client == nil {
		return []string{""}, ctx.Err()
	}
	for i := range n.w.down {
		masters = append(masters, strconv.Itoa(i))
	}
	return masters, ctx.Err()
}

func (n *simNet) Now(ctx context.Context, key string) (int64, error) {
	if n.ctx.Err() != nil {
		return 0, n.lost(ctx, n.draw("now"))
	}
	return n.Memory.Now(ctx, key)
}

func (n *simNet) ServerID(ctx context.Context) (s string, err error) {
	if lost := n.pass(ctx, n.draw("server_id"), func(ctx context.Context, _ bool) { s, err = n.Memory.ServerID(ctx) }); lost != nil {
		return "", lost
	}
	if n.w.lacksAny() {
		return "", errMasterDown
	}
	return s, err
}

// Subscribe ends with the node, and when its session is cut; then the node is deaf for a
// while.
func (n *simNet) Subscribe(ctx context.Context, l store.Subscription, s store.Subscriber) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(n.ctx, func() { cancel(errLost) })()
	n.sessions.Store(&cancel, nil)
	defer n.sessions.Delete(&cancel)
	pause := n.draw("listen").upTo(mostLatency)
	if until := time.Duration(n.deaf.Load()) - n.w.now(); until > 0 {
		pause += until
	}
	if err := sleep(ctx, pause); err != nil {
		return err
	}
	var through subscribes = n.Memory
	if n.client != nil {
		through = n.client
	} else if n.w.faults&masterOutages != 0 && n.w.lacksSlots(l.Slots) {
		return errMasterDown
	}
	if n.w.direct {
		s = directSubscriber{s, n.w}
	}
	if n.process != nil {
		return n.process.subscribe(ctx, n.Memory, through, l, s)
	}
	return through.Subscribe(n.reading(ctx), l, s)
}

// reading returns a context of what this node reads, for its process.
func (n *simNet) reading(ctx context.Context) context.Context {
	if n.process != nil {
		return storetest.Reading(ctx, n.process)
	}
	return storetest.Reading(ctx, n)
}

// directSubscriber is told that no message is lost alone. As long as that is true it does not find
// otherwise.
type directSubscriber struct {
	store.Subscriber
	w *world
}

func (d directSubscriber) Subscribed() {
	d.Subscriber.Subscribed()
	s := d.Subscriber.(store.CheckingSubscriber)
	s.Checks(func() {
		if d.w.faults&slowNotices == 0 { // what is late for long counts as lost
			d.w.violated("a message was missed, and none was lost")
		}
	})
	s.Direct()
}

func (n *simNet) cut(deaf time.Duration) {
	n.deaf.Store(int64(n.w.now() + deaf))
	if n.process != nil {
		n.process.cut()
	}
	n.sessions.Range(func(cancel, _ any) bool {
		(*cancel.(*context.CancelCauseFunc))(errLost)
		return true
	})
}

// noteLate notes what took effect after its caller gave up, and whatever has happened
// since: of that nothing is promised until the next write. What shares a round trip goes on without
// its callers; late says that this one has none any more.
func (w *world) noteLate(cmds []store.Command, replies []store.Reply, late bool) {
	for i := range cmds {
		c := &cmds[i]
		blind := c.Op == store.Set || c.Op == store.SetNX || c.Op == store.CompareAndSet && c.Seen.State == store.Missing
		if !blind || !replies[i].OK {
			continue
		}
		if f, err := frame.Parse(c.Key, c.Frame); err == nil && f.Kind == frame.Value {
			if key, version, ok := parseValue(string(f.Payload)); ok && (late || w.register(key).hasFailed(version)) {
				w.log("late write of %s:%d", key, version)
				w.register(key).wroteLate(version, w.now())
			}
		}
	}
}
