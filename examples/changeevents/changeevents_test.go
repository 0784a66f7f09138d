package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m)
}

func Example() {
	if err := show(context.Background(), os.Stdout); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 4 events
	// still in the cache: map[45:a user of other]
}

// bed is a Redis with a cache and a consumer.
func bed(t *testing.T) (*miniredis.Miniredis, *cache.Cache[int64, string], *consumer) {
	server := miniredis.RunT(t)
	rdb, err := cache.NewClient("redis://" + server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rdb.Close() })
	users, err := cache.New[int64, string](rdb, "users", cache.WithPrefix("shop:"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { users.Close() })
	c, err := newConsumer(rdb)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	c.pause, c.failed = time.Millisecond, func(error) {}
	return server, users, c
}

func TestWhatAnEventInvalidates(t *testing.T) {
	for what, c := range map[string]struct{ event, left string }{
		"an insertion":                  {`{"op":"c","after":{"id":1},"source":{"table":"users"}}`, "2 3"},
		"a deletion":                    {`{"op":"d","before":{"id":1},"source":{"table":"users"}}`, "2 3"},
		"a new key":                     {`{"op":"u","before":{"id":1},"after":{"id":2},"source":{"table":"users"}}`, "3"},
		"a snapshot":                    {`{"op":"r","after":{"id":3},"source":{"table":"users"}}`, "1 2"},
		"a tag":                         {`{"op":"c","after":{"id":9,"tenant":"b"},"source":{"table":"users"}}`, "1"},
		"a truncation":                  {`{"op":"t","source":{"table":"users"}}`, ""},
		"another table":                 {`{"op":"t","source":{"table":"orders"}}`, "1 2 3"},
		"a tombstone":                   {`null`, "1 2 3"},
		"a tombstone in its envelope":   {`{"schema":{},"payload":null}`, "1 2 3"},
		"a heartbeat":                   {`{"ts_ms":1}`, "1 2 3"},
		"an envelope":                   {`{"schema":{"type":"struct"},"payload":{"op":"d","before":{"id":2},"source":{"table":"users"}}}`, "1 3"},
		"a number beyond that of float": {`{"op":"d","before":{"id":9007199254740993},"source":{"table":"users"}}`, "1 2 3"},
	} {
		t.Run(what, func(t *testing.T) {
			_, users, consumer := bed(t)
			for id, tenant := range map[int64]string{1: "a", 2: "b", 3: "b", 9007199254740992: "c"} {
				if err := users.Set(t.Context(), id, "", cache.Tags("tenant:"+tenant)); err != nil {
					t.Fatal(err)
				}
			}
			if err := consumer.handle(t.Context(), [][]byte{[]byte(c.event)}); err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, id := range []int64{1, 2, 3} {
				if _, err := users.Peek(t.Context(), id); err == nil {
					left = append(left, fmt.Sprint(id))
				}
			}
			if got := strings.Join(left, " "); got != c.left {
				t.Errorf("left %q, want %q", got, c.left)
			}
			if _, err := users.Peek(t.Context(), 9007199254740992); err != nil && what != "a truncation" {
				t.Error("a key beside it was invalidated")
			}
		})
	}
}

func TestABadEventStopsTheConsumer(t *testing.T) {
	_, users, c := bed(t)
	if err := users.Set(t.Context(), 1, ""); err != nil {
		t.Fatal(err)
	}
	for _, event := range []string{
		`{`, `[]`, `{"op":"x","source":{"table":"users"}}`, `{"op":"u","after":{"id":1}}`, `{"op":"u","source":{"table":"users"}}`,
		`{"op":"u","after":{"name":"Ada"},"source":{"table":"users"}}`, `{"op":"u","after":{"id":1.5},"source":{"table":"users"}}`,
	} {
		confirmed := 0
		err := c.consume(t.Context(), strings.NewReader(`{"op":"d","before":{"id":1},"source":{"table":"users"}}`+"\n"+event), func(n int) { confirmed = n })
		if err == nil || confirmed != 0 {
			t.Errorf("%s: %v, %d confirmed", event, err, confirmed)
		}
	}
	if _, err := users.Peek(t.Context(), 1); err != nil {
		t.Error("a part of a batch was applied")
	}
}

// A position is confirmed only after Redis has acknowledged.
func TestNothingIsConfirmedWhileRedisIsAway(t *testing.T) {
	server, _, c := bed(t)
	server.SetError("LOADING it starts")
	failures := make(chan error)
	over := make(chan struct{})
	c.failed = func(err error) {
		select {
		case failures <- err:
		case <-over:
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	confirmed, ended := make(chan int, 1), make(chan error, 1)
	go func() {
		ended <- c.consume(ctx, strings.NewReader(`{"op":"d","before":{"id":1},"source":{"table":"users"}}`), func(n int) { confirmed <- n })
	}()
	for range 3 {
		if err := <-failures; !errors.Is(err, cache.ErrUnavailable) {
			t.Error(err)
		}
	}
	select {
	case n := <-confirmed:
		t.Fatalf("%d events were confirmed", n)
	default:
	}
	server.SetError("")
	close(over)
	if n := <-confirmed; n != 1 {
		t.Errorf("%d events", n)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	server.SetError("LOADING it starts")
	cancel()
	err := c.consume(ctx, strings.NewReader(`{"op":"d","before":{"id":1},"source":{"table":"users"}}`), func(int) { t.Error("confirmed") })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range strings.Split(shown, "\n") {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		e, ok, err := parse(value)
		if ok && (err != nil || e.Source.Table == "") {
			t.Errorf("%q is an event: %+v, %v", value, e, err)
		}
		if ok {
			c := &consumer{routes: map[string]route{e.Source.Table: {column: "id"}}}
			_ = c.add(map[string]*work{}, e)
		}
	})
}
