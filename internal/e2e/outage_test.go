package e2e_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// The table of docs/outages.md, cell by cell: what every operation does in every state of
// Redis. Each state can come about in several ways, all of which are tried.

// outcomes are what a table says of an operation.
const (
	isValue     = "value"  // what Redis has
	isSource    = "source" // what the source has
	isMiss      = "miss"   // ErrMiss alone
	isNoAnswer  = "miss, unavailable"
	isLeftOut   = "left out"   // of the map; no error
	isDone      = "done"       // no error, and Redis has it
	isToldLater = "told later" // ErrUnavailable, and no reader gets the old value once Redis is back
	isFailed    = "unavailable"
	isPending   = "waits" // until its context ends
	isKept      = "kept"  // what the source has, and the next read does not load
)

// outageRow is an operation on a cache in whose Redis "have" is "old", and "lack" nothing.
type outageRow struct {
	loads bool
	op    func(ctx context.Context, c *cache.Cache[string, string]) (string, error)
}

var outageRows = map[string]outageRow{
	"Get of what Redis has, with a loader":    {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) { return c.Get(ctx, "have") }},
	"Get of what it has not, with a loader":   {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) { return c.Get(ctx, "lack") }},
	"Get of what Redis has, without a loader": {false, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) { return c.Get(ctx, "have") }},
	"Get of what it has not, without a loader": {false, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		return c.Get(ctx, "lack")
	}},
	"Peek": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) { return c.Peek(ctx, "have") }},
	"Inspect": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		e, err := c.Inspect(ctx, "have")
		return e.Value, err
	}},
	"GetMany, with a loader": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		return onlyOf(c.GetMany(ctx, []string{"have"}))
	}},
	"GetMany, without a loader": {false, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		return onlyOf(c.GetMany(ctx, []string{"have"}))
	}},
	"Set": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		return "", c.Set(ctx, "have", "new")
	}},
	"SetMany": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		return "", c.SetMany(ctx, map[string]string{"have": "new", "lack": "new"})
	}},
	"SetIfAbsent": {false, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		_, err := c.SetIfAbsent(ctx, "lack", "new")
		return "", err
	}},
	"Update": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		_, err := c.Update(ctx, "have", func(string, bool) (string, error) { return "new", nil })
		return "", err
	}},
	"Delete": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		return "", c.Delete(ctx, "have")
	}},
	"Invalidate": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		return "", c.Invalidate(ctx, "have")
	}},
	"InvalidatePattern": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		_, err := c.InvalidatePattern(ctx, "h*")
		return "", err
	}},
	"InvalidateTags": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		return "", c.InvalidateTags(ctx, "t")
	}},
	"Clear": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) { return "", c.Clear(ctx) }},
	"Refresh": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		return "", c.Refresh(ctx, "have")
	}},
	"Sync after a Set": {true, func(ctx context.Context, c *cache.Cache[string, string]) (string, error) {
		_ = c.Set(ctx, "have", "new")
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err := c.Sync(short)
		return "", err
	}},
}

func onlyOf(vals map[string]string, err error) (string, error) {
	if v, ok := vals["have"]; ok || err != nil {
		return v, err
	}
	return isLeftOut, nil
}

// outage is a way for Redis to be in a state.
type outage struct {
	state string // a column of the table, without goingOn
	tier  bool   // the caches have a local tier that goes on, which has what Redis has
	begin func(t *testing.T, s *outageServer)
	end   func(t *testing.T, s *outageServer)
}

// goingOn is what the columns have in their names whose caches have a local tier that goes on.
const goingOn = ", LocalDuringOutage"

func (o *outage) column() string {
	if o.tier {
		return o.state + goingOn
	}
	return o.state
}

func init() {
	for _, name := range []string{"the network swallows everything", "nothing listens", "the process is stopped", "NOPERM for everything"} {
		o := outages[name]
		o.tier = true
		outages[name+goingOn] = o
	}
}

