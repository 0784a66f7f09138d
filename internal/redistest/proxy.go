package redistest

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Direction is a way through a [Proxy].
type Direction int

// The directions of a proxy.
const (
	ToServer Direction = iota
	ToClient
	directions
)

// Proxy forwards TCP connections from a loopback port to a server, and has switches that
// simulate faults of networks. They apply to new and open connections, take effect before the
// method returns, and add up until Heal turns them off. All methods are safe for concurrent
// use.
type Proxy struct {
	tb     testing.TB
	target string // guarded by conns
	port   *port
	wg     sync.WaitGroup        // every goroutine of the proxy
	delay  [classes]atomic.Int64 // nanoseconds
	narrow narrow

	// Order of locks: switching, gates, conns, link.mu.
	switching sync.Mutex // held while gates change

	// gates is read-locked while bytes are written: the holder of the write lock is certain
	// that no bytes are between a pump and a socket.
	gates struct {
		sync.RWMutex
		shut [classes][directions]chan struct{} // not nil: nothing passes until it is closed
	}

	conns struct {
		sync.Mutex
		listener net.Listener // nil while it is cut
		closed   bool
		links    map[*link]struct{}
		accepted int
	}
}

// NewProxy starts a proxy to host:port, which need not exist yet. The proxy is stopped at the
// end of the test.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	port, err := claimPort()
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{tb: tb, target: target, port: port}
	p.conns.links = map[*link]struct{}{}
	tb.Cleanup(p.close)
	if err := p.listen(); err != nil {
		tb.Fatal(err)
	}
	return p
}

// Addr returns host:port, the address to connect to.
func (p *Proxy) Addr() string { return p.port.addr() }

// Redirect forwards new connections to another host:port. Open ones stay where they are, as
// when a name or an address comes to stand for another server.
func (p *Proxy) Redirect(target string) {
	p.conns.Lock()
	defer p.conns.Unlock()
	p.target = target
}

func (p *Proxy) currentTarget() string {
	p.conns.Lock()
	defer p.conns.Unlock()
	return p.target
}

// Accepted returns how many connections the proxy has accepted since its start.
func (p *Proxy) Accepted() int {
	p.conns.Lock()
	defer p.conns.Unlock()
	return p.conns.accepted
}

// Open returns how many connections are open now. A connection that its client has closed may
// be counted for a moment more.
func (p *Proxy) Open() int {
	p.conns.Lock()
	defer p.conns.Unlock()
	return len(p.conns.links)
}

// Cut closes all connections and refuses new ones, like a host on which the server has ended.
// Bytes in flight are lost.
func (p *Proxy) Cut() {
	p.conns.Lock()
	if p.conns.listener != nil {
		_ = p.conns.listener.Close()
		p.conns.listener = nil
	}
	p.conns.Unlock()
	p.drop(false, all)
}

// Reset breaks all open connections (RST): both ends see an error. Bytes in flight are lost.
// New connections are forwarded.
func (p *Proxy) Reset() { p.drop(true, all) }

// Blackhole lets nothing pass any more, in both directions or in those given, without any sign
// of it: connections stay open, new ones are accepted, and a client that waits for an answer
// waits. Bytes and ends of connections that are held back arrive after Heal, even if their
// sender has given up by then, as they do when a network comes back: a command that timed out
// can still be executed. Cut and Reset lose them.
func (p *Proxy) Blackhole(ways ...Direction) { p.shut(all, ways) }

func (p *Proxy) shut(which []Class, ways []Direction) {
	if len(ways) == 0 {
		ways = []Direction{ToServer, ToClient}
	}
	p.change(func() {
		for _, c := range which {
			for _, d := range ways {
				if p.gates.shut[c][d] == nil {
					p.gates.shut[c][d] = make(chan struct{})
				}
			}
		}
	})
}

