package redisstore_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// telling are all commands that may have something to tell, and what they find.
var telling = []store.Command{
	{Op: store.Set, Frame: frame("n")},
	{Op: store.Delete},
	{Op: store.SetNX, Frame: frame("n")},
	{Op: store.CompareAndSet, Frame: frame("n")},
	{Op: store.CompareAndSet, Frame: frame("n"), Seen: store.TokenOf(frame("o"))},
	{Op: store.CompareAndDelete, Seen: store.TokenOf(frame("o"))},
	{Op: store.Extend, Seen: store.TokenOf(frame("o")), TTL: time.Hour},
	{Op: store.PatchHeader, Frame: seal("n"), Seen: store.TokenOf(frame("o")), TTL: time.Hour},
}

// Others were not told, which the caller must hear; but the effect is there.
func TestAUserWhoMayNotPublishGetsAnErrorAndTheEffect(t *testing.T) {
	t.Parallel()
	acl := redistest.ACL("app on >secret ~* &* +@all -publish")
	for name, client := range map[string]func(t *testing.T) redis.UniversalClient{
		"redis": func(t *testing.T) redis.UniversalClient {
			o := redistest.Start(t, acl).Options()
			o.Username, o.Password = "app", "secret"
			return redis.NewClient(o)
		},
		"cluster": func(t *testing.T) redis.UniversalClient {
			o := redistest.StartCluster(t, 3, acl).Options()
			o.Username, o.Password = "app", "secret"
			return redis.NewClusterClient(o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t)
			t.Cleanup(func() { c.Close() })
			st, model := newReal(t, c), memory{storetest.NewMemory()}
			for batch := range 2 {
				for i, c := range telling {
					c.Key = fmt.Sprint("k", i)
					for _, s := range []world{st, model} {
						do(t, s, store.Command{Op: store.Delete, Key: c.Key})
						if c.Seen.State == store.Found || c.Op == store.Delete {
							do(t, s, store.Command{Op: store.Set, Key: c.Key, Frame: frame("o")})
						}
					}
					if r := do(t, model, c); !r.OK {
						t.Fatalf("%v: %+v", c.Op, r)
					}
					c.Notify = store.Notify{Channel: "c", Message: "m"}
					cmds := []store.Command{c}
					if batch > 0 {
						cmds = append(cmds, store.Command{Op: store.Set, Key: "other"}, store.Command{Op: store.Get, Key: "{" + c.Key + "}"})
					}
					rs := st.Do(t.Context(), cmds)
					if rs[0].Err == nil || rs[0].OK {
						t.Errorf("%v: %+v", c.Op, rs[0])
					}
					for _, r := range rs[1:] {
						if r.Err != nil {
							t.Errorf("beside %v: %+v", c.Op, r)
						}
					}
					want, life := model.look(t, c.Key)
					if got, d := st.look(t, c.Key); got != want || (d > 0) != (life > 0) {
						t.Errorf("%v: %q holds %s for %v instead of %s for %v", c.Op, c.Key, got, d, want, life)
					}
				}
			}
		})
	}
}

// versions counts up what it stores under one key, telling each time.
type versions struct {
	key, channel string
	n            int
}

func (v *versions) raw() []byte { return fmt.Appendf(nil, "%024d and something more", v.n) }

// next are the commands that lead to the next version, to be sent one by one or
// together.
func (v *versions) next() []store.Command {
	seen := store.TokenOf(v.raw())
	v.n++
	// The number is in the first bytes, as a record's id is.
	seenNow := store.TokenOf(v.raw())
	tell := store.Notify{Channel: v.channel, Message: strconv.Itoa(v.n)}
	set := store.Command{Op: store.Set, Key: v.key, Frame: v.raw(), Notify: tell}
	switch v.n % 6 {
	case 1:
		set.Op, set.Seen = store.CompareAndSet, seen
	case 2:
		set.Op, set.Frame, set.Seen = store.PatchHeader, v.raw()[:store.SealLen], seen
	case 3:
		set.Notify = store.Notify{}
		return []store.Command{set, {Op: store.Extend, Key: v.key, Seen: seenNow, TTL: time.Hour, Notify: tell}}
	case 4:
		set.Op = store.SetNX
		return []store.Command{{Op: store.Delete, Key: v.key}, set}
	}
	return []store.Command{set}
}

func (v *versions) write(t *testing.T, s store.Store) {
	t.Helper()
	for i, r := range s.Do(t.Context(), v.next()) {
		if r.Err != nil || !r.OK {
			t.Errorf("version %d, command %d: %+v", v.n, i, r)
		}
	}
}

// reader reads the key at each message, and has an error if it finds an older version
// than the message tells of.
type reader struct {
	mu    sync.Mutex
	count int
	errs  []error
}

