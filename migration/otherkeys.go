package migration

import (
	"context"
	"time"

	"github.com/delqhi/cache"
)

// WarmFrom makes a source that asks the cache before first, while it is warm.
func WarmFrom(before func(ctx context.Context, id int64) (Product, error), repo *Repo) cache.Source[int64, Product] {
	return cache.SourceFunc(func(ctx context.Context, id int64) (Product, error) {
		if p, err := before(ctx, id); err == nil {
			cache.CurrentLoad[Product](ctx).SetTTL(time.Minute) // it may be as old as that cache allows
			return p, nil
		}
		return repo.Product(ctx, id)
	})
}
