package outbox

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/delqhi/cache"
)

const (
	// pagesAtOnce bounds the pages of a pass in which there was something to do: a row whose transaction was committed late has a number that the
	// pass may have gone past, and is found by the next one.
	pagesAtOnce = 64

	// outageAfter is the number of pages in a row without a success after which a cache is left
	// alone for a while. One page may have the keys of one node of a cluster by chance.
	outageAfter = 3

	// maxWaiting bounds what is remembered of rows that wait. Others are tried in each pass.
	maxWaiting = 100_000

	// valuesAtOnce bounds the values that are in memory together, in bytes, beside one that is larger.
	valuesAtOnce = 8 << 20
)

// row is what a pass reads.
type row struct {
	id       int64
	item     item
	attempts int
	size     int           // of its value, in bytes; 0: it has none
	age      time.Duration // since it was inserted
}

// pass goes through the rows of all caches once, from the least number on, page by page. Rows that
// were applied are removed before the next page is read, so that a page begins with the least
// number again, unless rows were left. It reports whether there is more to do at once.
func (n *run) pass(ctx context.Context) (again bool, err error) {
	oldest := map[string]time.Duration{} // of the rows that were left
	after := map[string]int64{}          // the caches that the pass is not through with, and how far it is
	for _, name := range n.active() {
		after[name] = 0
	}
	for progress := 0; progress < pagesAtOnce; {
		n.keepActive(after)
		if len(after) == 0 {
			return false, nil
		}
		page, err := n.read(ctx, after)
		if err != nil {
			return false, err
		}
		n.lagged(after, page, oldest)
		left, err := n.process(ctx, page)
		if err != nil {
			return false, err
		}
		if len(left) < len(page) {
			progress++
		}
		for _, r := range left {
			oldest[r.item.cache] = max(oldest[r.item.cache], r.age)
		}
		through := n.advance(after, page, left)
		n.lagged(through, nil, oldest)
		if err := n.leases(ctx); err != nil {
			return false, err
		}
	}
	n.keepActive(after)
	return len(after) > 0, nil
}

// advance moves the cursors past a page of which rows were left, and takes out the caches that
// have no more, which it returns.
func (n *run) advance(after map[string]int64, page, left []row) (through map[string]int64) {
	read, last, stays := map[string]int{}, map[string]int64{}, map[string]bool{}
	for _, r := range page {
		read[r.item.cache]++
		last[r.item.cache] = r.id
	}
	for _, r := range left {
		stays[r.item.cache] = true
	}
	through = map[string]int64{}
	for name := range after {
		switch {
		case read[name] < n.batch:
			through[name] = after[name]
			delete(after, name)
		case stays[name]:
			after[name] = last[name]
		}
	}
	return through
}

// keepActive takes out the caches that can't be invalidated now.
func (n *run) keepActive(after map[string]int64) {
	active := n.active()
	for name := range after {
		if !slices.Contains(active, name) {
			delete(after, name)
		}
	}
}

// active returns the caches that can be invalidated now.
func (n *run) active() []string {
	now := time.Now()
	var list []string
	for _, name := range n.caches {
		if s := n.states[name]; s.holds(now) && !now.Before(s.pause) {
			list = append(list, name)
		}
	}
	return list
}

