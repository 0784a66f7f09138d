package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// shards is a proxy in front of two servers, each of which is alone: keys that contain "second"
// are on the second one, everything else, and what has no key, on the first.
type shards struct {
	listen  net.Listener
	servers [2]string
	wg      sync.WaitGroup
	mu      sync.Mutex
	conns   map[net.Conn]bool
	done    bool
}

func newShards(t *testing.T, first, second string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &shards{listen: l, servers: [2]string{first, second}, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		p.done = true
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return l.Addr().String()
}

func (p *shards) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return !p.done
}

// place returns where a command belongs; -1: nowhere.
func place(args []string) int {
	var keys []string
	switch strings.ToLower(args[0]) {
	case "eval", "evalsha":
		n, _ := strconv.Atoi(args[2])
		keys = args[3 : 3+n]
	case "mget", "unlink", "del":
		keys = args[1:]
	case "get", "set", "getrange", "strlen", "pttl", "pexpire", "hget", "hset", "setrange":
		keys = args[1:2]
	}
	at := 0
	for i, k := range keys {
		n := 0
		if strings.Contains(k, "second") {
			n = 1
		}
		if i > 0 && n != at {
			return -1
		}
		at = n
	}
	return at
}

func (p *shards) serve(client net.Conn) {
	defer client.Close()
	if !p.hold(client) {
		return
	}
	var servers [2]net.Conn
	var from [2]*bufio.Reader
	for i, addr := range p.servers {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer c.Close()
		if !p.hold(c) {
			return
		}
		servers[i], from[i] = c, bufio.NewReader(c)
	}
	in := bufio.NewReader(client)
	streams := false
	var copies sync.WaitGroup
	defer copies.Wait()
	defer servers[0].Close()
	for {
		args, raw, err := readWords(in)
		if err != nil {
			return
		}
		at := place(args)
		if at < 0 {
			fmt.Fprint(client, "-CROSSSLOT Keys in request don't hash to the same slot\r\n")
			continue
		}
		if _, err := io.WriteString(servers[at], raw); err != nil {
			return
		}
		if streams {
			continue
		}
		if strings.EqualFold(args[0], "subscribe") {
			streams = true
			copies.Go(func() { io.Copy(client, from[0]); client.Close() })
			continue
		}
		var reply strings.Builder
		if err := readAnswer(from[at], &reply); err != nil {
			return
		}
		if _, err := io.WriteString(client, reply.String()); err != nil {
			return
		}
	}
}

func readWords(in *bufio.Reader) (args []string, raw string, err error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, "", err
	}
	raw = line
	n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if err != nil || n < 1 {
		return nil, "", errors.New("no command")
	}
	for range n {
		if line, err = in.ReadString('\n'); err != nil {
			return nil, "", err
		}
		raw += line
		size, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
		b := make([]byte, size+2)
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, "", err
		}
		raw += string(b)
		args = append(args, string(b[:size]))
	}
	return args, raw, nil
}

func readAnswer(in *bufio.Reader, to *strings.Builder) error {
	line, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	to.WriteString(line)
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch line[0] {
	case '$':
		if n >= 0 {
			_, err = io.CopyN(to, in, int64(n)+2)
		}
		return err
	case '*':
		for range n {
			if err := readAnswer(in, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// Behind one address may be several servers, each of which says that it is alone. What a write of a
// key publishes does not reach those who have subscribed at another one: that is noticed.
func TestMessagesThatAreLostBehindOneAddressAreNoticed(t *testing.T) {
	first, second := redistest.Start(t), redistest.Start(t)
	addr, beats := heartbeats(t, newShards(t, first.Addr(), second.Addr()))
	process := func() *cache.Cache[string, string] {
		o := first.Options()
		o.Addr, o.Protocol = addr, 2
		rdb := redis.NewClient(o)
		t.Cleanup(func() { rdb.Close() })
		c, err := cache.New[string, string](rdb, "c", slowly, cache.WithStrategy(strategy.LRU(100), strategy.TTL(time.Hour), strategy.Jitter(0)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	a, b := process(), process()
	for _, k := range []string{"first", "second"} {
		if err := a.Set(t.Context(), k, "old"); err != nil {
			t.Fatal(err)
		}
		if v, err := b.Get(t.Context(), k); err != nil || v != "old" {
			t.Fatal(v, err)
		}
	}
	beats(20) // of both: the sessions are direct
	for _, k := range []string{"first", "second"} {
		// It is in the local tier, also if that was flushed meanwhile.
		for hits, start := b.Metrics().LocalHits, time.Now(); b.Metrics().LocalHits == hits; time.Sleep(time.Millisecond) {
			if v, err := b.Get(t.Context(), k); err != nil || v != "old" {
				t.Fatal(v, err)
			}
			if time.Since(start) > 30*time.Second {
				t.Fatalf("%s: no local hit", k)
			}
		}
		if err := a.Set(t.Context(), k, "new"); err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
			v, err := b.Get(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			if v == "new" {
				break
			}
			if time.Since(start) > 30*time.Second {
				t.Errorf("%s: %q after %v", k, v, time.Since(start))
				break
			}
		}
	}
}
