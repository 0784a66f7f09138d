// Package invalidation invalidates entries in Redis and notifies all processes: single keys,
// all keys that match a pattern, all entries of a tag, all entries.
//
// The [Policy] says how. Immediate removes the entry. Delayed lets it live a while longer, on
// Redis's own timer, so that it expires even if this process has ended by then. Lazy removes
// nothing: a fresh entry becomes stale, and the next reader loads it from the source.
//
// Under every policy, a load in flight loses. Its lease is removed, and a record that stays
// gets a new id, so that a fill, which is a compare-and-set against the record that the loader
// saw, fails.
package invalidation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
)

// Mode is a kind of [Policy]. The modes have the numbers of those of package invalidate.
type Mode uint8

const (
	Immediate Mode = iota
	Delayed
	Lazy
)

// Policy is the effect of an invalidation on an entry.
type Policy struct {
	Mode  Mode
	Delay time.Duration // Delayed; whole milliseconds, at least one
}

// NewTombstone returns the tombstone that invalidates tags by the policy, or everything if there are
// none.
func (p Policy) NewTombstone(tags []string) logicalclock.NewTombstone {
	m := logicalclock.NewTombstone{Tags: tags}
	switch p.Mode {
	case Delayed:
		m.Mode, m.Delay = logicalclock.Delayed, p.Delay.Microseconds()
	case Lazy:
		m.Mode = logicalclock.Soft
	}
	return m
}

// ClocksApart is by how much, in µs, two processes' estimates of Redis's clock may differ.
const ClocksApart = 1_000_000

// Limit returns the time at which a record with the given limit is over, by Redis's clock, which
// says now: the limit itself, unless more than the policy's whole delay is left. Then Redis's
// clock was set back since the record was invalidated, and it is over, as a tombstone that takes
// effect later is. Redis's own timer does not replace this: a load that keeps the record prolongs
// its key.
func (p Policy) Limit(limit, now int64) int64 {
	if p.Mode == Delayed && limit != math.MaxInt64 && limit > add(now, p.Delay.Microseconds()+ClocksApart) {
		return 0
	}
	return limit
}

// Invalidator invalidates the entries of one cache. All methods are safe for concurrent use.
type Invalidator struct {
	Store  *client.Client
	Names  store.Names
	Parts  []store.Names // by part of the keys; see store.Names.Parted
	Policy Policy
	Outbox *message.Outbox

	// Sign, if not nil, authenticates a new section A of a frame whose header is seen. It may
	// lower the limit.
	Sign func(key string, seen, section []byte) []byte

	// NoRecords: the values of the cache are not in Redis, so that there are no keys to search
	// for what matches a pattern.
	NoRecords bool

	// Known returns this process's copy of the logical clock of a part; see store.Store.Marks.
	Known func(part uint8) logicalclock.Known

	losses losses // see Watermark
}

// Outcome is the outcome for one key.
type Outcome struct {
	Found bool     // there was an entry to invalidate
	Err   error    // Redis did not acknowledge it
	At    int64    // Redis's clock at the request, in µs; 0: not known
	Open  []uint64 // the number of a message that may or may not have been published, if any
	Token string   // header of the record that stays for a while, as it is now; "": none
}

// NamesOf returns the names of the part that a Redis key is in.
func (r *Invalidator) NamesOf(redisKey string) store.Names {
	if len(r.Parts) <= 1 {
		return r.namesIn(0)
	}
	return r.Parts[store.PartOf(redisKey)]
}

// LoadedOf returns a message that the load of a key has ended, to publish together with the
// command that ends its lease, in a Redis key, if a process waits for it.
func (r *Invalidator) LoadedOf(redisKey, key string) store.Notify {
	t := notify(r.NamesOf(redisKey), &message.Message{Sender: r.Outbox.Sender(), Kind: message.Loaded, Keys: []string{key}})
	t.Awaited = true
	return t
}

