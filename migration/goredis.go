package migration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// ByHand is a service that caches with GET and SET.
type ByHand struct {
	rdb  redis.UniversalClient
	repo *Repo
}

func (s *ByHand) Product(ctx context.Context, id int64) (p Product, err error) {
	key := fmt.Sprintf("products:%d", id)
	text, err := s.rdb.Get(ctx, key).Bytes()
	if err == nil && json.Unmarshal(text, &p) == nil {
		return p, nil
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return p, err
	}
	if p, err = s.repo.Product(ctx, id); err != nil {
		return p, err
	}
	text, err = json.Marshal(p)
	if err != nil {
		return p, err
	}
	return p, s.rdb.Set(ctx, key, text, 10*time.Minute).Err()
}

func (s *ByHand) SetStock(ctx context.Context, id int64, n int) error {
	if err := s.repo.SetStock(ctx, id, n); err != nil {
		return err
	}
	return s.rdb.Del(ctx, fmt.Sprintf("products:%d", id)).Err()
}

// FromGoRedis is the cache in its place.
func FromGoRedis(rdb redis.UniversalClient, repo *Repo) (*cache.Cache[int64, Product], error) {
	return cache.NewFrom(rdb, "products", cache.SourceFunc(repo.Product),
		cache.WithStrategy(strategy.TTL(10*time.Minute)),
		cache.WithCodec(codec.Legacy(codec.JSON(), codec.JSON().Unmarshal, codec.StoredFor(10*time.Minute))))
}
