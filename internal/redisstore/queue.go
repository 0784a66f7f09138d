package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

func queueKeys(q *store.QueueNames) []string {
	return []string{q.Log, q.Pending, q.Owner, q.Dead, q.DeadIndex, q.From}
}

// invocation is one run of a script.
type invocation struct {
	script script
	keys   []string
	args   []any

	// again: a second execution changes nothing that the first has not changed, and answers the
	// same.
	again bool
}

func (c *invocation) build(ctx context.Context, ref reference) *redis.Cmd {
	words := append(c.script.words(ref, 3+len(c.keys)+len(c.args)), len(c.keys))
	for _, k := range c.keys {
		words = append(words, k)
	}
	cmd := redis.NewCmd(ctx, append(words, c.args...)...)
	cmd.SetFirstKeyPos(3)
	return cmd
}

// sent returns cmd, which was made of c, as it is given to go-redis.
func (c *invocation) sent(cmd *redis.Cmd) redis.Cmder {
	if c.again {
		return cmd
	}
	return onceCmd{cmd}
}

// run runs scripts in one round trip to each node, and a second one where a node does not have
// a script yet. The error of a script that answers nil is redis.Nil.
func (s *Redis) run(ctx context.Context, calls ...invocation) []*redis.Cmd {
	cmds := make([]*redis.Cmd, len(calls))
	var out []redis.Cmder
	for i := range calls {
		cmds[i] = calls[i].build(ctx, byHash)
		out = append(out, calls[i].sent(cmds[i]))
	}
	s.send(ctx, out...)
	out = out[:0]
	for i := range calls {
		if isNoScript(cmds[i].Err()) {
			cmds[i] = calls[i].build(ctx, byText)
			out = append(out, calls[i].sent(cmds[i]))
		}
	}
	s.send(ctx, out...)
	return cmds
}

// runUrgent runs an urgent script.
func (s *Redis) runUrgent(ctx context.Context, u urgentScript, keys []string, args ...any) *redis.Cmd {
	var cmd *redis.Cmd
	run := func(sc script) func() error {
		return func() error {
			cmd = s.run(ctx, invocation{script: sc, keys: keys, args: args})[0]
			return cmd.Err()
		}
	}
	_ = s.byFlags(run(u.urgent), run(u.plain))
	return cmd
}

// Append implements Queue.
func (s *Redis) Append(ctx context.Context, q store.QueueNames, a store.Append) ([]string, error) {
	args := make([]any, 0, 6+4*len(a.Writes))
	args = append(args, a.Sender, a.Seq, a.Max, store.SenderLife.Milliseconds(), store.ManyFrom, store.FromSample)
	for i := range a.Writes {
		w := &a.Writes[i]
		args = append(args, w.Key, opOf(w), w.Value, w.Meta)
	}
	// The sender's sequence number identifies a second execution.
	text, err := s.run(ctx, invocation{script: appendScript, keys: queueKeys(&q), args: args, again: true})[0].Text()
	switch {
	case err != nil && strings.Contains(err.Error(), "OVERTAKEN"):
		return nil, store.ErrOvertaken
	case err != nil:
		return nil, err
	}
	ids := strings.Split(text, " ")
	if len(ids) != len(a.Writes) {
		return nil, fmt.Errorf("redisstore: %d writes were appended, and %d IDs answered", len(a.Writes), len(ids))
	}
	return ids, nil
}

func opOf(w *store.Write) string {
	if w.Delete {
		return "d"
	}
	return "s"
}