// outageServer is a server, whose caches have a user and a way of their own.
type outageServer struct {
	*redistest.Server
	proxy  *redistest.Proxy
	babble *babbler
	admin  *redis.Client
	caches map[string]*cache.Cache[string, string] // by row
	loaded sync.Map                                // *atomic.Int32, by row
}

// loads counts the loads of the cache of a row.
func (s *outageServer) loads(row string) *atomic.Int32 {
	n, _ := s.loaded.LoadOrStore(row, new(atomic.Int32))
	return n.(*atomic.Int32)
}

func (s *outageServer) do(t *testing.T, args ...any) {
	t.Helper()
	if err := s.admin.Do(context.Background(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

var outages = map[string]outage{
	"nothing is wrong": {state: "answers"},

	"the network swallows everything": {"does not answer", false,
		func(_ *testing.T, s *outageServer) { s.proxy.Blackhole() },
		func(_ *testing.T, s *outageServer) { s.proxy.Heal() }},
	"nothing listens": {"does not answer", false,
		func(_ *testing.T, s *outageServer) { s.proxy.Cut() },
		func(_ *testing.T, s *outageServer) { s.proxy.Heal() }},
	"the circuit is open": {"does not answer", false,
		func(t *testing.T, s *outageServer) {
			s.proxy.Cut()
			for row, c := range s.caches {
				for range 5 {
					_, _ = c.Peek(t.Context(), "have")
				}
				if m := c.Metrics(); m.Breaker.String() != "open" {
					t.Errorf("%s: after five failures the circuit is %v", row, m.Breaker)
				}
			}
		},
		func(_ *testing.T, s *outageServer) { s.proxy.Heal() }},
	"the process is stopped": {"does not answer", false,
		func(t *testing.T, s *outageServer) {
			if err := s.Freeze(); err != nil {
				t.Fatal(err)
			}
		},
		func(t *testing.T, s *outageServer) {
			if err := s.Thaw(); err != nil {
				t.Fatal(err)
			}
		}},
	"CLIENT PAUSE": {"does not answer", false,
		func(t *testing.T, s *outageServer) { s.do(t, "client", "pause", 8000, "all") },
		func(t *testing.T, s *outageServer) { // nothing ends it before its time
			awaits(t, "the end of the pause", func() error { return s.admin.Ping(context.Background()).Err() })
		}},
	"it answers garbage": {"does not answer", false,
		func(_ *testing.T, s *outageServer) { s.babble.on(true) },
		func(_ *testing.T, s *outageServer) { s.babble.on(false) }},
	"NOPERM for everything": {"does not answer", false,
		func(t *testing.T, s *outageServer) { s.do(t, "acl", "setuser", "app", "-@all") },
		func(t *testing.T, s *outageServer) { s.do(t, "acl", "setuser", "app", "+@all") }},
	"NOAUTH": {"does not answer", false,
		func(t *testing.T, s *outageServer) {
			s.do(t, "acl", "setuser", "app", "off")
			s.do(t, "client", "kill", "user", "app")
		},
		func(t *testing.T, s *outageServer) { s.do(t, "acl", "setuser", "app", "on") }},
	"MASTERDOWN": {"does not answer", false,
		func(t *testing.T, s *outageServer) {
			s.do(t, "config", "set", "replica-serve-stale-data", "no")
			s.do(t, "replicaof", "127.0.0.1", "1")
		},
		func(t *testing.T, s *outageServer) { s.do(t, "replicaof", "no", "one") }},

	"subscriptions are refused" + goingOn: {state: "is not heard", tier: true,
		begin: func(t *testing.T, s *outageServer) {
			s.do(t, "acl", "setuser", "app", "-subscribe")
			s.do(t, "client", "kill", "type", "pubsub")
		},
		end: func(t *testing.T, s *outageServer) { s.do(t, "acl", "setuser", "app", "+subscribe") }},

	"READONLY": {"refuses writes", false,
		func(t *testing.T, s *outageServer) { s.do(t, "replicaof", "127.0.0.1", "1") },
		func(t *testing.T, s *outageServer) { s.do(t, "replicaof", "no", "one") }},
	"MISCONF: it can't save": {"refuses writes", false,
		func(t *testing.T, s *outageServer) {
			dir, err := s.admin.ConfigGet(context.Background(), "dir").Result()
			if err != nil {
				t.Fatal(err)
			}
			file, err := s.admin.ConfigGet(context.Background(), "dbfilename").Result()
			if err != nil {
				t.Fatal(err)
			}
			// A folder is where the file is to be.
			if err := os.MkdirAll(filepath.Join(dir["dir"], file["dbfilename"], "in the way"), 0o700); err != nil {
				t.Fatal(err)
			}
			s.do(t, "config", "set", "save", "3600 1000000")
			_ = s.admin.Do(context.Background(), "bgsave").Err()
			awaits(t, "a save that fails", func() error {
				info, err := s.admin.Info(context.Background(), "persistence").Result()
				if err == nil && !strings.Contains(info, "rdb_last_bgsave_status:err") {
					err = errors.New("none")
				}
				return err
			})
		},
		func(t *testing.T, s *outageServer) { s.do(t, "config", "set", "stop-writes-on-bgsave-error", "no") }},
	"NOPERM for writes": {"refuses writes", false,
		func(t *testing.T, s *outageServer) { s.do(t, "acl", "setuser", "app", "-@write", "-@scripting") },
		func(t *testing.T, s *outageServer) { s.do(t, "acl", "setuser", "app", "+@all") }},
	"OOM: it is full": {"is full", false,
		func(t *testing.T, s *outageServer) { s.do(t, "config", "set", "maxmemory", "1") },
		func(t *testing.T, s *outageServer) { s.do(t, "config", "set", "maxmemory", "0") }},

	"a list is under the key": {"holds something else", false,
		func(t *testing.T, s *outageServer) {
			for _, c := range s.caches {
				s.do(t, "del", c.RedisKey("have"))
				s.do(t, "rpush", c.RedisKey("have"), "a")
			}
		}, nil},
	"a foreign string is under the key": {"holds something else", false,
		func(t *testing.T, s *outageServer) {
			for _, c := range s.caches {
				s.do(t, "set", c.RedisKey("have"), `{"name":"Ada"}`)
			}
		}, nil},
	"a damaged record is under the key": {"holds something else", false,
		func(t *testing.T, s *outageServer) {
			for _, c := range s.caches {
				s.do(t, "setrange", c.RedisKey("have"), 60, "\xff\xff\xff")
			}
		}, nil},
}

// babbler passes connections on, or answers everything with what is no answer.
type babbler struct {
	listener net.Listener
	target   string
	babbling atomic.Bool
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	wg       sync.WaitGroup
}

func startBabbler(t *testing.T, target string) *babbler {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &babbler{listener: l, target: target, conns: map[net.Conn]struct{}{}}
	b.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.cut()
		b.wg.Wait()
	})
	return b
}

func (b *babbler) on(on bool) {
	b.babbling.Store(on)
	b.cut()
}

func (b *babbler) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = c.Close()
	}
	clear(b.conns)
}

