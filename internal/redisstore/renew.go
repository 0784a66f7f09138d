package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// renewRounds is the maximum number of rounds of a Renew that meets replicas.
const renewRounds = 3

// errRenewing: a Renew whose connections do not answer is still in progress.
var errRenewing = errors.New("redisstore: connections to Redis that are being looked at do not answer")

// pooled is a client whose connections can be held.
type pooled interface {
	singleClient
	Conn() *redis.Conn
	Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd
	Pipeline() redis.Pipeliner
	PoolStats() *redis.PoolStats
}

var _ pooled = (*redis.Client)(nil)

// Renew makes the client drop connections to servers that are not masters: it sends a command
// on each idle connection, and go-redis closes one that answers READONLY. The error says that
// the client reaches no master, or that there was no answer within [store.RenewTime].
//
// Connections of a pool can be distinguished only by holding them, for one round trip. Those in
// use are neither waited for nor checked: a master that is demoted ends the commands that block
// there, and a later command that it refuses counts as another demotion. One place in the pool
// is left to other callers. Connections for pipelines, and those of a client that hides its
// pool ([Redis.Unknown]), can't be held: as many commands as there are connections are sent at
// once. On a cluster, where a node that is not a master answers MOVED, there is nothing to do.
func (s *Redis) Renew(ctx context.Context) error {
	if s.cluster != nil {
		return nil
	}
	if !s.renewing.CompareAndSwap(false, true) {
		return errRenewing
	}
	defer s.renewing.Store(false)
	ctx, cancel := context.WithTimeout(ctx, store.RenewTime)
	defer cancel()
	if s.ring != nil {
		return s.ring.ForEachShard(ctx, func(ctx context.Context, c *redis.Client) error { return s.renew(ctx, c) })
	}
	if c, ok := s.single.(pooled); ok {
		return s.renew(ctx, c)
	}
	return renewRepeatedly(func(int) error { return s.renewUnheld(ctx, s.rdb) })
}

func (s *Redis) renew(ctx context.Context, c pooled) error {
	return renewRepeatedly(func(round int) error {
		if err := s.renewHeld(ctx, c, round > 0); err != nil {
			return err
		}
		return s.renewPipelines(ctx, c.PoolStats(), c.Pipeline)
	})
}

// renewRepeatedly returns the answer of a replica rather than the error of a later round.
func renewRepeatedly(round func(i int) error) error {
	var demoted error
	for i := range renewRounds {
		switch err := round(i); {
		case err == nil:
			return nil
		case isDemoted(err):
			demoted = err
		case demoted == nil:
			return err
		}
	}
	return fmt.Errorf("%w: %w", errDemoted, demoted)
}

// renewHeld checks the idle connections, each of which is held until all have answered, and
// then the client itself, as any command does, with the one place that is left to others. It
// makes a new connection only if there is none, or if must is set.
func (s *Redis) renewHeld(ctx context.Context, c pooled, must bool) error {
	var held questions
	release := make(chan struct{})
	defer held.Wait()
	defer close(release)
	one := func(answer func(error)) {
		cn := c.Conn()
		defer cn.Close()
		err := onMaster(s.askMaster(ctx, cn))
		answer(err)
		if err == nil {
			<-release
		}
	}
	for {
		stats := c.PoolStats()
		idle, all := int(stats.IdleConns), int(stats.TotalConns)
		// Connections that were returned meanwhile count as idle, those held as in use.
		n := min(idle, c.Options().PoolSize-1-(all-idle))
		if n > 0 {
			if err := held.ask(ctx, n, one); err != nil {
				return err
			}
			continue
		}
		if idle == 0 && all > 0 && !must {
			return nil
		}
		return held.ask(ctx, 1, func(answer func(error)) { answer(onMaster(s.askMaster(ctx, c))) })
	}
}

func (s *Redis) renewPipelines(ctx context.Context, stats *redis.PoolStats, pipeline func() redis.Pipeliner) error {
	if stats.PipelineStats == nil || stats.PipelineStats.IdleConns == 0 {
		return nil
	}
	var sent questions
	defer sent.Wait()
	return sent.ask(ctx, int(stats.PipelineStats.IdleConns), func(answer func(error)) {
		pipe := pipeline()
		cmd := s.askMaster(ctx, pipe)
		if _, err := pipe.Exec(ctx); err != nil {
			stamp([]redis.Cmder{cmd}, err)
		}
		answer(onMaster(cmd))
	})
}

func (s *Redis) renewUnheld(ctx context.Context, c redis.UniversalClient) error {
	var sent questions
	defer sent.Wait()
	stats := c.PoolStats()
	err := sent.ask(ctx, max(int(stats.IdleConns), 1), func(answer func(error)) { answer(onMaster(s.askMaster(ctx, c))) })
	if err != nil {
		return err
	}
	return s.renewPipelines(ctx, stats, c.Pipeline)
}

// askMaster runs a script that does nothing on a master. On servers before Redis 7.0 it needs a key
// that the user may remove.
func (s *Redis) askMaster(ctx context.Context, c interface {
	Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd
}) *redis.Cmd {
	if s.noFlags.Load() {
		return c.Eval(ctx, oldOnMasterText, nil, noKey)
	}
	return c.Eval(ctx, onMasterText, nil)
}

// noKey is the name of no key.
const noKey = "cache:no-key"

// onMaster returns the reason why it is not known that a master answered. As in pulse, a server
// that refuses such scripts for another reason is assumed to be a master. If no connection was
// available, there is none to drop.
func onMaster(cmd *redis.Cmd) error {
	err := cmd.Err()
	var answer redis.Error
	switch {
	case isDemoted(err):
		return err
	case errors.As(err, &answer), errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return nil
	}
	return err
}

// questions are goroutines that each send a command to a server.
type questions struct{ sync.WaitGroup }

// ask calls one n times concurrently, and waits for all answers, but no longer than ctx. It
// returns the answer of a replica, if there is one, or another error.
func (q *questions) ask(ctx context.Context, n int, one func(answer func(error))) (failure error) {
	answers := make(chan error, n)
	for range n {
		q.Go(func() { one(func(err error) { answers <- err }) })
	}
	for range n {
		select {
		case err := <-answers:
			if failure == nil || isDemoted(err) {
				failure = err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return failure
}
