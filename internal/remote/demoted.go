package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"
)

// A name, such as that of a virtual address or of a proxy, may come to stand for another
// server while the connections to the one before stay open. That one has become a replica,
// and answers reads with what it has, however old that is. Publishing, too, works there,
// and comes back to who listens there. So a pulse is a script that might write, which a
// replica refuses with READONLY, before it looks at anything else.

// errDemoted: the server, which was a master, is a replica now.
var errDemoted = errors.New("remote: the server is no master any more")

// pulseScript publishes ARGV[2] on the channel ARGV[1] if the server takes writes.
var pulseScript = newScript("#!lua flags=allow-oom\nreturn redis.call('PUBLISH', ARGV[1], ARGV[2])")

// onMasterText does nothing if the server takes writes.
const onMasterText = "#!lua flags=allow-oom\nreturn 1"

// pulse publishes through a master. A server that refuses scripts that might write for
// another reason than that it is none (its disk is full, or the user may run no script) is
// taken for one.
func pulse(ctx context.Context, node redis.Cmdable, channel, payload string) error {
	err := node.EvalSha(ctx, pulseScript.hash, nil, channel, payload).Err()
	if isNoScript(err) {
		err = node.Eval(ctx, pulseScript.text, nil, channel, payload).Err()
	}
	var answer redis.Error
	switch {
	case err == nil:
		return nil
	case isDemoted(err):
		return fmt.Errorf("%w: %w", errDemoted, err)
	case !errors.As(err, &answer):
		return err
	}
	return node.Publish(ctx, channel, payload).Err()
}

func isDemoted(err error) bool { return err != nil && redis.HasErrorPrefix(err, "READONLY") }

// Demotions counts how often a server was found to be no master any more; see Renew.
func (s *Redis) Demotions() uint64 { return s.demotions.Load() }

// noteDemotion takes the outcome of commands.
func (s *Redis) noteDemotion(cmds []redis.Cmder) {
	for _, cmd := range cmds {
		if isDemoted(cmd.Err()) {
			s.demotions.Add(1)
			return
		}
	}
}

// Renew has the client leave every connection whose server is no master: go-redis closes
// one that answers READONLY, and each is asked. Connections of a pool can be told apart
// only by holding them all: a connection that is in use is waited for. On a cluster,
// where what is no master says MOVED, there is nothing to do.
func (s *Redis) Renew(ctx context.Context) error {
	if s.cluster != nil {
		return nil
	}
	if s.ring != nil {
		return s.ring.ForEachShard(ctx, renew)
	}
	if c, ok := s.rdb.(*redis.Client); ok {
		return renew(ctx, c)
	}
	return nil
}

func renew(ctx context.Context, c *redis.Client) error {
	if err := renewPipelines(ctx, c); err != nil {
		return err
	}
	var held []*redis.Conn
	defer func() {
		for _, cn := range held {
			_ = cn.Close()
		}
	}()
	for len(held) == 0 || len(held) < int(c.PoolStats().TotalConns) {
		cn := c.Conn()
		held = append(held, cn)
		err := cn.Eval(ctx, onMasterText, nil).Err()
		switch {
		case isDemoted(err):
			held = held[:len(held)-1]
			_ = cn.Close()
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
	return nil
}

// renewPipelines asks the connections for pipelines, which can't be held: so many
// pipelines as there are connections are under way at once, until none meets a replica.
func renewPipelines(ctx context.Context, c *redis.Client) error {
	for range 8 {
		n := max(int(c.PoolStats().PipelineStats.TotalConns), 1) + 1
		var wg sync.WaitGroup
		var mu sync.Mutex
		demoted := false
		for range n {
			wg.Go(func() {
				pipe := c.Pipeline()
				cmd := pipe.Eval(ctx, onMasterText, nil)
				_, _ = pipe.Exec(ctx)
				if isDemoted(cmd.Err()) {
					mu.Lock()
					defer mu.Unlock()
					demoted = true
				}
			})
		}
		wg.Wait()
		if !demoted {
			return ctx.Err()
		}
	}
	return errDemoted
}

// Demotions counts how often a server was found to be no master any more, as far as the
// store can tell.
func (g *Guard) Demotions() uint64 {
	if s, ok := g.store.(interface{ Demotions() uint64 }); ok {
		return s.Demotions()
	}
	return 0
}

// Renew has the store leave connections to what is no master; see [Redis.Renew].
func (g *Guard) Renew(ctx context.Context) error {
	s, ok := g.store.(interface{ Renew(context.Context) error })
	if !ok {
		return nil
	}
	if err := g.begin(ctx); err != nil {
		return err
	}
	defer g.pending.Done()
	return s.Renew(ctx)
}
