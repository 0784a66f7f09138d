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
	if node := s.nodeOfAll(ctx, sorted); node == nil || len(out) < 2 {
		s.sendOnce(ctx, out)
	} else {
		s.sendOver(ctx, node, out)
	}
	for i := 0; len(mgets) > 0; mgets = mgets[1:] {
		m, of := mgets[0], sorted[i:i+len(mgets[0].replies)]
		i += len(of)
		// It may take what has one key; and while the slot moves, some of the keys are on another node.
		if err := m.cmd.Err(); isRefusal(err) || isTryAgain(err) {
			for j := range of {
				m.replies[j] = s.untracked(ctx, of[j:j+1])[0]
				m.replies[j].HideType()
			}
			continue
		}
		s.sendAgain(ctx, []redis.Cmder{m.cmd})
		m.read()
	}
	replies := make([]store.Reply, len(cmds))
	for i, at := range order {
		replies[at] = got[i]
	}
	return replies
}

// nodeOfAll returns the master of a cluster that has the keys of all commands; nil: there is none.
func (s *Redis) nodeOfAll(ctx context.Context, cmds []store.Command) *redis.Client {
	var all *redis.Client
	for i := range cmds {
		if i > 0 && store.SlotOf(cmds[i].Key) == store.SlotOf(cmds[i-1].Key) {
			continue
		}
		node, err := s.cluster.MasterForKey(ctx, cmds[i].Key)
		if err != nil || all != nil && node != all {
			return nil
		}
		all = node
	}
	return all
}

// sendOver is sendOnce by one connection to a node, of those that single commands take. go-redis has other
// connections for pipelines, which a process that is idle does not need.
func (s *Redis) sendOver(ctx context.Context, node *redis.Client, cmds []redis.Cmder) {
	conn := node.Conn()
	pipe := conn.Pipeline()
	_ = pipe.BatchProcess(ctx, cmds...) // only queues them
	if _, err := pipe.Exec(ctx); err != nil {
		stamp(cmds, err)
	}
	_ = conn.Close()
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && (redis.HasErrorPrefix(err, "MOVED ") || redis.HasErrorPrefix(err, "ASK ")) {
			cmd.SetErr(nil)
			_ = s.rdb.Process(ctx, cmd) // which goes where the slot is
		}
	}
	s.examine(ctx, cmds)
}
