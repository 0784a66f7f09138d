package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

func byKey(l store.Subscription, prefix string) store.Subscription {
	l = tracking(l, prefix)
	l.ByKey = true
	return l
}

// eachTracking runs f on a server and a cluster of its own.
func eachTracking(t *testing.T, f func(t *testing.T, c redis.UniversalClient)) {
	eachOwn(t, func(t *testing.T, c redis.UniversalClient) {
		if canTrack(t) {
			f(t, c)
		}
	})
}

// holding are the ways in which a process gets a record that it may keep.
var holding = []struct {
	name   string
	before string // what the key holds
	get    func(key string) store.Command
	reply  func(store.Reply) bool
}{
	{"get", "a", func(k string) store.Command { return store.Command{Op: store.Get, Key: k} }, found},
	{"get of nothing", "", func(k string) store.Command { return store.Command{Op: store.Get, Key: k} }, missing},
	{"header", "a", func(k string) store.Command { return store.Command{Op: store.GetHeader, Key: k} }, found},
	{"part", "a", func(k string) store.Command { return store.Command{Op: store.Get, Key: k, Most: 100} }, found},
	{"set", "a", func(k string) store.Command {
		return store.Command{Op: store.Set, Key: k, Frame: frame("b"), Notify: store.Notify{Channel: "news", Message: "m"}}
	}, ok},
	{"set of a new key", "", func(k string) store.Command {
		return store.Command{Op: store.Set, Key: k, Frame: frame("b"), TTL: time.Hour, Notify: store.Notify{Channel: "news", Message: "m"}}
	}, ok},
	{"add", "", func(k string) store.Command {
		return store.Command{Op: store.SetNX, Key: k, Frame: frame("b"), TTL: time.Hour, Notify: store.Notify{Channel: "news", Message: "m"}}
	}, ok},
	{"lease", "", func(k string) store.Command {
		return store.Command{Op: store.SetNX, Key: k, Frame: frame("b"), TTL: time.Hour}
	}, ok},
	{"add in vain", "a", func(k string) store.Command {
		return store.Command{Op: store.SetNX, Key: k, Frame: frame("b"), TTL: time.Hour}
	}, func(r store.Reply) bool { return !r.OK && found(r) }},
	{"compare and set", "a", func(k string) store.Command {
		return store.Command{Op: store.CompareAndSet, Key: k, Frame: frame("b"), TTL: time.Hour, Seen: store.TokenOf(frame("a"))}
	}, ok},
	{"compare nothing and set", "", func(k string) store.Command {
		return store.Command{Op: store.CompareAndSet, Key: k, Frame: frame("b"), TTL: time.Hour}
	}, ok},
	{"extend", "a", func(k string) store.Command {
		return store.Command{Op: store.Extend, Key: k, TTL: time.Hour, Seen: store.TokenOf(frame("a"))}
	}, ok},
	{"adopt", "a", func(k string) store.Command {
		return store.Command{Op: store.Adopt, Key: k, TTL: time.Hour, Seen: store.TokenOf(frame("a"))}
	}, ok},
	{"patch", "a", func(k string) store.Command {
		return store.Command{Op: store.PatchHeader, Key: k, Frame: seal("b"), Seen: store.TokenOf(frame("a"))}
	}, ok},
}

func found(r store.Reply) bool   { return r.Err == nil && r.Record.State == store.Found }
func missing(r store.Reply) bool { return r.Err == nil && r.Record.State == store.Missing }
func ok(r store.Reply) bool      { return r.Err == nil && r.OK }

// From when a process may keep a record, a change of it is reported: once, until it gets it again.
func TestWhatAProcessMayHoldIsReported(t *testing.T) {
	eachTracking(t, func(t *testing.T, c redis.UniversalClient) {
		s := newReal(t, c)
		h := listen(t, s, byKey(steady("news"), "k"))
		others := newReal(t, c)
		for _, many := range []int{1, 3} {
			for _, w := range holding {
				var cmds []store.Command
				var keys []string
				for i := range many {
					key := fmt.Sprintf("k%d:%s:%d", many, w.name, i)
					keys = append(keys, key)
					if w.before != "" {
						do(t, others, store.Command{Op: store.Set, Key: key, Frame: frame(w.before), TTL: time.Minute})
					}
					cmds = append(cmds, w.get(key))
				}
				for i, r := range s.Do(t.Context(), cmds) {
					if !w.reply(r) {
						t.Fatalf("%s of %d, %d: %+v", w.name, many, i, r)
					}
				}
				h.changed(t) // its own
				for _, key := range append(keys, "k not held", "other") {
					do(t, others, store.Command{Op: store.Set, Key: key, Frame: frame("c")})
				}
				slices.Sort(keys)
				if got, flushed := h.changed(t); !slices.Equal(got, keys) || flushed {
					t.Errorf("%s of %d: notified of %q, flush %v", w.name, many, got, flushed)
				}
				for _, key := range keys {
					do(t, others, store.Command{Op: store.Delete, Key: key})
				}
				if got, flushed := h.changed(t); len(got) > 0 || flushed {
					t.Errorf("%s of %d: notified of %q, flush %v, which are not held", w.name, many, got, flushed)
				}
			}
		}
		h.checkOrder(t)
	})
}

