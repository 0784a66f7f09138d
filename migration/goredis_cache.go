package migration

import (
	"context"
	"fmt"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	old "github.com/go-redis/cache/v9"
	"github.com/redis/go-redis/v9"
)

// OnGoRedisCache is a service on github.com/go-redis/cache.
type OnGoRedisCache struct {
	cache *old.Cache
	repo  *Repo
}

// NewOnGoRedisCache makes the service.
func NewOnGoRedisCache(rdb redis.UniversalClient, repo *Repo) *OnGoRedisCache {
	return &OnGoRedisCache{old.New(&old.Options{Redis: rdb}), repo}
}

func (s *OnGoRedisCache) Product(ctx context.Context, id int64) (p Product, err error) {
	err = s.cache.Once(&old.Item{
		Ctx: ctx, Key: fmt.Sprintf("products:%d", id), Value: &p, TTL: time.Hour,
		Do: func(*old.Item) (any, error) { return s.repo.Product(ctx, id) },
	})
	return p, err
}

func (s *OnGoRedisCache) SetStock(ctx context.Context, id int64, n int) error {
	if err := s.repo.SetStock(ctx, id, n); err != nil {
		return err
	}
	return s.cache.Delete(ctx, fmt.Sprintf("products:%d", id))
}

// FromGoRedisCache is the cache in its place.
func FromGoRedisCache(rdb redis.UniversalClient, repo *Repo) (*cache.Cache[int64, Product], error) {
	return cache.NewFrom(rdb, "products", cache.SourceFunc(repo.Product),
		cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(time.Hour)),
		cache.WithCodec(codec.Legacy(codec.Msgpack(), codec.DecodeGoRedisCache, codec.StoredFor(time.Hour))),
		cache.WithTransport(invalidate.Tracking())) // while programs run that do not notify
}
