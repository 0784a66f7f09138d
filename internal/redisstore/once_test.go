package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// lossy connections lose a reply: they break after the server has executed what was sent,
// and count what is sent of it again.
type lossy struct {
	mu       sync.Mutex
	about    []byte // the next reply to what contains this is lost; nil: none
	lost     []byte // what was last lost was about this
	between  func() // called between the execution and the loss
	repeated int
}

func (l *lossy) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	return &lossyConn{Conn: conn, l: l}, err
}

func (l *lossy) lose(about string, between func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.about, l.lost, l.between, l.repeated = []byte(about), nil, between, 0
}

func (l *lossy) outcome() (lost bool, repeated int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost != nil, l.repeated
}

type lossyConn struct {
	net.Conn
	l   *lossy
	hit bool
}

func (c *lossyConn) Write(p []byte) (int, error) {
	c.l.mu.Lock()
	switch {
	case c.l.lost != nil && bytes.Contains(p, c.l.lost):
		c.l.repeated++
	case c.l.about != nil && bytes.Contains(p, c.l.about):
		c.hit, c.l.lost, c.l.about = true, c.l.about, nil
	}
	c.l.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *lossyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.hit {
		c.hit = false
		c.l.between()
		_ = c.Conn.Close()
		return 0, io.EOF
	}
	return n, err
}

// losing returns a client of b that repeats what it may, and is lossy.
func losing(t *testing.T, b *redistest.Backend) (redis.UniversalClient, *lossy) {
	t.Helper()
	l := &lossy{}
	var rdb redis.UniversalClient
	switch c := b.Client.(type) {
	case *redis.ClusterClient:
		o := *c.Options()
		o.Dialer, o.MaxRedirects, o.MaxRetries = l.dial, 3, 3
		rdb = redis.NewClusterClient(&o)
	case *redis.Client:
		rdb = redis.NewClient(&redis.Options{Addr: c.Options().Addr, Dialer: l.dial, MaxRetries: 3, MaintNotificationsConfig: noMaintenance()})
	default:
		t.Fatalf("a %T", b.Client)
	}
	t.Cleanup(func() { rdb.Close() })
	return rdb, l
}

// What another process has written after a command was executed stays, though the reply to
// the command is lost: the command is not executed twice.
func TestALostReplyOfAWriteIsAnError(t *testing.T) {
	old := store.TokenOf(frame("o"))
	commands := map[string]struct {
		before bool // there is an old record
		cmd    store.Command
	}{
		"set":                {true, store.Command{Op: store.Set, Frame: frame("n")}},
		"set with a life":    {true, store.Command{Op: store.Set, Frame: frame("n"), TTL: time.Minute}},
		"delete":             {true, store.Command{Op: store.Delete}},
		"set_nx":             {false, store.Command{Op: store.SetNX, Frame: frame("n")}},
		"add with a life":    {false, store.Command{Op: store.SetNX, Frame: frame("n"), TTL: time.Minute}},
		"swap of nothing":    {false, store.Command{Op: store.CompareAndSet, Frame: frame("n")}},
		"swap of a record":   {true, store.Command{Op: store.CompareAndSet, Frame: frame("n"), Seen: old}},
		"compare_and_delete": {true, store.Command{Op: store.CompareAndDelete, Seen: old}},
		"extend":             {true, store.Command{Op: store.Extend, Seen: old, TTL: time.Minute}},
		"adopt":              {true, store.Command{Op: store.Adopt, Seen: old, TTL: time.Minute}},
		"patch_header":       {true, store.Command{Op: store.PatchHeader, Frame: seal("n"), Seen: old}},
		"reseal for a time":  {true, store.Command{Op: store.PatchHeader, Frame: seal("n"), Seen: old, TTL: time.Minute}},
	}
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		client, lossy := losing(t, b)
		st, others := newReal(t, client), newReal(t, b.Client)
		for name, tt := range commands {
			for n := range 6 { // alone and in a pipeline, telling and not
				n, tells := 1+n/2, n%2 == 1
				t.Run(fmt.Sprintf("%s/%d/tells %v", name, n, tells), func(t *testing.T) {
					cmds := make([]store.Command, n)
					for i := range cmds {
						cmds[i] = tt.cmd
						cmds[i].Key = fmt.Sprintf("%s{same}once:%s%v%d%d", b.Prefix, name, tells, n, i) // on one node of a cluster
						if tells {
							cmds[i].Notify = store.Notify{Channel: b.Prefix + "news", Message: "m"}
						}
					}
					st.Do(t.Context(), cmds) // connect, and have the node learn the script
					for _, c := range cmds {
						others.c.Del(t.Context(), c.Key)
						if tt.before {
							do(t, others, store.Command{Op: store.Set, Key: c.Key, Frame: frame("o")})
						}
					}
					lossy.lose(cmds[0].Key, func() {
						for _, c := range cmds {
							if err := others.c.Set(context.Background(), c.Key, "newer", 0).Err(); err != nil {
								t.Error(err)
							}
						}
					})
					for i, r := range st.Do(t.Context(), cmds) {
						if r.Err == nil {
							t.Errorf("%d: %+v, though the reply was lost", i, r)
						}
						// Of a pipeline, miniredis answers the first command before it executes the next.
						if got, _ := others.look(t, cmds[i].Key); i == 0 && got != "a string: newer" {
							t.Errorf("%d: it holds %s", i, got)
						}
					}
					if lost, repeated := lossy.outcome(); !lost || repeated > 0 {
						t.Errorf("a reply was lost: %v; commands were repeated %d times", lost, repeated)
					}
				})
			}
		}
	})
}