// Writes that are sent together go in other forms than one by one: several Sets and several fills as
// one script, and on one server large Sets as a transaction, where it takes them.
func TestWhatIsWrittenTogetherIsReported(t *testing.T) {
	eachTracking(t, func(t *testing.T, c redis.UniversalClient) {
		s := newReal(t, c)
		h := listen(t, s, byKey(steady("news"), "k"))
		others := newReal(t, c)
		large := []byte(strings.Repeat("b", 1000))
		leaseOf := func(i int) []byte { return leaseFrame(fmt.Sprint(i)) }
		n := 0
		for name, w := range map[string]struct {
			before func(i int) []byte
			cmd    func(i int) store.Command
		}{
			"small": {nil, func(int) store.Command {
				return store.Command{Op: store.Set, Frame: frame("b"), TTL: time.Hour, Notify: store.Notify{Channel: "news", Message: "m"}}
			}},
			"large": {nil, func(int) store.Command {
				return store.Command{Op: store.Set, Frame: large, TTL: time.Hour, Notify: store.Notify{Channel: "news", Message: "m"}}
			}},
			"of a unit": {nil, func(i int) store.Command {
				c := store.Command{Op: store.Set, Frame: large, TTL: time.Hour}
				if i == 0 {
					c.With, c.Notify = 2, store.Notify{Channel: "news", Message: "m"}
				}
				return c
			}},
			"without a message": {nil, func(int) store.Command {
				return store.Command{Op: store.Set, Frame: large, TTL: time.Hour}
			}},
			"fills": {leaseOf, func(i int) store.Command {
				return store.Command{Op: store.CompareAndSet, Frame: append(frameOf("b"), large...), TTL: time.Hour, Seen: store.TokenOf(leaseOf(i)),
					Notify: store.Notify{Channel: "news", Message: "m", Awaited: true}}
			}},
		} {
			for _, many := range []int{1, 3} {
				if many == 1 && name == "of a unit" {
					continue
				}
				// Whether the server takes transactions is asked with the first ones.
				for began, rounds := time.Now(), 0; rounds < 3 || time.Since(began) < 50*time.Millisecond; rounds++ {
					var cmds []store.Command
					var keys []string
					for i := range many {
						n++
						cmd := w.cmd(i)
						cmd.Key = fmt.Sprintf("k{1}:%d", n)
						if w.before != nil {
							do(t, others, store.Command{Op: store.Set, Key: cmd.Key, Frame: w.before(i), TTL: time.Minute})
						}
						keys, cmds = append(keys, cmd.Key), append(cmds, cmd)
					}
					for i, r := range s.Do(t.Context(), cmds) {
						if !ok(r) {
							t.Fatalf("%s, %d: %+v", name, i, r)
						}
					}
					h.changed(t) // its own
					for _, key := range keys {
						do(t, others, store.Command{Op: store.Set, Key: key, Frame: frame("c")})
					}
					slices.Sort(keys)
					if got, _ := h.changed(t); !slices.Equal(got, keys) {
						t.Fatalf("%s, %d together: notified of %q, not of %q", name, many, got, keys)
					}
				}
			}
		}
	})
}

// Another cache of the same client shares the session, and a change by one of them is reported to the
// other.
func TestACacheIsToldOfWhatAnotherOfItsProcessChanges(t *testing.T) {
	eachTracking(t, func(t *testing.T, c redis.UniversalClient) {
		a, b := newReal(t, c), newReal(t, c)
		ha, hb := listen(t, a, byKey(steady("a"), "k")), listen(t, b, byKey(steady("b"), "k"))
		do(t, a, store.Command{Op: store.Get, Key: "k"})
		do(t, b, store.Command{Op: store.Get, Key: "k"})
		do(t, a, store.Command{Op: store.Set, Key: "k", Frame: frame("x")})
		ha.expectText(t, "changed", "k")
		hb.expectText(t, "changed", "k")
	})
}

