package codec_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/redis/go-redis/v9"
)

// A cache that takes the place of JSON by hand, under the same keys.
func ExampleLegacy() {
	ctx := context.Background()
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()

	type product struct {
		Name  string `json:"name"`
		Stock int    `json:"stock"`
	}
	rdb.Set(ctx, "products:42", `{"name":"Lamp","stock":3}`, 10*time.Minute) // by the program before

	var left atomic.Int64 // how often its records are still read
	byHand := func(data []byte, v any) error {
		left.Add(1)
		return codec.JSON().Unmarshal(data, v)
	}
	products, err := cache.NewFrom(rdb, "products", cache.SourceFunc(func(context.Context, int) (product, error) {
		return product{"loaded", 1}, nil
	}), cache.WithCodec(codec.Legacy(codec.JSON(), byHand, codec.StoredFor(10*time.Minute), codec.TagsBySource())))
	if err != nil {
		panic(err)
	}
	defer products.Close()

	p, err := products.Get(ctx, 42)
	fmt.Println(p, err, left.Load())

	products.Invalidate(ctx, 42)
	p, err = products.Get(ctx, 42)
	fmt.Println(p, err, left.Load())
	// Output:
	// {Lamp 3} <nil> 1
	// {loaded 1} <nil> 1
}

// The records of programs that store for ten minutes say by what is left when they were stored.
func ExampleStoredFor() {
	c := codec.Legacy(codec.Msgpack(), codec.DecodeGoRedisCache, codec.StoredFor(10*time.Minute))
	fmt.Println(c.Name()) // that of the codec inside, whose records stay when Legacy goes
	// Output: msgpack
}

// The values of this cache have the tags that its Source.Tags gives them, and no others.
func ExampleTagsBySource() {
	c := codec.Legacy(codec.Compressed(codec.JSON()), codec.JSON().Unmarshal, codec.TagsBySource())
	fmt.Println(c.Name())
	// Output: s2(json)
}