// Whatever else changes something is not repeated either, unless it makes no difference.
func TestOnlyWhatDoesNoHarmIsRepeated(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		client, lossy := losing(t, b)
		st := newReal(t, client)
		names := store.NewNames(b.Prefix, "once")
		q := store.QueueNames{Log: b.Prefix + "{q}log", Pending: b.Prefix + "{q}pending", Owner: b.Prefix + "{q}owner", Dead: b.Prefix + "{q}dead", DeadIndex: b.Prefix + "{q}graves", From: b.Prefix + "{q}from"}
		tell := store.Notify{Channel: b.Prefix + "{q}news", Message: "m"}
		count := int64(0)
		tests := map[string]struct {
			about string
			do    func(context.Context) error
			again bool
		}{
			"get": {b.Prefix + "k", func(ctx context.Context) error {
				return st.Do(ctx, []store.Command{{Op: store.Get, Key: b.Prefix + "k"}})[0].Err
			}, true},
			"get_header": {b.Prefix + "k", func(ctx context.Context) error {
				return st.Do(ctx, []store.Command{{Op: store.GetHeader, Key: b.Prefix + "k"}})[0].Err
			}, true},
			"read_clock": {names.Epoch, func(ctx context.Context) error {
				_, err := st.ReadClock(ctx, names, logicalclock.Known{}, nil)
				return err
			}, false},
			"add_tombstones": {names.Epoch, func(ctx context.Context) error {
				_, err := st.AddTombstones(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{})
				return err
			}, false},
			"publish": {tell.Channel, func(ctx context.Context) error { return st.Publish(ctx, tell) }, false},
			"append": {q.Log, func(ctx context.Context) error {
				count++
				_, err := st.Append(ctx, q, store.Append{Sender: "s", Seq: count, Max: 10, Writes: []store.Write{{Key: "k", Value: []byte("v")}}})
				return err
			}, true}, // which the sender's count tells from another
			"hold": {q.Log, func(ctx context.Context) error { _, err := st.Acquire(ctx, q, "o", time.Minute, false); return err }, false},
		}
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				if err := tt.do(t.Context()); err != nil { // connect, and have the node learn the script
					t.Fatal(err)
				}
				lossy.lose(tt.about, func() {})
				err := tt.do(t.Context())
				lost, repeated := lossy.outcome()
				if !lost || (err == nil) != tt.again || (repeated > 0) != tt.again {
					t.Errorf("a reply was lost: %v; it was repeated %d times: %v", lost, repeated, err)
				}
			})
		}
	})
}

// passing makes a miniredis refuse commands, and accept them once it has refused so many.
type passing struct {
	m      *miniredis.Miniredis
	mu     sync.Mutex
	prefix []byte
	left   int
}

func (p *passing) refuse(text string, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prefix, p.left = []byte("-"+text), times
	p.m.SetError(text)
}

func (p *passing) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	return &passingConn{Conn: conn, p: p}, err
}

type passingConn struct {
	net.Conn
	p     *passing
	about atomic.Bool // the last request names the test's key: other refusals don't count
}

