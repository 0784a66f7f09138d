package migration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// OnRueidis is a service on github.com/redis/rueidis that caches aside, and keeps its records as
// rueidisaside does: the text of the value, with client-side caching.
type OnRueidis struct {
	client rueidis.Client
	repo   *Repo
}

func (s *OnRueidis) Product(ctx context.Context, id int64) (p Product, err error) {
	key := fmt.Sprintf("products:%d", id)
	text, err := s.client.DoCache(ctx, s.client.B().Get().Key(key).Cache(), time.Minute).AsBytes()
	if err == nil {
		return p, json.Unmarshal(text, &p)
	}
	if !rueidis.IsRedisNil(err) {
		return p, err
	}
	if p, err = s.repo.Product(ctx, id); err != nil {
		return p, err
	}
	if text, err = json.Marshal(p); err != nil {
		return p, err
	}
	return p, s.client.Do(ctx, s.client.B().Set().Key(key).Value(string(text)).Px(time.Hour).Build()).Error()
}

// decodeAside decodes a value of rueidisaside. While a client loads one, the lock of that client
// is in its place.
func decodeAside(data []byte, v any) error {
	if bytes.HasPrefix(data, []byte("rueidisid:")) {
		return errors.New("a lock of rueidisaside")
	}
	return json.Unmarshal(data, v)
}

// FromRueidisaside is the cache in its place.
func FromRueidisaside(rdb redis.UniversalClient, repo *Repo) (*cache.Cache[int64, Product], error) {
	return cache.NewFrom(rdb, "products", cache.SourceFunc(repo.Product),
		cache.WithStrategy(strategy.LRU(10_000), strategy.TTL(time.Hour)),
		cache.WithCodec(codec.Legacy(codec.JSON(), decodeAside, codec.StoredFor(time.Hour))))
}
