package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// event is something that watch has seen.
type event struct {
	At      time.Time `json:"at"`                // by this machine's clock
	Process string    `json:"process,omitempty"` // a random number of an instance of the cache
	Event   string    `json:"event"`
	Keys    []seenKey `json:"keys,omitempty"`
	Tags    []text    `json:"tags,omitempty"`
	Pattern text      `json:"pattern,omitempty"`
	Number  uint64    `json:"number,omitempty"` // of the message, among those of its process
	Detail  string    `json:"detail,omitempty"`
}

// seenKey is a key of an event, with -look what Redis has under it right afterwards.
type seenKey struct {
	Key text   `json:"key"`
	Now string `json:"now,omitempty"`
}

// The events.
const (
	evChanged   = "changed"   // keys were written or invalidated
	evLoaded    = "loaded"    // a load that other processes waited for has ended
	evPattern   = "pattern"   // keys were invalidated by a pattern
	evTags      = "tags"      // tags were invalidated
	evCleared   = "cleared"   // all entries were invalidated
	evWatermark = "watermark" // all messages up to Number were published
	evClosed    = "closed"    // a process has closed the cache
	evForeign   = "foreign"   // bytes that are no message
	evConnected = "connected" // from here on nothing is missed
	evLost      = "lost"      // the connection was lost: messages may be missing
)

func watchCommand() *command {
	var o watchOptions
	return &command{
		name: "watch", args: "NAME", short: "show live what is written and invalidated, and by which process", min: 1, max: 1, names: true,
		long: `Shows the notifications of a cache as they come, until it is interrupted: which keys were
written or invalidated, which loads have ended, which tags, patterns, and Clear. The number of the process is random, one
for each instance of a cache in a program: equal numbers are equal processes. A notification does not say whether a key was
written or invalidated: -look looks at Redis right afterwards.

It counts as a listener of the cache, and changes nothing. In JSON, each event is a line.`,
		examples: []example{
			{"watch users", "everything"},
			{"watch users -look", "and what the keys are then"},
			{"watch users -key 'acme:*' -for 1m", "some keys, for a minute"},
			{"watch users -json | jq -r 'select(.event == \"cleared\")'", "for a script"},
		},
		flags: func(fs *flag.FlagSet) {
			fs.BoolVar(&o.look, "look", false, "look up what Redis has under the keys right afterwards")
			fs.BoolVar(&o.watermarks, "watermarks", false, "show also how processes prove that nothing was lost")
			fs.StringVar(&o.match, "key", "", "only events of keys that match a `GLOB`, and those of all keys")
			fs.IntVar(&o.count, "count", 0, "end after `N` events; 0: never")
			fs.DurationVar(&o.time, "for", 0, "end after this `TIME`; 0: never")
		},
		run: func(ctx context.Context, c *call) error {
			if o.count < 0 || o.time < 0 {
				return usagef("-count and -for are not negative")
			}
			return c.watch(ctx, &o)
		},
	}
}

type watchOptions struct {
	look, watermarks bool
	match            string
	count            int
	time             time.Duration
}

// lookAtMost is how many keys of a message are looked up.
const lookAtMost = 100

