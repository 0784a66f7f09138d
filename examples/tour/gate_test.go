package main

import (
	"io"
	"net"
	"testing"
)

// echoServer answers with what it is sent.
func echoServer(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// echo says whether a message through c comes back.
func echo(c net.Conn) bool {
	if _, err := c.Write([]byte("hello")); err != nil {
		return false
	}
	got := make([]byte, 5)
	_, err := io.ReadFull(c, got)
	return err == nil && string(got) == "hello"
}

func TestGateEndsConnectionsWhileItIsShut(t *testing.T) {
	g, err := openGate(echoServer(t))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", g.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}

	before := dial()
	if !echo(before) {
		t.Error("an open gate lets nothing through")
	}
	g.Shut()
	if echo(before) {
		t.Error("a connection has survived the shutting of the gate")
	}
	if echo(dial()) {
		t.Error("a shut gate lets a new connection through")
	}
	g.Open()
	if !echo(dial()) {
		t.Error("an open gate lets nothing through after it was shut")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", g.Addr()); err == nil {
		c.Close()
		t.Error("a closed gate still listens")
	}
}

func TestAMutedGateEndsSubscriptionsOnly(t *testing.T) {
	g, err := openGate(echoServer(t))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", g.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	// subscribe sends the command in two pieces, and says whether it comes back.
	const command = "*2\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n"
	subscribe := func(c net.Conn) bool {
		for _, piece := range []string{command[:10], command[10:]} {
			if _, err := io.WriteString(c, piece); err != nil {
				return false
			}
			got := make([]byte, len(piece))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != piece {
				return false
			}
		}
		return true
	}

	data, news := dial(), dial()
	if !echo(data) || !subscribe(news) {
		t.Fatal("an open gate lets nothing through")
	}
	if got := g.Subscribed(); len(got) != 1 {
		t.Errorf("subscribed: %q", got)
	}
	g.Mute()
	if echo(news) {
		t.Error("a subscription has survived that the gate was muted")
	}
	late := dial()
	if !echo(data) || !echo(late) {
		t.Error("a muted gate has ended what did not subscribe")
	}
	if subscribe(late) {
		t.Error("a muted gate lets a subscription through")
	}
	g.Unmute()
	if !subscribe(dial()) {
		t.Error("an open gate lets no subscription through after it was muted")
	}
}

func TestGateEndsAConnectionWhenItsServerIsGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g, err := openGate(l.Addr().String())
	l.Close() // nothing listens at the target
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	c, err := net.Dial("tcp", g.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if echo(c) {
		t.Error("an answer came from nowhere")
	}
}
