package ctl

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// lease is a load, or a write to the source, that is in flight.
type lease struct {
	Key     text     `json:"key"`
	Kind    string   `json:"kind"`                  // load, replacement (of a value that stays meanwhile), write
	ID      string   `json:"id"`                    // random, of the load
	ForSecs *float64 `json:"for_seconds,omitempty"` // how long it has been in flight
	EndSecs float64  `json:"ends_in_seconds"`       // unless its process renews it
	started int64
}

type leaseList struct {
	Cache  text    `json:"cache"`
	Leases []lease `json:"leases"`
}

func leasesCommand() *command {
	var limit int
	return &command{
		name: "leases", args: "NAME", short: "list the loads and writes that are in flight, the oldest first", min: 1, max: 1, names: true,
		long: `Lists the leases of a cache: the loads that are in flight, for which readers of all processes
wait, and the writes to the source. A lease ends by itself some seconds after its process was killed. Those that go on for
long show a source that does not answer. It scans all keys, a thousand at a time, and changes nothing; a lease that ends
meanwhile may be missing.

IN FLIGHT is since the logical time that the load began with, which may be a little earlier than the load itself.`,
		examples: []example{{"leases users", "what is being loaded"}},
		flags: func(fs *flag.FlagSet) {
			fs.IntVar(&limit, "limit", 100, "list `N` leases at most; 0: all")
		},
		run: func(ctx context.Context, c *call) error {
			if limit < 0 {
				return usagef("-limit %d is negative", limit)
			}
			list, err := c.findLeases(ctx, c.args[0])
			if err != nil {
				return err
			}
			total := len(list.Leases)
			if limit > 0 && total > limit {
				list.Leases = list.Leases[:limit]
			}
			return c.answer(list, func(w io.Writer) { list.write(w, total) })
		},
	}
}

func (c *call) findLeases(ctx context.Context, name string) (*leaseList, error) {
	names := c.names(name)
	list := &leaseList{Cache: text(name), Leases: []lease{}}
	seen := map[string]bool{}
	for _, of := range []struct{ prefix, kind string }{{names.Data, "load"}, {names.Lock, "replacement"}} {
		err := c.scan(ctx, keys.QuotePattern(of.prefix)+"*", func(batch []string) error {
			for some := range slices.Chunk(batch, 1000) {
				if err := c.leasesAmong(ctx, some, of.prefix, of.kind, seen, list); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list.Leases, func(a, b lease) int {
		return cmp.Or(cmp.Compare(a.started, b.started), cmp.Compare(a.Key, b.Key))
	})
	return list, nil
}

func (c *call) leasesAmong(ctx context.Context, some []string, prefix, kind string, seen map[string]bool, list *leaseList) error {
	heads := make([]*redis.StringCmd, len(some))
	ttls := make([]*redis.DurationCmd, len(some))
	err := c.pipelined(ctx, func(p redis.Pipeliner) {
		for i, k := range some {
			heads[i], ttls[i] = p.GetRange(ctx, k, 0, store.SealLen-1), p.PTTL(ctx, k)
		}
	})
	if err != nil {
		return err
	}
	for i, k := range some {
		h, err := frame.ReadHead([]byte(heads[i].Val()))
		if heads[i].Err() != nil && !isWrongType(heads[i].Err()) {
			return heads[i].Err()
		}
		if err != nil || h.Kind != frame.Lease && h.Kind != frame.Intent || seen[k] || ttls[i].Val() == -2 {
			continue
		}
		seen[k] = true
		l := lease{Key: text(strings.TrimPrefix(k, prefix)), Kind: kind, ID: fmt.Sprintf("%x", h.ID[:8]), EndSecs: max(ttls[i].Val(), 0).Seconds(), started: 1<<63 - 1}
		if h.Kind == frame.Intent {
			l.Kind = "write"
		}
		if since, _, ok := h.Since(); ok {
			now, err := c.st.Now(ctx, k)
			if err != nil {
				return err
			}
			l.ForSecs, l.started = seconds(micros(max(now-since, 0))), since
		}
		list.Leases = append(list.Leases, l)
	}
	return nil
}

func (l *leaseList) write(w io.Writer, total int) {
	if total == 0 {
		fmt.Fprintf(w, "no load and no write to the source of %s is in flight\n", quote(string(l.Cache)))
		return
	}
	rows := [][]string{{"KEY", "KIND", "IN FLIGHT", "ENDS, UNLESS RENEWED"}}
	for _, s := range l.Leases {
		since := "?"
		if s.ForSecs != nil {
			since = span(ofSeconds(*s.ForSecs))
		}
		rows = append(rows, []string{quote(string(s.Key)), s.Kind, since, "in " + span(ofSeconds(s.EndSecs).Round(time.Millisecond))})
	}
	columns(w, rows...)
	if len(l.Leases) < total {
		fmt.Fprintf(w, "%d of %d: -limit 0 lists all\n", len(l.Leases), total)
	}
}
