package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
)

// shown are events of a table of users: one is renamed, one moves from one tenant to another.
const shown = `{"schema":{},"payload":{"op":"u","before":{"id":42,"name":"Ada","tenant":"acme"},"after":{"id":42,"name":"Grace","tenant":"acme"},"source":{"table":"users"}}}
{"op":"u","before":{"id":43,"name":"Edith","tenant":"old"},"after":{"id":43,"name":"Edith","tenant":"new"},"source":{"table":"users"}}
null
{"op":"c","after":{"id":1},"source":{"table":"orders"}}
`

// show has a cache in Redis, as other processes have it, and a consumer beside it.
func show(ctx context.Context, out io.Writer) error {
	server, err := miniredis.Run()
	if err != nil {
		return err
	}
	defer server.Close()
	rdb, err := cache.NewClient("redis://" + server.Addr())
	if err != nil {
		return err
	}
	defer rdb.Close()
	users, err := cache.New[int64, string](rdb, "users", cache.WithPrefix("shop:"))
	if err != nil {
		return err
	}
	defer users.Close()
	for id, tenant := range map[int64]string{42: "acme", 43: "old", 44: "old", 45: "other"} {
		if err := users.Set(ctx, id, "a user of "+tenant, cache.Tags("tenant:"+tenant)); err != nil {
			return err
		}
	}
	c, err := newConsumer(rdb)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.consume(ctx, strings.NewReader(shown), func(n int) { fmt.Fprintln(out, n, "events") }); err != nil {
		return err
	}
	left, err := users.GetMany(ctx, []int64{42, 43, 44, 45})
	fmt.Fprintln(out, "still in the cache:", left)
	return err
}
