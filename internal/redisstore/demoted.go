package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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

// countPulseScript is pulseScript, and answers how many connections to the server have subscribed
// to that very channel; notAllowed: the user may not ask. What PUBLISH answers counts those with a pattern
// that the channel matches, too.
var countPulseScript = newScript("#!lua flags=allow-oom\n" + publishAndCount)

const publishAndCount = `redis.call('PUBLISH', ARGV[1], ARGV[2])
local n = redis.pcall('PUBSUB', 'NUMSUB', ARGV[1])
return type(n) == 'table' and type(n[2]) == 'number' and n[2] or -2
`

// notAllowed is what countPulseScript answers if the user may not count.
const notAllowed = -2

// oldPulseScript is pulseScript for servers before Redis 7.0, which don't know that a script
// might write before it does: it tries to remove a key with the name of the channel, which there
// never is.
var oldPulseScript = newScript(oldOnMaster + "return redis.call('PUBLISH', ARGV[1], ARGV[2])")

// wideScript is pulseScript that publishes on the control channel as well.
var wideScript, oldWideScript = newScript("#!lua flags=allow-oom\n" + publishWide), newScript(oldOnMaster + publishWide)

const publishWide = `redis.call('PUBLISH', ARGV[1], ARGV[2])
return redis.call('PUBLISH', ARGV[1] .. ':c', ARGV[2])
`

// oldCountPulseScript is countPulseScript for these servers.
var oldCountPulseScript = newScript(oldOnMaster + publishAndCount)

const oldOnMaster = `
local r = redis.pcall('UNLINK', ARGV[1])
if type(r) == 'table' and r.err and string.find(r.err, 'READONLY', 1, true) then return redis.error_reply('READONLY the server is a replica') end
`

// onMasterText does nothing if the server accepts writes, and oldOnMasterText on servers before
// Redis 7.0; ARGV[1] is the name of no key.
const onMasterText, oldOnMasterText = "#!lua flags=allow-oom\nreturn 1", oldOnMaster + "return 1"

// pulse publishes through a master. A server that refuses scripts that might write for another
// reason than being a replica (its disk is full, or the user may not run scripts) is assumed to
// be a master.
//
// With count it returns how many connections to that very node have subscribed to the channel,
// notAllowed, or -1 if that is not known. Otherwise it is -1 unless there is certainly none, which is 0.
func (s *Redis) pulse(ctx context.Context, node redis.Cmdable, channel, payload string, count bool) (heard int64, err error) {
	flags, plain := pulseScript, oldPulseScript
	if count {
		flags, plain = countPulseScript, oldCountPulseScript
	}
	var cmd *redis.Cmd
	eval := func(sc script) error {
		sc = sc.on(s.cluster != nil)
		cmd = node.EvalSha(ctx, sc.hash, nil, channel, payload)
		if isNoScript(cmd.Err()) {
			cmd = node.Eval(ctx, sc.text, nil, channel, payload)
		}
		return cmd.Err()
	}
	err = s.byFlags(func() error { return eval(flags) }, func() error { return eval(plain) })
	var answer redis.Error
	switch {
	case err == nil:
		// A subscription by a pattern is none to the channel.
		if heard, err = cmd.Int64(); err != nil || heard > 0 && !count {
			heard = -1
		}
		return heard, nil
	case isDemoted(err):
		return -1, fmt.Errorf("%w: %w", errDemoted, err)
	case !errors.As(err, &answer):
		return -1, err
	}
	return -1, node.Publish(ctx, channel, payload).Err()
}

// publish publishes a message through a node, at most once, by the same script: a message that
// a former master has published to its own subscribers must not count as published. On a cluster the
// channel is a key of the script, which does not use it: so the node that has the slot runs it, and no
// other one, such as one that has left the cluster, takes the message for those who do not listen there.
func (s *Redis) publish(ctx context.Context, node redis.UniversalClient, t store.Notify) error {
	run := func(node redis.UniversalClient, keys []any, words ...any) error {
		cmd := onceCmd{redis.NewCmd(ctx, append(append(words, keys...), t.Channel, t.Message)...)}
		if len(keys) > 1 {
			cmd.SetFirstKeyPos(3)
		}
		_ = node.Process(ctx, cmd)
		return withoutEcho(cmd.Err(), words[0], t.Channel, t.Message)
	}
	eval := func(sc script) error {
		sc = sc.on(t.Sharded)
		by, keys := node, []any{0}
		if s.cluster != nil {
			by, keys = s.rdb, []any{1, t.Channel}
		}
		err := run(by, keys, "evalsha", sc.hash)
		if isNoScript(err) {
			err = run(by, keys, "eval", sc.text)
		}
		return err
	}
	flags, plain := pulseScript, oldPulseScript
	if t.Wide {
		flags, plain = wideScript, oldWideScript
	}
	err := s.byFlags(func() error { return eval(flags) }, func() error { return eval(plain) })
	var answer redis.Error
	switch {
	case isDemoted(err):
		s.demotions.Add(1)
		return fmt.Errorf("%w: %w", errDemoted, err)
	case !errors.As(err, &answer), isOfSlots(err):
		return err
	}
	if err := run(node, nil, "publish"); err != nil || !t.Wide { // as in pulse
		return err
	}
	t.Channel = store.ControlChannel(t.Channel)
	return run(node, nil, "publish")
}

// isOfSlots reports whether a node of a cluster has refused a command because of where its slot is.
func isOfSlots(err error) bool {
	return slices.ContainsFunc(ofSlots, func(word string) bool { return redis.HasErrorPrefix(err, word) })
}

var ofSlots = []string{"CROSSSLOT", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"}

// byFlags runs a script that has flags, or the other one if the server does not know flags.
func (s *Redis) byFlags(flags, plain func() error) error {
	if !s.noFlags.Load() {
		err := flags()
		if !rejectsFlags(err) {
			return err
		}
		s.noFlags.Store(true) // it has not run
	}
	return plain()
}

// rejectsFlags reports whether a server does not know the flags of a script, which it has then not
// run.
func rejectsFlags(err error) bool { return err != nil && strings.Contains(err.Error(), "compiling") }

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
