package redisstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// ServerID implements Store. It consists of three fields that each master that holds keys
// reports about itself:
//
//   - run_id, which changes with each start of a process;
//   - role, which must be that of a master;
//   - master_replid, which names the history of its data set. A replica has that of its
//     master, and a server that is promoted to master begins another one.
//
// If that is the same at two times, this very process was a master all the while: had it been a
// replica in between, and its data been replaced, it would have begun another history when it
// became a master again. A master undoes nothing that it has carried out. Data that can be lost
// all the same (FLUSHALL, an eviction, a slot of a cluster that is given to another node
// without its keys) is not replaced by older data.
//
// It can't be known for a ring: a ring moves keys to other shards while one is down, and back,
// when the shard still has their former values. Nor can it be known where the user of Redis may
// not ask, or where the server is not Redis.
//
// An operator can put an old state back into a running process, by DEBUG LOADAOF, DEBUG RELOAD
// NOSAVE, or the snapshot of a virtual machine. That is not detected here; nor is a proxy that
// gives the same answer whichever server it is connected to.
func (s *Redis) ServerID(ctx context.Context) (string, error) {
	if s.single != nil {
		defer takeTurn(ctx, s.rdb)()
		return parseServerID(s.rdb.Info(ctx, "server", "replication").Result())
	}
	if s.cluster == nil {
		return "", nil
	}
	var mu sync.Mutex
	var all []string
	err := s.cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		end := takeTurn(ctx, c)
		one, err := parseServerID(c.Info(ctx, "server", "replication").Result())
		end()
		mu.Lock()
		defer mu.Unlock()
		all = append(all, one)
		return err
	})
	if err != nil || slices.Contains(all, "") {
		return "", err
	}
	slices.Sort(all)
	return strings.Join(all, "\n"), nil
}

// parseServerID returns the identity of one server from its INFO, which is one command, so that
// its parts are of one moment.
func parseServerID(info string, err error) (string, error) {
	var refused redis.Error
	if errors.As(err, &refused) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var run, role, history string
	for line := range strings.Lines(info) {
		switch name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); name {
		case "run_id":
			run = value
		case "role":
			role = value
		case "master_replid":
			history = value
		}
	}
	if run == "" || role != "master" || strings.Trim(history, "0") == "" {
		return "", nil
	}
	return run + " " + history, nil
}
