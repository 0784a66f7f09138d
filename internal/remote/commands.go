package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// mgetMax bounds the keys of one MGET, so that one large batch does not hold up
// every other client of a single-threaded server.
const mgetMax = 512

// gets counts the leading commands that may go as one MGET.
func gets(cmds []Command) int {
	n := 0
	for n < len(cmds) && n < mgetMax && cmds[n].Op == Get && cmds[n].Most == 0 && cmds[n].With == 0 {
		n++
	}
	return n
}

// mget is a run of Gets sent as one command. Its answer is read as strings, which makes
// no difference between nothing and an empty string, and half of the garbage.
type mget struct {
	cmd     *redis.StringSliceCmd
	replies []Reply
}

func newMget(ctx context.Context, cmds []Command, replies []Reply) mget {
	args := make([]any, 0, len(cmds)+1)
	args = append(args, "mget")
	for i := range cmds {
		args = append(args, cmds[i].Key)
	}
	return mget{redis.NewStringSliceCmd(ctx, args...), replies}
}

func (m mget) read() {
	vals, err := m.cmd.Result()
	if err == nil && len(vals) != len(m.replies) {
		err = fmt.Errorf("remote: MGET of %d keys answered %d values", len(m.replies), len(vals))
	}
	// A StringCmd gives its string as bytes without a copy: the string was made for this
	// reply, nobody else has it.
	var one redis.StringCmd
	for i := range m.replies {
		r := &m.replies[i]
		if err != nil {
			r.Err = err
			continue
		}
		if vals[i] != "" {
			one.SetVal(vals[i])
			r.Record.State = Found
			r.Record.Raw, r.Err = one.Bytes()
		}
	}
}

// reference is how a command refers to its script.
type reference bool

const (
	byHash reference = false // short, but the node may not have the script
	byText reference = true
)

// references says how the commands of one call refer to their scripts. Nil: all by
// hash.
type references []reference

// of says it of the n commands from i on that go as one script.
func (r references) of(i, n int) reference {
	return r != nil && reference(slices.Contains(r[i:i+n], byText))
}

// newReferences decides for a batch: by hash, unless a later command has the same
// key, which a node that lacks the script would carry out first.
//
//  1. Release of k, by hash, and Add to k are sent together
//  2. the node does not know the hash; the Add finds the old record
//  3. the Release is sent again with its text, and removes it: the Add was for
//     nothing, and its answer is not true
func newReferences(cmds []Command) references {
	if !slices.ContainsFunc(cmds, func(c Command) bool { return scripted(&c) }) {
		return nil
	}
	refs := make(references, len(cmds))
	later := make(map[string]struct{}, len(cmds)) // keys of the commands after i
	for i := len(cmds) - 1; i >= 0; i-- {
		_, again := later[cmds[i].Key]
		refs[i] = reference(again)
		later[cmds[i].Key] = struct{}{}
	}
	return refs
}

// scripted reports whether the command runs a script. All that must compare do, and those
// that publish, which is only what took effect. A PUBLISH behind a SET in the pipeline would
// go out in any case:
//
//  1. the server refuses the SET of k: its disk or its memory is full, it has become a
//     replica, or lacks one; or the slot has moved, and a cluster's old master answers MOVED
//  2. and carries out the PUBLISH, which any server can
//  3. a reader drops k from its local tier for nothing, or, where the SET is sent again,
//     reads what was there before, and is not told any more
func scripted(c *Command) bool {
	switch c.Op {
	case Set, Delete:
		return c.tells()
	case Add:
		return c.tells() || c.byScript
	case Swap:
		return c.Seen.State != Missing || c.tells() || c.byScript
	case Release, Extend, Reseal:
		return true
	}
	return false
}

// build makes the go-redis command of c, which must be checked. Lifetimes always
// go as PX: exact to the millisecond, whatever their size.
func build(ctx context.Context, c *Command, ref reference) redis.Cmder {
	switch c.Op {
	case Set:
		if scripted(c) {
			return runFor(ctx, c, setScript, ref, c.Frame, c.millis())
		}
		if c.TTL > 0 {
			return onceStatus{redis.NewStatusCmd(ctx, "set", c.Key, c.Frame, "px", c.millis())}
		}
		return onceStatus{redis.NewStatusCmd(ctx, "set", c.Key, c.Frame)}
	case Add:
		return add(ctx, c, ref)
	case Head:
		return redis.NewStringCmd(ctx, "getrange", c.Key, 0, HeadLen-1)
	case Delete:
		if scripted(c) {
			return runFor(ctx, c, deleteScript, ref)
		}
		return onceInt{redis.NewIntCmd(ctx, "unlink", c.Key)}
	case Swap:
		if c.Seen.State == Missing {
			return add(ctx, c, ref)
		}
		return compareBy(ctx, c, swapScript, ref, c.Frame, c.millis())
	case Release:
		return compareBy(ctx, c, releaseScript, ref)
	case Extend:
		return compareBy(ctx, c, extendScript, ref, c.millis())
	case Reseal:
		return compareBy(ctx, c, resealScript, ref, c.Frame, c.millis())
	}
	if c.Most > 0 {
		return redis.NewStringCmd(ctx, "getrange", c.Key, 0, c.Most)
	}
	return redis.NewStringCmd(ctx, "get", c.Key)
}

