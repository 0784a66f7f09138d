package redisstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// Writes that publish are scripts, since a refused write must not publish, and so are fills, which
// compare. A script costs Redis more than a SET and a PUBLISH. So Sets that are sent together, or
// Deletes, or fills, are sent as one script, where all keys are on one node: those of one caller
// that have a message in common, and those of several callers, each with its own message.

const (
	// severalMost is the maximum number of keys of different callers that one script writes,
	// and severalBytes the maximum total size of their records, not counting the first: Redis
	// serves no other command meanwhile.
	severalMost  = 64
	severalBytes = 64 << 10
)

// asOne counts the leading commands that are sent as one script; 1 if the first is sent by
// itself.
func (s *Redis) asOne(cmds []store.Command) int {
	c := &cmds[0]
	if c.With > 0 {
		return min(c.Unit(), len(cmds))
	}
	n := 1
	if !s.joins(c) {
		return n
	}
	for bytes := len(c.Frame); n < min(len(cmds), severalMost); n++ {
		next := &cmds[n]
		if bytes += len(next.Frame); bytes > severalBytes || next.Op != c.Op || !s.joins(next) || next.Notify.Channel != c.Notify.Channel {
			break
		}
	}
	return n
}

// joins reports whether a command may share a script with others.
func (s *Redis) joins(c *store.Command) bool {
	return (c.Op == store.Set || c.Op == store.Delete || fills(c)) && c.Notifies() && c.With == 0 && !c.Apart && !s.split() && !s.noMget.Load() && c.Check() == nil
}

// fills reports whether a command puts a value in the place of a lease, for a while, and tells those
// who wait for it: what fillScript does.
func fills(c *store.Command) bool {
	return c.Op == store.CompareAndSet && c.Notify.Awaited && c.Notifies() && c.TTL > 0 && len(c.Frame) > store.SealLen &&
		c.Seen.State == store.Found && !c.Seen.Whole && len(c.Seen.Token) == store.TokenLen && store.IsLease([]byte(c.Seen.Token))
}

// fillsLast returns the order in which the fills of a batch come last, so that they can be sent as
// one script: the indexes of its commands. It is nil if they are to stay in their places. Callers
// that load take turns in asking for leases and in filling, so that a batch has both. Commands of
// one key keep their order: a batch that has another command after the fill of its key is left as it is.
func (s *Redis) fillsLast(cmds []store.Command) (order []int) {
	var last []int
	for i := range cmds {
		if c := &cmds[i]; fills(c) && s.joins(c) {
			last = append(last, i)
		}
	}
	if n := len(last); n < 2 || last[n-1]-last[0]+1 == n {
		return nil
	}
	for i := range cmds {
		if c := &cmds[i]; c.With != 0 && store.CheckAll(cmds[i:min(i+c.Unit(), len(cmds))], s.split()) != nil {
			return nil // it must not become a unit by what follows it in another order
		}
	}
	keys := make(map[string]struct{}, len(last)) // of the fills so far
	order = make([]int, 0, len(cmds))
	for i := range cmds {
		if _, found := slices.BinarySearch(last, i); found {
			keys[cmds[i].Key] = struct{}{}
			continue
		}
		if _, filled := keys[cmds[i].Key]; filled {
			return nil
		}
		order = append(order, i)
	}
	return append(order, last...)
}

// inOrder returns the commands in an order of their indexes.
func inOrder(cmds []store.Command, order []int) []store.Command {
	out := make([]store.Command, len(order))
	for i, at := range order {
		out[i] = cmds[at]
	}
	return out
}

// references decides for the commands of a batch. Commands that share a script are carried out
// in order.
func (s *Redis) references(cmds []store.Command) references {
	if units := s.asOne(cmds); units == len(cmds) || cmds[0].Op == store.Get && 1+s.asOne(cmds[1:]) == len(cmds) {
		return nil
	}
	return newReferences(cmds)
}

// several is a run of commands that are sent as one script.
type several struct {
	cmd     onceCmd
	cmds    []store.Command
	replies []store.Reply
	again   bool
}

func newSeveral(ctx context.Context, cmds []store.Command, replies []store.Reply, ref reference) several {
	script, width := setSeveralScript, 3
	switch cmds[0].Op {
	case store.Delete:
		script, width = deleteSeveralScript, 1
	case store.CompareAndSet:
		script, width = fillScript, 4
	}
	words := append(script.of(&cmds[0]).words(ref, 4+len(cmds)*(width+1)), len(cmds))
	for i := range cmds {
		words = append(words, cmds[i].Key)
	}
	if cmds[0].Op != store.Delete {
		var life any // most are alike
		for i := range cmds {
			if cmds[i].Op == store.CompareAndSet {
				words = append(words, cmds[i].Seen.Token)
			}
			if ms := cmds[i].Millis(); life != ms {
				life = ms
			}
			words = append(words, (*frameArg)(&cmds[i]), life)
		}
	}
	words = append(words, cmds[0].Notify.Channel)
	for i := range cmds {
		if cmds[i].Notifies() {
			words = append(words, cmds[i].Notify.Message)
		}
	}
	cmd := redis.NewCmd(ctx, words...)
	cmd.SetFirstKeyPos(3)
	return several{cmd: onceCmd{cmd}, cmds: cmds, replies: replies}
}

// frameArg is the record that a command stores, as an argument that refers to it.
type frameArg store.Command

func (a *frameArg) MarshalBinary() ([]byte, error) { return a.Frame, nil }

// String is for hooks of the client, which see the arguments of a command.
func (a *frameArg) String() string { return string(a.Frame) }

func (l *several) read() {
	val, err := l.cmd.Result()
	if n, is := val.(int64); is && n == 1 && err == nil {
		for i := range l.replies {
			l.replies[i] = store.Reply{OK: true}
		}
		return
	}
	texts, _ := val.([]any)
	if err == nil && len(texts) != len(l.replies) {
		err = fmt.Errorf("redisstore: a script for %d keys answered %d", len(l.replies), len(texts))
	}
	whole := err != nil && (redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "CROSSSLOT"))
	for i := range l.replies {
		r := &l.replies[i]
		if *r = (store.Reply{Err: err, Apart: whole}); err == nil {
			switch text := texts[i].(type) {
			case int64: // of a fill: 0 if the key held something else
				r.OK = text == 1
				continue
			case string:
				if text != "" {
					r.Err = withoutEcho(scriptError(text), l.cmd.Args()...)
				}
			}
		}
		r.OK = r.Err == nil
	}
}

// scriptError is an error that a script has returned as a string.
type scriptError string

func (e scriptError) Error() string { return string(e) }

// RedisError marks it as an error reply.
func (scriptError) RedisError() {}
