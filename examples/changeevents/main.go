// Command changeevents invalidates what has changed in a database, as the database's own log tells
// it: it reads events in the form of Debezium, one a line, and has no cache itself.
//
//	go run ./examples/changeevents            shows it on an embedded Redis, with events of its own
//	go run ./examples/changeevents -redis redis://localhost < events
//
// The events of the second form are what a consumer of a topic receives. After each batch it
// prints the number of events that Redis has acknowledged; there a consumer of Kafka would
// commit its offset.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
	"github.com/redis/go-redis/v9"
)

func main() {
	url := flag.String("redis", "", "`URL` of a Redis server; without it the program shows itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	if *url == "" {
		err = show(ctx, os.Stdout)
	} else {
		err = run(ctx, *url, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "changeevents:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url string, events io.Reader, out io.Writer) error {
	rdb, err := cache.NewClient(url)
	if err != nil {
		return err
	}
	defer rdb.Close()
	c, err := newConsumer(rdb)
	if err != nil {
		return err
	}
	defer c.close()
	return c.consume(ctx, events, func(n int) { fmt.Fprintln(out, n) })
}

// newConsumer has the routes of this program: the rows of one table are the values of one cache.
func newConsumer(rdb redis.UniversalClient) (*consumer, error) {
	users, err := invalidate.NewClient(rdb, "users", invalidate.Prefix("shop:"))
	if err != nil {
		return nil, err
	}
	failed := func(err error) { slog.Warn("invalidations wait", "error", err) }
	return &consumer{pause: time.Second, failed: failed, routes: map[string]route{
		"users": {client: users, column: "id", tags: func(row map[string]any) []string {
			if tenant, ok := row["tenant"].(string); ok && tenant != "" {
				return []string{"tenant:" + tenant}
			}
			return nil
		}},
	}}, nil
}

func (c *consumer) close() {
	for _, r := range c.routes {
		r.client.Close()
	}
}

// batchSize is the number of events that are handled together, at most.
const batchSize = 500

// consume handles all lines, in batches, and reports how many are done after each.
func (c *consumer) consume(ctx context.Context, events io.Reader, confirm func(n int)) error {
	lines := bufio.NewReader(events)
	for done := 0; ; {
		var batch [][]byte
		var end error
		for len(batch) < batchSize && end == nil {
			var line []byte
			line, end = lines.ReadBytes('\n')
			if len(line) > 0 {
				batch = append(batch, line)
			}
			if lines.Buffered() == 0 {
				break // what has come is not to wait for what may come
			}
		}
		if len(batch) > 0 {
			if err := c.handle(ctx, batch); err != nil {
				return fmt.Errorf("after %d events: %w", done, err)
			}
			done += len(batch)
			confirm(done)
		}
		if errors.Is(end, io.EOF) {
			return nil
		}
		if end != nil {
			return end
		}
	}
}
