package remote

import (
	"cmp"
	"context"
	"time"
)

// Settle implements Queue.
func (m *Memory) Settle(ctx context.Context, q QueueNames, s Settle) ([]Settled, error) {
	return onPartition(m, ctx, q, func(p *memoryQueue, now int64) ([]Settled, error) {
		if !p.holds(s.Owner, now, s.Lease) {
			return nil, ErrNotOwner
		}
		out := make([]Settled, len(s.Outcomes))
		for i := range s.Outcomes {
			out[i] = p.settle(now, s.MaxDead, &s.Outcomes[i])
		}
		return out, nil
	})
}

func (p *memoryQueue) settle(now int64, maxDead int, o *Outcome) Settled {
	at, ok := p.pending[o.Key]
	if ok && at.newest != o.ID {
		if o.Verdict == Applied {
			p.log.remove(o.ID)
			if at.first != at.newest {
				p.log.remove(at.first)
				p.pending[o.Key] = place{first: at.newest, newest: at.newest}
			}
		}
		return Superseded
	}
	switch o.Verdict {
	case Failed:
		if ok {
			at.attempts = o.Attempts
			p.pending[o.Key] = at
		}
		return Recorded
	case Died:
		e, there := p.log.entries[o.ID]
		if there && len(p.dead.ids) >= maxDead {
			return DeadFull
		}
		if there {
			e.ID, e.Attempts = o.ID, o.Attempts
			p.graves[o.Key] = p.dead.add(now, Letter{Entry: e, Error: o.Error})
		}
	}
	p.log.remove(o.ID)
	if ok {
		p.log.remove(at.first)
		delete(p.pending, o.Key)
	}
	return Recorded
}

// Depths implements Queue.
func (m *Memory) Depths(ctx context.Context, qs []QueueNames) ([]Depth, error) {
	out := make([]Depth, len(qs))
	for i, q := range qs {
		var err error
		if out[i], err = onPartition(m, ctx, q, func(p *memoryQueue, now int64) (Depth, error) {
			d := Depth{Log: len(p.log.ids), Dead: len(p.dead.ids)}
			if d.Log > 0 {
				d.First = p.log.ids[0]
				d.Age = ageOf(d.First, now)
			}
			return d, nil
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ageOf is how long ago an id was given; now is in ms.

// Letters implements Queue.
func (m *Memory) Letters(ctx context.Context, q QueueNames, after string, n int) ([]Letter, error) {
	return onPartition(m, ctx, q, func(p *memoryQueue, _ int64) ([]Letter, error) {
		var out []Letter
		for _, id := range p.dead.after(after, n) {
			l := p.dead.entries[id]
			l.ID, l.At = id, timeOf(id)
			out = append(out, l)
		}
		return out, nil
	})
}

// Revive implements Queue.
func (m *Memory) Revive(ctx context.Context, q QueueNames, r Revive) ([]Revived, error) {
	return onPartition(m, ctx, q, func(p *memoryQueue, now int64) ([]Revived, error) {
		out := make([]Revived, len(r.IDs))
		for i, id := range r.IDs {
			out[i] = p.revive(now, &r, id)
		}
		return out, nil
	})
}

func (p *memoryQueue) revive(now int64, r *Revive, id string) Revived {
	l, ok := p.dead.entries[id]
	if !ok {
		return NotThere
	}
	known := p.graves[l.Key] == id
	if !r.Discard {
		if _, ok := p.pending[l.Key]; ok || !known {
			return NotKnown
		}
		if p.append(now, r.Max, l.Write) == "" {
			return NoRoomInLog
		}
	}
	p.dead.remove(id)
	if known {
		delete(p.graves, l.Key)
	}
	return Gone
}

// Attend implements Queue.
func (m *Memory) Attend(ctx context.Context, members, member string, d time.Duration) (int, error) {
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