// Newest implements Queue.
func (s *Redis) Newest(ctx context.Context, asks []store.Ask) ([][]store.Entry, error) {
	calls := make([]invocation, len(asks))
	for i := range asks {
		args := make([]any, len(asks[i].Keys))
		for j, k := range asks[i].Keys {
			args[j] = k
		}
		calls[i] = invocation{script: newestScript, keys: queueKeys(&asks[i].Queue), args: args, again: true}
	}
	out := make([][]store.Entry, len(asks))
	for i, cmd := range s.run(ctx, calls...) {
		list, err := cmd.Slice()
		if err != nil {
			return nil, err
		}
		out[i] = make([]store.Entry, len(asks[i].Keys))
		if len(list) != len(out[i]) {
			return nil, answered(list)
		}
		for j := range list {
			if list[j] == nil {
				continue
			}
			if out[i][j], err = readEntry(list[j]); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func answered(v any) error {
	return fmt.Errorf("redisstore: a script answered a %T of another form", v)
}

// readEntry reads the list that the scripts' function newest returns.
func readEntry(v any) (store.Entry, error) {
	list, ok := v.([]any)
	if !ok || len(list) != 6 {
		return store.Entry{}, answered(v)
	}
	attempts, ok := list[1].(int64)
	texts, err := texts(list[0], list[2], list[3], list[4], list[5])
	if !ok || err != nil {
		return store.Entry{}, answered(v)
	}
	return store.Entry{ID: texts[0], Attempts: int(attempts), Write: newWrite(texts[1:])}, nil
}

// newWrite makes a write from its key, operation, value and metadata.
func newWrite(f []string) store.Write {
	return store.Write{Key: f[0], Delete: f[1] == "d", Value: []byte(f[2]), Meta: []byte(f[3])}
}

func texts(vs ...any) ([]string, error) {
	out := make([]string, len(vs))
	for i, v := range vs {
		var ok bool
		if out[i], ok = v.(string); !ok {
			return nil, answered(v)
		}
	}
	return out, nil
}

// Acquire implements Queue.
func (s *Redis) Acquire(ctx context.Context, q store.QueueNames, owner string, lease time.Duration, renew bool) (bool, error) {
	only := 0
	if renew {
		only = 1
	}
	n, err := s.runUrgent(ctx, holdScript, queueKeys(&q), owner, lease.Milliseconds(), only).Int64()
	return n == 1, err
}

// Leave implements Queue.
func (s *Redis) Leave(ctx context.Context, q store.QueueNames, owner string) error {
	return s.runUrgent(ctx, leaveScript, queueKeys(&q), owner).Err()
}

// Fetch implements Queue.
func (s *Redis) Fetch(ctx context.Context, q store.QueueNames, f store.Fetch) (store.Fetched, error) {
	args := make([]any, 0, 7+len(f.Keys))
	args = append(args, f.Owner, f.Lease.Milliseconds(), f.After, f.Count, f.Bytes, f.Delay.Milliseconds(), f.Full)
	for _, k := range f.Keys {
		args = append(args, k)
	}
	list, err := s.runUrgent(ctx, fetchScript, queueKeys(&q), args...).Slice()
	if err != nil {
		return store.Fetched{}, ownerError(err)
	}
	if len(list) < 4 {
		return store.Fetched{}, answered(list)
	}
	n, err := integers(list[:3])
	last, ok := list[3].(string)
	if err != nil || !ok {
		return store.Fetched{}, answered(list)
	}
	out := store.Fetched{Len: int(n[0]), Wait: time.Duration(n[1]) * time.Millisecond, Looked: int(n[2]), Last: last}
	for _, v := range list[4:] {
		e, err := readEntry(v)
		if err != nil {
			return store.Fetched{}, err
		}
		out.Entries = append(out.Entries, e)
	}
	return out, nil
}

func ownerError(err error) error {
	if errors.Is(err, redis.Nil) {
		return store.ErrNotOwner
	}
	return err
}

func integers(list []any) ([]int64, error) {
	out := make([]int64, len(list))
	for i, v := range list {
		var ok bool
		if out[i], ok = v.(int64); !ok {
			return nil, answered(v)
		}
	}
	return out, nil
}

// Settle implements Queue.
func (s *Redis) Settle(ctx context.Context, q store.QueueNames, r store.Settle) ([]store.Settled, error) {
	args := make([]any, 0, 3+5*len(r.Outcomes))
	args = append(args, r.Owner, r.Lease.Milliseconds(), r.MaxDead)
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		args = append(args, uint8(o.Verdict), o.Key, o.ID, o.Attempts, o.Error)
	}
	return codes[store.Settled](s.runUrgent(ctx, settleScript, queueKeys(&q), args...), len(r.Outcomes), store.DeadFull)
}

// codes reads a list of n numbers, each at most last.
func codes[C store.Settled | store.Revived](cmd *redis.Cmd, n int, last C) ([]C, error) {
	list, err := cmd.Slice()
	if err != nil {
		return nil, ownerError(err)
	}
	ns, err := integers(list)
	if err != nil || len(ns) != n {
		return nil, answered(list)
	}
	out := make([]C, n)
	for i, v := range ns {
		if v < 0 || v > int64(last) {
			return nil, answered(list)
		}
		out[i] = C(v)
	}
	return out, nil
}

// Depths implements Queue.
func (s *Redis) Depths(ctx context.Context, qs []store.QueueNames) ([]store.Depth, error) {
	calls := make([]invocation, len(qs))
	for i := range qs {
		calls[i] = invocation{script: depthScript, keys: queueKeys(&qs[i]), again: true}
	}
	out := make([]store.Depth, len(qs))
	for i, cmd := range s.run(ctx, calls...) {
		list, err := cmd.Slice()
		if err != nil {
			return nil, err
		}
		if len(list) != 4 {
			return nil, answered(list)
		}
		n, err := integers([]any{list[0], list[1], list[3]})
		first, ok := list[2].(string)
		if err != nil || !ok {
			return nil, answered(list)
		}
		out[i] = store.Depth{Log: int(n[0]), Dead: int(n[1]), First: first}
		if first != "" {
			out[i].Age = store.AgeOf(first, n[2])
		}
	}
	return out, nil
}

// Letters implements Queue.
func (s *Redis) Letters(ctx context.Context, q store.QueueNames, after string, n int) ([]store.Letter, error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	cmd := redis.NewXMessageSliceCmd(ctx, "xrange", q.Dead, from, "+", "count", n)
	s.send(ctx, cmd)
	messages, err := cmd.Result()
	if err != nil {
		return nil, err
	}
	var out []store.Letter
	for _, m := range messages {
		// Of a foreign entry the missing fields are empty.
		f := func(name string) string { v, _ := m.Values[name].(string); return v }
		attempts, _ := strconv.Atoi(f("n"))
		w := newWrite([]string{f("k"), f("o"), f("v"), f("m")})
		out = append(out, store.Letter{ID: m.ID, Error: f("e"), At: store.TimeOf(m.ID), Entry: store.Entry{ID: f("i"), Attempts: attempts, Write: w}})
	}
	return out, nil
}

// Revive implements Queue.
func (s *Redis) Revive(ctx context.Context, q store.QueueNames, r store.Revive) ([]store.Revived, error) {
	discard := 0
	if r.Discard {
		discard = 1
	}
	args := []any{discard, r.Max}
	for _, id := range r.IDs {
		args = append(args, id)
	}
	return codes[store.Revived](s.runUrgent(ctx, reviveScript, queueKeys(&q), args...), len(r.IDs), store.LastOfRevive)
}

// Join implements Queue.
func (s *Redis) Join(ctx context.Context, members, member string, d time.Duration) (int, error) {
	return s.runUrgent(ctx, attendScript, []string{members}, member, d.Milliseconds()).Int()
}