// NotifyOf returns a message to publish together with a command, for keys that are in one part. The
// caller resolves it.
func (r *Invalidator) NotifyOf(kind message.Kind, keys ...string) (store.Notify, message.Sent) {
	part := uint8(0)
	if len(r.Parts) > 1 {
		part = store.PartOf(r.Names.Data + keys[0])
	}
	n, sent := r.Outbox.NextIn(part, kind)
	n.Keys = keys
	return notify(r.namesIn(part), &n), sent
}

func notify(names store.Names, n *message.Message) store.Notify {
	size := 64
	for _, key := range n.Keys {
		size += 4 + len(key)
	}
	return store.Notify{Channel: names.Channel, Message: string(n.Append(make([]byte, 0, size))), Sharded: names.Slots != store.SlotRange{}}
}

// Together calls f for those of n keys, given by their encodings, that a message may name together: for
// so many of one part at most.
func (r *Invalidator) Together(n, most int, encoded func(int) string, f func(of []int, keys []string)) {
	each := func(of []int) {
		for some := range slices.Chunk(of, most) {
			keys := make([]string, len(some))
			for j, i := range some {
				keys[j] = encoded(i)
			}
			f(some, keys)
		}
	}
	if len(r.Parts) <= 1 {
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		each(all)
		return
	}
	parts := make([][]int, len(r.Parts))
	for i := range n {
		part := store.PartOf(r.Names.Data + encoded(i))
		parts[part] = append(parts[part], i)
	}
	for _, of := range parts {
		each(of)
	}
}

// Keys invalidates keys, given by their encodings.
func (r *Invalidator) Keys(ctx context.Context, encoded []string) []Outcome {
	out := make([]Outcome, len(encoded))
	for i, enc := range encoded {
		// If Redis's clock is not known, neither is the time of the invalidation.
		out[i].At, _ = r.Store.Now(ctx, r.Names.Data+enc)
	}
	if r.Policy.Mode == Immediate {
		r.remove(ctx, encoded, out)
		return out
	}
	open := make([]int, len(encoded))
	for i := range open {
		open[i] = i
	}
	r.rewrite(ctx, open, encoded, out, true)
	return out
}

func (r *Invalidator) remove(ctx context.Context, encoded []string, out []Outcome) {
	cmds, sent := r.deletes(encoded), make([]message.Sent, len(encoded))
	var replies []store.Reply
	if len(encoded) > 1 && r.Store.OneNode() {
		replies, sent = r.InCommon(encoded, cmds, func(cmds []store.Command) []store.Reply { return r.Store.Do(ctx, cmds) })
	} else {
		for i, enc := range encoded {
			cmds[i].Notify, sent[i] = r.NotifyOf(message.Invalidated, enc)
		}
		replies = r.Store.Do(ctx, cmds)
	}
	for i, reply := range replies {
		out[i].Found, out[i].Err, out[i].Open = true, reply.Err, sent[i].Resolve(true, reply.Err)
	}
}

func (r *Invalidator) deletes(encoded []string) []store.Command {
	cmds := make([]store.Command, len(encoded))
	for i, enc := range encoded {
		cmds[i] = store.Command{Op: store.Delete, Key: r.Names.Data + enc}
	}
	return cmds
}

