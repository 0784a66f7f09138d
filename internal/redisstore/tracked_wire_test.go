package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// laneWire is a connection on whose way something happens to a lane.
type laneWire struct {
	net.Conn
	write func(w *laneWire, b []byte) []byte // what goes on in place of b; nil: b

	mu      sync.Mutex // guards what follows
	lane    bool       // it is redirected
	release chan struct{}
}

func (w *laneWire) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("redirect")) {
		w.mu.Lock()
		w.lane = true
		w.mu.Unlock()
	}
	out := b
	if w.write != nil {
		out = w.write(w, b)
	}
	if _, err := w.conn().Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (w *laneWire) Read(b []byte) (int, error) {
	n, err := w.conn().Read(b)
	w.mu.Lock()
	release := w.release
	w.mu.Unlock()
	if release != nil {
		<-release
	}
	return n, err
}

func (w *laneWire) conn() net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Conn
}

// wired returns a client whose connections are wires, and a function that returns those of lanes.
func wired(t *testing.T, server *redistest.Server, write func(*laneWire, []byte) []byte, options ...func(*redis.Options)) (*redis.Client, func() []*laneWire) {
	var mu sync.Mutex
	var all []*laneWire
	o := server.Options()
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		w := &laneWire{Conn: conn, write: write}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, w)
		return w, nil
	}
	for _, f := range options {
		f(o)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c, func() (lanes []*laneWire) {
		mu.Lock()
		defer mu.Unlock()
		for _, w := range all {
			w.mu.Lock()
			if w.lane {
				lanes = append(lanes, w)
			}
			w.mu.Unlock()
		}
		return lanes
	}
}

// A reply that takes long, such as a large one, holds up no heartbeat, also where the client may have
// one connection only.
func TestACallOnALaneHoldsUpNoHeartbeat(t *testing.T) {
	server := redistest.Start(t)
	release, sent := make(chan struct{}), make(chan struct{}, 1)
	c, _ := wired(t, server, func(w *laneWire, b []byte) []byte {
		if bytes.Contains(b, []byte("k:held")) {
			w.mu.Lock()
			w.release = release
			w.mu.Unlock()
			sent <- struct{}{}
		}
		return b
	}, func(o *redis.Options) { o.PoolSize = 1 })
	s := newReal(t, c)
	admin := server.Client(t)
	if err := set(t.Context(), admin, "k:held"); err != nil {
		t.Fatal(err)
	}
	h := listen(t, s, byKey(steady("news"), "k"))
	replies := make(chan store.Reply, 1)
	go func() { replies <- s.Do(context.Background(), []store.Command{{Op: store.Get, Key: "k:held"}})[0] }()
	<-sent
	for range 3 {
		h.aliveSince(t, time.Now())
	}
	close(release)
	if r := <-replies; !found(r) {
		t.Errorf("%+v", r)
	}
	if err := set(t.Context(), admin, "k:held"); err != nil {
		t.Fatal(err)
	}
	h.expectText(t, "changed", "k:held")
}

// Heartbeats that are under way at a time, since the server is far away, use one lane after the other: no
// other one is opened for them.
func TestHeartbeatsOpenNoLane(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server.Addr())
	o := server.Options()
	o.Addr = proxy.Addr()
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	l := byKey(steady("news"), "k")
	proxy.Delay(l.HeartbeatInterval) // each way: a round ends after the next ones have begun
	h := listen(t, newReal(t, c), l)
	for range 5 {
		h.aliveSince(t, time.Now())
	}
	if ids, err := lanes(t.Context(), server.Client(t)); err != nil || len(ids) != 1 {
		t.Errorf("%d lanes, %v", len(ids), err)
	}
}

// A caller that waits for a lane waits for no longer than its context lasts, and is not carried out
// afterwards.
func TestWhoWaitsForALaneMayLeave(t *testing.T) {
	server := redistest.Start(t)
	release, sent := make(chan struct{}), make(chan struct{}, 1)
	c, _ := wired(t, server, func(w *laneWire, b []byte) []byte {
		if bytes.Contains(b, []byte("k:held")) {
			w.mu.Lock()
			w.release = release
			w.mu.Unlock()
			sent <- struct{}{}
		}
		return b
	}, func(o *redis.Options) { o.PoolSize = 1 })
	oneLane(t, c)
	s := newReal(t, c)
	l := byKey(steady("news"), "k")
	h := listen(t, s, l)
	h.expectKind(t, "alive")
	replies := make(chan store.Reply, 1)
	go func() { replies <- s.Do(context.Background(), []store.Command{{Op: store.Get, Key: "k:held"}})[0] }()
	<-sent
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if r := s.Do(ctx, []store.Command{{Op: store.Set, Key: "k", Frame: frame("x")}})[0]; !errors.Is(r.Err, context.DeadlineExceeded) {
		t.Errorf("%+v", r)
	}
	close(release)
	if r := <-replies; !missing(r) {
		t.Errorf("%+v", r)
	}
	if r := do(t, s, store.Command{Op: store.Get, Key: "k"}); !missing(r) {
		t.Errorf("it was carried out: %+v", r)
	}
}

