package cachetest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// connect returns a link, and the server's end of it.
func connect(t *testing.T) (*link, net.Conn, *Process) {
	client, server := net.Pipe()
	p := &Process{env: &Env{began: time.Now()}, links: map[*link]struct{}{}}
	l := newLink(p, client, 0)
	p.links[l] = struct{}{}
	p.env.wg.Go(l.receive)
	t.Cleanup(func() {
		p.close()
		server.Close()
		p.env.wg.Wait()
	})
	return l, server, p
}

// The server never waits for a client that does not read.
func TestLinkTakesAllThatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, server, _ := connect(t)
		text := strings.Repeat("0123456789", 100_000)
		if _, err := io.WriteString(server, text); err != nil {
			t.Fatal(err)
		}
		server.Close()
		if got, err := io.ReadAll(l); string(got) != text || err != nil {
			t.Errorf("%d bytes arrive: %v", len(got), err)
		}
		if n, err := l.Read(nil); n != 0 || err != io.EOF {
			t.Errorf("Read = %d, %v", n, err)
		}
	})
}

func TestLinkKeepsDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, server, _ := connect(t)
		read := func() (time.Duration, error) {
			began := time.Now()
			_, err := l.Read(make([]byte, 1))
			return time.Since(began), err
		}
		_ = l.SetReadDeadline(time.Now().Add(time.Second))
		var timeout net.Error
		if d, err := read(); d != time.Second || !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("after %v: %v", d, err)
		}
		if d, err := read(); d != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("again after %v: %v", d, err)
		}
		// A deadline that changes while a read waits.
		_ = l.SetDeadline(time.Time{})
		time.AfterFunc(time.Minute, func() { _ = l.SetDeadline(time.Now().Add(time.Second)) })
		if d, err := read(); d != time.Minute+time.Second || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %v: %v", d, err)
		}
		_ = l.SetDeadline(time.Now().Add(time.Second))
		if _, err := l.Write([]byte("*1\r\n")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a write that the server does not take: %v", err)
		}
		_ = l.SetDeadline(time.Time{})
		time.AfterFunc(time.Hour, func() { _, _ = server.Write([]byte("x")) })
		if d, err := read(); d != time.Hour || err != nil {
			t.Errorf("after %v: %v", d, err)
		}
	})
}

func TestLinkKeepsTheOrderOfWhatIsDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, server, p := connect(t)
		p.slow(time.Minute)
		_, _ = server.Write([]byte("a"))
		time.Sleep(time.Second)
		p.slow(time.Second)
		_, _ = server.Write([]byte("b"))
		began := time.Now()
		buf := make([]byte, 2)
		if _, err := io.ReadFull(l, buf); string(buf) != "ab" || err != nil || time.Since(began) != 59*time.Second {
			t.Errorf("%q after %v: %v", buf, time.Since(began), err)
		}
	})
}

// The reason for an end is in all errors, and a client can see it before it uses the link.
func TestLinkSaysWhyItHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, server, p := connect(t)
		if _, err := l.SyscallConn(); err != nil {
			t.Error(err)
		}
		_, _ = server.Write([]byte("lost"))
		synctest.Wait()
		p.CutRedis()
		if _, err := l.Read(make([]byte, 1)); !errors.Is(err, errCut) {
			t.Errorf("Read: %v", err)
		}
		if _, err := l.Write([]byte("x")); !errors.Is(err, errCut) {
			t.Errorf("Write: %v", err)
		}
		if err := l.SetDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Errorf("SetDeadline: %v", err)
		}
		if _, err := syscall.Conn(l).SyscallConn(); !errors.Is(err, errCut) {
			t.Errorf("SyscallConn: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := l.Read(make([]byte, 1)); !errors.Is(err, errCut) { // the first reason counts
			t.Errorf("Read: %v", err)
		}
		if _, err := p.dial(context.Background(), "", ""); !errors.Is(err, errCut) {
			t.Errorf("dial: %v", err)
		}
	})
}
