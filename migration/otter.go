package migration

import (
	"context"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
	"github.com/maypok86/otter/v2"
	"github.com/redis/go-redis/v9"
)

// OnOtter is a service on github.com/maypok86/otter, in each process alone.
type OnOtter struct {
	cache *otter.Cache[int64, Product]
	repo  *Repo
}

// NewOnOtter makes the service.
func NewOnOtter(repo *Repo) (*OnOtter, error) {
	c, err := otter.New(&otter.Options[int64, Product]{
		MaximumSize:       10_000,
		ExpiryCalculator:  otter.ExpiryWriting[int64, Product](10 * time.Minute),
		RefreshCalculator: otter.RefreshWriting[int64, Product](8 * time.Minute),
	})
	return &OnOtter{c, repo}, err
}

func (s *OnOtter) Product(ctx context.Context, id int64) (Product, error) {
	return s.cache.Get(ctx, id, otter.LoaderFunc[int64, Product](s.repo.Product))
}

func (s *OnOtter) SetStock(ctx context.Context, id int64, n int) error {
	if err := s.repo.SetStock(ctx, id, n); err != nil {
		return err
	}
	s.cache.Invalidate(id) // in this process
	return nil
}

// FromOtter is the cache in its place: a local tier with the same policy, and Redis behind it.
// Without Redis, it is cache.NewFrom(nil, …, cache.LocalOnly()).
func FromOtter(rdb redis.UniversalClient, repo *Repo) (*cache.Cache[int64, Product], error) {
	return cache.NewFrom(rdb, "products", cache.SourceFunc(repo.Product),
		cache.WithStrategy(strategy.TinyLFU(10_000), strategy.TTL(10*time.Minute), strategy.LocalTTL(10*time.Minute), strategy.RefreshAhead(0.8)))
}
