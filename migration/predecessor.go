package migration

import (
	"context"
	"errors"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// Predecessor is what services called of the untyped cache before this library.
type Predecessor interface {
	SetJSON(ctx context.Context, key string, value any, ttl time.Duration) error
	GetJSON(ctx context.Context, key string, value any) error
	Delete(ctx context.Context, key string) error
}

// OnPredecessor is a service on it.
type OnPredecessor struct {
	cache Predecessor
	miss  error // ErrCacheMiss
	repo  *Repo
}

func (s *OnPredecessor) Product(ctx context.Context, id string) (p Product, err error) {
	if err = s.cache.GetJSON(ctx, "products:"+id, &p); !errors.Is(err, s.miss) {
		return p, err
	}
	if p, err = s.repo.Named(ctx, id); err != nil {
		return p, err
	}
	return p, s.cache.SetJSON(ctx, "products:"+id, p, time.Hour)
}

// Named loads a product by its id as a text.
func (r *Repo) Named(ctx context.Context, id string) (Product, error) {
	p, err := r.Product(ctx, int64(len(id)))
	p.Name = id
	return p, err
}

// FromPredecessor is the cache in its place. The prefix that the predecessor was configured with
// goes to cache.WithPrefix.
func FromPredecessor(rdb redis.UniversalClient, repo *Repo, prefix string) (*cache.Cache[string, Product], error) {
	return cache.NewFrom(rdb, "products", cache.SourceFunc(repo.Named), cache.WithPrefix(prefix),
		cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(time.Hour)),
		cache.WithCodec(codec.Legacy(codec.JSON(), codec.JSON().Unmarshal)))
}
