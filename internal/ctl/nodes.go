package ctl

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// eachNode calls f for each master, one after the other.
func eachNode(ctx context.Context, cluster *redis.ClusterClient, f func(context.Context, *redis.Client) error) error {
	var mu sync.Mutex
	return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		return f(ctx, node)
	})
}
