package redisstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// scanCount is how many keys a node looks at in one batch: enough for the round
// trip not to matter, and few enough for others not to wait.
const scanCount = 1000

// forEachMaster runs f for all nodes that hold keys, possibly at once.
func (s *Redis) forEachMaster(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	switch {
	case s.cluster != nil:
		return s.cluster.ForEachMaster(ctx, f)
	case s.ring != nil:
		return s.ring.ForEachShard(ctx, f)
	}
	return s.Unknown() // it may be a cluster's, whose keyless commands go anywhere
}

// Masters implements Store. Of a ring they are the shards that are up.
func (s *Redis) Masters(ctx context.Context) ([]string, error) {
	if s.single != nil {
		return []string{""}, nil
	}
	var mu sync.Mutex
	var addrs []string
	var nodes []*redis.Client
	err := s.forEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		addrs, nodes = append(addrs, c.Options().Addr), append(nodes, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.known.note(nodes)
	slices.Sort(addrs)
	return addrs, nil
}

// knownFor is how long a node is taken for a master that was one: to find out takes an
// answer of any node, and the one that is asked may be the one that does not answer.
const knownFor = 10 * time.Second

// knownMasters are those that were looked up last.
type knownMasters struct {
	mu     sync.Mutex // guards what follows
	at     time.Time
	byAddr map[string]*redis.Client
}

func (k *knownMasters) note(nodes []*redis.Client) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at, k.byAddr = time.Now(), make(map[string]*redis.Client, len(nodes))
	for _, c := range nodes {
		k.byAddr[c.Options().Addr] = c
	}
}

func (k *knownMasters) get(addr string) *redis.Client {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.at) > knownFor {
		return nil
	}
	return k.byAddr[addr]
}

// Scan implements Store. A cluster's client looks now and then at who the masters are:
// one that is none any more may have lost its keys.
func (s *Redis) Scan(ctx context.Context, master, pattern string, cursor uint64) ([]string, uint64, error) {
	process := s.rdb.Process
	if s.single == nil || master != "" {
		node, err := s.master(ctx, master)
		if err != nil {
			return nil, 0, err
		}
		process = node.Process
	}
	// Not by the method Scan, which takes an empty pattern for none.
	cmd := redis.NewScanCmd(ctx, nil, "scan", cursor, "match", pattern, "count", scanCount)
	_ = process(ctx, cmd)
	withoutEchoes([]redis.Cmder{cmd})
	return cmd.Result()
}

func (s *Redis) master(ctx context.Context, addr string) (*redis.Client, error) {
	var mu sync.Mutex
	var found *redis.Client
	if c := s.known.get(addr); c != nil {
		return c, nil
	}
	if s.single == nil {
		err := s.forEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
			if c.Options().Addr == addr {
				mu.Lock()
				defer mu.Unlock()
				found = c
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if found == nil {
		return nil, noMaster(addr)
	}
	return found, nil
}

func noMaster(addr string) error { return fmt.Errorf("redisstore: there is no master %q", addr) }
