package redistest

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// narrow limits how much of a stream passes a [Proxy] at a time, and in total.
type narrow struct {
	slice atomic.Int64 // at most so many bytes in a write; 0: any number
	rate  atomic.Int64 // bytes per second; 0: any number
	cut   atomic.Bool  // replies are cut off
	reply atomic.Int64 // after so many bytes
}

// CutReplies lets n more bytes pass to the client on each open connection, and the first n on
// each new one. When a further byte arrives, the connection is reset, in both directions: the
// client has part of a reply, and its command was executed. n may be 0. The last of the n bytes
// may be lost, as the reset may overtake them.
func (p *Proxy) CutReplies(n int) {
	p.change(func() {
		p.conns.Lock()
		defer p.conns.Unlock()
		p.narrow.reply.Store(int64(n))
		for l := range p.conns.links {
			l.left.Store(int64(n))
		}
		p.narrow.cut.Store(true)
	})
}

// endCut is called while nothing passes.
func (p *Proxy) endCut() { p.narrow.cut.Store(false) }

// Slice passes bytes on in writes of one to most bytes each, in both directions. 0 ends
// it.
func (p *Proxy) Slice(most int) { p.narrow.slice.Store(int64(most)) }

// Limit lets at most so many bytes per second pass in each direction of each connection.
// Further bytes wait, in order. 0 is no limit.
func (p *Proxy) Limit(bytesPerSecond int) { p.narrow.rate.Store(int64(bytesPerSecond)) }

// errCut: no more bytes of replies may pass.
var errCut = errors.New("redistest: cut off in the middle of a reply")

// turns is how often in a second a limited stream moves on.
const turns = 100

// piece returns the part of b that may be written at once: nothing if the connection is to be
// cut off.
func (l *link) piece(way Direction, b []byte) []byte {
	most := int64(len(b))
	if n := l.proxy.narrow.slice.Load(); n > 0 {
		most = min(most, 1+rand.Int64N(n))
	}
	if rate := l.proxy.narrow.rate.Load(); rate > 0 {
		most = min(most, max(1, rate/turns))
	}
	if way == ToClient && l.proxy.narrow.cut.Load() {
		most = min(most, l.left.Load())
	}
	return b[:most]
}

// passed counts the bytes that were written.
func (l *link) passed(way Direction, n int) {
	if way == ToClient && l.proxy.narrow.cut.Load() {
		l.left.Add(int64(-n))
	}
}

// rest waits for as long as n bytes take. It returns false if the link is closed before.
func (l *link) rest(n int) bool {
	rate := l.proxy.narrow.rate.Load()
	if rate <= 0 {
		return true
	}
	return l.wait(time.Now().Add(time.Duration(n) * time.Second / time.Duration(rate)))
}
