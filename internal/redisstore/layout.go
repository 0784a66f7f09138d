package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// layout says which masters of a cluster have which slots, as a node of it knows it.
type layout struct {
	ranges []slotRange // by their first slots
}

type slotRange struct {
	store.SlotRange
	id string // of the node; "": older servers do not report it
}

// errNoSlots: the slots of a subscription have no master.
var errNoSlots = errors.New("redisstore: no master of the cluster has the slots")

// layoutOf asks a node.
func layoutOf(ctx context.Context, node interface {
	ClusterSlots(context.Context) *redis.ClusterSlotsCmd
}) (l layout, err error) {
	slots, err := node.ClusterSlots(ctx).Result()
	if err != nil {
		return l, err
	}
	for _, s := range slots {
		if len(s.Nodes) > 0 {
			l.ranges = append(l.ranges, slotRange{store.SlotRange{First: s.Start, Next: s.End + 1}, s.Nodes[0].ID})
		}
	}
	slices.SortFunc(l.ranges, func(a, b slotRange) int { return a.First - b.First })
	return l, nil
}

// slots returns how many slots some node has.
func (l layout) slots() (n int) {
	for _, r := range l.ranges {
		n += r.Next - r.First
	}
	return n
}

// owner returns the id of the node that has a slot.
func (l layout) owner(slot int) string {
	for _, r := range l.ranges {
		if r.First <= slot && slot < r.Next {
			return r.id
		}
	}
	return ""
}

