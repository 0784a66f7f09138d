package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// renewRounds is how often a Renew asks again after it has met a replica.
const renewRounds = 3

// errRenewing: a Renew whose connections do not answer is still under way.
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

// Renew has the client leave the connections whose server is no master: those that are
// idle are asked, and go-redis closes one that answers READONLY. The error says that the
// client gets to no master, or that there was no answer within a short time.
//
// Connections of a pool can be told apart only by holding them, for one round trip. Those in
// use are neither waited for nor asked: a master that is demoted ends what blocks there, and
// a later command that it refuses counts as another demotion. One place in the pool is left
// to others. Connections for pipelines, and those of a client that hides its pool
// ([Redis.Unknown]), can't be held: so many commands as there are connections are sent at
// once. On a cluster, where what is no master says MOVED, there is nothing to do.
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
		return s.ring.ForEachShard(ctx, func(ctx context.Context, c *redis.Client) error { return renew(ctx, c) })
	}
	if c, ok := s.single.(pooled); ok {
		return renew(ctx, c)
	}
	return renewRepeatedly(func(int) error { return renewUnheld(ctx, s.rdb) })
}

func renew(ctx context.Context, c pooled) error {
	return renewRepeatedly(func(round int) error {
		if err := renewHeld(ctx, c, round > 0); err != nil {
			return err
		}
		return renewPipelines(ctx, c.PoolStats(), c.Pipeline)
	})
}

// renewRepeatedly returns the answer of a replica rather than what came of asking again.
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

// renewHeld asks the idle connections, each of which is held until all have answered, and
// then the client, as any command does: of that one place that is left to others. It makes
// a new connection only if there is none, or if it must.
func renewHeld(ctx context.Context, c pooled, must bool) error {
	var held questions
	release := make(chan struct{})
	defer held.Wait()
	defer close(release)
	one := func(answer func(error)) {
		cn := c.Conn()
		defer cn.Close()
		err := onMaster(cn.Eval(ctx, onMasterText, nil))
		answer(err)
		if err == nil {
			<-release
		}
	}
	for {
		stats := c.PoolStats()
		idle, all := int(stats.IdleConns), int(stats.TotalConns)
		// Those that were returned meanwhile are among the idle, those held are in use.
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
		return held.ask(ctx, 1, func(answer func(error)) { answer(onMaster(c.Eval(ctx, onMasterText, nil))) })
	}
}

func renewPipelines(ctx context.Context, stats *redis.PoolStats, pipeline func() redis.Pipeliner) error {
	if stats.PipelineStats == nil || stats.PipelineStats.IdleConns == 0 {
		return nil
	}
	var sent questions
	defer sent.Wait()
	return sent.ask(ctx, int(stats.PipelineStats.IdleConns), func(answer func(error)) {
		pipe := pipeline()
		cmd := pipe.Eval(ctx, onMasterText, nil)
		if _, err := pipe.Exec(ctx); err != nil {
			stamp([]redis.Cmder{cmd}, err)
		}
		answer(onMaster(cmd))
	})
}

func renewUnheld(ctx context.Context, c redis.UniversalClient) error {
	var sent questions
	defer sent.Wait()
	stats := c.PoolStats()
	err := sent.ask(ctx, max(int(stats.IdleConns), 1), func(answer func(error)) { answer(onMaster(c.Eval(ctx, onMasterText, nil))) })
	if err != nil {
		return err
	}
	return renewPipelines(ctx, stats, c.Pipeline)
}

// onMaster returns why it is not known that a master answered. As in pulse, what refuses
// such scripts for another reason is taken for one. If there was no connection to be had,
// there is none to leave.
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

// questions are goroutines that each ask a server.
type questions struct{ sync.WaitGroup }

// ask asks n times at once, and waits for all answers, but no longer than ctx. It returns
// that of a replica, if there is one, or another error.
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
