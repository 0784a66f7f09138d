// Package redisstore implements [store.Store] and [store.Queue] on Redis through go-redis: for
// a single server, a cluster and a ring. All commands, scripts and subscriptions are here.
//
// Commands that change something are sent at most once; what the server has refused before it
// executed anything is sent again.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// Redis is the Store on a Redis server, cluster, ring or sentinel-watched master, through any
// go-redis client. Servers before Redis 7.0 are asked in other forms, where
// that is needed; see docs/servers.md.
type Redis struct {
	rdb redis.UniversalClient

	clientKind
	database int // selected by the client

	noFlags atomic.Bool // the server rejects a script's flags, as miniredis does
	detours
	transactions transactions

	clockMu sync.RWMutex
	clocks  map[string]*clock // by node address; "" for a single server

	attempts  int           // how often to repeat commands that were refused temporarily
	demotions atomic.Uint64 // see Renew
	renewing  atomic.Bool   // a Renew is in progress

	shared  sharedKey // of reads that callers share
	toBytes sync.Pool // see mget

	tracks atomic.Pointer[tracks] // nil: none; see there
	lane   bool                   // it is that of a lane

	known      knownMasters // for Scan
	layoutOnce sync.Once
	layout     *knownLayout // of a cluster, shared with other stores; after layoutOnce
	reloaded   atomic.Int64 // when the state of a cluster was last reloaded, since startup

	// ctx, stop and wg are for background goroutines, such as those that renew clocks.
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// NewRedis returns a Store on rdb. It does no I/O. It refuses a client that may read data older
// than the last write: from replicas, or from a cache of its own. A failover client with
// ReplicaOnly can't be distinguished from others; with it every write fails. A decorator is
// unwrapped if it has a method Unwrap() redis.UniversalClient; see [Redis.Unknown] for others.
// A decorator that hides even which database it selects is refused.
func NewRedis(rdb redis.UniversalClient) (*Redis, error) {
	kind, err := kindOf(rdb)
	if err == nil {
		err = kind.check()
	}
	if err != nil {
		return nil, err
	}
	s := &Redis{rdb: rdb, clientKind: kind, clocks: map[string]*clock{}}
	var known bool
	if s.database, known = databaseOf(rdb, kind); !known {
		return nil, fmt.Errorf("%w: it is a %T: give that a method Unwrap() redis.UniversalClient, which returns the client that it decorates", errUnknownDatabase, rdb)
	}
	s.attempts = s.attemptsOf()
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// HonorsDeadline reports whether the client itself ends an operation at its context's deadline.
func (s *Redis) HonorsDeadline() bool {
	switch {
	case s.single != nil:
		return s.single.Options().ContextTimeoutEnabled
	case s.cluster != nil:
		return s.cluster.Options().ContextTimeoutEnabled
	case s.ring != nil:
		return s.ring.Options().ContextTimeoutEnabled
	}
	return false
}

// Database is the number of the database that the client selects. A cluster has one.
func (s *Redis) Database() int { return s.database }

// Close ends the background goroutines. The client stays open: it belongs to the caller.
func (s *Redis) Close() {
	s.clockMu.Lock()
	s.stop()
	s.clockMu.Unlock()
	s.wg.Wait()
	s.leaveLayout()
}

// node returns the client of the node that holds key, and its address, which names its clock.
func (s *Redis) node(ctx context.Context, key string) (redis.UniversalClient, string, error) {
	var node *redis.Client
	var err error
	switch {
	case s.cluster != nil:
		node, err = s.cluster.MasterForKey(ctx, key)
	case s.ring != nil:
		node, err = s.ring.GetShardClientForKey(key)
	default:
		return s.rdb, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	return node, node.Options().Addr, nil
}

// EstimateAt is Now at the time at, which has a monotonic reading, where that needs no I/O, and the
// clock is not due for renewal.
func (s *Redis) EstimateAt(key string, at time.Time) (now int64, ok bool) {
	addr := s.Endpoint(key)
	s.clockMu.RLock()
	c := s.clocks[addr]
	s.clockMu.RUnlock()
	if c == nil {
		return 0, false
	}
	return c.estimate(at)
}

// ClockError is by how much, in µs, Now and Estimate may be wrong, either way: what was measured
// says. It needs no I/O.
func (s *Redis) ClockError(key string) int64 {
	addr := s.Endpoint(key)
	s.clockMu.RLock()
	c := s.clocks[addr]
	s.clockMu.RUnlock()
	if c == nil {
		return 0
	}
	return c.wrong()
}

// Now implements Store.
func (s *Redis) Now(ctx context.Context, key string) (int64, error) {
	node, addr, err := s.node(ctx, key)
	if err != nil {
		return 0, err
	}
	s.clockMu.RLock()
	c := s.clocks[addr]
	s.clockMu.RUnlock()
	if c == nil {
		s.clockMu.Lock()
		if c = s.clocks[addr]; c == nil {
			c = new(clock)
			s.clocks[addr] = c
		}
		s.clockMu.Unlock()
	}
	return c.now(ctx, func(ctx context.Context) (int64, error) {
		t, err := node.Time(ctx).Result()
		if err != nil {
			return 0, withoutEcho(err, "time", key)
		}
		return t.UnixMicro(), nil
	}, func(f func(context.Context)) {
		s.background(func(ctx context.Context) {
			defer takeTurn(store.Patient(ctx), node)()
			f(ctx)
		})
	})
}

// background runs f in a goroutine that Close waits for, or not at all once the store is
// closed. It reports whether f runs.
func (s *Redis) background(f func(context.Context)) bool {
	s.clockMu.RLock()
	defer s.clockMu.RUnlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.wg.Go(func() { f(s.ctx) })
	return true
}

// Do implements Store.
func (s *Redis) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	if t := s.tracks.Load(); t != nil && len(cmds) > 0 {
		return (*t).do(ctx, s, cmds)
	}
	if s.lane {
		return s.doReading(ctx, cmds)
	}
	return s.untracked(ctx, cmds)
}

// untracked is Do by the client itself.
func (s *Redis) untracked(ctx context.Context, cmds []store.Command) []store.Reply {
	if s.noAddGet.Load() {
		cmds = byScript(cmds)
	}
	replies := s.do(ctx, cmds)
	s.detour(ctx, cmds, replies)
	return replies
}

func (s *Redis) do(ctx context.Context, cmds []store.Command) []store.Reply {
	replies := make([]store.Reply, len(cmds))
	switch len(cmds) {
	case 0:
	case 1:
		s.one(ctx, &cmds[0], &replies[0])
	default:
		order := s.fillsLast(cmds)
		if order == nil {
			s.many(ctx, cmds, replies)
			break
		}
		got := make([]store.Reply, len(cmds))
		s.many(ctx, inOrder(cmds, order), got)
		for i, at := range order {
			replies[at] = got[i]
		}
	}
	return replies
}

func (s *Redis) one(ctx context.Context, c *store.Command, r *store.Reply) {
	if r.Err = c.Check(); r.Err == nil && c.With != 0 {
		r.Err = store.ErrAlone
	}
	if r.Err != nil {
		return
	}
	cmd := build(ctx, c, byHash)
	s.sendOne(ctx, cmd)
	if *r = read(c, cmd); isNoScript(r.Err) {
		cmd = build(ctx, c, byText)
		s.sendOne(ctx, cmd)
		*r = read(c, cmd)
	}
}

// split reports whether a pipeline may go to several nodes.
func (s *Redis) split() bool { return s.single == nil }

// OneNode reports whether all commands of a call go to one node.
func (s *Redis) OneNode() bool { return !s.split() }

// Clustered reports whether the servers are a cluster; see [store.Names.Parted].
func (s *Redis) Clustered() bool { return s.cluster != nil }

func (s *Redis) many(ctx context.Context, cmds []store.Command, replies []store.Reply) {
	if s.cluster != nil && store.IsBackground(ctx) && gets(cmds) == len(cmds) && !s.noMget.Load() {
		copy(replies, s.doBySlot(ctx, cmds))
		return
	}
	if s.inTransactions(ctx, cmds, replies) || s.allAsOne(ctx, cmds, replies) {
		return
	}
	sent := make([]redis.Cmder, len(cmds)) // nil: refused, or part of a script or MGET of several commands
	out := make([]redis.Cmder, 0, len(cmds))
	var mgets []mget
	var lots []several
	split := s.split()
	refs := s.references(cmds)
	for i := 0; i < len(cmds); {
		if n := gets(cmds[i:]); n > 1 && !split && !s.noMget.Load() {
			m := s.newMget(ctx, cmds[i:i+n], replies[i:i+n])
			mgets, out = append(mgets, m), append(out, m.cmd)
			i += n
			continue
		}
		n := s.asOne(cmds[i:])
		if err := store.CheckAll(cmds[i:i+n], split); err != nil {
			for j := i; j < i+n; j++ {
				replies[j].Err = err
			}
		} else if n > 1 {
			l := newSeveral(ctx, cmds[i:i+n], replies[i:i+n], refs.of(i, n))
			lots, out = append(lots, l), append(out, l.cmd)
		} else {
			sent[i] = build(ctx, &cmds[i], refs.of(i, 1))
			out = append(out, sent[i])
		}
		i += n
	}
	s.send(ctx, out...)
	for _, m := range mgets {
		m.read()
	}
	var again []redis.Cmder
	for i := range lots {
		l := &lots[i]
		if l.again = isNoScript(l.cmd.Err()); l.again {
			*l = newSeveral(ctx, l.cmds, l.replies, byText)
			l.again = true
			again = append(again, l.cmd)
		} else {
			l.read()
		}
	}
	for i, cmd := range sent {
		if cmd == nil {
			continue
		}
		replies[i] = read(&cmds[i], cmd)
		if cmds[i].Op == store.Get {
			replies[i].HideType()
		}
		sent[i] = nil
		if isNoScript(replies[i].Err) {
			sent[i] = build(ctx, &cmds[i], byText)
			again = append(again, sent[i])
		}
	}
	if len(again) == 0 {
		return
	}
	s.send(ctx, again...)
	for i := range lots {
		if lots[i].again {
			lots[i].read()
		}
	}
	for i, cmd := range sent {
		if cmd != nil {
			replies[i] = read(&cmds[i], cmd)
		}
	}
}

// allAsOne carries out commands that are sent as one, and reports whether these are.
func (s *Redis) allAsOne(ctx context.Context, cmds []store.Command, replies []store.Reply) bool {
	switch {
	case s.split():
	case gets(cmds) == len(cmds) && !s.noMget.Load():
		m := s.newMget(ctx, cmds, replies)
		s.sendOne(ctx, m.cmd)
		m.read()
		return true
	case cmds[0].Op != store.Get && s.asOne(cmds) == len(cmds) && store.CheckAll(cmds, false) == nil:
		s.byOneScript(ctx, cmds, replies)
		return true
	}
	return false
}

// byOneScript carries out commands that one script may carry out.
func (s *Redis) byOneScript(ctx context.Context, cmds []store.Command, replies []store.Reply) {
	l := newSeveral(ctx, cmds, replies, byHash)
	s.sendOne(ctx, l.cmd)
	if isNoScript(l.cmd.Err()) {
		l = newSeveral(ctx, cmds, replies, byText)
		s.sendOne(ctx, l.cmd)
	}
	l.read()
}

// sendOne is send for one command.
func (s *Redis) sendOne(ctx context.Context, cmd redis.Cmder) {
	_ = s.rdb.Process(ctx, cmd)
	if err := cmd.Err(); err == nil || err == redis.Nil {
		return
	}
	cmds := []redis.Cmder{cmd}
	s.examine(ctx, cmds)
	s.sendAgain(ctx, cmds)
}

// examine looks at the errors of a command that was sent by itself.
func (s *Redis) examine(ctx context.Context, cmds []redis.Cmder) {
	s.noteDemotion(cmds)
	s.reloadTopology(ctx, cmds)
	withoutEchoes(cmds)
}

// send carries out commands in one round trip to each node, and in more where a node refuses
// them temporarily. Their errors are in the commands.
func (s *Redis) send(ctx context.Context, cmds ...redis.Cmder) {
	s.sendOnce(ctx, cmds)
	s.sendAgain(ctx, cmds)
}

func (s *Redis) sendOnce(ctx context.Context, cmds []redis.Cmder) {
	switch len(cmds) {
	case 0:
	case 1:
		_ = s.rdb.Process(ctx, cmds[0])
		s.examine(ctx, cmds)
	default:
		s.pipeline(ctx, cmds...)
	}
}

// stamp copies the error of a pipeline to its commands, if none of them has one: if a
// connection can't be made because the server refuses the user, go-redis returns the error only
// from the pipeline, and each command looks as if it had been carried out.
func stamp(cmds []redis.Cmder, err error) {
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			return
		}
	}
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
}

