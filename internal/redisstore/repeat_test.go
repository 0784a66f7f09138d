package redisstore_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// scissors cut a connection after the server has carried out what was sent, and
// before the client has seen the answer.
type scissors struct {
	armed atomic.Bool
	cuts  atomic.Int32
}

func (s *scissors) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	return &cuttable{conn, s}, err
}

type cuttable struct {
	net.Conn
	s *scissors
}

func (c *cuttable) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.s.armed.CompareAndSwap(true, false) {
		c.s.cuts.Add(1)
		_ = c.Conn.Close()
		return 0, io.EOF
	}
	return n, err
}

// retrying returns a client of b that sends again what was not answered, and what
// makes it do so.
func retrying(t *testing.T, b *redistest.Backend) (redis.UniversalClient, *scissors) {
	s := new(scissors)
	switch c := b.Client.(type) {
	case *redis.ClusterClient:
		o := *c.Options()
		o.Dialer, o.MaxRedirects = s.dial, 3
		cc := redis.NewClusterClient(&o)
		t.Cleanup(func() { cc.Close() })
		return cc, s
	case *redis.Client:
		o := redis.Options{Addr: c.Options().Addr, Dialer: s.dial, MaxRetries: 1, MaintNotificationsConfig: noMaintenance()}
		sc := redis.NewClient(&o)
		t.Cleanup(func() { sc.Close() })
		return sc, s
	}
	t.Fatalf("a %T", b.Client)
	return nil, nil
}

// What an attempt recognises is its own token: another attempt for the same key
// is not taken for it.
func TestOnlyTheSameAttemptRecognisesItself(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for _, st := range []world{newReal(t, b.Client), memory{storetest.NewMemory()}} {
			key := b.Prefix + "k"
			for i, c := range []struct {
				cmd store.Command
				ok  bool
			}{
				{store.Command{Op: store.SetNX, Frame: frame("1")}, true},
				{store.Command{Op: store.SetNX, Frame: frame("1")}, true},
				{store.Command{Op: store.SetNX, Frame: frame("2")}, false},
				{store.Command{Op: store.CompareAndSet, Frame: frame("2"), Seen: store.TokenOf(frame("1"))}, true},
				{store.Command{Op: store.CompareAndSet, Frame: frame("2"), Seen: store.TokenOf(frame("1"))}, true},
				{store.Command{Op: store.CompareAndSet, Frame: frame("3"), Seen: store.TokenOf(frame("1"))}, false},
				// Too short to have an id: nothing tells one attempt from another.
				{store.Command{Op: store.CompareAndSet, Frame: []byte("s"), Seen: store.TokenOf(frame("2"))}, true},
				{store.Command{Op: store.CompareAndSet, Frame: []byte("s"), Seen: store.TokenOf(frame("2"))}, false},
				{store.Command{Op: store.SetNX, Frame: []byte("s")}, false},
			} {
				c.cmd.Key, c.cmd.TTL = key, time.Minute
				if r := do(t, st, c.cmd); r.OK != c.ok || r.Err != nil {
					t.Errorf("%T, step %d: %+v", st, i, r)
				}
			}
		}
	})
}

// Among commands on one key that go together, a node without the scripts must not
// carry out the plain ones first.
func TestCommandsOnOneKeyKeepTheirOrder(t *testing.T) {
	eachOwn(t, func(t *testing.T, c redis.UniversalClient) {
		st := newReal(t, c)
		a, b := store.TokenOf(frame("a")), store.TokenOf(frame("b"))
		for name, cmds := range map[string][]store.Command{
			"release, add":        {{Op: store.CompareAndDelete, Seen: a}, {Op: store.SetNX, Frame: frame("c")}},
			"swap, get":           {{Op: store.CompareAndSet, Seen: a, Frame: frame("c")}, {Op: store.Get}},
			"swap, swap, release": {{Op: store.CompareAndSet, Seen: a, Frame: frame("b")}, {Op: store.CompareAndSet, Seen: b, Frame: frame("c")}, {Op: store.CompareAndDelete, Seen: store.TokenOf(frame("c"))}},
			"extend, set":         {{Op: store.Extend, Seen: a, TTL: time.Hour}, {Op: store.Set, Frame: frame("c")}},
			"swap, delete, add":   {{Op: store.CompareAndSet, Seen: a, Frame: frame("b")}, {Op: store.Delete}, {Op: store.SetNX, Frame: frame("c")}},
		} {
			t.Run(name, func(t *testing.T) {
				model := memory{storetest.NewMemory()}
				// Other keys in between, on other nodes too.
				var all []store.Command
				for i := range 5 {
					for _, c := range cmds {
						c.Key = fmt.Sprint(name, i)
						all = append(all, c)
					}
				}
				for _, s := range []world{model, st} {
					for i := range 5 {
						do(t, s, store.Command{Op: store.Set, Key: fmt.Sprint(name, i), Frame: frame("a")})
					}
				}
				st.forget(t)
				want, got := model.Do(t.Context(), all), st.Do(t.Context(), all)
				for i, c := range all {
					if !reflect.DeepEqual(want[i], got[i]) {
						t.Errorf("%v: %+v instead of %+v", c.Op, got[i], want[i])
					}
					w, _ := model.look(t, c.Key)
					if g, _ := st.look(t, c.Key); g != w {
						t.Errorf("%s holds %s instead of %s", c.Key, g, w)
					}
				}
			})
		}
	})
}

// An error of the read in a script is an error, not a key that has changed.
func TestAUserWhoMayNotCompareGetsAnError(t *testing.T) {
	server := redistest.Start(t, redistest.ACL("app on >secret ~* +@all -getrange -get"))
	o := server.Options()
	o.Username, o.Password = "app", "secret"
	client := redis.NewClient(o)
	t.Cleanup(func() { client.Close() })
	st := newReal(t, client)
	for _, seen := range []store.CASToken{store.TokenOf(frame("a")), store.TokenOf([]byte("short")), {State: store.WrongType}} {
		for _, c := range []store.Command{
			{Op: store.CompareAndSet, Frame: frame("b"), TTL: time.Minute}, {Op: store.CompareAndDelete}, {Op: store.Extend, TTL: time.Minute},
			{Op: store.PatchHeader, Frame: seal("b")}, {Op: store.GetHeader},
		} {
			c.Key, c.Seen = "k", seen
			do(t, st, store.Command{Op: store.Set, Key: "k", Frame: frame("a")})
			if r := do(t, st, c); r.Err == nil || r.OK {
				t.Errorf("%v over %+v: %+v", c.Op, seen, r)
			}
		}
	}
}
