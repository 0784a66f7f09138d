package redistest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// link is one connection of a client to a [Proxy] and its counterpart to the
// server.
type link struct {
	proxy  *Proxy
	wg     sync.WaitGroup  // forward and what it starts
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	gone   chan struct{} // closed when all its goroutines have ended
	kind   atomic.Int32  // its Class; written by the pump to the server
	broken atomic.Bool   // an end has disappeared without a FIN or RST
	left   atomic.Int64  // bytes of replies that may still pass, if they are cut

	mu     sync.Mutex // guards the fields below
	client *net.TCPConn
	server *net.TCPConn // nil until it is dialed
	closed bool
}

func newLink(p *Proxy, client *net.TCPConn) *link {
	l := &link{proxy: p, client: client, gone: make(chan struct{})}
	l.kind.Store(int32(unknown))
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// forward dials the server and passes bytes both ways until both have ended.
func (l *link) forward() {
	// Whether there is a server is information from the other side: in a black hole it does not
	// reach the client.
	if !l.open(ToServer) {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, patience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", l.proxy.currentTarget())
	if err != nil {
		if l.open(ToClient) {
			l.close(true)
		}
		return
	}
	server := conn.(*net.TCPConn)
	l.mu.Lock()
	l.server = server
	closed := l.closed
	l.mu.Unlock()
	if closed { // close did not see the server
		_ = server.Close()
		return
	}
	l.wg.Go(func() { l.pump(ToServer, server, l.client) })
	l.wg.Go(func() { l.pump(ToClient, l.client, server) })
}

// chunk is the result of one read.
type chunk struct {
	bytes []byte
	due   time.Time
}

// pump passes bytes that arrive on src on to dst. Reading and writing are separate, so that
// many chunks can be in flight at the same time when there is a delay.
func (l *link) pump(way Direction, dst, src *net.TCPConn) {
	chunks := make(chan chunk, 256)
	var end error // of src; written before chunks is closed
	l.wg.Go(func() {
		defer close(chunks)
		buf := make([]byte, 32<<10)
		for {
			n, err := src.Read(buf)
			if n > 0 {
				due := time.Now().Add(l.delay())
				select {
				case chunks <- chunk{append([]byte(nil), buf[:n]...), due}:
				case <-l.ctx.Done():
					return
				}
			}
			if err != nil {
				end = err
				return
			}
		}
	})
	for c := range chunks {
		if way == ToServer {
			l.classify(c.bytes)
		}
		if !l.wait(c.due) {
			return
		}
		if err := l.write(way, dst, c.bytes); errors.Is(err, errCut) {
			l.close(true)
			return
		} else if err != nil {
			// dst is closed. The other direction must be informed, because its reader may not
			// find out: the kernel reports a reset once.
			l.broken.Store(true)
			if l.open(1 - way) {
				l.close(true)
			}
			return
		}
	}
	if errors.Is(end, io.EOF) {
		l.proxy.pass(l, way, func() {
			if !l.broken.Load() {
				_ = dst.CloseWrite()
			}
		})
	} else if l.open(way) {
		l.close(true) // a connection that was reset is reset on the other side too
	}
}

// open waits until a direction is open, or returns false if the link is closed.
func (l *link) open(way Direction) bool {
	return l.proxy.pass(l, way, func() {})
}

// wait returns at a time, or false if the link is closed before it.
func (l *link) wait(due time.Time) bool {
	d := time.Until(due)
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// write writes all of b, whatever switches are turned in the meantime.
func (l *link) write(way Direction, dst *net.TCPConn, b []byte) error {
	for len(b) > 0 {
		var n int
		var err error
		if !l.proxy.pass(l, way, func() {
			piece := l.piece(way, b)
			if len(piece) == 0 {
				err = errCut
				return
			}
			n, err = dst.Write(piece)
			b = b[n:]
			l.passed(way, n)
		}) {
			return net.ErrClosed
		}
		if !l.rest(n) {
			return net.ErrClosed
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return nil
}

// setWriteDeadline interrupts writes by a time in the past.
func (l *link) setWriteDeadline(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.client.SetWriteDeadline(t) // an error means that it is closed
	if l.server != nil {
		_ = l.server.SetWriteDeadline(t)
	}
}

// close ends both connections, once: by RST, or else by FIN.
func (l *link) close(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	l.cancel()
	for _, c := range []*net.TCPConn{l.client, l.server} {
		if c == nil {
			continue
		}
		if reset {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
	}
}
