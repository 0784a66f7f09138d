package e2e_test

import (
	"bufio"
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
	state string // a column of the table
	begin func(t *testing.T, s *outageServer)
	end   func(t *testing.T, s *outageServer)
}

// outageServer is a server, whose caches have a user and a way of their own.
type outageServer struct {
	*redistest.Server
	proxy  *redistest.Proxy
	babble *babbler
	admin  *redis.Client
	caches map[string]*cache.Cache[string, string] // by row
}

func (s *outageServer) do(t *testing.T, args ...any) {
	t.Helper()
	if err := s.admin.Do(context.Background(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

var outages = map[string]outage{
	"nothing is wrong": {state: "answers"},

	"the network swallows everything": {"does not answer",
		func(_ *testing.T, s *outageServer) { s.proxy.Blackhole() },
		func(_ *testing.T, s *outageServer) { s.proxy.Heal() }},
	"nothing listens": {"does not answer",
		func(_ *testing.T, s *outageServer) { s.proxy.Cut() },
		func(_ *testing.T, s *outageServer) { s.proxy.Heal() }},
	"the circuit is open": {"does not answer",
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
	"the process is stopped": {"does not answer",
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
	"CLIENT PAUSE": {"does not answer",
		func(t *testing.T, s *outageServer) { s.do(t, "client", "pause", 8000, "all") },
		func(t *testing.T, s *outageServer) { // nothing ends it before its time
			awaits(t, "the end of the pause", func() error { return s.admin.Ping(context.Background()).Err() })
		}},
	"it answers garbage": {"does not answer",
		func(_ *testing.T, s *outageServer) { s.babble.on(true) },
		func(_ *testing.T, s *outageServer) { s.babble.on(false) }},
	"NOPERM for everything": {"does not answer",
		func(t *testing.T, s *outageServer) { s.do(t, "acl", "setuser", "app", "-@all") },
		func(t *testing.T, s *outageServer) { s.do(t, "acl", "setuser", "app", "+@all") }},
	"NOAUTH": {"does not answer",
		func(t *testing.T, s *outageServer) {
			s.do(t, "acl", "setuser", "app", "off")
			s.do(t, "client", "kill", "user", "app")
		},
		func(t *testing.T, s *outageServer) { s.do(t, "acl", "setuser", "app", "on") }},
	"MASTERDOWN": {"does not answer",
		func(t *testing.T, s *outageServer) {
			s.do(t, "config", "set", "replica-serve-stale-data", "no")
			s.do(t, "replicaof", "127.0.0.1", "1")
		},
		func(t *testing.T, s *outageServer) { s.do(t, "replicaof", "no", "one") }},

	"READONLY": {"refuses writes",
		func(t *testing.T, s *outageServer) { s.do(t, "replicaof", "127.0.0.1", "1") },
		func(t *testing.T, s *outageServer) { s.do(t, "replicaof", "no", "one") }},
	"MISCONF: it can't save": {"refuses writes",
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
	"NOPERM for writes": {"refuses writes",
		func(t *testing.T, s *outageServer) { s.do(t, "acl", "setuser", "app", "-@write", "-@scripting") },
		func(t *testing.T, s *outageServer) { s.do(t, "acl", "setuser", "app", "+@all") }},
	"OOM: it is full": {"is full",
		func(t *testing.T, s *outageServer) { s.do(t, "config", "set", "maxmemory", "1") },
		func(t *testing.T, s *outageServer) { s.do(t, "config", "set", "maxmemory", "0") }},

	"a list is under the key": {"holds something else",
		func(t *testing.T, s *outageServer) {
			for _, c := range s.caches {
				s.do(t, "del", c.RedisKey("have"))
				s.do(t, "rpush", c.RedisKey("have"), "a")
			}
		}, nil},
	"a foreign string is under the key": {"holds something else",
		func(t *testing.T, s *outageServer) {
			for _, c := range s.caches {
				s.do(t, "set", c.RedisKey("have"), `{"name":"Ada"}`)
			}
		}, nil},
	"a damaged record is under the key": {"holds something else",
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
			tried.Store(row+o.state, true)
			if want := strings.Split(cells[row][o.state], " or "); !slices.Contains(want, word) {
				t.Errorf("%s: %s; the table says %q", row, word, want)
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
	if o.state == "does not answer" || o.state == "refuses writes" {
		failures, timeout = 5, 300*time.Millisecond
	}
	for row, r := range outageRows {
		src := cache.Source[string, string]{}
		if r.loads {
			src.Load = func(context.Context, string) (string, error) { return "loaded", nil }
		}
		c, err := cache.NewFrom(rdb, cacheName(row), src, discard, cache.WithTimeout(timeout), cache.WithBreaker(failures, time.Second),
			cache.WithStrategy(strategy.TTL(time.Hour), strategy.Jitter(0)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		s.caches[row] = c
		awaits(t, "the first value", func() error { return c.Set(ctx, "have", "old", cache.Tags("t")) })
	}
	if o.begin != nil {
		o.begin(t, s)
	}
	words := map[string]string{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for row, r := range outageRows {
		all.Go(func() {
			v, err := r.op(ctx, s.caches[row])
			mu.Lock()
			defer mu.Unlock()
			words[row] = outageWord(v, err)
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