func (s *Redis) pipeline(ctx context.Context, cmds ...redis.Cmder) {
	defer withoutEchoes(cmds)
	defer s.reloadTopology(ctx, cmds)
	pipe := s.rdb.Pipeline()
	_ = pipe.BatchProcess(ctx, cmds...) // only queues them
	if _, err := pipe.Exec(ctx); err != nil {
		stamp(cmds, err)
		s.noteDemotion(cmds)
	}
}

// reloadEvery is the minimum time between reloads of a cluster's state because a master can't
// be reached.
const reloadEvery = time.Second

// reloadTopology makes a cluster client reload the list of masters if it could not reach one of
// them. The client does so by itself when a node answers MOVED; a master that is down does not
// answer, and the client would keep asking it until its periodical reload, a minute by default.
func (s *Redis) reloadTopology(ctx context.Context, cmds []redis.Cmder) {
	if s.cluster == nil {
		return
	}
	for _, cmd := range cmds {
		if s.lookAroundFor(ctx, cmd.Err()) {
			return
		}
	}
}

// lookAroundFor is reloadTopology for the error of a command. It reports whether err says
// that a node could not be reached.
func (s *Redis) lookAroundFor(ctx context.Context, err error) bool {
	reloader, ok := s.cluster.(interface{ ReloadState(context.Context) })
	var network net.Error
	if !ok || err == nil || !errors.As(err, &network) && !errors.Is(err, io.EOF) {
		return false
	}
	last, now := s.reloaded.Load(), time.Since(startup).Nanoseconds()
	if (last == 0 || now-last >= int64(reloadEvery)) && s.reloaded.CompareAndSwap(last, now) {
		reloader.ReloadState(context.WithoutCancel(ctx))
	}
	return true
}

// startup is the reference for times of which only differences count.
var startup = time.Now()

// Connections counts the connections that were made because the pool had no idle one: an
// increase means that a server may have been replaced or restarted meanwhile. Pipelines have
// connections of their own, which are counted too.
func (s *Redis) Connections() uint32 {
	stats := s.rdb.PoolStats()
	n := stats.Misses
	if stats.PipelineStats != nil {
		n += stats.PipelineStats.Misses
	}
	return n
}