func readAlong(t *testing.T, subscribe, read redis.UniversalClient, v *versions) *reader {
	t.Helper()
	r := new(reader)
	ctx, stop := context.WithCancel(context.Background())
	sub := subscribe.Subscribe(ctx, v.channel)
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			m, err := sub.ReceiveMessage(ctx)
			if err != nil {
				return
			}
			told, _ := strconv.Atoi(m.Payload)
			raw, err := read.Get(ctx, v.key).Result()
			found := 0
			if len(raw) > 24 {
				found, _ = strconv.Atoi(strings.TrimLeft(raw[:24], "0"))
			}
			r.mu.Lock()
			r.count = max(r.count, told)
			// Between a Delete and an Add there is nothing.
			if err != redis.Nil && (err != nil || found < told) {
				r.errs = append(r.errs, fmt.Errorf("message %d, but there is %q; %v", told, raw, err))
			}
			r.mu.Unlock()
		}
	})
	t.Cleanup(func() { stop(); sub.Close(); wg.Wait() })
	return r
}

// wait waits for the message of the last version.
func (r *reader) wait(t *testing.T, v *versions) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		count, errs := r.count, r.errs
		r.errs = nil
		r.mu.Unlock()
		for _, err := range errs {
			t.Error(err)
		}
		if count == v.n {
			return
		}
		if time.Since(start) > enough {
			t.Fatalf("notified of version %d of %d", count, v.n)
		}
	}
}

func TestNoMessageComesBeforeItsEffect(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		s := newReal(t, b.Client)
		v := &versions{key: b.Prefix + "k", channel: b.Prefix + "news"}
		do(t, s, store.Command{Op: store.Set, Key: v.key, Frame: v.raw()})
		r := readAlong(t, b.NewClient(t), b.NewClient(t), v)
		for range 600 {
			v.write(t, s)
		}
		r.wait(t, v)
	})
}

// Nor if the client's map of the cluster is old, so that the node that it sends the
// command to is not the one that carries it out.
func TestNoMessageOvertakesACommandThatIsRedirected(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2)
	client := cluster.Client(t)
	ctx := t.Context()
	v := &versions{key: "{moves}k", channel: "news"}
	m := migration{slot: client.ClusterKeySlot(ctx, v.key).Val()}
	home, err := client.MasterForKey(ctx, v.key)
	if err != nil {
		t.Fatal(err)
	}
	m.from, m.to = cluster.Nodes[0].Client(t), cluster.Nodes[1].Client(t)
	if port(m.from) != port(home) {
		m.from, m.to = m.to, m.from
	}
	for i, c := range []*redis.Client{m.from, m.to} {
		if m.ids[i], err = c.ClusterMyID(ctx).Result(); err != nil {
			t.Fatal(err)
		}
	}
	s := newReal(t, client)
	do(t, s, store.Command{Op: store.Set, Key: v.key, Frame: v.raw()})
	readers := []*reader{readAlong(t, m.from, cluster.Client(t), v), readAlong(t, m.to, cluster.Client(t), v)}
	for range 12 {
		m.begin(t)
		v.write(t, s)
		m.move(t, v.key)
		v.write(t, s)
		m.end(t)
		v.write(t, s)
		for range v.n % 5 { // each kind of command comes first now and then
			v.write(t, s)
		}
		m.from, m.to, m.ids[0], m.ids[1] = m.to, m.from, m.ids[1], m.ids[0]
		for _, r := range readers {
			r.wait(t, v)
		}
	}
}

// A positive TTL shortens a life, and never makes it longer.
func TestResealShortensLives(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for _, s := range []world{newReal(t, b.Client), memory{storetest.NewMemory()}} {
			for _, tt := range []struct{ before, ttl, after time.Duration }{
				{0, 0, 0}, {0, time.Hour, time.Hour}, {time.Hour, 0, time.Hour}, {time.Hour, time.Minute, time.Minute},
				{time.Hour, 2 * time.Hour, time.Hour}, {time.Hour, 30 * 24 * time.Hour, time.Hour},
			} {
				c := store.Command{Op: store.PatchHeader, Key: b.Prefix + "k", Frame: seal("n"), Seen: store.TokenOf(frame("o")), TTL: tt.ttl}
				do(t, s, store.Command{Op: store.Set, Key: c.Key, Frame: frame("o"), TTL: tt.before})
				r := do(t, s, c)
				got, left := s.look(t, c.Key)
				if want := "a string: " + string(seal("n")) + "oooo"; !r.OK || r.Err != nil || got != want {
					t.Errorf("%T, %+v: %+v, it holds %s", s, tt, r, got)
				}
				if tt.after == 0 && left != -time.Millisecond || tt.after > 0 && (left > tt.after || left < tt.after-enough) {
					t.Errorf("%T, %+v: %v is left", s, tt, left)
				}
			}
			for _, c := range []store.Command{
				{Frame: nil}, {Frame: frame("n")}, {Frame: seal("n")[1:]}, {Frame: seal("n"), TTL: -1}, {Frame: seal("n"), TTL: -time.Hour},
			} {
				c.Op, c.Key, c.Seen = store.PatchHeader, b.Prefix+"k", store.TokenOf(seal("n"))
				before, _ := s.look(t, c.Key)
				r := do(t, s, c)
				if after, _ := s.look(t, c.Key); r.Err == nil || after != before {
					t.Errorf("%T, %d bytes for %v: %+v", s, len(c.Frame), c.TTL, r)
				}
			}
		}
	})
}