// oneLane has sessions not open another lane, as heartbeats would that are in progress at the same time.
func oneLane(t *testing.T, c *redis.Client) {
	t.Helper()
	if err := c.Do(t.Context(), "acl", "setuser", "default", "-client|list").Err(); err != nil {
		t.Fatal(err)
	}
}

// A proxy may replace the connection on its other side, and keep the old one: what is read then is not
// tracked, although the lane seems to live.
func TestALaneWhoseOtherSideIsReplacedEndsTheSession(t *testing.T) {
	server := redistest.Start(t)
	other := make(chan net.Conn, 1)
	c, _ := wired(t, server, func(w *laneWire, b []byte) []byte {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.lane {
			select {
			case conn := <-other: // between two commands: an answer comes from where its command went
				old := w.Conn
				t.Cleanup(func() { old.Close() })
				w.Conn = conn
			default:
			}
		}
		return b
	})
	oneLane(t, c)
	l := byKey(steady("news"), "k")
	l.HeartbeatInterval = time.Hour
	h := listen(t, newReal(t, c), l)
	h.expectKind(t, "alive")
	conn, err := net.Dial("tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*1\r\n$4\r\nPING\r\n")); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 4096); !bytes.HasSuffix(b, []byte("+PONG\r\n")); {
		n, err := conn.Read(b[:cap(b)])
		if err != nil {
			t.Fatal(err)
		}
		b = b[:n]
	}
	other <- conn
	start(t, newReal(t, c), l) // which has a round of heartbeats begin
	if err := h.end(t); !strings.Contains(err.Error(), "redirected") {
		t.Error(err)
	}
}

// What has a server refuse a redirection says nothing about prefixes, and that a connection has ended
// says nothing about the server.
func TestARedirectionThatIsRefused(t *testing.T) {
	for _, test := range []struct {
		name, by string
		forGood  bool
	}{
		{"unknown", "redirecx", true},
		{"of a connection that has ended", "redirect", false},
	} {
		server := redistest.Start(t)
		c, _ := wired(t, server, func(_ *laneWire, b []byte) []byte {
			before, after, found := bytes.Cut(b, []byte("\r\nredirect\r\n"))
			if !found {
				return b
			}
			if !test.forGood { // another id of as many digits
				at := bytes.Index(after, []byte("\r\n")) + 2
				after = bytes.Clone(after)
				for ; after[at] != '\r'; at++ {
					after[at] = '9'
				}
			}
			return bytes.Join([][]byte{before, []byte(test.by), after}, []byte("\r\n"))
		})
		s := newReal(t, c)
		err := start(t, s, byKey(steady("news"), "k")).end(t)
		if errors.Is(err, store.ErrNoKeyTracking) != test.forGood || errors.Is(err, store.ErrNoTracking) {
			t.Errorf("%s: %v", test.name, err)
		}
		h := listen(t, s, tracking(steady("news"), "k"))
		if err := set(t.Context(), c, "k"); err != nil {
			t.Fatal(err)
		}
		h.expectText(t, "changed", "k")
	}
}

// Without CLIENT LIST, and CLIENT GETREDIR, there is one lane.
func TestAUserWhoMayNotListConnectionsHasOneLane(t *testing.T) {
	server := redistest.Start(t, redistest.ACL("tracker on >p ~k* &* -@all +@read +@write +@pubsub +client|tracking +info +eval +evalsha"))
	o := server.Options()
	o.Username, o.Password = "tracker", "p"
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	s := newReal(t, c)
	h := listen(t, s, byKey(steady("news"), "k"))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				if r := s.Do(t.Context(), []store.Command{{Op: store.Get, Key: "k"}})[0]; r.Err != nil {
					t.Error(r.Err)
					return
				}
			}
		})
	}
	wg.Wait()
	h.aliveSince(t, time.Now())
	ids, err := lanes(t.Context(), server.Client(t))
	if err != nil || len(ids) != 1 {
		t.Errorf("lanes %v, %v", ids, err)
	}
}

