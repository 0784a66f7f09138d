package outbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"time"
)

func newHolder() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // it never fails
	return hex.EncodeToString(id[:])
}

func randomFraction() float64 { return mathrand.Float64() }

// leases renews the leases of this run, and takes those that are free, three times in the life
// of one.
//
// A lease saves work, and keeps one order. It is not what makes the relay correct: if it is lost
// unnoticed, because the process was stopped for longer than it, say, two relays apply the
// same rows, and both remove rows that they have applied.
func (n *run) leases(ctx context.Context) error {
	began := time.Now()
	if began.Before(n.look) {
		return nil
	}
	if !n.introduced {
		if err := n.introduce(ctx); err != nil {
			return err
		}
		n.introduced = true
	}
	// A relay that holds nothing only reads: on SQLite a write would hold up all others.
	mine, free, err := n.readLeases(ctx)
	if err != nil {
		return err
	}
	if want := append(mine, free...); len(want) > 0 {
		s := n.Outbox.statement().add("UPDATE "+n.Outbox.lease()+" SET holder = ?, expires = {now} + ? WHERE cache IN ", n.holder, n.lease.Microseconds())
		in(s, names(want)).add(" AND (holder = ? OR expires < {now})", n.holder)
		if _, err := n.DB.ExecContext(ctx, s.text.String(), s.args...); err != nil {
			return fmt.Errorf("lease: %w", err)
		}
		if mine, _, err = n.readLeases(ctx); err != nil {
			return err
		}
	}
	held := map[string]bool{}
	for _, c := range mine {
		held[c] = true
	}
	for name, s := range n.states {
		switch {
		case held[name] && !s.held:
			n.counted = time.Time{}
			*s = state{waiting: map[int64]retry{}}
			n.log.once(slog.LevelInfo, "outbox: this relay invalidates a cache now", slog.String("cache", name))
		case !held[name] && s.held:
			*s = state{}
			n.log.once(slog.LevelInfo, "outbox: another relay invalidates a cache now", slog.String("cache", name))
		}
		s.held, s.until = held[name], began.Add(n.lease)
	}
	n.note(func(s *Stats) {
		for name := range n.states {
			c, k := s.Caches[name], n.Relay.known[name]
			if !c.Held || !held[name] { // the figures are those of the relay at work
				c.Lag, c.Unavailable, c.Backlog, c.DeadLetters = 0, false, 0, 0
			}
			c.Held, k.until = held[name], began.Add(n.lease)
			s.Caches[name], n.Relay.known[name] = c, k
		}
	})
	n.look = began.Add(n.lease / 3)
	return nil
}

// introduce gives every cache its row. Relays may do so at the same time.
func (n *run) introduce(ctx context.Context) error {
	for _, name := range n.caches {
		verb, end := "INSERT INTO ", " ON CONFLICT (cache) DO NOTHING"
		if n.Outbox.dialect == MySQL {
			verb, end = "INSERT IGNORE INTO ", ""
		}
		s := n.Outbox.statement().add(verb+n.Outbox.lease()+" (cache, holder, expires) VALUES (?, '', 0)"+end, []byte(name))
		if _, err := n.DB.ExecContext(ctx, s.text.String(), s.args...); err != nil {
			return fmt.Errorf("lease: %w", err)
		}
	}
	return nil
}

// readLeases returns which of the caches this run has, and which no run has.
func (n *run) readLeases(ctx context.Context) (mine, free []string, err error) {
	s := n.Outbox.statement().add("SELECT cache, holder, expires < {now} FROM " + n.Outbox.lease() + " WHERE cache IN ")
	in(s, names(n.caches))
	rows, err := n.DB.QueryContext(ctx, s.text.String(), s.args...)
	if err != nil {
		return nil, nil, fmt.Errorf("lease: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name []byte
		var holder string
		var expired bool
		if err := rows.Scan(&name, &holder, &expired); err != nil {
			return nil, nil, fmt.Errorf("lease: %w", err)
		}
		switch {
		case expired:
			free = append(free, string(name))
		case holder == n.holder:
			mine = append(mine, string(name))
		}
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("lease: %w", err)
	}
	return mine, free, nil
}

// release leaves the caches to other relays. It has its own time: the run's context has ended.
func (n *run) release(ctx context.Context) {
	n.note(func(s *Stats) {
		for name, c := range s.Caches {
			c.Held, c.Lag, c.Unavailable, c.Backlog, c.DeadLetters = false, 0, false, 0, 0
			s.Caches[name] = c
		}
	})
	if !n.introduced {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	s := n.Outbox.statement().add("UPDATE "+n.Outbox.lease()+" SET expires = 0 WHERE holder = ?", n.holder)
	if _, err := n.DB.ExecContext(ctx, s.text.String(), s.args...); err != nil {
		n.log.once(slog.LevelWarn, "outbox: leases were not given back and expire", slog.Any("error", err))
	}
}
