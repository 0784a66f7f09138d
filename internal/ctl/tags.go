package ctl

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/glob"
	"github.com/redis/go-redis/v9"
)

func tagsCommand() *command {
	return &command{
		name: "tags", short: "list the tags that were invalidated, or invalidate tags",
		long: `Entries carry tags (cache.Tags, Source.Tags), and invalidating a tag invalidates all of them
in one round trip. Redis has the time of each tag's last invalidation; an entry that was loaded before it is a miss.`,
		sub: []*command{tagsListCommand(), tagsInvalidateCommand()},
	}
}

// tag is a tag that was invalidated.
type tag struct {
	Tag   text      `json:"tag"`
	State string    `json:"entries_before"` // what entries of before are: invalid, stale, …
	At    time.Time `json:"invalidated"`
	since time.Duration
}

type tagList struct {
	Cache text  `json:"cache"`
	Total int64 `json:"total"`
	Tags  []tag `json:"tags"`
	// Floor is the time before which invalidations of tags are not known any more: entries
	// with tags that are older are invalid.
	Floor *time.Time `json:"known_since,omitempty"`
	since time.Duration
}

func tagsListCommand() *command {
	var limit int
	var match string
	return &command{
		name: "list", args: "NAME", short: "the tags that were invalidated, the latest first", min: 1, max: 1, names: true,
		long: `Lists the tags of a cache that were invalidated, the latest first, and what became of the
entries of before. Tags that were never invalidated are known to nothing but the entries. It changes nothing.`,
		examples: []example{
			{"tags list users", "the 50 that were invalidated last"},
			{"tags list users -match 'tenant:*' -limit 0", "all that match"},
		},
		flags: func(fs *flag.FlagSet) {
			fs.IntVar(&limit, "limit", 50, "list `N` tags at most; 0: all")
			fs.StringVar(&match, "match", "", "only those that match a `GLOB`")
		},
		run: func(ctx context.Context, c *call) error {
			if limit < 0 {
				return usagef("-limit %d is negative", limit)
			}
			list, err := c.listTags(ctx, c.args[0], match)
			if err != nil {
				return err
			}
			if limit > 0 && len(list.Tags) > limit {
				list.Tags = list.Tags[:limit]
			}
			return c.answer(list, func(w io.Writer) { list.write(w) })
		},
	}
}

func (c *call) listTags(ctx context.Context, name, match string) (*tagList, error) {
	clocks, err := c.readClocks(ctx, c.keyPrefix, name)
	if err != nil {
		return nil, err
	}
	if state := clocks.state(); state != clockOK {
		return nil, fmt.Errorf("the logical clock of %s%s is %s: cachectl list shows the caches that are known", quote(name), c.underPrefix(), state)
	}
	list := &tagList{Cache: text(name), Tags: []tag{}}
	last := map[string]tag{} // a tag is in each part, in which it was invalidated at about the same time
	for i := range clocks.parts {
		cl := &clocks.parts[i]
		if low := cl.epoch.LowWatermark; low > 0 && (list.Floor == nil || low > list.Floor.UnixMicro()) {
			at := time.UnixMicro(low).UTC()
			list.Floor, list.since = &at, cl.since(low)
		}
		if !cl.hash {
			continue
		}
		if err := c.scanTags(ctx, clocks.names[i].Tags, cl, last); err != nil {
			return nil, err
		}
	}
	list.Total = int64(len(last))
	matches := matcher(match)
	for name, t := range last {
		if matches(name) {
			list.Tags = append(list.Tags, t)
		}
	}
	slices.SortFunc(list.Tags, func(a, b tag) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Tag, b.Tag)) })
	return list, nil
}

// scanTags reads the tags that were invalidated in one part. Of the invalidations of one tag, the last
// one stays in list.
func (c *call) scanTags(ctx context.Context, key string, cl *clock, list map[string]tag) error {
	for cursor := uint64(0); ; {
		pairs, next, err := c.rdb.HScan(ctx, key, cursor, "", 1000).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			name, ok := strings.CutPrefix(pairs[i], tagField)
			if !ok {
				continue
			}
			state, at := cl.describe(cl.tombstone(pairs[i+1]))
			t := tag{text(name), state, time.UnixMicro(at).UTC(), cl.since(at)}
			if before, ok := list[name]; !ok || before.At.Before(t.At) {
				list[name] = t
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func (l *tagList) write(w io.Writer) {
	if len(l.Tags) > 0 {
		rows := [][]string{{"TAG", "INVALIDATED", "ENTRIES OF BEFORE"}}
		for _, t := range l.Tags {
			rows = append(rows, []string{quote(string(t.Tag)), ago(t.since), t.State})
		}
		columns(w, rows...)
	}
	fmt.Fprintf(w, "%s of %s in all; invalidations of tags are known for the last %s\n", number(l.Total, "tag", "tags"), quote(string(l.Cache)), span(l.since))
}

func tagsInvalidateCommand() *command {
	var f policyFlags
	var quoted bool
	return &command{
		name: "invalidate", args: "NAME TAG...", short: "invalidate the entries of tags, in every process", min: 2, max: -1, names: true,
		long: `Invalidates the entries that have one of the tags, in Redis and in every process, in one
round trip, whatever their number. A TAG of "-" stands for tags on standard input, one a line.`,
		examples: []example{
			{"tags invalidate users tenant:acme", "all entries of a tenant"},
			{"tags invalidate users tenant:acme -delay 30s", "in half a minute"},
		},
		flags: func(fs *flag.FlagSet) {
			quotedFlag(fs, &quoted)
			f.define(fs)
		},
		run: func(ctx context.Context, c *call) error {
			if err := c.unquote(quoted, 1); err != nil {
				return err
			}
			name, list := c.args[0], c.args[1:]
			if slices.Contains(list, "") {
				return usagef("a tag is not empty")
			}
			cl, policy, err := c.invalidator(ctx, &f)
			if err != nil {
				return err
			}
			defer cl.Close()
			var done []string
			err = c.eachKey(list, quoted, func(some []string) error {
				done = append(done, some...)
				return cl.InvalidateTags(ctx, some...)
			})
			if err != nil {
				return invalidationFailed(err)
			}
			return c.answer(invalidated{Cache: text(name), Tags: texts(done), Policy: policy.String()}, func(w io.Writer) {
				fmt.Fprintf(w, "invalidated %s of %s, %s\n", number(int64(len(done)), "tag", "tags"), quote(name), how(policy))
			})
		},
	}
}

// matcher returns a function that matches a Redis glob; "" matches everything.
func matcher(pattern string) func(string) bool {
	if pattern == "" {
		return func(string) bool { return true }
	}
	return glob.Compile(pattern).Match
}
