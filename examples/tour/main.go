// Command tour shows what the cache does, with measured numbers, in front of a
// real source: the documentation of the standard library, parsed from the
// sources of the Go installation.
//
//	go run ./examples/tour                              on an embedded Redis
//	go run ./examples/tour -redis redis://localhost     on a server of yours
//
// It needs nothing but Go. On a server of yours it writes under a unique prefix, and removes
// its keys at the end; the connections that it breaks are its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

func main() {
	var f flags
	flag.StringVar(&f.redisURL, "redis", "", "`URL` of a Redis server, instead of the embedded one")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	err := run(ctx, os.Stdout, f)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

// flags are those of the command line.
type flags struct {
	redisURL string // "" for the embedded server
}

// run walks through the tour and writes it to w.
func run(ctx context.Context, w io.Writer, f flags) (err error) {
	t, err := open(ctx, f)
	if err != nil {
		return err
	}
	t.page.w = w
	defer func() {
		if e := t.close(ctx); err == nil {
			err = e
		}
	}()

	t.title()
	ctx = counted(ctx)
	for _, stop := range []func(context.Context) error{
		t.costOfARead,
		t.anotherProcess,
		t.batch,
		t.coalescing,
		t.negativeCaching,
		t.outage,
		t.inspect,
		t.writesAreSeen,
		t.tags,
		t.pattern,
		t.deaf,
		t.transports,
		t.metrics,
	} {
		if t.page.err != nil {
			break
		}
		if err := stop(ctx); err != nil {
			return err
		}
	}
	return t.page.err
}
