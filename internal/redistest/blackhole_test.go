package redistest

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

func TestABlackHoleIsSilentAndGivesBackWhenHealed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ways    []Direction
		reaches bool // the server hears what the client says
	}{
		"both":      {nil, false},
		"to server": {[]Direction{ToServer}, false},
		"to client": {[]Direction{ToClient}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := startEcho(t)
			p := NewProxy(t, e.addr)
			old := dial(t, p)
			say(t, old, "before")
			heard := e.received.Load()
			p.Blackhole(c.ways...)
			p.Blackhole(c.ways...)
			for _, conn := range []*net.TCPConn{old, dial(t, p)} {
				if _, err := io.WriteString(conn, "held"); err != nil {
					t.Fatal(err)
				}
				if c.reaches {
					heard += int64(len("held"))
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					if err := eventually(ctx, nil, "what passes", func(context.Context) error {
						if e.received.Load() < heard {
							return errors.New("not yet")
						}
						return nil
					}); err != nil {
						t.Error(err)
					}
					cancel()
				}
				silent(t, conn)
				if n := e.received.Load(); n != heard {
					t.Errorf("the server has heard %d bytes, not %d", n, heard)
				}
				defer hear(t, conn, "held")
			}
			p.Heal()
		})
	}
}

func TestWhatAClientLeavesInABlackHoleArrivesWhenHealed(t *testing.T) {
	t.Parallel()
	e := startEcho(t)
	p := NewProxy(t, e.addr)
	conn := dial(t, p)
	say(t, conn, "x")
	p.Blackhole(ToServer)
	if _, err := io.WriteString(conn, "given up"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	p.Heal()
	waitOpen(t, p, 0)
	if n := e.received.Load(); n != int64(len("x"+"given up")) {
		t.Errorf("the server has heard %d bytes", n)
	}
}

// What becomes of one end is news, which a black hole keeps from the other end.
func TestABlackHoleHidesThatAnEndHasGone(t *testing.T) {
	t.Parallel()
	reset := func(t *testing.T, conn *net.TCPConn) {
		t.Helper()
		if err := errors.Join(conn.SetLinger(0), conn.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		ways  []Direction
		write bool // to an end that has gone, which is how the proxy finds out
	}{
		"both":             {nil, false},
		"to server":        {[]Direction{ToServer}, false},
		"found by a write": {[]Direction{ToServer}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			p := NewProxy(t, l.Addr().String())
			client := dial(t, p)
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			p.Blackhole(c.ways...)
			reset(t, client)
			for range 3 {
				if c.write {
					if _, err := io.WriteString(server, "x"); err != nil {
						t.Fatal(err)
					}
				}
				silent(t, server)
			}
			p.Heal()
			if err := server.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("after it: %v", err)
			}
		})
	}
}

func TestCutAndResetLoseWhatIsInABlackHole(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*Proxy){"cut": (*Proxy).Cut, "reset": (*Proxy).Reset} {
		t.Run(name, func(t *testing.T) {
			e := startEcho(t)
			p := NewProxy(t, e.addr)
			conn := dial(t, p)
			say(t, conn, "x")
			p.Blackhole()
			if _, err := io.WriteString(conn, "lost"); err != nil {
				t.Fatal(err)
			}
			lose(p)
			p.Heal()
			say(t, dial(t, p), "y")
			if n := e.received.Load(); n != 2 {
				t.Errorf("the server has heard %d bytes", n)
			}
		})
	}
}

func TestABlackHoleHidesThatThereIsNoServer(t *testing.T) {
	t.Parallel()
	gone, err := claimPort()
	if err != nil {
		t.Fatal(err)
	}
	defer gone.release()
	p := NewProxy(t, gone.addr())
	for name, ways := range map[string][]Direction{"both": nil, "to server": {ToServer}, "to client": {ToClient}} {
		p.Blackhole(ways...)
		conn := dial(t, p)
		silent(t, conn)
		p.Heal()
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: after it: %v", name, err)
		}
	}
}
