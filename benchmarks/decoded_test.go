package benchmarks

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/strategy"
	rediscache "github.com/go-redis/cache/v9"
	"github.com/vmihailenco/msgpack/v5"
)

// order is a value as programs have them.
type order struct {
	ID       int64             `json:"id" msgpack:"id"`
	Customer string            `json:"customer" msgpack:"customer"`
	Placed   time.Time         `json:"placed" msgpack:"placed"`
	Lines    []orderLine       `json:"lines" msgpack:"lines"`
	Labels   map[string]string `json:"labels" msgpack:"labels"`
}

type orderLine struct {
	SKU   string `json:"sku" msgpack:"sku"`
	Count int    `json:"count" msgpack:"count"`
	Cents int64  `json:"cents" msgpack:"cents"`
}

func makeOrder() order {
	o := order{ID: 4711, Customer: "customer-000815", Placed: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Labels: map[string]string{"channel": "web", "country": "DE"}}
	for i := range 8 {
		o.Lines = append(o.Lines, orderLine{SKU: fmt.Sprintf("SKU-%06d", i), Count: i + 1, Cents: int64(i) * 199})
	}
	return o
}

var errOtherOrder = errors.New("another order was read")

// BenchmarkDecoded reads a struct, from a local tier or from Redis. A local tier that keeps bytes
// decodes them with each hit ("go-redis-cache", in Msgpack); this one keeps the value.
func BenchmarkDecoded(b *testing.B) {
	s := server(b)
	want := makeOrder()
	formats := []struct {
		name      string
		codec     codec.Codec
		marshal   func(any) ([]byte, error)
		unmarshal func([]byte, any) error
	}{
		{"json", codec.JSON(), json.Marshal, json.Unmarshal},
		{"msgpack", codec.Msgpack(), msgpack.Marshal, msgpack.Unmarshal},
	}
	for _, f := range formats {
		ours := func(local bool) func() (order, error) {
			opts := []cache.Option{cache.WithCodec(f.codec), cache.WithStrategy(strategy.TTL(life)), cache.WithTimeout(5 * time.Second)}
			if local {
				opts = append(opts, cache.WithStrategy(strategy.LRU(1000)))
			}
			c, err := cache.New[string, order](client(b, s), "decoded-"+f.name, opts...)
			must(b, err)
			b.Cleanup(func() { c.Close() })
			must(b, c.Set(ctx, "k", want))
			return func() (order, error) { return c.Get(ctx, "k") }
		}
		byHand := func() func() (order, error) {
			rdb := client(b, s)
			raw, err := f.marshal(&want)
			must(b, err)
			must(b, rdb.Set(ctx, "by-hand-"+f.name, raw, life).Err())
			return func() (o order, err error) {
				raw, err := rdb.Get(ctx, "by-hand-"+f.name).Bytes()
				if err == nil {
					err = f.unmarshal(raw, &o)
				}
				return o, err
			}
		}
		foreign := func(local bool) func() (order, error) {
			o := &rediscache.Options{Redis: client(b, s), Marshal: f.marshal, Unmarshal: f.unmarshal}
			if local {
				o.LocalCache = rediscache.NewTinyLFU(1000, life)
			}
			c := rediscache.New(o)
			must(b, c.Set(&rediscache.Item{Ctx: ctx, Key: "foreign-" + f.name, Value: &want, TTL: life}))
			return func() (o order, err error) {
				err = c.Get(ctx, "foreign-"+f.name, &o)
				return o, err
			}
		}
		for _, tier := range []string{"local", "redis"} {
			local := tier == "local"
			libs := []struct {
				name string
				get  func() (order, error)
			}{{"cache", ours(local)}, {"go-redis-cache", foreign(local)}}
			if !local {
				libs = append(libs, struct {
					name string
					get  func() (order, error)
				}{"go-redis", byHand()})
			}
			for _, lib := range libs {
				b.Run(param("tier", tier)+"/"+param("codec", f.name)+"/"+param("lib", lib.name), func(b *testing.B) {
					share(b, 1, func(from, to int) error {
						for range to - from {
							o, err := lib.get()
							if err != nil {
								return err
							}
							if o.ID != want.ID || len(o.Lines) != len(want.Lines) {
								return errOtherOrder
							}
						}
						return nil
					})
				})
			}
		}
	}
}