// nodesOf returns the ids of the nodes that have some of the slots, in their order.
func (l layout) nodesOf(slots store.SlotRange) (ids []string) {
	for _, r := range l.ranges {
		if r.Meets(slots) {
			ids = append(ids, r.id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// sameFor reports whether a node has the same parts of the keys by another layout, and shares them with the
// same nodes. Slots may move within a part.
func (l layout) sameFor(id string, o layout) bool {
	for i := range store.Parts {
		slots := store.PartSlots(i)
		was, is := l.nodesOf(slots), o.nodesOf(slots)
		if (slices.Contains(was, id) || slices.Contains(is, id)) && !slices.Equal(was, is) {
			return false
		}
	}
	return true
}

const (
	// layoutLife is for how long a layout is used that was read: by the subscriptions of the parts of all
	// caches, which begin together.
	layoutLife = time.Second
	// layoutPause is how often it is read at most, if it is doubted.
	layoutPause = 200 * time.Millisecond
	// layoutTime is for how long a master is waited for.
	layoutTime = time.Second
)

// layouts are what all stores of a client know of its cluster.
var layouts = struct {
	sync.Mutex
	of map[redis.UniversalClient]*knownLayout
}{of: map[redis.UniversalClient]*knownLayout{}}

// knownLayout is the last layout that was read.
type knownLayout struct {
	users int // the lock of layouts guards it

	mu      sync.Mutex // guards what follows
	at      time.Time
	doubted bool
	layout  layout
	asking  *layoutRead // in progress; nil: none
}

type layoutRead struct {
	by     *Redis        // the store that asks
	done   chan struct{} // closed after the result is written
	layout layout
	err    error
}

// knownLayout returns what this store's client knows of its cluster, until Close.
func (s *Redis) knownLayout() *knownLayout {
	s.layoutOnce.Do(func() {
		if !reflect.ValueOf(s.rdb).Comparable() {
			s.layout = &knownLayout{}
			return
		}
		layouts.Lock()
		defer layouts.Unlock()
		if s.layout = layouts.of[s.rdb]; s.layout == nil {
			s.layout = &knownLayout{}
			layouts.of[s.rdb] = s.layout
		}
		s.layout.users++
	})
	if s.layout == nil { // the store is closed
		return &knownLayout{}
	}
	return s.layout
}

// leaveLayout is called when the store is closed.
func (s *Redis) leaveLayout() {
	s.layoutOnce.Do(func() {}) // it is not used any more
	if s.layout == nil {
		return
	}
	layouts.Lock()
	defer layouts.Unlock()
	if s.layout.users--; s.layout.users == 0 && layouts.of[s.rdb] == s.layout {
		delete(layouts.of, s.rdb)
	}
}

// readLayout returns the layout, which it reads unless that was done right before.
func (s *Redis) readLayout(ctx context.Context) (layout, error) {
	n := s.knownLayout()
	for {
		n.mu.Lock()
		if age := time.Since(n.at); age < layoutPause || age < layoutLife && !n.doubted {
			defer n.mu.Unlock()
			return n.layout, nil
		}
		r := n.asking
		if r == nil {
			r = &layoutRead{by: s, done: make(chan struct{})}
			if !s.background(func(context.Context) { s.askFor(n, r) }) {
				n.mu.Unlock()
				return layout{}, errStoreClosed
			}
			n.asking = r
		}
		n.mu.Unlock()
		select {
		case <-r.done:
		case <-ctx.Done():
			return layout{}, ctx.Err()
		}
		if r.err == nil || r.by.ctx.Err() == nil || s.ctx.Err() != nil {
			return r.layout, r.err
		} // otherwise the store that has asked was closed
	}
}

// askFor reads the layout, for all who wait for it.
func (s *Redis) askFor(n *knownLayout, r *layoutRead) {
	ctx, cancel := context.WithTimeout(s.ctx, layoutTime)
	defer cancel()
	r.layout, r.err = s.askLayout(ctx)
	n.mu.Lock()
	if n.asking = nil; r.err == nil {
		n.layout, n.at, n.doubted = r.layout, time.Now(), false
	}
	n.mu.Unlock()
	close(r.done)
}

// askLayout asks the masters that the client knows, at once, and takes the first answer that has all slots:
// one of them may not give any, or have left the cluster. If none has all, it is the one that has most.
func (s *Redis) askLayout(ctx context.Context) (layout, error) {
	nodes := map[*redis.Client]bool{}
	for i := range store.Parts {
		c, err := s.cluster.MasterForKey(ctx, store.SlotTag(store.PartSlots(i).First))
		if err != nil {
			return layout{}, err
		}
		nodes[c] = true
	}
	type answer struct {
		layout
		err error
	}
	answers := make(chan answer, len(nodes))
	for c := range nodes {
		if !s.background(func(context.Context) {
			defer takeTurn(ctx, c)()
			l, err := layoutOf(ctx, c)
			answers <- answer{l, err}
		}) {
			return layout{}, errStoreClosed
		}
	}
	var first error
	var most layout
	for range nodes {
		select {
		case a := <-answers:
			if a.slots() == store.Slots {
				return a.layout, nil
			}
			if a.slots() > most.slots() {
				most = a.layout
			}
			first = cmp.Or(first, a.err)
			continue
		case <-ctx.Done():
			first = cmp.Or(first, ctx.Err())
		}
		break
	}
	if most.slots() > 0 {
		return most, nil
	}
	return layout{}, cmp.Or(first, errNoSlots)
}

// doubtLayout has the layout be read again, by the client as well.
func (s *Redis) doubtLayout(ctx context.Context) {
	n := s.knownLayout()
	n.mu.Lock()
	n.doubted = true
	n.mu.Unlock()
	if r, ok := s.cluster.(interface{ ReloadState(context.Context) }); ok {
		r.ReloadState(context.WithoutCancel(ctx))
	}
}

// listenNodes returns the nodes of a cluster to which a subscription has to be connected: those that
// have some of its slots.
func (s *Redis) listenNodes(ctx context.Context, slots store.SlotRange) ([]listenMaster, error) {
	if slots == (store.SlotRange{}) {
		slots.Next = store.Slots
	}
	l, err := s.readLayout(ctx)
	if err != nil {
		return nil, err
	}
	var nodes []listenMaster
	for _, r := range l.ranges {
		if !r.Meets(slots) {
			continue
		}
		c, err := s.cluster.MasterForKey(ctx, store.SlotTag(max(r.First, slots.First)))
		if err != nil {
			return nil, err
		}
		name := c.Options().Addr
		// The client's own layout may be an older one: then this is another node, which its session finds out.
		if slices.ContainsFunc(nodes, func(m listenMaster) bool { return m.name == name && m.member.id == r.id }) {
			continue
		}
		nodes = append(nodes, listenMaster{name: name, rdb: c, options: c.Options(), member: &member{id: r.id, layout: l}})
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("%w %d to %d", errNoSlots, slots.First, slots.Next-1)
	}
	return nodes, nil
}
