package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Hangup as an answer of a [Front] closes the connection instead.
const Hangup = "hang up"

// Front stands in front of a server and answers some commands itself, as a server of another
// kind or version, a proxy or a user without permissions does. Other commands are forwarded.
type Front struct {
	target string
	answer func(args []string) string
	listen net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex // guards conns
	conns  map[net.Conn]bool
	closed bool
}

// NewFront starts a Front for a server, until the end of the test. answer is called with the
// words of each command, and returns a reply in the protocol of Redis, such as "-ERR no\r\n",
// [Hangup], or "" to forward the command. It may be called from several goroutines at once.
func NewFront(tb testing.TB, target string, answer func(args []string) string) *Front {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	f := &Front{target: target, answer: answer, listen: l, conns: map[net.Conn]bool{}}
	f.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.serve(conn) })
		}
	})
	tb.Cleanup(f.close)
	return f
}

// Addr is where it listens.
func (f *Front) Addr() string { return f.listen.Addr().String() }

func (f *Front) close() {
	_ = f.listen.Close()
	f.mu.Lock()
	f.closed = true
	for c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// hold registers c to be closed by close; it reports false if that has run.
func (f *Front) hold(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = true
	return !f.closed
}

func (f *Front) release(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
	_ = c.Close()
}

func (f *Front) serve(client net.Conn) {
	defer f.release(client)
	if !f.hold(client) {
		return
	}
	server, err := net.Dial("tcp", f.target)
	if err != nil {
		return
	}
	defer f.release(server)
	if !f.hold(server) {
		return
	}
	in, out := bufio.NewReader(client), bufio.NewReader(server)
	var pushes sync.WaitGroup
	defer pushes.Wait()
	defer server.Close()
	streams := false // the server sends by itself
	write := func(reply string) bool {
		_, err := io.WriteString(client, reply)
		return err == nil
	}
	// Then an own answer must not overtake those of the server: a command that no server knows
	// is sent in the place of the one that is answered, and its error marks where the answer goes.
	var mu sync.Mutex // guards own
	own, marks := map[string]string{}, 0
	inPlace := func(reply string) string {
		if !strings.HasPrefix(reply, "-") {
			return reply
		}
		mu.Lock()
		defer mu.Unlock()
		for name, answer := range own {
			if strings.Contains(reply, name) {
				delete(own, name)
				return answer
			}
		}
		return reply
	}
	for {
		args, raw, err := readCommand(in)
		if err != nil {
			return
		}
		reply := f.answer(args)
		switch {
		case reply == Hangup:
			return
		case reply == "":
			if _, err := io.WriteString(server, raw); err != nil {
				return
			}
			if streams {
				continue
			}
			if streams = subscribes(args); streams {
				pushes.Go(func() {
					defer client.Close()
					for {
						if reply, err := readWhole(out); err != nil || !write(inPlace(reply)) {
							return
						}
					}
				})
				continue
			}
			if reply, err = readWhole(out); err != nil {
				return
			}
		}
		if !streams {
			if !write(reply) {
				return
			}
			continue
		}
		marks++
		name := fmt.Sprintf("front-answers-%d-itself", marks)
		mu.Lock()
		own[name] = reply
		mu.Unlock()
		if _, err := fmt.Fprintf(server, "*1\r\n$%d\r\n%s\r\n", len(name), name); err != nil {
			return
		}
	}
}

// subscribes reports whether the server sends by itself after a command.
func subscribes(args []string) bool {
	switch name := strings.ToLower(args[0]); name {
	case "subscribe", "psubscribe", "ssubscribe":
		return true
	case "client":
		return len(args) > 1 && strings.EqualFold(args[1], "tracking")
	}
	return false
}

func readWhole(in *bufio.Reader) (string, error) {
	var text strings.Builder
	err := readReply(in, &text)
	return text.String(), err
}

var errProtocol = errors.New("redistest: this is not the protocol of Redis")

func readCommand(in *bufio.Reader) (args []string, raw string, err error) {
	var text strings.Builder
	n, err := readHead(in, '*', &text)
	if err != nil || n < 1 {
		return nil, "", errors.Join(errProtocol, err)
	}
	for range n {
		size, err := readHead(in, '$', &text)
		if err != nil {
			return nil, "", err
		}
		from := text.Len()
		if _, err := io.CopyN(&text, in, int64(size)+2); err != nil {
			return nil, "", err
		}
		args = append(args, text.String()[from:from+size])
	}
	return args, text.String(), nil
}

func readHead(in *bufio.Reader, kind byte, text *strings.Builder) (int, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	text.WriteString(line)
	if line[0] != kind {
		return 0, fmt.Errorf("%w: %q", errProtocol, line)
	}
	return strconv.Atoi(strings.TrimRight(line[1:], "\r\n"))
}

// readReply reads one reply of either version of the protocol.
func readReply(in *bufio.Reader, text *strings.Builder) error {
	line, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	text.WriteString(line)
	n, _ := strconv.Atoi(strings.TrimRight(line[1:], "\r\n"))
	switch line[0] {
	case '$', '=', '!':
		if n >= 0 {
			_, err = io.CopyN(text, in, int64(n)+2)
		}
		return err
	case '%', '|':
		n *= 2
		if line[0] == '|' {
			n++ // the value that the attributes belong to
		}
	case '*', '~', '>':
	default:
		return nil
	}
	for range n {
		if err := readReply(in, text); err != nil {
			return err
		}
	}
	return nil
}
