package main

import (
	"bytes"
	"io"
	"net"
	"sync"
	"time"
)

// gate stands between Redis and its clients, and can be shut: to the clients the server then
// looks down, although it keeps running. While the gate is shut it ends every connection, the
// new ones too, like a server that shuts down. It can be muted instead: then it ends only
// connections that subscribe to notifications.
//
// It is safe for concurrent use.
type gate struct {
	target   string
	listener net.Listener
	wg       sync.WaitGroup // all goroutines

	mu    sync.Mutex
	shut  bool // guarded by mu
	muted bool // guarded by mu
	// conns are the open ones, of both sides, guarded by mu. One that has subscribed has the
	// address under which the server lists it.
	conns map[net.Conn]string
}

// openGate returns an open gate to the server at target, on a free port of
// loopback.
func openGate(target string) (*gate, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gate{target: target, listener: listener, conns: map[net.Conn]string{}}
	g.wg.Go(g.accept)
	return g, nil
}

// Addr is the address for the clients.
func (g *gate) Addr() string { return g.listener.Addr().String() }

// Shut ends every connection, and lets none through until Open.
func (g *gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for c := range g.conns {
		c.Close() // removed by the goroutine that serves it
	}
}

// Open lets connections through again.
func (g *gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

// Mute ends every connection that has subscribed, and those that are about to, until
// Unmute.
func (g *gate) Mute() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.muted = true
	for c, addr := range g.conns {
		if addr != "" {
			c.Close() // removed by the goroutine that serves it
		}
	}
}

// Unmute lets subscriptions through again.
func (g *gate) Unmute() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.muted = false
}

// Subscribed returns the addresses of the connections that have subscribed, as the
// server sees them.
func (g *gate) Subscribed() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var addrs []string
	for _, addr := range g.conns {
		if addr != "" {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// Close shuts the gate for good, and waits until all its goroutines have ended.
func (g *gate) Close() error {
	err := g.listener.Close()
	g.Shut()
	g.wg.Wait()
	return err
}

func (g *gate) accept() {
	for {
		client, err := g.listener.Accept()
		if err != nil {
			return // closed
		}
		if g.admit(client) {
			g.wg.Go(func() { g.serve(client) })
		}
	}
}

// serve copies both ways until one side has ended.
func (g *gate) serve(client net.Conn) {
	defer g.dismiss(client)
	server, err := net.DialTimeout("tcp", g.target, time.Second)
	if err != nil || !g.admit(server) {
		return
	}
	defer g.dismiss(server)
	// An error is the end of one side, and only concerns the other.
	g.wg.Go(func() {
		_, _ = io.Copy(server, &watched{Conn: client, gate: g, addr: server.LocalAddr().String()})
		server.Close()
	})
	_, _ = io.Copy(client, server)
}

// admit registers a connection, or closes it if the gate is shut.
func (g *gate) admit(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		c.Close()
		return false
	}
	g.conns[c] = ""
	return true
}

// watched is the client's side of a connection. It finds out whether the connection subscribes.
type watched struct {
	net.Conn
	gate *gate
	addr string // of the other side
	tail []byte // the end of what was read last: a command may arrive in pieces
}

// subscribe is the beginning of the command, after the number of its words.
var subscribe = []byte("\r\n$9\r\nsubscribe\r\n")

// Read implements [io.Reader].
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.tail = append(w.tail, p[:n]...)
	if bytes.Contains(w.tail, subscribe) && !w.gate.subscribes(w.Conn, w.addr) {
		return 0, net.ErrClosed
	}
	w.tail = append(w.tail[:0], w.tail[max(0, len(w.tail)-len(subscribe)+1):]...)
	return n, err
}

// subscribes records that a connection subscribes, or closes it if the gate is muted.
func (g *gate) subscribes(c net.Conn, addr string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.muted {
		c.Close()
		return false
	}
	if _, ok := g.conns[c]; ok {
		g.conns[c] = addr
	}
	return true
}

// dismiss closes and removes a connection.
func (g *gate) dismiss(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	c.Close()
}
