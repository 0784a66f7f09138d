package storetest

import (
	"cmp"
	"context"
	"github.com/delqhi/cache/internal/store"
	"time"
)

// Settle implements Queue.
func (m *Memory) Settle(ctx context.Context, q store.QueueNames, s store.Settle) ([]store.Settled, error) {
	return onPartition(m, ctx, q, func(p *memoryQueue, now int64) ([]store.Settled, error) {
		if !p.holds(s.Owner, now, s.Lease) {
			return nil, store.ErrNotOwner
		}
		out := make([]store.Settled, len(s.Outcomes))
		for i := range s.Outcomes {
			out[i] = p.settle(now, s.MaxDead, &s.Outcomes[i])
		}
		return out, nil
	})
}

func (p *memoryQueue) settle(now int64, maxDead int, o *store.Outcome) store.Settled {
	at, ok := p.pending[o.Key]
	if ok && at.newest != o.ID {
		if o.Verdict == store.Applied {
			p.log.remove(o.ID)
			if at.first != at.newest {
				p.log.remove(at.first)
				p.pending[o.Key] = place{first: at.newest, newest: at.newest}
			}
		}
		return store.Superseded
	}
	switch o.Verdict {
	case store.Failed:
		if ok {
			at.attempts = o.Attempts
			p.pending[o.Key] = at
		}
		return store.Recorded
	case store.Died:
		e, there := p.log.entries[o.ID]
		if there && len(p.dead.ids) >= maxDead {
			return store.DeadFull
		}
		if there {
			e.ID, e.Attempts = o.ID, o.Attempts
			p.graves[o.Key] = p.dead.add(now, store.Letter{Entry: e, Error: o.Error})
		}
	}
	p.log.remove(o.ID)
	if ok {
		p.log.remove(at.first)
		delete(p.pending, o.Key)
	}
	return store.Recorded
}

// Depths implements Queue.
func (m *Memory) Depths(ctx context.Context, qs []store.QueueNames) ([]store.Depth, error) {
	out := make([]store.Depth, len(qs))
	for i, q := range qs {
		var err error
		if out[i], err = onPartition(m, ctx, q, func(p *memoryQueue, now int64) (store.Depth, error) {
			d := store.Depth{Log: len(p.log.ids), Dead: len(p.dead.ids)}
			if d.Log > 0 {
				d.First = p.log.ids[0]
				d.Age = store.AgeOf(d.First, now)
			}
			return d, nil
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Letters implements Queue.
func (m *Memory) Letters(ctx context.Context, q store.QueueNames, after string, n int) ([]store.Letter, error) {
	return onPartition(m, ctx, q, func(p *memoryQueue, _ int64) ([]store.Letter, error) {
		var out []store.Letter
		for _, id := range p.dead.after(after, n) {
			l := p.dead.entries[id]
			l.ID, l.At = id, store.TimeOf(id)
			out = append(out, l)
		}
		return out, nil
	})
}

// Revive implements Queue.
func (m *Memory) Revive(ctx context.Context, q store.QueueNames, r store.Revive) ([]store.Revived, error) {
	return onPartition(m, ctx, q, func(p *memoryQueue, now int64) ([]store.Revived, error) {
		out := make([]store.Revived, len(r.IDs))
		for i, id := range r.IDs {
			out[i] = p.revive(now, &r, id)
		}
		return out, nil
	})
}

func (p *memoryQueue) revive(now int64, r *store.Revive, id string) store.Revived {
	l, ok := p.dead.entries[id]
	if !ok {
		return store.NotThere
	}
	known := p.graves[l.Key] == id
	if !r.Discard {
		if _, ok := p.pending[l.Key]; ok || !known {
			return store.NotKnown
		}
		if p.append(now, r.Max, l.Write) == "" {
			return store.NoRoomInLog
		}
	}
	p.dead.remove(id)
	if known {
		delete(p.graves, l.Key)
	}
	return store.Gone
}

// Join implements Queue.
func (m *Memory) Join(ctx context.Context, members, member string, d time.Duration) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), m.fail); err != nil {
		return 0, err
	}
	if m.members == nil {
		m.members = map[string]map[string]int64{}
	}
	in := m.members[members]
	if in == nil {
		in = map[string]int64{}
		m.members[members] = in
	}
	now := m.nowLocked() / 1000
	in[member] = now + d.Milliseconds()
	for who, until := range in {
		if until <= now {
			delete(in, who)
		}
	}
	return len(in), nil
}
