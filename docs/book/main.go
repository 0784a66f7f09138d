// Command book serves the documentation of the cache: the pages of docs in their order, with a
// search that needs no network. In a checkout, go run ./docs/serve starts it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/delqhi/cache/docs/book/site"
)

func main() {
	addr := flag.String("addr", "localhost:8090", "the address to listen on")
	root := flag.String("root", "../..", "the folder of the checkout")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *root, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "book:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and says where.
func run(ctx context.Context, out io.Writer, root, addr string) error {
	book, err := site.Load(root)
	if err != nil {
		return err
	}
	for _, broken := range book.Broken {
		fmt.Fprintln(os.Stderr, "book:", broken)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d pages at http://%s\n", len(book.Pages), listener.Addr())
	server := &http.Server{Handler: book.Handler(), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.Shutdown(closing); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