// rewrite invalidates keys whose records stay in Redis for a while: it reads each one, and
// compares-and-sets it; if another client was faster, again. A record that another client
// stores meanwhile may come from a load that began before the invalidation, and so does not end
// the loop.
func (r *Invalidator) rewrite(ctx context.Context, open []int, encoded []string, out []Outcome, tell bool) {
	for len(open) > 0 {
		heads := make([]store.Command, len(open))
		for j, i := range open {
			heads[j] = store.Command{Op: store.GetHeader, Key: r.Names.Data + encoded[i]}
		}
		var again, changed, nothing []int
		var cmds []store.Command
		var messages []message.Sent
		for j, reply := range r.Store.Do(ctx, heads) {
			i := open[j]
			if reply.Err != nil {
				out[i].Err = reply.Err
				continue
			}
			cmd, err := r.change(ctx, heads[j].Key, reply.Record)
			if err != nil {
				out[i].Err = err
				continue
			}
			if cmd.Key == "" { // missing in Redis: only local tiers may have it
				nothing = append(nothing, i)
				continue
			}
			var sent message.Sent
			if tell {
				cmd.Notify, sent = r.NotifyOf(message.Invalidated, encoded[i])
			}
			changed, cmds, messages = append(changed, i), append(cmds, cmd), append(messages, sent)
		}
		if tell {
			r.notifyOf(ctx, nothing, encoded, out)
		}
		for j, reply := range r.Store.Do(ctx, cmds) {
			i := changed[j]
			out[i].Err, out[i].Open = reply.Err, messages[j].Resolve(reply.OK, reply.Err)
			switch {
			case reply.Err != nil:
			case reply.OK:
				out[i].Found, out[i].Token = true, string(frame.Token(cmds[j].Frame))
			default:
				again = append(again, i)
			}
		}
		open = again
	}
}

// removeOlder removes records except those that newer reports to be of a later time: it reads
// each one, and compares-and-deletes it; if another client was faster, again.
func (r *Invalidator) removeOlder(ctx context.Context, encoded []string, out []Outcome, newer func(string, store.Record) bool) {
	open := make([]int, len(encoded))
	for i := range open {
		open[i] = i
	}
	for len(open) > 0 {
		heads := make([]store.Command, len(open))
		for j, i := range open {
			heads[j] = store.Command{Op: store.GetHeader, Key: r.Names.Data + encoded[i]}
		}
		var changed []int
		var cmds []store.Command
		for j, reply := range r.Store.Do(ctx, heads) {
			i := open[j]
			if out[i].Err = reply.Err; reply.Err != nil || reply.Record.State == store.Missing || newer(heads[j].Key, reply.Record) {
				continue
			}
			changed = append(changed, i)
			cmds = append(cmds, store.Command{Op: store.CompareAndDelete, Key: heads[j].Key, Seen: reply.Record.CASToken()})
		}
		open = nil
		for j, reply := range r.Store.Do(ctx, cmds) {
			i := changed[j]
			switch out[i].Err = reply.Err; {
			case reply.Err != nil:
			case reply.OK:
				out[i].Found = true
			default:
				open = append(open, i)
			}
		}
	}
}

// notifyOf publishes messages for keys that are missing in Redis.
func (r *Invalidator) notifyOf(ctx context.Context, which []int, encoded []string, out []Outcome) {
	r.Together(len(which), KeysPerMessage, func(i int) string { return encoded[which[i]] }, func(some []int, keys []string) {
		tell, sent := r.NotifyOf(message.Invalidated, keys...)
		err := r.Store.Publish(ctx, tell)
		for j, each := range sent.ResolveEach(len(some), err == nil) {
			o := &out[which[some[j]]]
			o.Err, o.Open = err, each.Resolve(true, err)
		}
	})
}

// change returns the command that invalidates a record; its key is "" if there is nothing to
// do.
func (r *Invalidator) change(ctx context.Context, key string, rec store.Record) (cmd store.Command, err error) {
	if rec.State == store.Missing {
		return cmd, nil
	}
	release := store.Command{Op: store.CompareAndDelete, Key: key, Seen: rec.CASToken()}
	h, err := frame.ReadHead(rec.Raw)
	if err != nil || h.Kind != frame.Value && h.Kind != frame.Absence {
		return release, nil // a lease, another type, or an unusable record
	}
	now, err := r.Store.Now(ctx, key)
	if err != nil {
		return cmd, err
	}
	cmd = store.Command{Op: store.PatchHeader, Key: key, Seen: rec.CASToken()}
	// The limit is not the current time, but one that is always past: Redis's clock may be set
	// back.
	limit := min(h.Limit, 0)
	if r.Policy.Mode == Delayed {
		limit = min(r.Policy.Limit(h.Limit, now), add(now, r.Policy.Delay.Microseconds()))
		cmd.TTL = r.Policy.Delay
	}
	cmd.Frame = frame.AppendSeal(nil, h.Kind, frame.NewID(), limit)
	if r.Sign != nil {
		cmd.Frame = r.Sign(key, rec.Raw, cmd.Frame)
	}
	return cmd, nil
}

