// The webapp is a small shop: an HTTP service with an SQL database behind the
// cache, and what an operator looks at. It runs two instances of itself, as two
// machines would run them, on one Redis and one database:
//
//	go run .                                   # with an embedded Redis
//	go run . -redis redis://localhost:6379     # with a real one
//
// Then open http://localhost:8080/both: a price that is changed in one instance is
// seen in the other, though both answer from their own memory.
//
// Where to look for what:
//
//	main.go      the flags, the two servers and how they end
//	shop.go      the caches: loads, tags, and changes that reach them by an outbox
//	store.go     the database, and the outbox in it
//	handlers.go  the routes
//
// Each instance has the dashboard at /debug/cache/ and Prometheus at /metrics.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
)

type flags struct {
	addr      string // of the first instance; the others have the next ports
	instances int
	redis     string // "": embedded
	db        string // "": one of its own, deleted at the end
	log       *slog.Logger
}

func main() {
	f := flags{log: slog.Default()}
	flag.StringVar(&f.addr, "addr", "localhost:8080", "`address` of the first instance; the others have the next ports")
	flag.IntVar(&f.instances, "instances", 2, "how many to run")
	flag.StringVar(&f.redis, "redis", "", "`URL` of a Redis; without it one is embedded")
	flag.StringVar(&f.db, "db", "", "`file` of the database; without it there is a new one, deleted at the end")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := start(ctx, f)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i, url := range s.urls {
		fmt.Printf("instance %s   %s   dashboard %s/debug/cache/   Prometheus %s/metrics\n", instanceName(i), url, url, url)
	}
	fmt.Printf("\nboth together: %s/both\n", s.urls[0])
	<-ctx.Done()
	s.close()
}

// site is all that runs.
type site struct {
	urls    []string
	cleanup []func() // run in reverse order by close
}

// close ends everything, the newest first.
func (s *site) close() {
	for i := len(s.cleanup) - 1; i >= 0; i-- {
		s.cleanup[i]()
	}
	s.cleanup = nil
}

// start runs the instances. Nothing is left behind if it fails.
func start(ctx context.Context, f flags) (_ *site, err error) {
	s := &site{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if f.redis == "" {
		if f.redis, err = s.embedRedis(); err != nil {
			return nil, err
		}
	}
	if f.db == "" {
		dir, err := os.MkdirTemp("", "webapp")
		if err != nil {
			return nil, err
		}
		s.cleanup = append(s.cleanup, func() { _ = os.RemoveAll(dir) })
		f.db = filepath.Join(dir, "shop.db")
	}
	listeners, err := listen(f.addr, f.instances)
	if err != nil {
		return nil, err
	}
	for _, l := range listeners {
		s.urls = append(s.urls, "http://"+strings.Replace(l.Addr().String(), "127.0.0.1", "localhost", 1))
	}
	for i, l := range listeners {
		if err := s.serve(ctx, f, i, l); err != nil {
			for _, l := range listeners[i:] {
				_ = l.Close()
			}
			return nil, err
		}
	}
	return s, nil
}

func instanceName(i int) string { return string(rune('A' + i)) }

// listen opens the address and those with the next ports; with port 0 any ones.
func listen(addr string, n int) ([]net.Listener, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := net.LookupPort("tcp", service)
	if err != nil {
		return nil, err
	}
	if n < 1 || n > 26 {
		return nil, fmt.Errorf("%d instances: from 1 to 26 can be run", n)
	}
	var all []net.Listener
	for i := range n {
		at := port
		if port != 0 {
			at = port + i
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(at)))
		if err != nil {
			for _, l := range all {
				_ = l.Close()
			}
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// serve runs one instance, with a client and a database handle of its own: nothing but
// Redis and the database connects it with the others.
func (s *site) serve(ctx context.Context, f flags, i int, l net.Listener) error {
	db, err := openStore(ctx, f.db)
	if err != nil {
		return err
	}
	s.cleanup = append(s.cleanup, func() { _ = db.close() })
	rdb, err := cache.NewClient(f.redis)
	if err != nil {
		return err
	}
	s.cleanup = append(s.cleanup, func() { _ = rdb.Close() })
	log := f.log.With("instance", instanceName(i))
	shop, err := newShop(rdb, db, log)
	if err != nil {
		return err
	}
	s.cleanup = append(s.cleanup, shop.close)
	relaying, unrelay := context.WithCancel(context.Background())
	var relay sync.WaitGroup
	relay.Go(func() {
		if err := shop.relay.Run(relaying); relaying.Err() == nil {
			log.Error("the relay has ended", "error", err)
		}
	})
	s.cleanup = append(s.cleanup, func() { unrelay(); relay.Wait() })
	h, err := newHandler(shop, instanceName(i), s.urls, log)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	srv.RegisterOnShutdown(h.dashboard.Close) // whose streams would go on

	// So that the dashboard has a history from the start.
	watching, unwatch := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.dashboard.Watch(watching) })
	running.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.log.Error("an instance has ended", "error", err)
		}
	})
	s.cleanup = append(s.cleanup, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close()
		}
		unwatch()
		running.Wait()
	})
	return nil
}

// embedRedis starts a Redis in this process. Its lives end only if it is told how much
// time has passed.
func (s *site) embedRedis() (url string, err error) {
	embedded, err := miniredis.Run()
	if err != nil {
		return "", fmt.Errorf("start the embedded Redis: %w", err)
	}
	stop := make(chan struct{})
	var aging sync.WaitGroup
	aging.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case now := <-tick.C:
				embedded.FastForward(now.Sub(last))
				last = now
			case <-stop:
				return
			}
		}
	})
	s.cleanup = append(s.cleanup, func() {
		close(stop)
		aging.Wait()
		embedded.Close()
	})
	return "redis://" + embedded.Addr(), nil
}
