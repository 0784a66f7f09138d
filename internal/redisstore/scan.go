package redisstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// scanCount is the number of keys that a node examines in one batch: enough for the round trip
// not to matter, and few enough not to delay other clients.
const scanCount = 1000

// forEachMaster runs f for all nodes that hold keys, possibly concurrently.
func (s *Redis) forEachMaster(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	switch {
	case s.cluster != nil:
		return s.cluster.ForEachMaster(ctx, f)
	case s.ring != nil:
		return s.ring.ForEachShard(ctx, f)
	}
	return s.Unknown() // it may be a cluster's client, whose keyless commands go to any node
}

// Masters implements Store. On a ring they are the shards that are up.
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

// knownFor is how long a node that was a master is assumed to be one: checking takes an answer
// of some node, and the node that is asked may be the one that does not answer.
const knownFor = 10 * time.Second

// knownMasters are the masters that were looked up last.
type knownMasters struct {
	mu     sync.Mutex // guards the fields below
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

// Scan implements Store. A cluster's client reloads the list of masters from time to time: a
// node that is no longer a master may have lost its keys.
func (s *Redis) Scan(ctx context.Context, master, pattern string, cursor uint64) ([]string, uint64, error) {
	process := s.rdb.Process
	if s.single == nil || master != "" {
		node, err := s.master(ctx, master)
		if err != nil {
			return nil, 0, err
		}
		process = node.Process
	}
	// Not by the method Scan, which treats an empty pattern as no pattern.
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