func TestAFlushIsReportedByKey(t *testing.T) {
	eachTracking(t, func(t *testing.T, c redis.UniversalClient) {
		s := newReal(t, c)
		h := listen(t, s, byKey(steady("news"), "k"))
		do(t, s, store.Command{Op: store.Get, Key: "k"})
		for _, flush := range []func(context.Context, *redis.Client) error{
			func(ctx context.Context, c *redis.Client) error { return c.FlushAll(ctx).Err() },
			func(ctx context.Context, c *redis.Client) error { return c.FlushDBAsync(ctx).Err() },
		} {
			if err := onMasters(t.Context(), c, flush); err != nil {
				t.Fatal(err)
			}
			if _, flushed := h.changed(t); !flushed {
				t.Error("no flush is reported")
			}
		}
	})
}

// What does not fit into the server's table is reported as changed.
func TestAFullTrackingTableIsReported(t *testing.T) {
	server := redistest.Start(t, redistest.Args("--tracking-table-max-keys", "10"))
	c := server.Client(t)
	s := newReal(t, c)
	h := listen(t, s, byKey(steady("news"), "k"))
	const n = 100
	var cmds []store.Command
	for i := range n {
		cmds = append(cmds, store.Command{Op: store.Get, Key: fmt.Sprint("k", i)})
	}
	s.Do(t.Context(), cmds)
	reported := map[string]bool{}
	for len(reported) < n-10 {
		keys, _ := h.changed(t)
		for _, k := range keys {
			reported[k] = true
		}
	}
	for i := range n { // the others still are, when they change
		if key := fmt.Sprint("k", i); !reported[key] {
			if err := set(t.Context(), c, key); err != nil {
				t.Fatal(err)
			}
		}
	}
	keys, _ := h.changed(t)
	if len(reported)+len(keys) != n {
		t.Errorf("%d were reported when the table was full, and %d when they changed, of %d", len(reported), len(keys), n)
	}
}

