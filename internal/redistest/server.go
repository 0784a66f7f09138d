package redistest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Server is a redis-server, or a sentinel. Its methods are safe for concurrent use, so that one
// goroutine may kill a server that others are using.
type Server struct {
	config config
	home   string // its files; on Unix short enough for the path of a socket
	dir    string // its data: home, or that of the option Dir
	port   *port
	bus    *port // of a cluster node, else nil
	argv   []string
	log    tail

	cleanup sync.Once

	mu     sync.Mutex // guards the fields below, and is held while the server is started or stopped
	proc   *process   // nil before the first one
	closed bool
}

var errEnded = errors.New("redistest: the test of this server has ended")

// Start starts a server on a free port and waits until it answers. It is stopped
// at the end of the test, and its log is shown if the test failed.
func Start(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	config := newConfig(opts)
	requireFor(tb, config)
	s, err := newServer(config, false, redisArgs)
	if err != nil {
		tb.Fatal(err)
	}
	s.stopAfter(tb)
	return s
}

// newServer starts a server. Its arguments are made by prepare for each port that
// is tried: another process may take one between its choice and its use.
func newServer(c config, withBus bool, prepare func(*Server) ([]string, error)) (*Server, error) {
	home, err := os.MkdirTemp("", "redis")
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, home: home, dir: home}
	if c.dir != "" {
		s.dir = c.dir
	}
	for range 10 {
		if err = s.tryPort(withBus, prepare); err == nil || !strings.Contains(s.Log(), "Address already in use") {
			break
		}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *Server) tryPort(withBus bool, prepare func(*Server) ([]string, error)) error {
	s.port.release()
	s.bus.release()
	s.port, s.bus = nil, nil
	var err error
	if s.port, err = claimPort(); err != nil {
		return err
	}
	if withBus {
		if s.bus, err = claimPort(); err != nil {
			return err
		}
	}
	if s.argv, err = prepare(s); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runLocked()
}

// redisArgs are those of a server that holds data.
func redisArgs(s *Server) ([]string, error) {
	args := []string{
		"--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no", "--save", "", "--appendonly", "no",
		"--repl-diskless-sync-delay", "0", // a replica need not wait for others
	}
	if s.config.binary == "" { // older versions don't know it
		args = append(args, "--enable-debug-command", "yes")
	}
	portSetting := "--port"
	if s.config.tls {
		portSetting = "--tls-port"
		settings, err := writeIdentity(s.home)
		if err != nil {
			return nil, err
		}
		args = append(args, "--port", "0")
		for _, kv := range settings {
			args = append(args, "--"+kv[0], kv[1])
		}
	}
	args = append(args, portSetting, strconv.Itoa(s.port.number))
	if s.bus != nil {
		// Nodes without replicas need not notice soon that one is down: on a busy machine they would
		// take one that is late for it, and drop what they had to carry to it.
		timeout := "15000"
		if s.config.replicas > 0 {
			timeout = "2000"
		}
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(s.bus.number), "--cluster-node-timeout", timeout)
		if s.config.tls {
			args = append(args, "--tls-cluster", "yes")
		}
	}
	if s.config.password != "" {
		args = append(args, "--requirepass", s.config.password, "--masterauth", s.config.password)
	}
	if s.config.socket {
		args = append(args, "--unixsocket", s.Socket())
	}
	return append(args, s.config.args...), nil
}

// runLocked starts the process and waits until it answers.
func (s *Server) runLocked() error {
	if s.closed {
		return errEnded
	}
	p, err := run(&s.log, s.home, cmp.Or(s.config.binary, binary), s.argv...)
	if err != nil {
		return err
	}
	s.proc = p
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := eventually(ctx, p.exited, "a port that accepts", s.accepts); err != nil {
		return s.withLog(err)
	}
	c := redis.NewClient(s.Options())
	defer c.Close()
	return s.withLog(eventually(ctx, p.exited, "an answer to PING", func(ctx context.Context) error {
		if err := c.Ping(ctx).Err(); err != nil { // LOADING, say
			return err
		}
		// Another server may hold the port, while this one is about to give up.
		info, err := c.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		if id := "process_id:" + strconv.Itoa(p.pid()); !strings.Contains(info, id+"\r\n") {
			return errors.New("another process answers on its port")
		}
		return nil
	}))
}

