package redisstore_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// In these tests the client itself waits without end. That a test comes to its own
// end at all shows that the Client did not.
const never = time.Hour

func patient(addr string, o redis.Options) *redis.Client {
	o.Addr, o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = addr, never, never, never, never
	o.MaxRetries, o.DialerRetries, o.MaintNotificationsConfig = -1, 1, noMaintenance()
	return redis.NewClient(&o)
}

// ends are the ways for a caller to stop waiting for a server that is silent.
var ends = []struct {
	name    string
	timeout time.Duration
	ctx     func(t *testing.T) context.Context
	ok      func(ctx context.Context, err error) bool
}{
	{
		"cancellation", never,
		func(t *testing.T) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			return ctx
		},
		func(_ context.Context, err error) bool { return err == context.Canceled },
	},
	{
		"deadline", never,
		func(t *testing.T) context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			t.Cleanup(cancel)
			return ctx
		},
		func(ctx context.Context, err error) bool { return err == context.DeadlineExceeded && ctx.Err() == err },
	},
	{
		"timeout", 10 * time.Millisecond,
		func(t *testing.T) context.Context { return t.Context() },
		timedOut,
	},
	{
		"timeout, without an end of the context", 10 * time.Millisecond,
		func(*testing.T) context.Context { return context.Background() },
		timedOut,
	},
	{
		"timeout before the deadline", 10 * time.Millisecond,
		func(t *testing.T) context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), never)
			t.Cleanup(cancel)
			return ctx
		},
		timedOut,
	},
}

func timedOut(ctx context.Context, err error) bool {
	var te *client.TimeoutError
	return errors.As(err, &te) && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
}

// leave has each operation of a Client end in one of the ways while the server says
// nothing.
func leave(t *testing.T, g *client.Client, ctx func(*testing.T) context.Context, ok func(context.Context, error) bool) {
	t.Helper()
	for name, op := range map[string]func(ctx context.Context) error{
		"get": func(ctx context.Context) error { _, err := g.Get(ctx, "k"); return err },
		"now": func(ctx context.Context) error { _, err := g.Now(ctx, "k"); return err },
		"pipe": func(ctx context.Context) error {
			return g.Do(ctx, []store.Command{{Key: "k"}, {Op: store.Delete, Key: "x"}})[1].Err
		},
		"big": func(ctx context.Context) error {
			// More than the kernel takes from a client whose server reads nothing.
			return g.Do(ctx, []store.Command{{Op: store.Set, Key: "big", Frame: make([]byte, 32<<20)}})[0].Err
		},
	} {
		c := ctx(t)
		if err := op(c); !ok(c, err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoCallerWaitsForAFrozenServer(t *testing.T) {
	for _, prompt := range []bool{false, true} {
		for _, connected := range []bool{false, true} {
			for _, end := range ends {
				t.Run(fmt.Sprintf("%s/prompt %v/connected %v", end.name, prompt, connected), func(t *testing.T) {
					t.Parallel()
					server := redistest.Start(t)
					cl := patient(server.Addr(), redis.Options{ContextTimeoutEnabled: prompt})
					t.Cleanup(func() { cl.Close() })
					st, err := redisstore.NewRedis(cl)
					if err != nil {
						t.Fatal(err)
					}
					g := client.New(st, end.timeout)
					if connected {
						if err := errors.Join(cl.Ping(t.Context()).Err(), firstError(cl.Pipelined(t.Context(), func(p redis.Pipeliner) error {
							p.Ping(t.Context())
							p.Ping(t.Context())
							return nil
						}))); err != nil {
							t.Fatal(err)
						}
					}
					if err := server.Freeze(); err != nil {
						t.Fatal(err)
					}
					leave(t, g, end.ctx, end.ok)
					if err := server.Thaw(); err != nil {
						t.Fatal(err)
					}
					g.Close() // returns when the last late answer has come

					// Late answers are not taken for those of later commands.
					plain := newReal(t, cl)
					for i := range 20 {
						key := fmt.Sprint("k", i)
						do(t, plain, store.Command{Op: store.Set, Key: key, Frame: []byte(key)})
						if r := do(t, plain, store.Command{Op: store.Get, Key: key}); string(r.Record.Raw) != key || r.Err != nil {
							t.Errorf("%s: %+v", key, r)
						}
					}
				})
			}
		}
	}
}

func firstError(_ []redis.Cmder, err error) error { return err }

func TestCloseWaitsForAnOperationLeftOnAFrozenServer(t *testing.T) {
	server := redistest.Start(t)
	cl := patient(server.Addr(), redis.Options{})
	t.Cleanup(func() { cl.Close() })
	st, err := redisstore.NewRedis(cl)
	if err != nil {
		t.Fatal(err)
	}
	g := client.New(st, 10*time.Millisecond)
	if err := errors.Join(cl.Ping(t.Context()).Err(), server.Freeze()); err != nil {
		t.Fatal(err)
	}
	set := []store.Command{{Op: store.Set, Key: "k", Frame: frame("late")}}
	if r := g.Do(t.Context(), set)[0]; !timedOut(t.Context(), r.Err) {
		t.Errorf("%+v", r)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		g.Close()
		// The command was on its way: it has been carried out by now.
		if raw, err := server.Client(t).Get(t.Context(), "k").Bytes(); string(raw) != string(frame("late")) {
			t.Errorf("Close did not wait: %q, %v", raw, err)
		}
	})
	if err := server.Thaw(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if r := g.Do(t.Context(), set)[0]; r.Err != client.ErrClosed {
		t.Errorf("after Close: %+v", r)
	}
}

// A host that accepts connections and never says anything, not even in the
// handshake of TLS, which go-redis carries out without the context.
func TestNoCallerWaitsForAHandshake(t *testing.T) {
	t.Parallel()
	for _, end := range ends {
		for _, prompt := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/prompt %v", end.name, prompt), func(t *testing.T) {
				silent, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				var mu sync.Mutex
				var conns []net.Conn
				wg.Go(func() {
					for {
						c, err := silent.Accept()
						if err != nil {
							return
						}
						mu.Lock()
						conns = append(conns, c)
						mu.Unlock()
					}
				})
				hangUp := func() {
					silent.Close()
					wg.Wait()
					for _, c := range conns {
						c.Close()
					}
				}
				cl := patient(silent.Addr().String(), redis.Options{ContextTimeoutEnabled: prompt, TLSConfig: &tls.Config{ServerName: "localhost", MinVersion: tls.VersionTLS12}})
				t.Cleanup(func() { cl.Close() })
				store, err := redisstore.NewRedis(cl)
				if err != nil {
					t.Fatal(err)
				}
				g := client.New(store, end.timeout)
				leave(t, g, end.ctx, end.ok)
				hangUp()
				g.Close()
			})
		}
	}
}
