package ctl

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/writebehind"
	"github.com/redis/go-redis/v9"
)

// found is a cache that list has found.
type found struct {
	Name      text       `json:"name"`
	Prefix    text       `json:"prefix"`
	Clock     clockState `json:"clock"`
	Used      *time.Time `json:"used,omitempty"`    // when a process last touched the clock
	Cleared   *time.Time `json:"cleared,omitempty"` // by Clear
	Tags      int64      `json:"tags"`              // with an invalidation
	Listeners int64      `json:"listeners"`         // subscriptions to its notifications; -1: not known
	Queue     *queueSize `json:"queue,omitempty"`   // of strategy.WriteBehind
	now       int64
}

type queueSize struct {
	Writes      int     `json:"writes"`
	OldestSecs  float64 `json:"oldest_seconds"`
	DeadLetters int     `json:"dead_letters"`
	Consumers   int     `json:"consumers"` // processes that take turns in applying; -1: not known
}

func listCommand() *command {
	return &command{
		name: "list", short: "list the caches that have been used", max: 0,
		long: `Lists the caches that this Redis knows, by the keys of their logical clocks: every cache
that was used in the last 100 days has one. Without -prefix, those of all prefixes. It scans all keys, a
thousand at a time, and changes nothing.

USED is when a process last wrote, loaded or invalidated something. LISTENERS counts the processes that receive
notifications, that is, those that use a local tier. TAGS counts the tags that have been invalidated. QUEUE is for
caches with strategy.WriteBehind.`,
		examples: []example{
			{"list", "all caches"},
			{"list -prefix shop:", "those with the prefix shop:"},
			{"list -json | jq -r '.[].name'", "their names, one a line"},
		},
		run: runList,
	}
}

func runList(ctx context.Context, c *call) error {
	list, err := c.findCaches(ctx, c.allPrefixes)
	if err != nil {
		return err
	}
	return c.answer(list, func(w io.Writer) { writeList(w, list, c.allPrefixes) })
}

// findCaches finds the caches of the session's prefix, or of all prefixes.
func (s *session) findCaches(ctx context.Context, all bool) ([]found, error) {
	pattern := keys.QuotePattern(s.keyPrefix) + ":{c:*}:epoch"
	if s.st.Clustered() {
		pattern = keys.QuotePattern(s.keyPrefix) + ":{*}*:epoch" // those of parts as well
	}
	if all {
		pattern = "*" + pattern
	}
	list := []found{}
	type which struct{ prefix, name string }
	seen := map[which]bool{}
	err := s.scan(ctx, pattern, func(batch []string) error {
		for _, k := range batch {
			prefix, name, ok := splitClockKey(k)
			if !ok && s.st.Clustered() {
				prefix, name, ok = splitPartClockKey(k)
			}
			if w := (which{prefix, name}); !ok || seen[w] || !all && prefix != s.keyPrefix {
				continue
			}
			seen[which{prefix, name}] = true
			list = append(list, found{Name: text(name), Prefix: text(prefix)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		if err := s.lookAt(ctx, &list[i]); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b found) int { return cmp.Or(cmp.Compare(a.Prefix, b.Prefix), cmp.Compare(a.Name, b.Name)) })
	return list, nil
}

// lookAt fills in what is known of a cache.
func (s *session) lookAt(ctx context.Context, f *found) error {
	l, err := s.readClocks(ctx, string(f.Prefix), string(f.Name))
	if err != nil {
		return err
	}
	c := l.used()
	f.Clock, f.now, f.Tags = l.state(), c.now, l.tags()
	if f.Clock == clockOK {
		used := time.UnixMicro(c.epoch.Tick).UTC()
		f.Used = &used
		if last := l.cleared().epoch.All.Last(); last > 0 {
			at := time.UnixMicro(last).UTC()
			f.Cleared = &at
		}
	}
	if f.Listeners, err = s.listeners(ctx, l.names); err != nil {
		return err
	}
	f.Queue, err = s.queueSize(ctx, string(f.Prefix), string(f.Name))
	return err
}

// queueSize measures the write-behind queue of a cache: nil if it has none.
func (s *session) queueSize(ctx context.Context, prefix, name string) (*queueSize, error) {
	members := store.MembersName(prefix, name)
	type partition struct{ log, dead *redis.IntCmd }
	var parts [writebehind.Partitions]partition
	var consumers *redis.IntCmd
	var oldest [writebehind.Partitions]*redis.XMessageSliceCmd
	err := s.pipelined(ctx, func(p redis.Pipeliner) {
		for i := range parts {
			q := store.NewQueueNames(prefix, name, i)
			parts[i] = partition{p.XLen(ctx, q.Log), p.XLen(ctx, q.Dead)}
			oldest[i] = p.XRangeN(ctx, q.Log, "-", "+", 1)
		}
		consumers = p.ZCard(ctx, members)
	})
	if err != nil {
		return nil, err
	}
	now, err := s.st.Now(ctx, members)
	if err != nil {
		return nil, err
	}
	var q queueSize
	for i := range parts {
		q.Writes += int(parts[i].log.Val())
		q.DeadLetters += int(parts[i].dead.Val())
		for _, m := range oldest[i].Val() {
			q.OldestSecs = max(q.OldestSecs, store.AgeOf(m.ID, now/1000).Seconds())
		}
	}
	if q.Consumers = int(consumers.Val()); consumers.Err() != nil {
		q.Consumers = -1
	}
	if q.Writes == 0 && q.DeadLetters == 0 && q.Consumers <= 0 {
		return nil, nil
	}
	return &q, nil
}

func writeList(w io.Writer, list []found, prefixes bool) {
	if len(list) == 0 {
		io.WriteString(w, "no caches: no cache of this library has been used here"+orElse(prefixes, ", under any prefix\n", " under this prefix; list those of all prefixes without -prefix\n"))
		return
	}
	head := []string{"NAME", "PREFIX", "USED", "LISTENERS", "TAGS", "CLEARED", "QUEUE"}
	rows := [][]string{head}
	for _, f := range list {
		row := []string{quote(string(f.Name)), dash(string(f.Prefix)), string(f.Clock), strconv.FormatInt(f.Listeners, 10), strconv.FormatInt(f.Tags, 10), "-", "-"}
		if f.Used != nil {
			row[2] = ago(micros(f.now - f.Used.UnixMicro()))
		}
		if f.Listeners < 0 {
			row[3] = "?"
		}
		if f.Cleared != nil {
			row[5] = ago(micros(f.now - f.Cleared.UnixMicro()))
		}
		if q := f.Queue; q != nil {
			row[6] = number(int64(q.Writes), "write", "writes")
			if q.DeadLetters > 0 {
				row[6] += ", " + number(int64(q.DeadLetters), "dead letter", "dead letters")
			}
		}
		rows = append(rows, row)
	}
	columns(w, rows...)
}

func orElse(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

// dash is quote, and "-" for nothing.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return quote(s)
}
