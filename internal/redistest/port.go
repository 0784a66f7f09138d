package redistest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports come from below the range that kernels use for clients (Linux: from 32768, others: from
// 49152). Otherwise a client's own connection could occupy the port of a server that is down,
// and prevent its restart.
const (
	firstPort = 20_000
	ports     = 12_000
)

// port is a TCP port of loopback that is reserved against all other users of this package, in
// this and other processes, even while the server on it is down.
type port struct {
	number int
	claim  net.PacketConn
}

// claimPort takes a free port. The UDP port of the same number serves as the lock: nothing
// speaks UDP here, the kernel gives it to one process only, and releases it when that process
// ends in whatever way.
func claimPort() (*port, error) {
	var last error
	for range 200 {
		n := firstPort + rand.IntN(ports)
		addr := loopback(n)
		claim, err := net.ListenPacket("udp4", addr)
		if err != nil {
			last = err
			continue
		}
		l, err := net.Listen("tcp4", addr)
		if err != nil { // a server of another program
			last = errors.Join(err, claim.Close())
			continue
		}
		if err := l.Close(); err != nil {
			return nil, errors.Join(err, claim.Close())
		}
		return &port{number: n, claim: claim}, nil
	}
	return nil, errors.Join(errors.New("redistest: no free port"), last)
}

func (p *port) addr() string { return loopback(p.number) }

// release gives the port back. A nil port is none.
func (p *port) release() {
	if p != nil {
		_ = p.claim.Close()
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
