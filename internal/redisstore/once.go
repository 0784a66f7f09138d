package redisstore

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// A command that changes something is executed at most once. go-redis repeats a command whose
// reply was lost, by default, and on a cluster in any case, and the first attempt may have been
// executed:
//
//  1. A sends SET k 1, which is executed; the reply is lost
//  2. B sends SET k 2, which is acknowledged
//  3. go-redis repeats A's SET, which is acknowledged too: k is 1
//
// Likewise, a compare-and-set that is repeated after another process has replaced the record
// that the first attempt stored is answered by "no match", and its caller applies its change
// twice. Nothing in the command can distinguish the attempts of one caller from commands of
// others in between. A lost reply is therefore an error, "outcome unknown", which the callers
// of this package handle. Commands that only read are left to go-redis.
//
// Commands that were certainly not executed are sent again here, since go-redis then does not
// do so, except for MOVED and ASK, which it follows in any case; see refusedForNow.
type (
	onceCmd    struct{ *redis.Cmd }
	onceString struct{ *redis.StringCmd }
	onceStatus struct{ *redis.StatusCmd }
	onceInt    struct{ *redis.IntCmd }
)

// NoRetry keeps go-redis from sending the command, and the pipeline that it is in, a second
// time.
func (onceCmd) NoRetry() bool    { return true }
func (onceString) NoRetry() bool { return true }
func (onceStatus) NoRetry() bool { return true }
func (onceInt) NoRetry() bool    { return true }

func (c onceCmd) Clone() redis.Cmder    { return onceCmd{c.Cmd.Clone().(*redis.Cmd)} }
func (c onceString) Clone() redis.Cmder { return onceString{c.StringCmd.Clone().(*redis.StringCmd)} }
func (c onceStatus) Clone() redis.Cmder { return onceStatus{c.StatusCmd.Clone().(*redis.StatusCmd)} }
func (c onceInt) Clone() redis.Cmder    { return onceInt{c.IntCmd.Clone().(*redis.IntCmd)} }

// refusals are the first words of the errors of a server that has not executed a command, and
// may execute it soon.
var refusals = [...]string{
	"LOADING ", "TRYAGAIN ", "CLUSTERDOWN ", "MASTERDOWN ", "READONLY ", "NOREPLICAS ", "max number of clients reached",
}

// refusedForNow reports whether err says that a command was certainly not executed, and that it
// is worth sending again: there was no connection to send it over, or the server refused it for
// a temporary reason. A script is refused at its first write, if not before.
func refusedForNow(err error) bool {
	if err == nil || err == redis.Nil {
		return false
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	for _, prefix := range refusals {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}

// refused returns the commands to send again. Of the commands that are sent once, those are the
// ones that were refused temporarily, in their order; of others, the ones that go-redis gives
// up too soon.
func refused(cmds []redis.Cmder) []redis.Cmder {
	var again []redis.Cmder
	for _, cmd := range cmds {
		if cmd.NoRetry() && refusedForNow(cmd.Err()) || isTryAgain(cmd.Err()) {
			again = append(again, cmd)
		}
	}
	return again
}

// The minimum and maximum pause before refused commands are sent again.
const (
	againFirst = 8 * time.Millisecond
	againMost  = 64 * time.Millisecond

	// movesMost is how often commands that a cluster refuses because it moves a slot are sent
	// again: for a second, if ctx allows it.
	movesMost = 18
)

// sendAgain repeats refused commands, as often as the client is configured to, as long as ctx
// allows it.
func (s *Redis) sendAgain(ctx context.Context, cmds []redis.Cmder) {
	pause := againFirst
	for n := 0; ; n++ {
		if cmds = refused(cmds); len(cmds) == 0 {
			return
		}
		// A slot of which some keys have been moved will soon be moved completely.
		if moves := slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return isTryAgain(cmd.Err()) }); n >= s.attempts && (s.attempts <= 0 || !moves || n >= movesMost) {
			return
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		pause = min(2*pause, againMost)
		for _, cmd := range cmds {
			cmd.SetErr(nil)
		}
		s.sendOnce(ctx, cmds)
	}
}

// attemptsOf is how often a client is configured to repeat failed commands.
func (s *Redis) attemptsOf() int {
	switch {
	case s.single != nil:
		return s.single.Options().MaxRetries
	case s.cluster != nil:
		return s.cluster.Options().MaxRedirects
	case s.ring != nil:
		return s.ring.Options().MaxRetries
	}
	return 0
}