// A SetNX without a message is followed by a GET. What happens between the two is what the SetNX finds,
// and whatever it returns, the next change is reported.
func TestAChangeBetweenALeaseAndItsReadIsNoticed(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client(t)
	var mu sync.Mutex
	var change func() // once, between the two
	c, _ := wired(t, server, func(w *laneWire, b []byte) []byte {
		at := bytes.Index(b, []byte("*2\r\n$3\r\nget"))
		if at < 0 || !bytes.Contains(b[:at], []byte("\r\nnx\r\n")) {
			return b
		}
		mu.Lock()
		f := change
		change = nil
		mu.Unlock()
		if f == nil {
			return b
		}
		w.Conn.Write(b[:at])
		f()
		return b[at:]
	})
	s := newReal(t, c)
	h := listen(t, s, byKey(steady("news"), "k"))
	lease, other := frame("own"), frame("other")
	tests := map[string]struct {
		before []byte
		change []byte // nil: the key is removed
		ok     bool
		finds  []byte
	}{
		"stored, then removed":   {nil, nil, true, nil},
		"stored, then replaced":  {nil, other, false, other},
		"found, then removed":    {frame("a"), nil, true, nil},
		"found, then replaced":   {frame("a"), other, false, other},
		"found, then not a text": {frame("a"), []byte("list"), false, nil},
	}
	for name, tt := range tests {
		key := "k:" + name
		ctx := t.Context()
		if tt.before != nil {
			admin.Set(ctx, key, tt.before, 0)
		}
		seen := make(chan struct{})
		between := func() {
			defer close(seen)
			// The SET comes over another connection, and may be carried out later.
			for tt.before == nil && admin.Exists(ctx, key).Val() == 0 && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			change := admin.TxPipeline() // in one step: the SET may come at any time
			change.Del(ctx, key)
			switch {
			case string(tt.change) == "list":
				change.RPush(ctx, key, "x")
			case tt.change != nil:
				change.Set(ctx, key, tt.change, 0)
			}
			change.Exec(ctx)
		}
		mu.Lock()
		change = between
		mu.Unlock()
		r := s.Do(ctx, []store.Command{{Op: store.SetNX, Key: key, Frame: lease, TTL: time.Hour}})[0]
		select {
		case <-seen:
		default:
			t.Fatalf("%s: the SET was not followed by a GET", name)
		}
		if r.Err != nil || r.OK != tt.ok || !bytes.Equal(r.Record.Raw, tt.finds) {
			t.Errorf("%s: %+v", name, r)
		}
		if tt.change != nil && string(tt.change) == "list" {
			if r.Record.State != store.WrongType {
				t.Errorf("%s: %+v", name, r)
			}
			continue
		}
		h.changed(t)
		admin.Set(ctx, key, frame("next"), 0)
		if got, _ := h.changed(t); len(got) != 1 || got[0] != key {
			t.Errorf("%s: notified of %q", name, got)
		}
	}
}

// Callers that ask for leases and fill others' at the same time: the fills go as one script.
func TestLeasesLeaveFillsTogether(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client(t)
	var mu sync.Mutex
	var scripts int
	c, _ := wired(t, server, func(w *laneWire, b []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		if bytes.Contains(b, []byte("k:fill")) {
			scripts += bytes.Count(b, []byte("\r\nevalsha\r\n")) + bytes.Count(b, []byte("\r\neval\r\n"))
		}
		return b
	})
	s := newReal(t, c)
	listen(t, s, byKey(steady("news"), "k"))
	batch := func(n string) {
		t.Helper()
		var cmds []store.Command
		for _, of := range []string{"1", "2", "3"} {
			l := leaseFrame(of)
			admin.Set(t.Context(), "k:fill"+n+of, l, 0)
			cmds = append(cmds,
				store.Command{Op: store.CompareAndSet, Key: "k:fill" + n + of, Frame: append(frameOf("b"), make([]byte, 100)...), TTL: time.Hour, Seen: store.TokenOf(l),
					Notify: store.Notify{Channel: "news", Message: "m", Awaited: true}},
				store.Command{Op: store.SetNX, Key: "k:lease" + n + of, Frame: frame("b"), TTL: time.Hour})
		}
		for i, r := range s.Do(t.Context(), cmds) {
			if !ok(r) {
				t.Errorf("%d: %+v", i, r)
			}
		}
	}
	batch("first") // the server learns the script
	mu.Lock()
	scripts = 0
	mu.Unlock()
	batch("second")
	mu.Lock()
	defer mu.Unlock()
	if scripts != 1 {
		t.Errorf("3 fills among leases were sent as %d scripts", scripts)
	}
}
