package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// mgetMax bounds the keys of one MGET, so that one large batch does not hold up the other
// clients of a single-threaded server.
const mgetMax = 512

// gets counts the leading commands that may be sent as one MGET.
func gets(cmds []store.Command) int {
	n := 0
	for n < len(cmds) && n < mgetMax && cmds[n].Op == store.Get && cmds[n].Most == 0 && cmds[n].With == 0 {
		n++
	}
	return n
}

// mget is a run of Gets sent as one command. Its reply is read as strings, which does not
// distinguish a missing key from an empty string, and makes half of the garbage.
type mget struct {
	cmd     *redis.StringSliceCmd
	replies []store.Reply
	toBytes *sync.Pool // of *redis.StringCmd that are not sent
}

func (s *Redis) newMget(ctx context.Context, cmds []store.Command, replies []store.Reply) mget {
	args := make([]any, len(cmds)+1)
	args[0] = "mget"
	for i := range cmds {
		if cmds[i].Shared {
			args[i+1] = s.shared.arg(cmds[i].Key)
		} else {
			args[i+1] = cmds[i].Key
		}
	}
	return mget{redis.NewStringSliceCmd(ctx, args...), replies, &s.toBytes}
}

func (m mget) read() {
	vals, err := m.cmd.Result()
	if err == nil && len(vals) != len(m.replies) {
		err = fmt.Errorf("redisstore: MGET of %d keys answered %d values", len(m.replies), len(vals))
	}
	if err != nil {
		for i := range m.replies {
			m.replies[i].Err = err
		}
		return
	}
	// A StringCmd returns its string as bytes without a copy: the string was made for this
	// reply and has no other user.
	one, ok := m.toBytes.Get().(*redis.StringCmd)
	if !ok {
		one = new(redis.StringCmd)
	}
	for i := range m.replies {
		if vals[i] != "" {
			r := &m.replies[i]
			one.SetVal(vals[i])
			r.Record.State = store.Found
			r.Record.Raw, r.Err = one.Bytes()
		}
	}
	one.SetVal("")
	m.toBytes.Put(one)
}

// sharedKey keeps the last key of a shared read as an argument: it is the same for most reads of
// a cache.
type sharedKey struct{ last atomic.Pointer[keyArg] }

type keyArg struct {
	key string
	arg any // the key
}

func (s *sharedKey) arg(key string) any {
	if last := s.last.Load(); last != nil && last.key == key {
		return last.arg
	}
	arg := any(key)
	s.last.Store(&keyArg{key, arg})
	return arg
}

// reference is how a command refers to its script.
type reference bool

const (
	byHash reference = false // short, but the node may not have the script
	byText reference = true
)

// references is how the commands of one call refer to their scripts. Nil: all by hash.
type references []reference

// of returns the reference for the n commands from i on, which are sent as one script.
func (r references) of(i, n int) reference {
	return r != nil && reference(slices.Contains(r[i:i+n], byText))
}

