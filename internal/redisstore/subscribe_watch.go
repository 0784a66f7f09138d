package redisstore

import (
	"cmp"
	"context"
	"slices"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// watch reads the keys that the subscribers watch, for all of them together: on one server that is
// one command, on a cluster one for each slot.
func (s *session) watch() {
	ctx, cancel := context.WithTimeout(s.ctx, s.key.timeout)
	defer cancel()
	all := s.all()
	answers := make([]<-chan []string, len(all))
	for i, m := range all {
		answers[i] = m.watch()
	}
	keys := make([][]string, len(all))
	var cmds []store.Command
	for i, m := range all {
		select {
		case keys[i] = <-answers[i]:
		case <-m.calls.idle:
		case <-m.ended:
		case <-ctx.Done(): // the others are read without it
		}
		for _, k := range keys[i] {
			cmds = append(cmds, store.Command{Op: store.Get, Key: k})
		}
	}
	if len(s.masters) == 1 {
		defer takeTurn(store.Patient(ctx), s.masters[0].rdb)()
	}
	replies := s.store.doBySlot(ctx, cmds)
	for i, m := range all {
		n := len(keys[i])
		if n > 0 {
			m.watched(replies[:n])
		}
		replies = replies[n:]
	}
}

// doBySlot is Do for Gets. On a cluster those of one slot are one MGET: the clocks of a part are in one
// slot, whatever the number of caches.
func (s *Redis) doBySlot(ctx context.Context, cmds []store.Command) []store.Reply {
	if s.cluster == nil || len(cmds) < 2 || s.noMget.Load() {
		return s.Do(ctx, cmds)
	}
	order, slots := make([]int, len(cmds)), make([]int, len(cmds))
	for i := range cmds {
		order[i], slots[i] = i, store.SlotOf(cmds[i].Key)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(slots[a], slots[b]) })
	sorted, got := inOrder(cmds, order), make([]store.Reply, len(cmds))
	var mgets []mget
	var out []redis.Cmder
	for i := 0; i < len(cmds); {
		n := 1
		for i+n < len(cmds) && n < mgetMax && slots[order[i+n]] == slots[order[i]] {
			n++
		}
		m := s.newMget(ctx, sorted[i:i+n], got[i:i+n])
		mgets, out = append(mgets, m), append(out, m.cmd)
		i += n
	}
	s.send(ctx, out...)
	for _, m := range mgets {
		if m.read(); isRefusal(m.cmd.Err()) {
			return s.Do(ctx, cmds) // it may take what has one key
		}
	}
	replies := make([]store.Reply, len(cmds))
	for i, at := range order {
		replies[at] = got[i]
	}
	return replies
}
