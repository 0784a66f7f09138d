package redistest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// echo is a server that sends back what it gets, and counts it.
type echo struct {
	addr     string
	received atomic.Int64
}

func startEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(io.MultiWriter(counter{&e.received}, conn), conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return e
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// dial connects to a proxy. The connection is closed at the end of the test.
func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.Addr(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// say sends a text and waits for its echo.
func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	hear(t, conn, text)
}

func hear(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len(text))
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != text {
		t.Fatalf("heard %q, not %q; %v", buf, text, err)
	}
}

// silent checks that nothing can be read for a moment: it may miss that something
// comes later, and never sees what doesn't come.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); n > 0 || !ok || !timeout.Timeout() {
		t.Errorf("read %d bytes; %v", n, err)
	}
}

func waitOpen(t *testing.T, p *Proxy, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := eventually(ctx, nil, "the number of open connections", func(context.Context) error {
		if n := p.Open(); n != want {
			return errors.New("another number")
		}
		return nil
	}); err != nil {
		t.Errorf("%d connections are open, not %d", p.Open(), want)
	}
}

func TestAProxyForwards(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startEcho(t).addr)
	a, b := dial(t, p), dial(t, p)
	say(t, a, "a")
	say(t, b, "b")
	if p.Accepted() != 2 || p.Open() != 2 {
		t.Errorf("%d accepted, %d open", p.Accepted(), p.Open())
	}
	// The end of one direction is forwarded, and leaves the other open.
	if _, err := io.WriteString(a, "the end"); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(a); string(got) != "the end" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	waitOpen(t, p, 1)
	b.Close()
	waitOpen(t, p, 0)
	if p.Accepted() != 2 {
		t.Errorf("%d accepted", p.Accepted())
	}
}

func TestACutClosesAndRefusesUntilItIsHealed(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startEcho(t).addr)
	conn := dial(t, p)
	say(t, conn, "before")
	p.Cut()
	p.Cut() // once more does nothing
	if n := p.Open(); n != 0 {
		t.Errorf("%d connections are open", n)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the end of a connection: %v", err)
	}
	if c, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v", c, err)
	}
	p.Heal()
	p.Heal()
	say(t, dial(t, p), "after")
}

func TestAResetBreaksOpenConnectionsOnly(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startEcho(t).addr)
	conn := dial(t, p)
	say(t, conn, "before")
	p.Reset()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that was reset: %v", err)
	}
	say(t, dial(t, p), "after")
}

// fill writes until nothing more goes into a connection that is not read, and
// returns how many bytes went. They are digits in order.
func fill(t *testing.T, conn *net.TCPConn) (sent int) {
	t.Helper()
	text := bytes.Repeat([]byte("0123456789"), 10_000)
	for {
		if err := conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Write(text[sent%10:])
		sent += n
		if n == 0 {
			return sent
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
}

// A server that reads nothing lets writes to it block. That must hold up neither
// the switches nor the end of the test.
func TestSwitchesWorkWhileWritesAreBlocked(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := NewProxy(t, l.Addr().String())
	conn := dial(t, p)
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	sent := fill(t, conn)
	p.Blackhole(ToClient)
	p.Blackhole()
	p.Heal()
	p.Delay(time.Millisecond)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	// Nothing was lost or sent twice by the writes that were interrupted.
	got, err := io.ReadAll(server)
	if err != nil || len(got) != sent {
		t.Fatalf("%d bytes of %d arrived; %v", len(got), sent, err)
	}
	for i, b := range got {
		if b != '0'+byte(i%10) {
			t.Fatalf("byte %d is %q", i, b)
		}
	}

	stuck := dial(t, p)
	fill(t, stuck)
	p.Cut()
}

func TestDelayHoldsBackEachDirection(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startEcho(t).addr)
	conn := dial(t, p)
	say(t, conn, "at once")
	const d = 20 * time.Millisecond
	p.Delay(d)
	start := time.Now()
	say(t, conn, "later")
	if took := time.Since(start); took < 2*d {
		t.Errorf("there and back in %v", took)
	}
	// What is delayed is lost when the connection is, and holds up no other.
	p.Delay(time.Hour)
	if _, err := io.WriteString(conn, "never"); err != nil {
		t.Fatal(err)
	}
	p.Reset()
	p.Heal()
	say(t, dial(t, p), "at once")
}

// Whatever the switches do that lose nothing, each stream arrives whole and in
// order.
func TestAStreamSurvivesAnySwitching(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, startEcho(t).addr)
	var streams sync.WaitGroup
	for range 4 {
		conn := dial(t, p)
		text := make([]byte, 1<<20)
		for i := range text {
			text[i] = byte(rand.IntN(256))
		}
		streams.Go(func() {
			for rest := text; len(rest) > 0; {
				n := min(len(rest), 1+rand.IntN(20_000))
				if _, err := conn.Write(rest[:n]); err != nil {
					t.Error(err)
					break
				}
				rest = rest[n:]
			}
			if err := conn.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		streams.Go(func() {
			if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%d of %d bytes, changed or not; %v", len(got), len(text), err)
			}
		})
	}
	stop := make(chan struct{})
	var switching sync.WaitGroup
	for range 2 {
		switching.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch rand.IntN(7) {
				case 0:
					p.Blackhole()
				case 1:
					p.Blackhole(Direction(rand.IntN(2)))
				case 2:
					p.Delay(time.Duration(rand.IntN(1000)) * time.Microsecond)
				case 3:
					p.Slice(rand.IntN(4))
				case 4:
					p.Limit(1 << (16 + rand.IntN(10)))
				default:
					p.Heal()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		streams.Wait()
		close(done)
	}()
	// Switching forever would let too little through.
	select {
	case <-done:
	case <-time.After(time.Second):
	}
	close(stop)
	switching.Wait()
	p.Heal()
	<-done
}

func TestAProxyWorksForRedis(t *testing.T) {
	t.Parallel()
	s := Start(t)
	p := NewProxy(t, s.Addr())
	o := s.Options()
	o.Addr = p.Addr()
	rdb := closeAfter(t, redis.NewClient(o))
	mustSet(t, rdb, "k", "v")

	p.Blackhole()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := rdb.Set(ctx, "k", "ghost", 0).Err(); err == nil {
		t.Error("an answer came out of a black hole")
	}
	mustGet(t, s.Client(t), "k", "v")
	p.Cut()
	if err := rdb.Get(t.Context(), "k").Err(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("cut off: %v", err)
	}
	p.Heal()
	mustGet(t, rdb, "k", "v")
}
