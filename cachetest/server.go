package cachetest

import (
	"crypto/rand"
	"crypto/sha1" // by which Redis names scripts
	"encoding/hex"
	"fmt"
	"strings"
	"sync"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// startServer starts a server without an address, whose clock is that of this process or
// bubble.
func startServer() (*miniredis.Miniredis, error) {
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true) // lifetimes pass
	conn, err := m.Dial()
	if err != nil {
		return nil, err
	}
	_ = conn.Close()
	h := &hook{server: m.Server(), flagged: map[string]string{}}
	h.info = fmt.Sprintf("# Server\r\nrun_id:%s\r\n\r\n# Replication\r\nrole:master\r\nmaster_replid:%s\r\n", identity(), identity())
	m.Server().SetPreHook(h.run)
	return m, nil
}

// identity returns what a server or a data set is told apart by.
func identity() string {
	id := make([]byte, 20)
	rand.Read(id)
	return hex.EncodeToString(id)
}

// hook answers what Redis knows and miniredis does not, so that a cache takes the same ways on
// both:
//
//   - INFO by which servers are told apart: without it a cache suspects, after each new
//     connection, that another server has taken its place;
//   - scripts with flags, which say when a real server may run them; this one always may.
type hook struct {
	server *server.Server
	info   string

	mu      sync.Mutex
	flagged map[string]string // guarded by mu: the text of scripts with flags, without these, by hash
}

// heartbeat is the script of a heartbeat without its flags: much the most frequent command in a
// bubble, whose time passes in no time. It is executed as the command that it consists of.
const heartbeat = "return redis.call('PUBLISH', ARGV[1], ARGV[2])"

func (h *hook) run(c *server.Peer, cmd string, args ...string) bool {
	switch {
	case cmd == "INFO" && len(args) == 2 && args[0] == "server" && args[1] == "replication":
		c.WriteBulk(h.info)
		return true
	case cmd == "EVAL" && len(args) >= 2 && strings.HasPrefix(args[0], "#!lua"):
		sum := sha1.Sum([]byte(args[0]))
		_, text, _ := strings.Cut(args[0], "\n")
		h.mu.Lock()
		h.flagged[hex.EncodeToString(sum[:])] = text
		h.mu.Unlock()
		h.eval(c, text, args[1:])
		return true
	case cmd == "EVALSHA" && len(args) >= 2:
		h.mu.Lock()
		text, ok := h.flagged[strings.ToLower(args[0])]
		h.mu.Unlock()
		if ok {
			h.eval(c, text, args[1:])
		}
		return ok
	case cmd == "SCRIPT" && len(args) > 0 && strings.EqualFold(args[0], "flush"):
		h.mu.Lock()
		clear(h.flagged)
		h.mu.Unlock()
	}
	return false
}

func (h *hook) eval(c *server.Peer, text string, args []string) {
	if text == heartbeat && len(args) == 3 && args[0] == "0" {
		h.server.Dispatch(c, []string{"PUBLISH", args[1], args[2]})
		return
	}
	h.server.Dispatch(c, append([]string{"EVAL", text}, args...))
}