func TestTheEndOfALifeAndAnEvictionAreReportedByKey(t *testing.T) {
	server := redistest.Start(t)
	c := server.Client(t)
	s := newReal(t, c)
	h := listen(t, s, byKey(steady("news"), "k"))
	ctx := t.Context()
	if err := c.Set(ctx, "k1", "v", 50*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	do(t, s, store.Command{Op: store.Get, Key: "k1"})
	h.expectText(t, "changed", "k1")
	if err := set(ctx, c, "k2"); err != nil {
		t.Fatal(err)
	}
	do(t, s, store.Command{Op: store.Get, Key: "k2"})
	if err := errors.Join(c.ConfigSet(ctx, "maxmemory-policy", "allkeys-random").Err(), c.ConfigSet(ctx, "maxmemory", "1").Err()); err != nil {
		t.Fatal(err)
	}
	_ = c.Set(ctx, "x", "v", 0) // has it evict
	h.expectText(t, "changed", "k2")
}

// The end of either connection ends the session, also where the server closes one that is idle. The
// next session reports what is read then.
func TestTheEndOfATrackedConnectionEndsTheSession(t *testing.T) {
	eachTracking(t, func(t *testing.T, c redis.UniversalClient) {
		for name, kind := range map[string]string{"the session's": "pubsub", "a lane": "normal"} {
			s := newReal(t, c)
			l := byKey(steady("news"), "k")
			l.HeartbeatInterval = 20 * time.Millisecond
			h := listen(t, s, l)
			do(t, s, store.Command{Op: store.Get, Key: "k"})
			var killed atomic.Int64 // the first ends the session, and with that the others
			if err := onMasters(t.Context(), c, func(ctx context.Context, c *redis.Client) error {
				if kind != "pubsub" {
					return killLanes(ctx, c, &killed)
				}
				n, err := c.ClientKillByFilter(ctx, "TYPE", kind).Result()
				killed.Add(n)
				return err
			}); err != nil || killed.Load() == 0 {
				t.Fatal(killed.Load(), err)
			}
			if err := h.end(t); errors.Is(err, store.ErrHeartbeatTimeout) {
				t.Errorf("%s: %v", name, err)
			}
			// Reads go on, before and after.
			if r := do(t, s, store.Command{Op: store.Get, Key: "k"}); !missing(r) {
				t.Errorf("%s: %+v", name, r)
			}
			h = listen(t, s, byKey(steady("news"), "k"))
			do(t, s, store.Command{Op: store.Get, Key: "k"})
			if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			h.expectText(t, "changed", "k")
			if err := c.Del(t.Context(), "k").Err(); err != nil {
				t.Fatal(err)
			}
			h.stop()
			h.end(t)
		}
	})
}

// lanes returns the ids of a server's connections that are redirected.
func lanes(ctx context.Context, c *redis.Client) (ids []string, err error) {
	list, err := c.ClientList(ctx).Result()
	for line := range strings.Lines(list) {
		id, redir := "", "-1"
		for _, f := range strings.Fields(line) {
			if v, is := strings.CutPrefix(f, "id="); is {
				id = v
			}
			if v, is := strings.CutPrefix(f, "redir="); is {
				redir = v
			}
		}
		if redir != "-1" {
			ids = append(ids, id)
		}
	}
	return ids, err
}

func killLanes(ctx context.Context, c *redis.Client, killed *atomic.Int64) error {
	ids, err := lanes(ctx, c)
	for _, id := range ids {
		n, failed := c.ClientKillByFilter(ctx, "ID", id).Result()
		killed.Add(n)
		err = errors.Join(err, failed)
	}
	return err
}

// A call that meets a closed lane is carried out all the same.
func TestACallOnAClosedLaneIsCarriedOut(t *testing.T) {
	for name, cmd := range map[string]store.Command{
		"read": {Op: store.Get, Key: "k"}, "write": {Op: store.Set, Key: "k", Frame: frame("x")},
	} {
		t.Run(name, func(t *testing.T) { onAClosedLane(t, cmd) })
	}
}

func onAClosedLane(t *testing.T, cmd store.Command) {
	server := redistest.Start(t)
	c := server.Client(t)
	s := newReal(t, c)
	l := byKey(steady("news"), "k")
	l.HeartbeatInterval = time.Hour // the lane is not found closed by a heartbeat
	h := start(t, s, l)
	h.expectKind(t, "armed")
	if err := set(t.Context(), c, "k"); err != nil {
		t.Fatal(err)
	}
	var killed atomic.Int64
	if err := killLanes(t.Context(), c, &killed); err != nil || killed.Load() != 1 {
		t.Fatal(killed.Load(), err)
	}
	if r := s.Do(t.Context(), []store.Command{cmd})[0]; r.Err != nil || cmd.Op == store.Get && !found(r) {
		t.Errorf("%+v", r)
	}
	h.end(t)
}

// More lanes are opened when they are in use, as many as the client may have connections, and are closed
// with the session.
func TestLanesGrowAndEndWithTheSession(t *testing.T) {
	server := redistest.Start(t)
	const most = 12
	o := server.Options()
	o.PoolSize = most
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	s := newReal(t, c)
	h := listen(t, s, byKey(steady("news"), "k"))
	ctx := t.Context()
	count := func() int {
		ids, err := lanes(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		return len(ids)
	}
	if n := count(); n != 1 {
		t.Errorf("there are %d lanes at first", n)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r := s.Do(ctx, []store.Command{{Op: store.Get, Key: fmt.Sprint("k", i)}})[0]; r.Err != nil {
					t.Error(r.Err)
					return
				}
			}
		})
	}
	for began := time.Now(); count() < most && time.Since(began) < enough; {
	}
	close(stop)
	wg.Wait()
	if n := count(); n < most || n > most+1 { // one more for a heartbeat that found none
		t.Errorf("there are %d lanes", n)
	}
	for i := range 40 { // on whatever lane it was read
		if err := set(ctx, c, fmt.Sprint("k", i)); err != nil {
			t.Fatal(err)
		}
	}
	if keys, _ := h.changed(t); len(keys) != 40 {
		t.Errorf("notified of %q", keys)
	}
	h.stop()
	h.end(t)
	for began := time.Now(); count() > 0; {
		if time.Since(began) > enough {
			t.Fatalf("%d lanes are left", count())
		}
	}
}