// add is one round trip for "store, or tell me what is there" (Redis 7.0). Its
// script, for what is told and for older servers, answers in the same way.
func add(ctx context.Context, c *Command, ref reference) redis.Cmder {
	if c.tells() || c.byScript {
		life := max(c.millis(), 0) // there is none to keep
		cmd := redis.NewStringCmd(ctx, evalFor(c, addScript, ref, c.Frame, life)...)
		cmd.SetFirstKeyPos(3)
		return onceString{cmd}
	}
	if c.TTL > 0 {
		return onceString{redis.NewStringCmd(ctx, "set", c.Key, c.Frame, "nx", "get", "px", c.millis())}
	}
	return onceString{redis.NewStringCmd(ctx, "set", c.Key, c.Frame, "nx", "get")}
}

var seenNames = [...]string{Missing: "m", Found: "s", WrongType: "w"}

// compare is the command of a script that compares first.
func compareBy(ctx context.Context, c *Command, s script, ref reference, args ...any) redis.Cmder {
	return runFor(ctx, c, s, ref, append([]any{c.Seen.Token, seenNames[c.Seen.State]}, args...)...)
}

// run is the command of a script that answers 1 or 0.
func runFor(ctx context.Context, c *Command, s script, ref reference, args ...any) redis.Cmder {
	cmd := redis.NewCmd(ctx, evalFor(c, s, ref, args...)...)
	cmd.SetFirstKeyPos(3)
	return onceCmd{cmd}
}

// eval are the words of a script's command. What is to be told comes last.
func evalFor(c *Command, s script, ref reference, args ...any) []any {
	words := append(s.words(ref, 6+len(args)), 1, c.Key)
	words = append(words, args...)
	if c.tells() {
		words = append(words, c.Tell.Channel, c.Tell.Message)
	}
	return words
}

func isNoScript(err error) bool {
	return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT")
}

// read turns what Redis answered into a Reply.
func read(c *Command, cmd redis.Cmder) Reply {
	err := cmd.Err()
	switch c.Op {
	case Get:
		r := readRecord(cmd, err)
		switch n := len(r.Record.Raw); {
		case c.Most == 0:
		case n > c.Most:
			r = Reply{Cut: true}
		case n == 0 && r.Record.State == Found:
			r = Reply{}
		}
		return r
	case Head:
		r := readRecord(cmd, err)
		if r.Record.State == Found && len(r.Record.Raw) == 0 {
			r.Record = Record{}
		}
		return r
	case Add:
		return readAdd(c, cmd, err)
	case Swap:
		if c.Seen.State == Missing {
			r := readAdd(c, cmd, err)
			r.Record = Record{}
			return r
		}
		return readScript(cmd, err)
	case Release, Extend, Reseal:
		return readScript(cmd, err)
	}
	return Reply{OK: err == nil, Err: err}
}

func readRecord(cmd redis.Cmder, err error) Reply {
	switch {
	case err == nil:
		raw, err := cmd.(interface{ Bytes() ([]byte, error) }).Bytes()
		return Reply{Record: Record{State: Found, Raw: raw}, Err: err}
	case errors.Is(err, redis.Nil):
		return Reply{}
	case strings.HasPrefix(err.Error(), "WRONGTYPE"):
		return Reply{Record: Record{State: WrongType}}
	}
	return Reply{Err: err}
}

func readAdd(c *Command, cmd redis.Cmder, err error) Reply {
	r := readRecord(cmd, err)
	// What is between here and Redis may send a command again when the reply was lost:
	// the record that is there may be the one that this very attempt stored.
	if r.Err == nil && (r.Record.State == Missing || c.isOwn(r.Record)) {
		return Reply{OK: true}
	}
	return r
}

func readScript(cmd redis.Cmder, err error) Reply {
	if err != nil {
		return Reply{Err: err}
	}
	n, err := cmd.(onceCmd).Int64()
	return Reply{OK: n == 1, Err: err}
}