func (b *babbler) keep(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns[c] = struct{}{}
}

func (b *babbler) serve(conn net.Conn) {
	defer conn.Close()
	b.keep(conn)
	if b.babbling.Load() {
		for in := bufio.NewReader(conn); ; {
			if _, err := in.ReadString('\n'); err != nil {
				return
			}
			if _, err := io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n"); err != nil {
				return
			}
		}
	}
	out, err := net.Dial("tcp", b.target)
	if err != nil {
		return
	}
	defer out.Close()
	b.keep(out)
	b.wg.Go(func() {
		_, _ = io.Copy(out, conn)
		_ = out.Close()
	})
	_, _ = io.Copy(conn, out)
}

const outageTable = "../../docs/outages.md"

// outageCells reads the table: outcomes by row and state.
func outageCells(t *testing.T) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile(outageTable)
	if err != nil {
		t.Fatal(err)
	}
	cells := map[string]map[string]string{}
	var states []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|--") {
			continue
		}
		parts := strings.Split(strings.Trim(line, "|"), "|")
		for i := range parts {
			parts[i] = strings.ReplaceAll(strings.TrimSpace(parts[i]), "`", "")
		}
		if parts[0] == "operation \\ Redis" {
			states = parts[1:]
			continue
		}
		if len(states) == 0 || len(parts) != len(states)+1 {
			states = nil // another table
			continue
		}
		cells[parts[0]] = map[string]string{}
		for i, s := range states {
			cells[parts[0]][s] = parts[i+1]
		}
	}
	return cells
}