// A slot that moves makes its keys go another way for a while: what is read then is reported as
// changed, since it may have been kept.
func TestWhatNoLaneCarriesOutIsReported(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 2)
	c := cluster.Client(t)
	s := newReal(t, c)
	h := listen(t, s, byKey(steady("news"), "k"))
	ctx := t.Context()
	key := "k{b}" // of slot 3300, of the first master
	if err := set(ctx, c, key); err != nil {
		t.Fatal(err)
	}
	slot, err := c.ClusterKeySlot(ctx, key).Result()
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, n := range cluster.Nodes[:2] {
		id, err := n.Client(t).ClusterMyID(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	from, to := 0, 1
	if slot >= 8192 {
		from, to = 1, 0
	}
	order(t, cluster.Nodes[to], "setslot", slot, "importing", ids[from])
	order(t, cluster.Nodes[from], "setslot", slot, "migrating", ids[to])
	do(t, s, store.Command{Op: store.Get, Key: key})
	if keys, _ := h.changed(t); len(keys) > 0 {
		t.Errorf("notified of %q, which a lane could read", keys)
	}
	host, port, _ := strings.Cut(cluster.Nodes[to].Addr(), ":")
	if err := cluster.Nodes[from].Client(t).Migrate(ctx, host, port, key, 0, 10*time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	h.expectText(t, "changed", key) // it is removed here
	if r := do(t, s, store.Command{Op: store.Get, Key: key}); !found(r) {
		t.Fatalf("%+v", r)
	}
	h.expectText(t, "changed", key)
	if r := do(t, s, store.Command{Op: store.GetHeader, Key: key}); r.Err == nil {
		t.Errorf("the check of a record that is kept is not tracked: %+v", r)
	}
	order(t, cluster.Nodes[to], "setslot", slot, "node", ids[to])
	order(t, cluster.Nodes[from], "setslot", slot, "node", ids[to])
	// The session ends when it learns of that, which a change of the cluster's epoch shows.
	ended := func(ev event) bool {
		if ev.kind == "ended" && !strings.Contains(ev.text, "masters have changed") {
			t.Error(ev.text)
		}
		return ev.kind == "ended"
	}
	for began := time.Now(); ; {
		since, changed := time.Now(), false
		do(t, s, store.Command{Op: store.Get, Key: key})
		last := h.expect(t, "pulse or end", func(ev event) bool {
			changed = changed || ev.kind == "changed" && ev.text == key
			return ev.kind == "ended" || ev.kind == "alive" && ev.sent.After(since)
		})
		if ended(last) {
			return
		}
		if !changed {
			break // the client knows where the slot is
		}
		if time.Since(began) > enough {
			t.Fatal("the key is not read on a lane any more")
		}
	}
	if err := set(ctx, c, key); err != nil {
		t.Fatal(err)
	}
	ended(h.expect(t, "change or end", func(ev event) bool {
		return ev.kind == "ended" || ev.kind == "changed" && ev.text == key
	}))
}

// A lane must not be redirected to a connection of that id on another server.
func TestALaneOfAnotherServerIsNone(t *testing.T) {
	a, b := redistest.Start(t), redistest.Start(t)
	o := a.Options()
	o.PoolSize, o.MaxActiveConns = 1, 1
	var dialed atomic.Int64 // first the client's own connection, then that of the session
	o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		addr := a.Addr()
		if dialed.Add(1) > 2 {
			addr = b.Addr()
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	h := start(t, newReal(t, c), byKey(steady("news"), "k"))
	if err := h.end(t); !errors.Is(err, store.ErrOtherServer) {
		t.Error(err)
	}
}

func TestWhereKeysCannotBeTrackedOneByOne(t *testing.T) {
	server := redistest.Start(t, redistest.ACL(
		"tracker on >p ~app:* &app:* -@all +@read +@write +@pubsub +client|tracking +info +eval +evalsha",
		"blind on >p ~app:* &app:* -@all +@read +@write +@connection +@pubsub +info -client|tracking",
		"quiet on >p ~app:* &app:* -@all +@read +@write +@connection +@pubsub -info",
	))
	as := func(user string) redis.UniversalClient {
		o := server.Options()
		o.Username, o.Password = user, "p"
		c := redis.NewClient(o)
		t.Cleanup(func() { c.Close() })
		return c
	}
	refused := func(c redis.UniversalClient, want error) {
		t.Helper()
		h := start(t, newReal(t, c), byKey(steady("app:events"), "app:"))
		if err := h.end(t); !errors.Is(err, want) || len(h.all("armed")) > 0 {
			t.Error(err)
		}
	}
	_, mini := inMemory(t)
	refused(mini, store.ErrNoKeyTracking)
	refused(as("blind"), store.ErrNoKeyTracking)
	refused(as("quiet"), store.ErrNoKeyTracking)
	refused(decorated{server.Client(t)}, store.ErrNoKeyTracking)
	c := as("tracker")
	s := newReal(t, c)
	h := listen(t, s, byKey(steady("app:events"), "app:"))
	do(t, s, store.Command{Op: store.Get, Key: "app:k"})
	if err := set(t.Context(), c, "app:k"); err != nil {
		t.Fatal(err)
	}
	h.expectText(t, "changed", "app:k")
}

type decorated struct{ *redis.Client }
