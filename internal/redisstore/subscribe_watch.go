package redisstore

import (
	"context"

	"github.com/delqhi/cache/internal/store"
)

// watch reads the keys that the subscribers watch, for all of them together: on one server that is
// one command.
func (s *session) watch() {
	ctx, cancel := context.WithTimeout(s.ctx, s.key.timeout)
	defer cancel()
	all := s.all()
	keys := make([][]string, len(all))
	var cmds []store.Command
	for i, m := range all {
		keys[i] = m.watch()
		for _, k := range keys[i] {
			cmds = append(cmds, store.Command{Op: store.Get, Key: k})
		}
	}
	if len(s.masters) == 1 {
		defer takeTurn(store.Patient(ctx), s.masters[0].rdb)()
	}
	replies := s.store.Do(ctx, cmds)
	for i, m := range all {
		n := len(keys[i])
		if n > 0 {
			m.watched(replies[:n])
		}
		replies = replies[n:]
	}
}

func (m *subscriber) watch() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if w, ok := m.sink.(store.WatchingSubscriber); ok && m.on {
		return w.Watch()
	}
	return nil
}

func (m *subscriber) watched(replies []store.Reply) {
	recs := make([]store.Record, len(replies))
	for i := range replies {
		if replies[i].Err != nil {
			return
		}
		recs[i] = replies[i].Record
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.on {
		m.sink.(store.WatchingSubscriber).Watched(recs)
	}
}
