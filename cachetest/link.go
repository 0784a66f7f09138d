package cachetest

import (
	"net"
	"syscall"
	"time"

	"github.com/delqhi/cache/internal/cmdscan"
)

// link is a connection to the server, seen from the client. What comes from the server is
// read by a goroutine and kept in the inbox, however much it is: else a client that writes a
// long pipeline, and a server that answers its beginning, would wait for each other.
type link struct {
	net.Conn // the client's end
	process  *Process
	inbox    *inbox
	commands cmdscan.Scanner // used by the goroutine that writes

	subscribed bool // guarded by process.mu
}

func newLink(p *Process, conn net.Conn, delay time.Duration) *link {
	return &link{Conn: conn, process: p, inbox: newInbox(delay)}
}

// receive reads from the server until the connection ends.
func (l *link) receive() {
	buf := make([]byte, 32<<10)
	for {
		n, err := l.Conn.Read(buf)
		if n > 0 {
			l.inbox.put(buf[:n])
		}
		if err != nil {
			l.end(err)
			return
		}
	}
}

// Read implements net.Conn.
func (l *link) Read(p []byte) (int, error) { return l.inbox.read(p) }

// Write implements net.Conn. It looks for commands that subscribe.
func (l *link) Write(p []byte) (int, error) {
	for _, name := range l.commands.Scan(p) {
		switch name {
		case "subscribe", "psubscribe", "ssubscribe":
			if err := l.process.subscribe(l); err != nil {
				l.end(err)
			}
		}
	}
	if err := l.inbox.ended(); err != nil {
		return 0, &net.OpError{Op: "write", Net: "memory", Err: err}
	}
	n, err := l.Conn.Write(p)
	if reason := l.inbox.ended(); err != nil && reason != nil {
		err = &net.OpError{Op: "write", Net: "memory", Err: reason}
	}
	return n, err
}

// Close implements net.Conn.
func (l *link) Close() error {
	l.end(net.ErrClosed)
	return nil
}

// end ends the connection for a reason; see inbox.end. Unless it is the server that has ended it,
// what was not read yet is lost.
func (l *link) end(reason error) {
	l.inbox.end(reason)
	_ = l.Conn.Close()
	l.process.forget(l)
}

// SetDeadline implements net.Conn.
func (l *link) SetDeadline(t time.Time) error {
	l.inbox.setDeadline(t)
	return l.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (l *link) SetReadDeadline(t time.Time) error {
	l.inbox.setDeadline(t)
	return nil
}

// SetWriteDeadline implements net.Conn. After the end it has no error: that is for the next write
// to say, which knows the reason.
func (l *link) SetWriteDeadline(t time.Time) error {
	_ = l.Conn.SetWriteDeadline(t)
	return nil
}

// SyscallConn implements syscall.Conn, by which clients look at a connection before they use it
// again: one that was cut is left, as one to a real server would be. There is no descriptor to
// call a function with.
func (l *link) SyscallConn() (syscall.RawConn, error) {
	if err := l.inbox.ended(); err != nil {
		return nil, err
	}
	return noDescriptor{}, nil
}

type noDescriptor struct{}

func (noDescriptor) Control(func(uintptr)) error    { return nil }
func (noDescriptor) Read(func(uintptr) bool) error  { return nil }
func (noDescriptor) Write(func(uintptr) bool) error { return nil }
