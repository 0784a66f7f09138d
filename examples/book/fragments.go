// Package book has the code of the README, and of pages that show a part of a program, so that it
// compiles. The programs of the pages in docs
// are in the folders below it.
package book

import (
	"context"
	"log/slog"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

//lint:file-ignore SA4006 the README leaves out what is done about an error

// User is a row of the repository.
type User struct {
	ID   int64
	Name string
}

type repository struct{}

func (repository) User(context.Context, int64) (User, error) { return User{}, cache.ErrNotFound }

// Readme is what the README shows first.
func Readme(ctx context.Context) (User, error) {
	var repo repository

	rdb, err := cache.NewClient("redis://localhost:6379")

	users, err := cache.NewFrom(rdb, "users", cache.Source[int64, User]{Load: repo.User},
		cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(10*time.Minute)))

	u, err := users.Get(ctx, 42) // local tier → Redis → repo.User, filled on the way back

	err = users.Invalidate(ctx, 42)                // in every process
	err = users.InvalidateTags(ctx, "tenant:acme") // in one round trip, whatever the number of entries

	return u, err
}

// Servers is what docs/servers.md has a program do when it begins.
func Servers(ctx context.Context, rdb redis.UniversalClient) error {
	caps, err := cache.Probe(ctx, rdb)
	if err != nil {
		return err // it does not answer
	}
	if err := caps.Err(); err != nil {
		return err // caches can't be used: the error names what is needed
	}
	slog.Info("cache", "server", caps) // what caches do without, a line for each
	return nil
}
