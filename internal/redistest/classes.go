package redistest

import (
	"regexp"
	"strings"
	"time"
)

// Class is what a connection through a [Proxy] is used for. The proxy reads the commands and
// classifies the connection by the first one that is specific. Until then, while the connection
// is being set up, it passes bytes that the switches of only one class would hold back.
type Class int

// The classes of connections.
const (
	Data    Class = iota // for commands
	News                 // for subscriptions
	classes              // how many there are
	unknown Class = -1
)

var all = []Class{Data, News}

// Part is the connections of one class through a proxy. Its switches are like those of
// the proxy, and are turned off by [Proxy.Heal].
type Part struct {
	proxy *Proxy
	class Class
}

// Only returns the connections of a class.
func (p *Proxy) Only(c Class) Part { return Part{p, c} }

// Blackhole is [Proxy.Blackhole] for these connections.
func (p Part) Blackhole(ways ...Direction) { p.proxy.shut([]Class{p.class}, ways) }

// Delay is [Proxy.Delay] for these connections.
func (p Part) Delay(d time.Duration) { p.proxy.delay[p.class].Store(int64(d)) }

// Reset is [Proxy.Reset] for these connections.
func (p Part) Reset() { p.proxy.drop(true, []Class{p.class}) }

// command finds the names of commands as clients write them.
var command = regexp.MustCompile(`\*\d+\r\n\$\d+\r\n([A-Za-z]+)\r\n`)

// classify classifies by what the client has sent. Commands that set a connection up are not
// specific.
func (l *link) classify(sent []byte) {
	if l.class() != unknown {
		return
	}
	for _, m := range command.FindAllSubmatch(sent, -1) {
		switch strings.ToLower(string(m[1])) {
		case "hello", "auth", "client", "select", "readonly":
		case "subscribe", "psubscribe", "ssubscribe":
			l.kind.Store(int32(News))
			return
		default:
			l.kind.Store(int32(Data))
			return
		}
	}
}

func (l *link) class() Class { return Class(l.kind.Load()) }

func (l *link) delay() time.Duration {
	d := l.proxy.delay[Data].Load()
	switch l.class() {
	case News:
		d = l.proxy.delay[News].Load()
	case unknown:
		d = min(d, l.proxy.delay[News].Load())
	}
	return time.Duration(d)
}

func (l *link) classOrData() Class {
	if l.class() == News {
		return News
	}
	return Data
}
