package migration

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
	"github.com/viccon/sturdyc"
)

// OnSturdyc is a service on github.com/viccon/sturdyc, with Redis as its distributed storage.
type OnSturdyc struct {
	cache *sturdyc.Client[Product]
	repo  *Repo
}

// NewOnSturdyc makes the service.
func NewOnSturdyc(rdb redis.UniversalClient, repo *Repo) *OnSturdyc {
	return &OnSturdyc{sturdyc.New[Product](10_000, 10, time.Hour, 10, sturdyc.WithDistributedStorage(storage{rdb}), sturdyc.WithNoContinuousEvictions()), repo}
}

func (s *OnSturdyc) Product(ctx context.Context, id int64) (Product, error) {
	return s.cache.GetOrFetch(ctx, "products:"+strconv.FormatInt(id, 10), func(ctx context.Context) (Product, error) {
		return s.repo.Product(ctx, id)
	})
}

// storage is what sturdyc asks its users to write.
type storage struct{ rdb redis.UniversalClient }

func (s storage) Get(ctx context.Context, key string) ([]byte, bool) {
	b, err := s.rdb.Get(ctx, key).Bytes()
	return b, err == nil
}

func (s storage) Set(ctx context.Context, key string, value []byte) {
	s.rdb.Set(ctx, key, value, time.Hour)
}

func (s storage) GetBatch(ctx context.Context, keys []string) map[string][]byte {
	found := map[string][]byte{}
	for _, key := range keys {
		if b, ok := s.Get(ctx, key); ok {
			found[key] = b
		}
	}
	return found
}

func (s storage) SetBatch(ctx context.Context, records map[string][]byte) {
	for key, value := range records {
		s.Set(ctx, key, value)
	}
}

// decodeSturdyc decodes what sturdyc hands to its storage.
func decodeSturdyc(data []byte, v any) error {
	var record struct {
		CreatedAt time.Time       `json:"created_at"`
		Value     json.RawMessage `json:"value"`
		Missing   bool            `json:"is_missing_record"`
	}
	if err := json.Unmarshal(data, &record); err != nil {
		return err
	}
	if record.Missing || record.CreatedAt.IsZero() {
		return errors.New("not a value of sturdyc")
	}
	return json.Unmarshal(record.Value, v)
}

// FromSturdyc is the cache in its place.
func FromSturdyc(rdb redis.UniversalClient, repo *Repo) (*cache.Cache[int64, Product], error) {
	return cache.NewFrom(rdb, "products", cache.SourceFunc(repo.Product),
		cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(time.Hour), strategy.RefreshAhead(0.8), strategy.StaleIfError(time.Hour)),
		cache.WithCodec(codec.Legacy(codec.JSON(), decodeSturdyc, codec.StoredFor(time.Hour))))
}
