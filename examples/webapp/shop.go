package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
	cacheprom "github.com/delqhi/cache/metrics/prometheus"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// shop is the database behind the cache. What reads and writes goes through the caches;
// only raise, which changes many rows with one statement, goes past them and says so.
type shop struct {
	store    *store
	products *cache.Cache[int64, Product]
	shelves  *cache.Cache[string, []int64]
	recorder *cacheprom.Recorder
}

func newShop(rdb redis.UniversalClient, db *store, log *slog.Logger) (*shop, error) {
	s := &shop{store: db, recorder: cacheprom.NewRecorder()}
	shared := cache.WithOptions(
		cache.WithPrefix("webapp:"), cache.WithLogger(log), cache.WithRecorder(s.recorder),
		cache.WithStrategy(
			strategy.LRU(1_000), strategy.TTL(10*time.Minute),
			strategy.StaleIfError(time.Hour),                 // a database that is away is not missed at once
			strategy.NotFoundTTL(time.Minute, sql.ErrNoRows), // what the database says when there is nothing
		))
	var err error
	s.products, err = cache.NewFrom(rdb, "products", cache.Source[int64, Product]{
		Load:     db.product,
		LoadMany: cache.KeyedBy(db.products, func(p Product) int64 { return p.ID }),
		Store:    db.save, // write-through: the database first, then the cache, then the other instances
		Tags:     func(_ int64, p Product) []string { return []string{"shelf:" + p.Shelf} },
	}, shared)
	if err != nil {
		return nil, err
	}
	s.shelves, err = cache.NewFrom(rdb, "shelves", cache.Source[string, []int64]{
		Load: db.shelf,
		Tags: func(name string, _ []int64) []string { return []string{"shelf:" + name} },
	}, shared)
	if err != nil {
		s.products.Close()
		return nil, err
	}
	return s, nil
}

func (s *shop) close() {
	s.products.Close()
	s.shelves.Close()
}

// answer is a product and where it came from.
type answer struct {
	Product
	Tier string        `json:"tier"`
	Took time.Duration `json:"took"` // in nanoseconds
}

func (s *shop) product(ctx context.Context, id int64) (answer, error) {
	var info cache.Info
	began := time.Now()
	p, err := s.products.Get(ctx, id, cache.Report(&info))
	return answer{p, info.Tier.String(), time.Since(began)}, err
}

// shelf returns what is on a shelf, in one round trip at most for all that is not at
// hand.
func (s *shop) shelf(ctx context.Context, name string) ([]answer, error) {
	ids, err := s.shelves.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	list := make([]answer, 0, len(ids))
	for _, id := range ids {
		a, err := s.product(ctx, id)
		if errors.Is(err, cache.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// reprice adds to a price, in the database and everywhere else. Of two instances that
// do so at once, both count.
func (s *shop) reprice(ctx context.Context, id, cents int64) (Product, error) {
	return s.products.Update(ctx, id, func(p Product, ok bool) (Product, error) {
		if !ok {
			return p, cache.ErrNotFound
		}
		p.Cents = max(p.Cents+cents, 1)
		return p, nil
	})
}

// raise changes all prices of a shelf by one statement. No cache sees that: it is told
// by the tag that all of them have.
func (s *shop) raise(ctx context.Context, shelf string, percent int64) error {
	if err := s.store.raise(ctx, shelf, percent); err != nil {
		return err
	}
	var g invalidate.Group
	g.AddTags(s.products, "shelf:"+shelf)
	g.AddTags(s.shelves, "shelf:"+shelf)
	return g.InvalidateAll(ctx)
}