// accepts dials without a go-redis client, which would print its failure.
func (s *Server) accepts(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return err
	}
	return conn.Close()
}

// waitFor calls f repeatedly until it succeeds.
func (s *Server) waitFor(what string, f func(context.Context, *redis.Client) error) error {
	c := redis.NewClient(s.Options())
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.mu.Lock()
	exited := s.proc.exited
	s.mu.Unlock()
	return s.withLog(eventually(ctx, exited, what, func(ctx context.Context) error { return f(ctx, c) }))
}

func (s *Server) withLog(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\nlog of the server:\n%s", err, s.Log())
}

// Log returns the last lines that the server printed.
func (s *Server) Log() string { return s.log.String() }

// Addr returns host:port.
func (s *Server) Addr() string { return s.port.addr() }

// Port returns the port.
func (s *Server) Port() int { return s.port.number }

// Socket returns the path of the Unix socket, on which a server listens that was
// started with the option [Socket].
func (s *Server) Socket() string { return filepath.Join(s.home, "redis.sock") }

// URL returns a URL for cache.NewClient. With TLS it leaves the server's
// certificate unverified, as a URL can't name an authority.
func (s *Server) URL() string { return s.config.writeURL("redis", s.Addr(), "/0", nil) }

// Options returns those of a client that obeys contexts, does not retry and has
// timeouts of a few seconds. They are the caller's to change.
func (s *Server) Options() *redis.Options {
	o := baseOptions(s.Addr())
	o.Password = s.config.password
	if s.config.tls {
		o.TLSConfig = clientTLS()
	}
	return o
}

// Client returns a client with [Server.Options] that is closed at the end of the
// test.
func (s *Server) Client(tb testing.TB) *redis.Client {
	return closeAfter(tb, redis.NewClient(s.Options()))
}

func closeAfter[C redis.UniversalClient](tb testing.TB, c C) C {
	tb.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	return c
}

// Kill ends the process as a crash does, and returns when it has ended. A server that is down
// already stays so.
func (s *Server) Kill() { s.end(kill) }

// Stop ends the process in order, and returns when it has ended. A server that is down already
// stays so; a frozen one is thawed first.
func (s *Server) Stop() { s.end(stop) }

func (s *Server) end(sig os.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		s.proc.end(sig)
	}
}

// Freeze stops the process without ending it: connections stay open, the kernel accepts new
// ones and buffers what is sent, and no answer comes. It returns when the process has come to
// rest; an error means that the server is down.
func (s *Server) Freeze() error { return s.process().freeze() }

// Thaw continues a frozen process; it then executes the commands sent meanwhile. An error means
// that the server is down.
func (s *Server) Thaw() error { return s.process().thaw() }

func (s *Server) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// Running reports whether the process runs and is not frozen.
func (s *Server) Running() bool {
	p := s.process()
	return p.running() && !p.isFrozen()
}

// Restart stops the server, unless it is down already, starts it again on the same
// port, with the same files and settings, and waits until it answers.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.end(stop)
	return s.runLocked()
}

// stopAfter ends the server with the test.
func (s *Server) stopAfter(tb testing.TB) {
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("redis on %s:\n%s", s.Addr(), s.Log())
		}
		s.close()
	})
}

// close ends the process, in whatever state it is, and removes its files.
func (s *Server) close() {
	s.cleanup.Do(func() {
		s.mu.Lock()
		s.closed = true
		if s.proc != nil {
			s.proc.end(kill)
		}
		s.mu.Unlock()
		s.port.release()
		s.bus.release()
		_ = os.RemoveAll(s.home)
	})
}
