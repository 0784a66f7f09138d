package migration

import (
	"context"
	"fmt"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/strategy"
	old "github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/marshaler"
	"github.com/eko/gocache/lib/v4/store"
	redisstore "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
)

// OnGocache is a service on github.com/eko/gocache, with its marshaler and Redis.
type OnGocache struct {
	cache *marshaler.Marshaler
	repo  *Repo
}

// NewOnGocache makes the service.
func NewOnGocache(rdb *redis.Client, repo *Repo) *OnGocache {
	return &OnGocache{marshaler.New(old.New[any](redisstore.NewRedis(rdb))), repo}
}

func (s *OnGocache) Product(ctx context.Context, id int64) (Product, error) {
	key := fmt.Sprintf("products:%d", id)
	if p, err := s.cache.Get(ctx, key, new(Product)); err == nil {
		return *p.(*Product), nil
	}
	p, err := s.repo.Product(ctx, id)
	if err != nil {
		return p, err
	}
	return p, s.cache.Set(ctx, key, p, store.WithExpiration(time.Hour), store.WithTags([]string{"products"}))
}

// FromGocache is the cache in its place.
func FromGocache(rdb redis.UniversalClient, repo *Repo) (*cache.Cache[int64, Product], error) {
	src := cache.SourceFunc(repo.Product)
	src.Tags = func(int64, Product) []string { return []string{"products"} }
	return cache.NewFrom(rdb, "products", src,
		cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(time.Hour)),
		cache.WithCodec(codec.Legacy(codec.Msgpack(), codec.Msgpack().Unmarshal, codec.StoredFor(time.Hour), codec.TagsBySource())))
}
