package redisstore_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// world is a store, and what others than the store do to and see of its keys.
type world interface {
	store.Store
	other(t *testing.T, key string)                        // gives the key another type
	look(t *testing.T, key string) (string, time.Duration) // what it holds, and its PTTL
	forget(t *testing.T)                                   // loses all scripts
}

type memory struct{ *storetest.Memory }

func (m memory) other(_ *testing.T, key string) { m.PutOther(key) }
func (m memory) forget(*testing.T)              {}

func (m memory) look(t *testing.T, key string) (string, time.Duration) {
	rec := m.Do(t.Context(), []store.Command{{Op: store.Get, Key: key}})[0].Record
	switch rec.State {
	case store.Missing:
		return "nothing", m.TTL(key)
	case store.WrongType:
		return "another type", m.TTL(key)
	}
	return "a string: " + string(rec.Raw), m.TTL(key)
}

type real struct {
	*redisstore.Redis
	c redis.UniversalClient
}

func newReal(t *testing.T, c redis.UniversalClient) real {
	t.Helper()
	store, err := redisstore.NewRedis(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return real{store, c}
}

func (r real) other(t *testing.T, key string) {
	t.Helper()
	ctx := t.Context()
	if err := errors.Join(r.c.Del(ctx, key).Err(), r.c.RPush(ctx, key, "x").Err()); err != nil {
		t.Fatal(err)
	}
}

func (r real) look(t *testing.T, key string) (string, time.Duration) {
	t.Helper()
	ctx := t.Context()
	d, err := r.c.PTTL(ctx, key).Result()
	if err != nil {
		t.Fatal(err)
	}
	if d < 0 { // go-redis gives these without their unit
		d *= time.Millisecond
	}
	switch raw, err := r.c.Get(ctx, key).Result(); {
	case err == redis.Nil:
		return "nothing", d
	case err == nil:
		return "a string: " + raw, d
	case strings.HasPrefix(err.Error(), "WRONGTYPE"):
		return "another type", d
	default:
		t.Fatal(err)
		return "", 0
	}
}

func (r real) forget(t *testing.T) {
	t.Helper()
	if err := onMasters(t.Context(), r.c, func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() }); err != nil {
		t.Fatal(err)
	}
}

func onMasters(ctx context.Context, c redis.UniversalClient, f func(context.Context, *redis.Client) error) error {
	switch c := c.(type) {
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, f)
	case *redis.Ring:
		return c.ForEachShard(ctx, f)
	}
	return f(ctx, c.(*redis.Client))
}

// eachOwn runs f on a miniredis, a server and a cluster that it may break, while other tests
// wait for theirs.
func eachOwn(t *testing.T, f func(t *testing.T, c redis.UniversalClient)) {
	t.Parallel()
	t.Run("miniredis", func(t *testing.T) {
		c := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), MaintNotificationsConfig: noMaintenance()})
		t.Cleanup(func() { c.Close() })
		f(t, c)
	})
	t.Run("redis", func(t *testing.T) { f(t, redistest.Start(t).Client(t)) })
	t.Run("cluster", func(t *testing.T) { f(t, redistest.StartCluster(t, 3).Client(t)) })
}

func noMaintenance() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// inMemory returns a miniredis that works inside a synctest bubble, and a client of
// it. Its clock is the bubble's.
func inMemory(t *testing.T) (*miniredis.Miniredis, *redis.Client) {
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	t.Cleanup(m.Close)
	c := redis.NewClient(&redis.Options{
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			c, err := m.Dial()
			return newRoomy(c), err
		},
		MaintNotificationsConfig: noMaintenance(),
	})
	t.Cleanup(func() { c.Close() })
	return m, c
}

// roomy is a connection in memory that takes all that is written, as a socket takes
// some: else a client that writes a long pipeline and a server that answers the
// beginning of it wait for each other.
type roomy struct {
	net.Conn
	mu     sync.Mutex
	buf    []byte
	more   chan struct{}
	closed chan struct{}
	close  func()
}

func newRoomy(c net.Conn) *roomy {
	r := &roomy{Conn: c, more: make(chan struct{}, 1), closed: make(chan struct{})}
	r.close = sync.OnceFunc(func() { close(r.closed) })
	go func() {
		for {
			select {
			case <-r.more:
			case <-r.closed:
				return
			}
			r.mu.Lock()
			buf := r.buf
			r.buf = nil
			r.mu.Unlock()
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	}()
	return r
}

func (r *roomy) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.buf = append(r.buf, p...)
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (r *roomy) SetDeadline(t time.Time) error    { return r.SetReadDeadline(t) }
func (r *roomy) SetWriteDeadline(time.Time) error { return nil }

func (r *roomy) Close() error {
	r.close()
	return r.Conn.Close()
}

// frame is what a key may hold: 40 bytes of one character.
func frame(c string) []byte { return []byte(strings.Repeat(c, 40)) }

// seal is what Reseal may put in place of its beginning.
func seal(c string) []byte { return frame(c)[:store.SealLen] }

func do(t *testing.T, s store.Store, c store.Command) store.Reply {
	t.Helper()
	return s.Do(t.Context(), []store.Command{c})[0]
}