// change calls f while nothing passes. A write may be blocked by a peer that reads nothing, and
// would block the switch with it: all writes are interrupted, and resumed as the gates then
// allow.
func (p *Proxy) change(f func()) {
	p.switching.Lock()
	defer p.switching.Unlock()
	p.interruptWrites(time.Unix(1, 0))
	p.gates.Lock()
	defer p.gates.Unlock()
	f()
	p.interruptWrites(time.Time{})
}

func (p *Proxy) interruptWrites(deadline time.Time) {
	p.conns.Lock()
	defer p.conns.Unlock()
	for l := range p.conns.links {
		l.setWriteDeadline(deadline)
	}
}

// Delay holds all arriving bytes back by d in each direction, so that a round trip takes 2d
// longer. It delays; it does not limit the throughput.
func (p *Proxy) Delay(d time.Duration) {
	for c := range p.delay {
		p.delay[c].Store(int64(d))
	}
}

// Heal turns all switches off.
func (p *Proxy) Heal() {
	p.Delay(0)
	p.Slice(0)
	p.Limit(0)
	p.change(func() {
		p.endCut()
		for c := range p.gates.shut {
			for d, shut := range p.gates.shut[c] {
				if shut != nil {
					close(shut)
					p.gates.shut[c][d] = nil
				}
			}
		}
	})
	if err := p.listen(); err != nil {
		p.tb.Errorf("redistest: the proxy can't accept again: %v", err)
	}
}

// drop ends all connections of some classes, by RST or else by FIN.
func (p *Proxy) drop(reset bool, which []Class) {
	p.conns.Lock()
	links := make([]*link, 0, len(p.conns.links))
	for l := range p.conns.links {
		if slices.Contains(which, l.classOrData()) {
			links = append(links, l)
		}
	}
	p.conns.Unlock()
	for _, l := range links {
		l.close(reset)
		<-l.gone // so that nothing of it passes any more
	}
}

// listen accepts connections, unless it does so already or the proxy is closed.
func (p *Proxy) listen() error {
	p.conns.Lock()
	defer p.conns.Unlock()
	if p.conns.listener != nil || p.conns.closed {
		return nil
	}
	l, err := net.Listen("tcp4", p.port.addr())
	if err != nil {
		return err
	}
	p.conns.listener = l
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // it is closed
			}
			p.accept(l, conn.(*net.TCPConn))
		}
	})
	return nil
}

// accept forwards a connection, unless the listener that it came from has been
// closed by Cut in the meantime.
func (p *Proxy) accept(from net.Listener, conn *net.TCPConn) {
	p.conns.Lock()
	defer p.conns.Unlock()
	if p.conns.listener != from {
		_ = conn.Close()
		return
	}
	l := newLink(p, conn)
	l.left.Store(p.narrow.reply.Load())
	p.conns.links[l] = struct{}{}
	p.conns.accepted++
	l.wg.Go(l.forward)
	p.wg.Go(func() {
		l.wg.Wait()
		l.close(false)
		p.conns.Lock()
		delete(p.conns.links, l)
		p.conns.Unlock()
		close(l.gone)
	})
}

func (p *Proxy) close() {
	p.conns.Lock()
	p.conns.closed = true
	p.conns.Unlock()
	p.Cut()
	p.wg.Wait()
	p.port.release()
}

// pass waits until a direction is open for a link and calls write, which is finished
// before a switch takes effect. It returns false if the connection has ended.
func (p *Proxy) pass(l *link, way Direction, write func()) bool {
	for {
		p.gates.RLock()
		shut := p.gates.shut[Data][way]
		switch l.class() {
		case News:
			shut = p.gates.shut[News][way]
		case unknown:
			if p.gates.shut[News][way] == nil {
				shut = nil
			}
		}
		if shut == nil {
			write()
			p.gates.RUnlock()
			return true
		}
		p.gates.RUnlock()
		select {
		case <-shut:
		case <-l.ctx.Done():
			return false
		}
	}
}