func add(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return math.MaxInt64
	}
	return a + b
}

// scanBatch bounds how many keys are invalidated at once, so that other clients of the server
// get their turn in between.
const scanBatch = 512

// Matched is the outcome of an invalidation by pattern.
type Matched struct {
	Keys int64    // number of invalidated keys
	Open []uint64 // numbers of messages that may or may not have been published

	refused bool // Redis refused to change some key
}

// Pattern invalidates the keys whose encodings match a Redis glob, on every master. quote
// returns a pattern that matches only the given text. A failing master does not keep the others
// from being scanned; the error joins all failures.
//
// Keys that are written while it runs may or may not be included, as SCAN has it. A load that
// was in flight when it began is included: its lease is a key.
func (r *Invalidator) Pattern(ctx context.Context, pattern string, quote func(string) string) (m Matched, err error) {
	return r.pattern(ctx, pattern, quote, nil)
}

// PatternAgain retries Pattern after a failed attempt, by the policy Immediate. Records stay
// that newer reports to be of a later time than that attempt. If this attempt fails as well,
// the message to the local tiers, which was published before, is not published again.
func (r *Invalidator) PatternAgain(ctx context.Context, pattern string, quote func(string) string, newer func(key string, rec store.Record) bool) (m Matched, err error) {
	return r.pattern(ctx, pattern, quote, newer)
}

// pattern is Pattern, or PatternAgain if newer is not nil.
func (r *Invalidator) pattern(ctx context.Context, pattern string, quote func(string) string, newer func(string, store.Record) bool) (m Matched, err error) {
	var masters []string
	if !r.NoRecords {
		if masters, err = r.masters(ctx); err != nil {
			return m, err
		}
	}
	var errs []error
	full := quote(r.Names.Data) + pattern
	for _, master := range masters {
		if err := r.scan(ctx, master, full, newer, &m); err != nil {
			errs = append(errs, err)
			if ctx.Err() != nil {
				break
			}
		}
	}
	if len(errs) > 0 && (newer != nil || m.refused && m.Keys == 0) {
		return m, errors.Join(errs...)
	}
	// Last, and also if no key was found: local tiers have keys that Redis does not have any
	// more.
	var mu sync.Mutex // guards m.Open and errs
	r.EachPart(func(part uint8) {
		note, sent := r.Outbox.NextIn(part, message.Pattern)
		note.Pattern = pattern
		err := Publish(ctx, r.Store, r.namesIn(part), &note)
		mu.Lock()
		defer mu.Unlock()
		m.Open = append(m.Open, sent.Resolve(true, err)...)
		errs = append(errs, err)
	})
	return m, errors.Join(errs...)
}

// mastersAgain is how often a cluster is asked for its masters: any node can answer, and one
// that does not respond may be the first to be asked, each time.
const mastersAgain = 8

func (r *Invalidator) masters(ctx context.Context) (masters []string, err error) {
	for range mastersAgain {
		masters, again := r.Store.Masters(ctx)
		if again == nil {
			return masters, nil
		}
		if err = cmp.Or(err, again); ctx.Err() != nil || errors.Is(again, client.ErrOpen) {
			break
		}
	}
	return nil, err
}

func (r *Invalidator) scan(ctx context.Context, master, full string, newer func(string, store.Record) bool, m *Matched) error {
	for cursor := uint64(0); ; {
		found, next, err := r.Store.Scan(ctx, master, full, cursor)
		if err != nil {
			return err
		}
		for len(found) > 0 {
			batch := found[:min(len(found), scanBatch)]
			found = found[len(batch):]
			if err := r.batch(ctx, batch, newer, m); err != nil {
				return err
			}
		}
		if next == 0 {
			return nil
		}
		cursor = next
	}
}

