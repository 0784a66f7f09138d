package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"time"

	"github.com/delqhi/cache"
	cacheprom "github.com/delqhi/cache/metrics/prometheus"
	"github.com/delqhi/cache/outbox"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// shop is the database behind the cache. Readers go through the caches. Each change is a transaction
// of the database, of one or several statements, which also notes in an outbox what it makes out of
// date: both are committed, or neither is. A relay in each instance brings that to the caches, also
// if the instance that has made the change ends, or Redis is away, at the moment of the commit.
type shop struct {
	store    *store
	products *cache.Cache[int64, Product]
	shelves  *cache.Cache[string, []int64]
	relay    *outbox.Relay
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
	s.relay = &outbox.Relay{
		DB: db.db, Outbox: db.box, Targets: []outbox.Target{s.products, s.shelves}, Logger: log,
		Poll: 50 * time.Millisecond, // the lag of what the other instance has changed
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

// reprice adds to a price. Of two instances that do so at once, both count: the database adds. What
// comes of it takes the place of the old value in the caches, without a load.
func (s *shop) reprice(ctx context.Context, id, cents int64) (p Product, err error) {
	err = s.store.change(ctx, func(tx *sql.Tx) error {
		if p, err = reprice(ctx, tx, id, cents); err != nil {
			return err
		}
		return outbox.Set(ctx, s.store.box.In(tx), s.products, id, p)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return p, cache.ErrNotFound
	}
	if err == nil {
		s.relay.Wake() // it would find the row by itself
	}
	return p, err
}

// raise changes all prices of a shelf by one statement. Which products these are is not known
// here: the caches are told by the tag that all of them have.
func (s *shop) raise(ctx context.Context, shelf string, percent int64) error {
	tag := "shelf:" + shelf
	err := s.store.change(ctx, func(tx *sql.Tx) error {
		if err := raise(ctx, tx, shelf, percent); err != nil {
			return err
		}
		return s.store.box.In(tx).InvalidateTags(ctx, s.products, tag)
	})
	if err != nil {
		return err
	}
	// Once more at once, so that the next reader sees it. If that fails, or this process ends here,
	// the relay does it.
	_ = s.products.InvalidateTags(ctx, tag)
	return nil
}
