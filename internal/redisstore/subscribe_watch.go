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
	replies := s.store.Do(ctx, cmds)
	for i, m := range all {
		n := len(keys[i])
		if n > 0 {
			m.watched(replies[:n])
		}
		replies = replies[n:]
	}
}