func (c *call) watch(ctx context.Context, o *watchOptions) error {
	until := ctx
	if o.time > 0 {
		var cancel context.CancelFunc
		until, cancel = context.WithTimeout(ctx, o.time)
		defer cancel()
	}
	w := &watcher{call: c, o: o, names: c.names(c.args[0])}
	w.matches = matcher(o.match)
	parts := w.names.Parted(c.st.Clustered())
	w.partOf = make(map[string]uint8, len(parts))
	for i, p := range parts {
		w.partOf[p.Channel] = uint8(i)
	}
	f := c.follow(until, parts)
	defer func() { f.close() }()
	for left, connected, moves := f.expect, false, 0; ; {
		m, err := f.next(until)
		if until.Err() != nil {
			return nil // it was interrupted, or the time is over: both are a good end
		}
		s, ok := m.(*redis.Subscription)
		moved := ok && s.Kind == "sunsubscribe" || redis.HasErrorPrefix(err, "MOVED") && moves < movesMost
		if err != nil && !moved && (answered(err) || !connected) {
			return err
		}
		if err != nil || moved {
			if connected {
				lost := "the connection to Redis was lost, and is made again: what was published meanwhile is missing"
				if moved {
					lost = "a channel moves to another node: what is published meanwhile is missing"
				}
				if err := w.show(event{Event: evLost, Detail: lost}); err != nil {
					return err
				}
			}
			f.close()
			if moved {
				moves++
				w.afterMove(until)
			} else {
				w.reconnect(until)
			}
			if until.Err() != nil {
				return nil
			}
			f = c.follow(until, parts)
			left, connected = f.expect, false
			continue
		}
		switch m := m.(type) {
		case *redis.Subscription:
			if left--; left > 0 || connected {
				continue
			}
			connected, moves = true, 0
			err = w.show(event{Event: evConnected, Detail: "watching " + quote(c.args[0])})
		case *redis.Message:
			err = w.message(until, w.partOf[m.Channel], m.Payload)
		}
		if err != nil {
			if errors.Is(err, errEnough) || until.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// movesMost is how often the nodes of a cluster may say in a row that a slot is elsewhere.
const movesMost = 50

// afterMove has the client find out where the slots are, which it does in the background.
func (w *watcher) afterMove(ctx context.Context) {
	if c, ok := w.rdb.(*redis.ClusterClient); ok {
		c.ReloadState(ctx)
	}
	select {
	case <-ctx.Done():
	case <-time.After(200 * time.Millisecond):
	}
}

// reconnect waits until the server answers again.
func (w *watcher) reconnect(ctx context.Context) {
	for {
		if err := w.rdb.Ping(ctx).Err(); err == nil || answered(err) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

type watcher struct {
	*call
	partOf  map[string]uint8  // by channel
	seen    map[string]uint16 // the parts of what there is a message of for each part
	o       *watchOptions
	names   store.Names
	matches func(string) bool
	shown   int
}

func (w *watcher) show(e event) error {
	e.At = time.Now().UTC()
	var err error
	if w.json {
		err = writeJSON(w.out, e, true)
	} else {
		_, err = io.WriteString(w.out, e.line())
	}
	if err != nil {
		return err
	}
	if e.Event == evConnected || e.Event == evLost {
		return nil
	}
	if w.shown++; w.o.count > 0 && w.shown >= w.o.count {
		return errEnough
	}
	return nil
}

func (w *watcher) message(ctx context.Context, part uint8, payload string) error {
	m, err := message.Parse(payload)
	e := event{Number: m.Number}
	if m.Sender != 0 {
		e.Process = fmt.Sprintf("%016x", m.Sender)
	}
	if err != nil {
		e.Event, e.Detail = evForeign, "no message of this library"
		if errors.Is(err, message.ErrNewer) {
			e.Detail = "a message of a newer version of this library"
		}
		return w.show(e)
	}
	switch m.Kind {
	case message.Invalidated, message.Loaded:
		keys := slices.DeleteFunc(m.Keys, func(k string) bool { return !w.matches(k) })
		if len(keys) == 0 {
			return nil
		}
		e.Event = orElse(m.Kind == message.Loaded, evLoaded, evChanged)
		if e.Keys, err = w.look(ctx, keys); err != nil {
			return err
		}
	case message.Pattern:
		if !w.first(&m, part) {
			return nil
		}
		e.Event, e.Pattern = evPattern, text(m.Pattern)
	case message.TagsInvalidated, message.PartTagsInvalidated:
		if !w.first(&m, part) {
			return nil
		}
		e.Event, e.Tags = evTags, texts(m.Tags)
		if len(m.Tags) == 0 {
			e.Event = evCleared
		}
		e.Detail = tombstoneOf(&m)
	case message.Watermark:
		if !w.first(&m, part) {
			return nil
		}
		e.Event = orElse(m.Last, evClosed, evWatermark)
		if !m.Last && !w.o.watermarks {
			return nil
		}
	}
	return w.show(e)
}

// rememberedMost bounds the messages that first remembers.
const rememberedMost = 1000

// first reports whether a message about all keys is the first of several. On a cluster there is one for each
// part of the keys that could be reached, in any order; a part that was seen before begins another time.
func (w *watcher) first(m *message.Message, part uint8) bool {
	if len(w.partOf) == 1 {
		return true
	}
	if len(w.seen) >= rememberedMost || w.seen == nil {
		w.seen = map[string]uint16{}
	}
	of := fmt.Sprintf("%x %d %q %q %v", m.Sender, m.Kind, m.Pattern, m.Tags, m.Last)
	seen, is := w.seen[of], uint16(1)<<part
	if seen&is != 0 {
		seen = 0
	}
	w.seen[of] = seen | is
	return seen == 0
}

// tombstoneOf says what becomes of the entries of a message about the logical clock.
func tombstoneOf(m *message.Message) string {
	r, ok := logicalclock.ParseReading(m.Text, len(m.Tags))
	if !ok {
		return ""
	}
	mark := r.Epoch.All
	if len(r.Tags) > 0 {
		mark = r.Tags[0]
	}
	c := clock{now: r.Now}
	state, _ := c.describe(mark)
	return state
}

// look looks up what Redis has under keys.
func (w *watcher) look(ctx context.Context, keys []string) ([]seenKey, error) {
	out := make([]seenKey, len(keys))
	for i, k := range keys {
		out[i].Key = text(k)
	}
	if !w.o.look {
		return out, nil
	}
	some := keys[:min(len(keys), lookAtMost)]
	heads := make([]*redis.StringCmd, len(some))
	sizes := make([]*redis.IntCmd, len(some))
	err := w.pipelined(ctx, func(p redis.Pipeliner) {
		for i, k := range some {
			heads[i], sizes[i] = p.GetRange(ctx, w.names.Data+k, 0, store.HeadLen-1), p.StrLen(ctx, w.names.Data+k)
		}
	})
	if err != nil {
		return nil, err
	}
	for i := range some {
		out[i].Now = nowOf(heads[i], sizes[i])
	}
	return out, nil
}

func nowOf(head *redis.StringCmd, size *redis.IntCmd) string {
	if head.Err() != nil {
		return orElse(isWrongType(head.Err()), kindForeign, "")
	}
	if head.Val() == "" {
		return kindNothing
	}
	h, err := frame.ReadHead([]byte(head.Val()))
	switch {
	case errors.Is(err, frame.ErrNewer):
		return kindNewer
	case errors.Is(err, frame.ErrForeign):
		return kindForeign
	case err != nil:
		return kindCorrupt
	case h.Limit <= 0 && h.Kind == frame.Value:
		return "stale value"
	case h.Kind == frame.Value:
		return fmt.Sprintf("value of %s", bytes(size.Val()))
	}
	return kindNames[h.Kind]
}

// shownKeys is how many keys of an event are printed for people.
const shownKeys = 10

// line is the event for people.
func (e *event) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %-16s  %-9s", e.At.Local().Format("15:04:05.000"), orElse(e.Process == "", "-", e.Process), e.Event)
	for i, k := range e.Keys {
		if i == shownKeys {
			fmt.Fprintf(&b, "  … and %d more", len(e.Keys)-i)
			break
		}
		b.WriteString("  " + quote(string(k.Key)))
		if k.Now != "" {
			b.WriteString(" (" + k.Now + ")")
		}
	}
	if e.Pattern != "" {
		b.WriteString("  " + quote(string(e.Pattern)))
	}
	if len(e.Tags) > 0 {
		b.WriteString("  " + quoteAll(e.Tags))
	}
	if e.Event == evWatermark {
		fmt.Fprintf(&b, "  all up to number %d", e.Number)
	}
	if e.Detail != "" {
		b.WriteString("  " + e.Detail)
	}
	return strings.TrimRight(b.String(), " ") + "\n"
}
