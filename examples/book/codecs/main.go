// Values that can be read only with the key.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
)

// Patient has what must not stand in Redis in the clear.
type Patient struct {
	Name, Diagnosis string
}

func main() {
	ctx := context.Background()
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	rdb, err := cache.NewClient("redis://" + server.Addr())
	if err != nil {
		log.Fatal(err)
	}
	defer rdb.Close()

	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		log.Fatal(err)
	}
	patients, err := cache.New[string, Patient](rdb, "patients",
		cache.WithCodec(codec.Encrypted(codec.JSON(), key)))
	if err != nil {
		log.Fatal(err)
	}
	defer patients.Close()

	if err := patients.Set(ctx, "1", Patient{"Ada", "measles"}); err != nil {
		log.Fatal(err)
	}
	record, err := rdb.Get(ctx, patients.RedisKey("1")).Bytes()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("readable in Redis:", bytes.Contains(record, []byte("measles")))
	p, err := patients.Get(ctx, "1")
	fmt.Println(p, err)

	// A record that is moved to another key is not accepted there: it is a miss.
	if err := rdb.Set(ctx, patients.RedisKey("2"), record, 0).Err(); err != nil {
		log.Fatal(err)
	}
	_, err = patients.Get(ctx, "2")
	fmt.Println("a miss:", errors.Is(err, cache.ErrMiss))
}
