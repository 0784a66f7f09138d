package redisstore

import (
	"context"
	"fmt"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// Writes that publish are scripts, since a refused write must not publish. A script costs Redis
// more than a SET and a PUBLISH. So Sets that are sent together, or Deletes, are sent as one
// script, where all keys are on one node: those of one caller that have a message in common,
// and those of several callers, each with its own message.

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
	return (c.Op == store.Set || c.Op == store.Delete) && c.Notifies() && c.With == 0 && !c.Apart && !s.split() && !s.noMget.Load() && c.Check() == nil
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
	if cmds[0].Op == store.Delete {
		script, width = deleteSeveralScript, 1
	}
	words := append(script.of(&cmds[0]).words(ref, 4+len(cmds)*(width+1)), len(cmds))
	for i := range cmds {
		words = append(words, cmds[i].Key)
	}
	if cmds[0].Op == store.Set {
		var life any // most are alike
		for i := range cmds {
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
			if text, _ := texts[i].(string); text != "" {
				r.Err = withoutEcho(scriptError(text), l.cmd.Args()...)
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