// read returns the next rows of each cache, after a number. Each part of the statement is a range
// of the index, whatever the database believes to know of the table: of a table that grows and
// shrinks within seconds, its statistics are always out of date.
func (n *run) read(ctx context.Context, after map[string]int64) ([]row, error) {
	s := n.Outbox.statement()
	for i, name := range slices.Sorted(maps.Keys(after)) {
		if i > 0 {
			s.add(" UNION ALL ")
		}
		s.add("SELECT * FROM (SELECT id, cache, kind, item, attempts, COALESCE(LENGTH(value), 0) AS size, {now} - created AS age FROM "+n.Outbox.table+
			" WHERE cache = ? AND state = 0 AND id > ? AND due <= {now} ORDER BY id LIMIT ?) AS part", []byte(name), after[name], n.batch)
	}
	rows, err := n.DB.QueryContext(ctx, s.text.String(), s.args...)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	defer rows.Close()
	var page []row
	for rows.Next() {
		var r row
		var name, text []byte
		var k, age int64
		if err := rows.Scan(&r.id, &name, &k, &text, &r.attempts, &r.size, &age); err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		r.item, r.age = item{string(name), kind(k), string(text)}, max(0, time.Duration(age)*time.Microsecond)
		page = append(page, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return page, nil
}

// work is an item with its rows.
type work struct {
	item item
	rows []row
	due  bool // not one that waits for a later attempt
	new  bool // it has a row that was not tried before

	value    []byte // of the only row, while it is being applied
	replaced bool   // the value is in the cache
	result   outcome
	err      error
}

// size is that of the value to be applied. Where several rows concern a key there is none: which of
// them was committed last is not known, and the value of another one would not be put in place.
func (w *work) size() int {
	if w.item.kind != key || len(w.rows) > 1 {
		return 0
	}
	return w.rows[0].size
}

// process applies a page and writes down what came of it. It returns the rows that are left.
func (n *run) process(ctx context.Context, page []row) (left []row, err error) {
	list := n.merge(page)
	n.apply(ctx, list)
	var done []int64
	var dead []*work
	for _, w := range list {
		s := n.states[w.item.cache]
		switch {
		case !w.due:
			left = append(left, w.rows...)
			continue
		case w.result == acknowledged:
			for _, r := range w.rows {
				done = append(done, r.id)
				delete(s.waiting, r.id)
			}
			continue
		case w.result == refused:
			dead = append(dead, w)
		case w.result == unavailable:
			n.postpone(s, w)
		case w.result == closed:
			err = cmp.Or(err, fmt.Errorf("outbox: target %q: %w", w.item.cache, cmp.Or(w.err, error(cache.ErrClosed))))
		}
		left = append(left, w.rows...)
	}
	n.conclude(list)
	// What was acknowledged is removed, even though ctx may have ended meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.timeout)
	defer cancel()
	if _, failed := n.Outbox.change(ctx, n.DB, "remove", "DELETE FROM "+n.Outbox.table+" WHERE id IN ", done); failed != nil {
		return left, cmp.Or(err, failed)
	}
	n.note(func(s *Stats) {
		for _, w := range list {
			if w.due && w.result == acknowledged {
				c := s.Caches[w.item.cache]
				for _, r := range w.rows {
					c.Waited += r.age
				}
				c.Applied += uint64(len(w.rows))
				c.Merged += uint64(len(w.rows) - 1)
				if w.replaced {
					c.Replaced++
				}
				s.Caches[w.item.cache] = c
			}
		}
	})
	for _, w := range dead {
		if failed := n.refuse(ctx, w); failed != nil {
			return left, cmp.Or(err, failed)
		}
	}
	return left, err
}

// merge makes one item of the rows that say the same. All of them are committed, so that one
// invalidation after this moment is enough.
func (n *run) merge(page []row) []*work {
	now := time.Now()
	var list []*work
	known := map[item]*work{}
	for _, r := range page {
		w := known[r.item]
		if w == nil {
			w = &work{item: r.item}
			known[r.item] = w
			list = append(list, w)
		}
		w.rows = append(w.rows, r)
		wait, waits := n.states[r.item.cache].waiting[r.id]
		w.new = w.new || !waits
		w.due = w.due || !waits || !now.Before(wait.at)
	}
	return list
}

// apply applies what is due. A Clear that is acknowledged does what the other rows of its cache
// in the page ask for.
func (n *run) apply(ctx context.Context, list []*work) {
	var some []*work
	cleared := map[string]bool{}
	for _, w := range list {
		if w.due && w.item.kind == everything {
			n.applyOne(ctx, w)
			cleared[w.item.cache] = w.result == acknowledged
		}
	}
	for _, w := range list {
		switch {
		case w.item.kind == everything:
		case cleared[w.item.cache] && w.item.kind < everything:
			w.due, w.result = true, acknowledged
		case w.due:
			some = append(some, w)
		}
	}
	for len(some) > 0 {
		part := 1
		for sum := some[0].size(); part < len(some); part++ {
			if sum += some[part].size(); sum > valuesAtOnce {
				break
			}
		}
		n.applyAll(ctx, some[:part])
		some = some[part:]
	}
}

// applyAll applies items, some at a time.
func (n *run) applyAll(ctx context.Context, some []*work) {
	n.readValues(ctx, some)
	next := make(chan *work)
	var workers sync.WaitGroup
	for range min(n.concurrency, len(some)) {
		workers.Go(func() {
			for w := range next {
				n.applyOne(ctx, w)
				w.value = nil
			}
		})
	}
	for _, w := range some {
		next <- w
	}
	close(next)
	workers.Wait()
}

// readValues reads the values of the items that have one. A value that can't be read is left out:
// to invalidate the key is right in any case, and what is wrong with the database shows elsewhere.
func (n *run) readValues(ctx context.Context, some []*work) {
	of := map[int64]*work{}
	var ids []int64
	for _, w := range some {
		if w.size() > 0 {
			of[w.rows[0].id] = w
			ids = append(ids, w.rows[0].id)
		}
	}
	for ids := range slices.Chunk(ids, 500) {
		s := in(n.Outbox.statement().add("SELECT id, value FROM "+n.Outbox.table+" WHERE id IN "), ids)
		rows, err := n.DB.QueryContext(ctx, s.text.String(), s.args...)
		if err != nil {
			return
		}
		for rows.Next() {
			var id int64
			var value []byte
			if rows.Scan(&id, &value) != nil {
				break
			}
			of[id].value = value
		}
		_ = rows.Close()
	}
}

func (n *run) applyOne(ctx context.Context, w *work) {
	if ctx.Err() != nil {
		w.result, w.err = interrupted, ctx.Err()
		return
	}
	limited, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	w.replaced, w.err = w.item.apply(limited, n.targets[w.item.cache], w.value)
	w.result = judge(ctx, w.err)
}

// postpone has rows wait in this process. In the database they stay as they are: while Redis is
// away, they would be written again and again.
func (n *run) postpone(s *state, w *work) {
	for _, r := range w.rows {
		wait, waits := s.waiting[r.id]
		if !waits && len(s.waiting) >= maxWaiting {
			continue
		}
		wait.tries++
		wait.at = time.Now().Add(n.backoff(wait.tries))
		s.waiting[r.id] = wait
	}
}

// conclude decides from a page which caches are left alone for a while.
func (n *run) conclude(list []*work) {
	type count struct{ done, failed, newFailed int }
	counts := map[string]*count{}
	errs := map[string]error{}
	for _, w := range list {
		if !w.due {
			continue
		}
		name := w.item.cache
		c := counts[name]
		if c == nil {
			c = &count{}
			counts[name] = c
		}
		switch w.result {
		case acknowledged:
			c.done++
		case unavailable:
			c.failed++
			errs[name] = w.err
			if w.new {
				c.newFailed++
			}
		}
	}
	const away, back = "outbox: a cache can't be invalidated at present, rows wait", "outbox: a cache can be invalidated again"
	for name, c := range counts {
		s := n.states[name]
		switch {
		case c.done > 0:
			if s.failed >= outageAfter { // what waits need not wait longer
				for id := range s.waiting {
					s.waiting[id] = retry{}
				}
			}
			s.failed, s.pause = 0, time.Time{}
			if c.failed == 0 && len(s.waiting) == 0 {
				n.log.end(away, name, back)
			}
		case c.newFailed > 0 || c.failed > 0 && s.failed > 0:
			s.failed++
			if s.failed >= outageAfter {
				s.pause = time.Now().Add(n.backoff(s.failed - outageAfter + 1))
			}
		}
		if c.failed > 0 {
			n.log.begin(slog.LevelWarn, away, name, slog.String("cache", name), slog.Any("error", errs[name]))
		}
		n.note(func(st *Stats) {
			cs := st.Caches[name]
			cs.Postponed += uint64(c.failed)
			cs.Unavailable = s.failed > 0 || len(s.waiting) > 0
			st.Caches[name] = cs
		})
	}
}

// refuse counts an attempt in the database, for whatever process comes to the row next.
func (n *run) refuse(ctx context.Context, w *work) error {
	text := errorText(w.err)
	for _, r := range w.rows {
		tries, state := r.attempts+1, 0
		if tries >= n.attempts {
			state = 1
		}
		s := n.Outbox.statement().add("UPDATE "+n.Outbox.table+" SET attempts = ?, due = {now} + ?, state = ?, error = ? WHERE id = ? AND state = 0",
			tries, n.backoff(tries).Microseconds(), state, text, r.id)
		if _, err := n.DB.ExecContext(ctx, s.text.String(), s.args...); err != nil {
			return fmt.Errorf("refuse: %w", err)
		}
		n.note(func(st *Stats) {
			c := st.Caches[w.item.cache]
			c.Refused++
			if state == 1 {
				c.Dead++
			}
			st.Caches[w.item.cache] = c
		})
		if state == 1 {
			n.log.once(slog.LevelError, "outbox: a row was refused too often and is a dead letter now",
				slog.String("cache", w.item.cache), slog.String("kind", w.item.kind.String()), slog.Int64("row", r.id), slog.Any("error", w.err))
		}
	}
	return nil
}

// errorText is the text of an error as every database takes it.
func errorText(err error) string {
	text := strings.ReplaceAll(strings.ToValidUTF8(err.Error(), "?"), "\x00", "?")
	for len(text) > 900 {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}

// lagged notes the lag of caches: the age of their oldest row that is to be applied.
func (n *run) lagged(caches map[string]int64, page []row, oldest map[string]time.Duration) {
	lag := map[string]time.Duration{}
	for name := range caches {
		lag[name] = oldest[name]
	}
	for _, r := range page {
		lag[r.item.cache] = max(lag[r.item.cache], r.age)
	}
	now := time.Now()
	n.note(func(s *Stats) {
		for name, d := range lag {
			c := s.Caches[name]
			c.Lag = d
			s.Caches[name] = c
			k := n.Relay.known[name]
			k.looked = now
			n.Relay.known[name] = k
		}
	})
	const behind, ahead = "outbox: the relay has fallen behind", "outbox: the relay has caught up"
	for _, name := range slices.Sorted(maps.Keys(caches)) {
		if lag[name] >= n.lagWarning {
			n.log.begin(slog.LevelWarn, behind, name, slog.String("cache", name), slog.Duration("lag", lag[name]))
		} else {
			n.log.end(behind, name, ahead)
		}
	}
}