// batch invalidates keys that a scan has found, and publishes one message for those of each part.
func (r *Invalidator) batch(ctx context.Context, found []string, newer func(string, store.Record) bool, m *Matched) (err error) {
	seen := make(map[string]bool, len(found))
	var encoded []string
	for _, k := range found {
		if len(k) >= len(r.Names.Data) && !seen[k] {
			seen[k] = true
			encoded = append(encoded, k[len(r.Names.Data):])
		}
	}
	out := make([]Outcome, len(encoded))
	switch {
	case newer != nil:
		r.removeOlder(ctx, encoded, out, newer)
	case r.Policy.Mode == Immediate:
		for i, reply := range r.Store.Do(ctx, r.deletes(encoded)) {
			out[i].Found, out[i].Err = reply.Err == nil, reply.Err
		}
	default:
		open := make([]int, len(encoded))
		for i := range open {
			open[i] = i
		}
		r.rewrite(ctx, open, encoded, out, false)
	}
	var failed int
	tellOf := make([]string, 0, len(encoded))
	for i := range out {
		switch {
		case out[i].Err != nil:
			failed, err = failed+1, out[i].Err
			if client.Refused(err) {
				m.refused = true
				continue // unchanged
			}
		case out[i].Found:
			m.Keys++
		}
		tellOf = append(tellOf, encoded[i])
	}
	if err != nil {
		err = fmt.Errorf("%d of %d keys: %w", failed, len(out), err)
	}
	if len(tellOf) == 0 {
		return err
	}
	r.Together(len(tellOf), scanBatch, func(i int) string { return tellOf[i] }, func(_ []int, keys []string) {
		tell, sent := r.NotifyOf(message.Invalidated, keys...)
		lost := r.Store.Publish(ctx, tell)
		m.Open = append(m.Open, sent.Resolve(true, lost)...)
		err = errors.Join(err, lost)
	})
	return err
}

// InvalidateTags invalidates the entries of tags whose keys are in a part, or all entries there if
// there are no tags. Its cost does not depend on their number. It returns the logical clock of the
// part as Redis knows it from then on, and the number of a message that may or may not have been
// published, if any.
func (r *Invalidator) InvalidateTags(ctx context.Context, part uint8, tags []string) (logicalclock.Reading, []uint64, error) {
	return r.addTombstones(ctx, part, r.Policy.NewTombstone(tags))
}

// InvalidateTagsLate is Mark by the policy Immediate for tags, or all entries, whose invalidation was
// requested at the times before by Redis's clock; see logicalclock.NewTombstone.
func (r *Invalidator) InvalidateTagsLate(ctx context.Context, part uint8, tags []string, before []int64) (logicalclock.Reading, []uint64, error) {
	return r.addTombstones(ctx, part, logicalclock.NewTombstone{Tags: tags, Before: before})
}

func (r *Invalidator) addTombstones(ctx context.Context, part uint8, m logicalclock.NewTombstone) (logicalclock.Reading, []uint64, error) {
	names, kind := r.namesIn(part), message.TagsInvalidated
	if len(r.Parts) > 1 {
		kind = message.PartTagsInvalidated
	}
	note, sent := r.Outbox.NextIn(part, kind)
	note.Part, note.Tags = part, m.Tags
	m.Channel, m.Message = names.Channel, string(note.Append(nil))
	marks, err := r.Store.AddTombstones(ctx, names, r.Known(part), m)
	return marks, sent.Resolve(true, err), err
}

// EachPart calls f for each part of the keys, for all at once if there are several, so that a node that does
// not answer does not hold up the others, and waits for them.
func (r *Invalidator) EachPart(f func(part uint8)) {
	if len(r.Parts) <= 1 {
		f(0)
		return
	}
	var wg sync.WaitGroup
	for i := range r.Parts {
		wg.Go(func() { f(uint8(i)) })
	}
	wg.Wait()
}

// namesIn returns the names of a part.
func (r *Invalidator) namesIn(part uint8) store.Names {
	if len(r.Parts) == 0 {
		return r.Names
	}
	return r.Parts[part]
}
