package outbox

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Row is a row of the outbox.
type Row struct {
	ID       int64
	Cache    string    // the name of the cache
	Kind     string    // "key", "tag", "pattern", "clear", or what a later version writes
	Item     string    // the encoded key, the tag or the pattern
	Created  time.Time // when it was inserted, by the clock of the database
	Attempts int       // how often it was refused
	Error    string    // why it was refused last
}

// DeadLetters returns rows that were refused too often (see [Relay].MaxAttempts), those with an ID
// greater than after, in ascending order, n at most. Their invalidations have not taken effect.
func (o *Outbox) DeadLetters(ctx context.Context, db Queryer, after int64, n int) ([]Row, error) {
	s := o.statement().add("SELECT id, cache, kind, item, created, attempts, error FROM "+o.table+
		" WHERE state = 1 AND id > ? ORDER BY id LIMIT ?", after, max(n, 0))
	rows, err := db.QueryContext(ctx, s.text.String(), s.args...)
	if err != nil {
		return nil, fmt.Errorf("outbox: dead letters: %w", err)
	}
	defer rows.Close()
	var list []Row
	for rows.Next() {
		var r Row
		var name, item []byte
		var k, created int64
		if err := rows.Scan(&r.ID, &name, &k, &item, &created, &r.Attempts, &r.Error); err != nil {
			return nil, fmt.Errorf("outbox: dead letters: %w", err)
		}
		r.Cache, r.Kind, r.Item, r.Created = string(name), kind(k).String(), string(item), time.UnixMicro(created)
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("outbox: dead letters: %w", err)
	}
	return list, nil
}

// Replay has relays apply dead letters anew, with as many attempts as at first, and returns how
// many there were. Other rows are left as they are.
func (o *Outbox) Replay(ctx context.Context, db Executor, ids ...int64) (int64, error) {
	return o.change(ctx, db, "replay", "UPDATE "+o.table+" SET state = 0, attempts = 0, due = 0 WHERE state = 1 AND id IN ", ids)
}

// Discard removes dead letters, and returns how many there were. What they were to invalidate
// stays in the cache until it expires. Other rows are left as they are.
func (o *Outbox) Discard(ctx context.Context, db Executor, ids ...int64) (int64, error) {
	return o.change(ctx, db, "discard", "DELETE FROM "+o.table+" WHERE state = 1 AND id IN ", ids)
}

// change executes a statement that ends in a list of rows, in pieces.
func (o *Outbox) change(ctx context.Context, db Executor, what, text string, ids []int64) (int64, error) {
	var changed int64
	for some := range slices.Chunk(ids, 500) {
		s := in(o.statement().add(text), some)
		res, err := db.ExecContext(ctx, s.text.String(), s.args...)
		if err == nil {
			var n int64
			n, err = res.RowsAffected()
			changed += n
		}
		if err != nil {
			return changed, fmt.Errorf("outbox: %s: %w", what, err)
		}
	}
	return changed, nil
}

// Backlog is what the outbox has for a cache.
type Backlog struct {
	Pending int64         // rows to be applied
	Dead    int64         // dead letters
	Oldest  time.Duration // the age of the oldest row that is to be applied, since it was inserted; 0 if there is none
}

// Backlogs counts all rows, by the name of the cache, those without a relay included. It reads
// the whole table: for a page or an alert, not for each request.
func (o *Outbox) Backlogs(ctx context.Context, db Queryer) (map[string]Backlog, error) {
	s := o.statement().add("SELECT cache, state, COUNT(*), {now} - MIN(created) FROM " + o.table + " GROUP BY cache, state")
	rows, err := db.QueryContext(ctx, s.text.String(), s.args...)
	if err != nil {
		return nil, fmt.Errorf("outbox: backlogs: %w", err)
	}
	defer rows.Close()
	all := map[string]Backlog{}
	for rows.Next() {
		var name []byte
		var state, n, age int64
		if err := rows.Scan(&name, &state, &n, &age); err != nil {
			return nil, fmt.Errorf("outbox: backlogs: %w", err)
		}
		b := all[string(name)]
		if state == 0 {
			b.Pending, b.Oldest = n, max(0, time.Duration(age)*time.Microsecond)
		} else {
			b.Dead = n
		}
		all[string(name)] = b
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("outbox: backlogs: %w", err)
	}
	return all, nil
}
