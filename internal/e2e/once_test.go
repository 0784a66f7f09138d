package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache"
	"github.com/redis/go-redis/v9"
)

// losing is a network that loses the reply to a write of one key, once it is armed, after
// calling between.
type losing struct {
	key     []byte
	armed   atomic.Bool
	between func()
}

func (l *losing) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	return &losingConn{Conn: c, l: l}, err
}

type losingConn struct {
	net.Conn
	l    *losing
	hits bool
}

func (c *losingConn) Write(p []byte) (int, error) {
	c.hits = bytes.Contains(p, c.l.key) && !bytes.Contains(p, append([]byte("get\r\n$3\r\n"), c.l.key...)) && c.l.armed.CompareAndSwap(true, false)
	return c.Conn.Write(p)
}

func (c *losingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.hits {
		c.hits = false
		c.l.between()
		_ = c.Conn.Close()
		return 0, io.EOF
	}
	return n, err
}

// With a client that is configured to retry, as go-redis's is by default, a write whose
// reply is lost is an error, and neither overwrites what was acknowledged to others
// meanwhile nor is applied twice.
func TestNoWriteIsAppliedTwice(t *testing.T) {
	clients := map[string]func(addr string, l *losing) redis.UniversalClient{
		"server": func(addr string, l *losing) redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: addr, Dialer: l.dial})
		},
		"cluster": func(addr string, l *losing) redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}, Dialer: l.dial})
		},
	}
	inc := func(old int, _ bool) (int, error) { return old + 1, nil }
	writes := map[string]struct {
		write func(*cache.Cache[string, int]) error
		other func(*cache.Cache[string, int]) error
		want  int
	}{
		"Set": {
			func(c *cache.Cache[string, int]) error { return c.Set(context.Background(), "k", 1) },
			func(c *cache.Cache[string, int]) error { return c.Set(context.Background(), "k", 2) }, 2,
		},
		"SetMany": {
			func(c *cache.Cache[string, int]) error {
				return c.SetMany(context.Background(), map[string]int{"k": 1})
			},
			func(c *cache.Cache[string, int]) error { return c.Set(context.Background(), "k", 2) }, 2,
		},
		"Update": {
			func(c *cache.Cache[string, int]) error {
				_, err := c.Update(context.Background(), "k", inc)
				return err
			},
			func(c *cache.Cache[string, int]) error {
				_, err := c.Update(context.Background(), "k", inc)
				return err
			}, 12,
		},
		"Delete": {
			func(c *cache.Cache[string, int]) error { return c.Delete(context.Background(), "k") },
			func(c *cache.Cache[string, int]) error { return c.Set(context.Background(), "k", 2) }, 2,
		},
		"Invalidate": {
			func(c *cache.Cache[string, int]) error { return c.Invalidate(context.Background(), "k") },
			func(c *cache.Cache[string, int]) error { return c.Set(context.Background(), "k", 2) }, 2,
		},
	}
	for kind, client := range clients {
		for name, w := range writes {
			t.Run(kind+"/"+name, func(t *testing.T) {
				m := miniredis.RunT(t)
				l := &losing{key: []byte("n:k\r\n")}
				rdb, direct := client(m.Addr(), l), client(m.Addr(), &losing{})
				t.Cleanup(func() { rdb.Close(); direct.Close() })
				open := func(rdb redis.UniversalClient) *cache.Cache[string, int] {
					c, err := cache.New[string, int](rdb, "n", discard, slowly)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { c.Close() })
					return c
				}
				mine, theirs := open(rdb), open(direct)
				ctx := t.Context()
				// The script is known, and a connection there.
				for range 2 {
					if _, err := mine.Update(ctx, "k", inc); err != nil {
						t.Fatal(err)
					}
				}
				if err := mine.Set(ctx, "k", 10); err != nil {
					t.Fatal(err)
				}
				l.between = func() {
					if err := w.other(theirs); err != nil {
						t.Error(err)
					}
				}
				l.armed.Store(true)
				if err := w.write(mine); !errors.Is(err, cache.ErrUnavailable) {
					t.Errorf("the write whose reply was lost: %v", err)
				}
				if l.armed.Load() {
					t.Fatal("no reply was lost")
				}
				if err := mine.Sync(ctx); err != nil {
					t.Fatal(err)
				}
				// What Redis is told later may take it away, and never brings back anything older.
				if v, err := theirs.Get(ctx, "k"); v != w.want && !errors.Is(err, cache.ErrMiss) {
					t.Errorf("it is %d, %v, and was %d", v, err, w.want)
				}
			})
		}
	}
}