// newReferences decides for a batch: by hash, unless a later command has the same key, which a
// node that lacks the script would carry out first.
//
//  1. CompareAndDelete of k, by hash, and SetNX of k are sent together
//  2. the node does not know the hash; the SetNX finds the old record
//  3. the CompareAndDelete is sent again with its text, and removes the record: the SetNX has not
//     stored, and its reply is no longer true
func newReferences(cmds []store.Command) references {
	if !slices.ContainsFunc(cmds, func(c store.Command) bool { return scripted(&c) }) {
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

// scripted reports whether the command runs a script. All commands that compare do, those whose key is to be read
// afterwards, and those that publish, since only commands that took effect may publish. A PUBLISH that follows a SET
// in the pipeline would be carried out in any case:
//
//  1. the server refuses the SET of k: its disk or its memory is full, it has become a replica, or
//     lacks one; or the slot has moved, and a cluster's old master answers MOVED
//  2. and carries out the PUBLISH, which any server can
//  3. a reader drops k from its local tier for no reason, or, where the SET is sent again,
//     reads the old value before that, and is not notified again
func scripted(c *store.Command) bool {
	switch c.Op {
	case store.Set:
		return c.Notifies() || c.Tracked
	case store.Delete:
		return c.Notifies()
	case store.SetNX:
		return c.Notifies() || c.ByScript
	case store.CompareAndSet:
		return c.Seen.State != store.Missing || c.Notifies() || c.ByScript
	case store.CompareAndDelete, store.Extend, store.PatchHeader, store.Adopt, store.AwaitLease:
		return true
	}
	return false
}

// build makes the go-redis command of c, which must have been checked. Lifetimes are always
// sent as PX: exact to the millisecond, whatever their size.
func build(ctx context.Context, c *store.Command, ref reference) redis.Cmder {
	switch c.Op {
	case store.Set:
		if scripted(c) {
			return runFor(ctx, c, setScript, ref, c.Frame, c.Millis())
		}
		if c.TTL > 0 {
			return onceStatus{redis.NewStatusCmd(ctx, "set", c.Key, c.Frame, "px", c.Millis())}
		}
		return onceStatus{redis.NewStatusCmd(ctx, "set", c.Key, c.Frame)}
	case store.SetNX:
		return add(ctx, c, ref)
	case store.GetHeader:
		return redis.NewStringCmd(ctx, "getrange", c.Key, 0, store.HeadLen-1)
	case store.Delete:
		if scripted(c) {
			return runFor(ctx, c, deleteScript, ref)
		}
		return onceInt{redis.NewIntCmd(ctx, "unlink", c.Key)}
	case store.CompareAndSet:
		if c.Seen.State == store.Missing {
			return add(ctx, c, ref)
		}
		if fills(c) {
			return runFor(ctx, c, fillScript, ref, c.Seen.Token, c.Frame, c.Millis())
		}
		return compareBy(ctx, c, swapScript, ref, c.Frame, c.Millis())
	case store.CompareAndDelete:
		return compareBy(ctx, c, releaseScript, ref)
	case store.Extend:
		return compareBy(ctx, c, extendScript, ref, c.Millis())
	case store.PatchHeader:
		return compareBy(ctx, c, resealScript, ref, c.Frame, c.Millis())
	case store.Adopt:
		return compareBy(ctx, c, adoptScript, ref, c.Millis())
	case store.AwaitLease:
		return compareBy(ctx, c, awaitScript, ref, c.Frame)
	}
	if c.Most > 0 {
		return redis.NewStringCmd(ctx, "getrange", c.Key, 0, c.Most)
	}
	return redis.NewStringCmd(ctx, "get", c.Key)
}

// add is one round trip that stores or returns the existing record (Redis 7.0). Its script, for
// commands that publish and for older servers, answers in the same way.
func add(ctx context.Context, c *store.Command, ref reference) redis.Cmder {
	if c.Notifies() || c.ByScript {
		life := max(c.Millis(), 0) // SetNX has no lifetime to keep
		cmd := redis.NewStringCmd(ctx, evalFor(c, addScript, ref, c.Frame, life)...)
		cmd.SetFirstKeyPos(3)
		return onceString{cmd}
	}
	if c.TTL > 0 {
		return onceString{redis.NewStringCmd(ctx, "set", c.Key, c.Frame, "nx", "get", "px", c.Millis())}
	}
	return onceString{redis.NewStringCmd(ctx, "set", c.Key, c.Frame, "nx", "get")}
}

var seenNames = [...]string{store.Missing: "m", store.Found: "s", store.WrongType: "w"}

// compareBy makes the command of a script that compares first.
func compareBy(ctx context.Context, c *store.Command, s script, ref reference, args ...any) redis.Cmder {
	state := seenNames[c.Seen.State]
	if c.Seen.Whole {
		state = "h"
	}
	return runFor(ctx, c, s, ref, append([]any{c.Seen.Token, state}, args...)...)
}

// runFor makes the command of a script that answers 1 or 0.
func runFor(ctx context.Context, c *store.Command, s script, ref reference, args ...any) redis.Cmder {
	cmd := redis.NewCmd(ctx, evalFor(c, s, ref, args...)...)
	cmd.SetFirstKeyPos(3)
	return onceCmd{cmd}
}

// evalFor returns the words of a script's command. The message to publish comes last, and after
// it a word if it is only for those who wait for a lease.
func evalFor(c *store.Command, s script, ref reference, args ...any) []any {
	words := append(s.of(c).words(ref, 7+len(args)), 1, c.Key)
	words = append(words, args...)
	if c.Notifies() {
		words = append(words, c.Notify.Channel, c.Notify.Message)
		if c.Notify.Awaited {
			words = append(words, 1)
		}
	}
	return words
}

func isNoScript(err error) bool {
	return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT")
}

// read turns Redis's answer into a Reply.
func read(c *store.Command, cmd redis.Cmder) store.Reply {
	err := cmd.Err()
	switch c.Op {
	case store.Get:
		r := readRecord(cmd, err)
		switch n := len(r.Record.Raw); {
		case c.Most == 0:
		case n > c.Most:
			r = store.Reply{Cut: true}
		case n == 0 && r.Record.State == store.Found:
			r = store.Reply{}
		}
		return r
	case store.GetHeader:
		r := readRecord(cmd, err)
		if r.Record.State == store.Found && len(r.Record.Raw) == 0 {
			r.Record = store.Record{}
		}
		return r
	case store.SetNX:
		return readAdd(c, cmd, err)
	case store.CompareAndSet:
		if c.Seen.State == store.Missing {
			r := readAdd(c, cmd, err)
			r.Record = store.Record{}
			return r
		}
		return readScript(cmd, err)
	case store.CompareAndDelete, store.Extend, store.PatchHeader, store.AwaitLease:
		return readScript(cmd, err)
	case store.Adopt:
		return readAdopt(cmd, err)
	}
	return store.Reply{OK: err == nil, Err: err}
}

func readRecord(cmd redis.Cmder, err error) store.Reply {
	switch {
	case err == nil:
		raw, err := cmd.(interface{ Bytes() ([]byte, error) }).Bytes()
		return store.Reply{Record: store.Record{State: store.Found, Raw: raw}, Err: err}
	case errors.Is(err, redis.Nil):
		return store.Reply{}
	case strings.HasPrefix(err.Error(), "WRONGTYPE"):
		return store.Reply{Record: store.Record{State: store.WrongType}}
	}
	return store.Reply{Err: err}
}

func readAdd(c *store.Command, cmd redis.Cmder, err error) store.Reply {
	r := readRecord(cmd, err)
	// Something between here and Redis may send a command again when the reply was lost: the
	// existing record may be the one that this very attempt has stored.
	if r.Err == nil && (r.Record.State == store.Missing || c.IsOwn(r.Record)) {
		return store.Reply{OK: true}
	}
	return r
}

func readAdopt(cmd redis.Cmder, err error) store.Reply {
	if err != nil {
		return store.Reply{Err: err}
	}
	n, err := cmd.(onceCmd).Int64()
	if err != nil || n == notAdopted {
		return store.Reply{Err: err}
	}
	return store.Reply{OK: true, Left: time.Duration(n) * time.Millisecond}
}

func readScript(cmd redis.Cmder, err error) store.Reply {
	if err != nil {
		return store.Reply{Err: err}
	}
	n, err := cmd.(onceCmd).Int64()
	return store.Reply{OK: n == 1, Err: err}
}
