package redisstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// A name, such as that of a virtual address or of a proxy, may begin to refer to another server
// while connections to the former one stay open. The former server has become a replica, and
// answers reads with its own data, however old. Publishing works there, too, and reaches the
// subscribers of that server. So a heartbeat is a script that might write, which a replica
// refuses with READONLY before it checks anything else.

// errDemoted: the server, which was a master, is a replica now.
var errDemoted = errors.New("redisstore: the server is no master any more")

// pulseScript publishes ARGV[2] on the channel ARGV[1] if the server accepts writes.
var pulseScript = newScript("#!lua flags=allow-oom\nreturn redis.call('PUBLISH', ARGV[1], ARGV[2])")

// onMasterText does nothing if the server accepts writes.
const onMasterText = "#!lua flags=allow-oom\nreturn 1"

// pulse publishes through a master. A server that refuses scripts that might write for another
// reason than being a replica (its disk is full, or the user may not run scripts) is assumed to
// be a master.
//
// It returns how many connections to that very node have received the heartbeat; -1: not known.
func pulse(ctx context.Context, node redis.Cmdable, channel, payload string) (heard int64, err error) {
	cmd := node.EvalSha(ctx, pulseScript.hash, nil, channel, payload)
	if isNoScript(cmd.Err()) {
		cmd = node.Eval(ctx, pulseScript.text, nil, channel, payload)
	}
	err = cmd.Err()
	var answer redis.Error
	switch {
	case err == nil:
		if heard, err = cmd.Int64(); err != nil {
			heard = -1
		}
		return heard, nil
	case isDemoted(err):
		return -1, fmt.Errorf("%w: %w", errDemoted, err)
	case !errors.As(err, &answer):
		return -1, err
	}
	return node.Publish(ctx, channel, payload).Result()
}

// publish publishes a message through a node, at most once, by the same script: a message that
// a former master has published to its own subscribers must not count as published.
func (s *Redis) publish(ctx context.Context, node redis.UniversalClient, t store.Notify) error {
	run := func(words ...any) error {
		cmd := onceCmd{redis.NewCmd(ctx, append(words, t.Channel, t.Message)...)}
		_ = node.Process(ctx, cmd)
		return withoutEcho(cmd.Err(), words[0], t.Channel, t.Message)
	}
	if s.noFlags.Load() {
		return run("publish")
	}
	err := run("evalsha", pulseScript.hash, 0)
	if isNoScript(err) {
		err = run("eval", pulseScript.text, 0)
	}
	var answer redis.Error
	switch {
	case isDemoted(err):
		s.demotions.Add(1)
		return fmt.Errorf("%w: %w", errDemoted, err)
	case !errors.As(err, &answer):
		return err
	}
	return run("publish") // as in pulse
}

func isDemoted(err error) bool { return err != nil && redis.HasErrorPrefix(err, "READONLY") }

// Demotions counts how often a server was found to be no longer a master; see Renew.
func (s *Redis) Demotions() uint64 { return s.demotions.Load() }

// noteDemotion counts a demotion if a command has failed because of one.
func (s *Redis) noteDemotion(cmds []redis.Cmder) {
	for _, cmd := range cmds {
		if isDemoted(cmd.Err()) {
			s.demotions.Add(1)
			return
		}
	}
}