// Write notes what a refusal would be about: a cluster client opens connections and asks for the
// cluster's state in the background, at any time.
func (c *passingConn) Write(b []byte) (int, error) {
	c.about.Store(bytes.Contains(b, []byte("{k}")))
	return c.Conn.Write(b)
}

func (c *passingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.p.left > 0 && c.about.Load() && bytes.HasPrefix(b[:n], c.p.prefix) {
		if c.p.left--; c.p.left == 0 {
			c.p.m.SetError("")
		}
	}
	return n, err
}

// What a server has refused for a moment was not executed: it is sent again, as often as
// the client is configured to.
func TestARefusalThatPassesIsWaitedFor(t *testing.T) {
	t.Parallel()
	key := "{k}"
	tell := store.Notify{Channel: key + "news", Message: "m"}
	calls := map[string][]store.Command{
		"set":               {{Op: store.Set, Key: key, Frame: frame("n")}},
		"set that tells":    {{Op: store.Set, Key: key, Frame: frame("n"), Notify: tell}},
		"set_nx":            {{Op: store.SetNX, Key: key, Frame: frame("n"), Notify: tell}},
		"many":              {{Op: store.Set, Key: key, Frame: frame("n"), Notify: tell}, {Op: store.Delete, Key: key + "1"}, {Op: store.Set, Key: key + "2", Frame: frame("n")}},
		"a compare-and-set": {{Op: store.CompareAndSet, Key: key, Seen: store.TokenOf(frame("o")), Frame: frame("n")}},
	}
	for _, text := range []string{
		"LOADING Redis is loading the dataset in memory", "TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN The cluster is down",
		"MASTERDOWN Link with MASTER is down", "READONLY You can't write against a read only replica.", "NOREPLICAS Not enough good replicas to write.",
	} {
		prefix, _, _ := strings.Cut(text, " ")
		for _, retries := range []int{-1, 3} {
			t.Run(fmt.Sprintf("%s/%d", prefix, retries), func(t *testing.T) {
				m := miniredis.RunT(t)
				p := &passing{m: m}
				single := redis.NewClient(&redis.Options{Addr: m.Addr(), Dialer: p.dial, MaxRetries: retries, MaintNotificationsConfig: noMaintenance()})
				cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{m.Addr()}, Dialer: p.dial, MaxRedirects: retries, MaintNotificationsConfig: noMaintenance()})
				for kind, c := range map[string]redis.UniversalClient{"single": single, "cluster": cluster} {
					defer c.Close()
					store := newReal(t, c)
					for name, cmds := range calls {
						store.Do(t.Context(), cmds) // connect, and have the server learn the script
						m.Set(key, string(frame("o")))
						if name == "set_nx" {
							m.Del(key)
						}
						p.refuse(text, 1)
						for i, r := range store.Do(t.Context(), cmds) {
							if refused := redis.HasErrorPrefix(r.Err, prefix); i == 0 && r.OK != (retries > 0) || !r.OK && !refused {
								t.Errorf("%s, %s: %d: %+v", kind, name, i, r)
							}
						}
						m.SetError("")
						if got, _ := m.Get(key); retries > 0 && got != string(frame("n")) {
							t.Errorf("%s, %s: it holds %q", kind, name, got)
						}
					}
				}
			})
		}
	}
}

// A refusal that says no for good, or nothing, is the answer.
func TestWhatDoesNotPassIsNotSentAgain(t *testing.T) {
	m := miniredis.RunT(t)
	p := &passing{m: m}
	c := redis.NewClient(&redis.Options{Addr: m.Addr(), Dialer: p.dial, MaxRetries: 3, MaintNotificationsConfig: noMaintenance()})
	t.Cleanup(func() { c.Close() })
	st := newReal(t, c)
	for _, text := range []string{"OOM command not allowed when used memory > 'maxmemory'", "NOPERM this user has no permissions", "MISCONF Redis is configured to save", "ERR unknown command", "NOAUTH Authentication required."} {
		st.Do(t.Context(), []store.Command{{Op: store.Get, Key: "{k}"}})
		p.refuse(text, 1)
		r := do(t, st, store.Command{Op: store.Set, Key: "{k}", Frame: frame("n")})
		var reply redis.Error
		if r.OK || !errors.As(r.Err, &reply) {
			t.Errorf("%s: %+v", text, r)
		}
	}
}