func TestEveryOperationInEveryStateOfRedis(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	cells := outageCells(t)
	if want := slices.Sorted(maps.Keys(outageRows)); !slices.Equal(slices.Sorted(maps.Keys(cells)), want) {
		t.Fatalf("%s has the operations %q, and not %q", outageTable, slices.Sorted(maps.Keys(cells)), want)
	}
	var tried sync.Map
	places := make(chan struct{}, 6) // so many servers at once
	sideBySide(t, names(outages), func(t *testing.T, name string) {
		places <- struct{}{}
		defer func() { <-places }()
		o := outages[name]
		got := o.try(t)
		for row, word := range got {
			tried.Store(row+o.column(), true)
			if want := strings.Split(cells[row][o.column()], " or "); !slices.Contains(want, word) {
				t.Errorf("%s: %s; the table says %q of %q", row, word, want, o.column())
			}
		}
	})
	for row, states := range cells {
		for s := range states {
			if _, ok := tried.Load(row + s); !ok {
				t.Errorf("%s, Redis %s: not tried", row, s)
			}
		}
	}
}

// try returns the outcome of each operation.
func (o *outage) try(t *testing.T) map[string]string {
	ctx := t.Context()
	s := &outageServer{Server: redistest.Start(t, redistest.ACL("app on >secret ~* &* +@all")), caches: map[string]*cache.Cache[string, string]{}}
	s.admin = s.Client(t)
	s.proxy = redistest.NewProxy(t, s.Addr())
	s.babble = startBabbler(t, s.proxy.Addr())
	opts := s.Options()
	opts.Addr, opts.Username, opts.Password = s.babble.listener.Addr().String(), "app", "secret"
	opts.PoolSize = 10 * len(outageRows)
	rdb := redis.NewClient(opts)
	t.Cleanup(func() { _ = rdb.Close() })
	far := s.Client(t)

	// Where answers come, those that come late must not be taken for none.
	failures, timeout := math.MaxInt, patience
	if o.state == "does not answer" || o.state == "refuses writes" { // with a tier that goes on or without
		failures, timeout = 5, 300*time.Millisecond
	}
	for row, r := range outageRows {
		src := cache.Source[string, string]{}
		if r.loads {
			src.Load = func(context.Context, string) (string, error) { s.loads(row).Add(1); return "loaded", nil }
		}
		c, err := cache.NewFrom(rdb, cacheName(row), src, discard, cache.WithTimeout(timeout), cache.WithBreaker(failures, time.Second),
			cache.WithStrategy(append([]strategy.Strategy{strategy.TTL(time.Hour), strategy.Jitter(0)}, o.strategies()...)...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		s.caches[row] = c
		awaits(t, "the first value", func() error { return c.Set(ctx, "have", "old", cache.Tags("t")) })
	}
	if o.tier {
		for _, c := range s.caches { // after all of them have joined the session
			awaits(t, "the local tier", func() error {
				if inLocal(c, "have") {
					return nil
				}
				// A session that began anew has emptied it.
				return cmp.Or(c.Set(ctx, "have", "old", cache.Tags("t")), errors.New("it was not in the local tier"))
			})
		}
	}
	if o.begin != nil {
		o.begin(t, s)
	}
	if o.state == "is not heard" {
		for _, c := range s.caches {
			for c.Metrics().Listener == metrics.Up {
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
	words := map[string]string{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for row, r := range outageRows {
		all.Go(func() {
			c := s.caches[row]
			v, err := r.op(ctx, c)
			word := outageWord(v, err)
			if o.tier {
				word = s.again(t, row, r, word)
			}
			mu.Lock()
			defer mu.Unlock()
			words[row] = word
		})
	}
	all.Wait()
	if o.end != nil {
		o.end(t, s)
	}
	for row, c := range s.caches {
		patient, cancel := context.WithTimeout(ctx, patience)
		if err := c.Sync(patient); err != nil {
			t.Errorf("%s: Sync when Redis is back: %v", row, err)
		}
		cancel()
		if words[row] != isFailed && words[row] != isDone {
			continue
		}
		other, err := cache.New[string, string](far, cacheName(row), discard, cache.WithTimeout(patience))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { other.Close() })
		v, err := other.Peek(ctx, "have")
		if err != nil && (!errors.Is(err, cache.ErrMiss) || errors.Is(err, cache.ErrUnavailable)) {
			t.Errorf("%s: another process reads %v", row, err)
		}
		switch {
		case row == "SetIfAbsent":
		case words[row] == isDone && v == "old":
			t.Errorf("%s is done, and another process reads the old value", row)
		case words[row] == isFailed && v != "old":
			words[row] = isToldLater
		}
	}
	return words
}

func (o *outage) strategies() []strategy.Strategy {
	if !o.tier {
		return nil
	}
	return []strategy.Strategy{strategy.LRU(100), strategy.LocalDuringOutage(time.Hour)}
}

// inLocal reports whether the local tier has a key.
func inLocal(c *cache.Cache[string, string], key string) bool {
	for k := range c.Local() {
		if k == key {
			return true
		}
	}
	return false
}

// again reads again in the cache of a row whose local tier goes on. What is loaded is kept, and a
// change has effect at once, whatever Redis says.
func (s *outageServer) again(t *testing.T, row string, r outageRow, word string) string {
	ctx, c, n := t.Context(), s.caches[row], s.loads(row)
	if word == isSource {
		before := n.Load()
		if v, err := r.op(ctx, c); v == "loaded" && err == nil && n.Load() == before {
			return isKept
		}
		return word
	}
	switch row {
	case "Set", "SetMany", "Delete", "Invalidate", "InvalidatePattern", "InvalidateTags", "Clear":
		v, err := c.Get(ctx, "have")
		if v != "loaded" && !(v == "new" && word == isDone) || err != nil {
			t.Errorf("%s: %s, and a read gives %q, %v", row, word, v, err)
		}
		before := n.Load()
		if again, err := c.Get(ctx, "have"); again != v || err != nil || n.Load() != before {
			t.Errorf("%s: %s, and after %q the next read gives %q, %v, after %d loads", row, word, v, again, err, n.Load()-before)
		}
	}
	return word
}

func cacheName(row string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == ',' {
			return '-'
		}
		return r
	}, row)
}

func outageWord(v string, err error) string {
	switch {
	case err == nil:
		switch v {
		case "old":
			return isValue
		case "loaded":
			return isSource
		case isLeftOut:
			return v
		case "":
			return isDone
		}
		return fmt.Sprintf("a value that was never stored: %q", v)
	case errors.Is(err, context.DeadlineExceeded):
		return isPending
	case errors.Is(err, cache.ErrMiss) && errors.Is(err, cache.ErrUnavailable):
		return isNoAnswer
	case errors.Is(err, cache.ErrMiss):
		return isMiss
	case errors.Is(err, cache.ErrUnavailable):
		return isFailed
	}
	return fmt.Sprintf("an error of no kind: %v", err)
}
