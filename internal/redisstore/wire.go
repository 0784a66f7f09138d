package redisstore

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/delqhi/cache/internal/store"
)

// Wire says how an operation is sent: that of the commands cmds if there are any, else the one
// named op. It does no I/O. What a node refuses, and is then sent in another way, is not counted.
func (s *Redis) Wire(op string, cmds []store.Command) (w store.Wire) {
	if s.tracks.Load() != nil {
		cmds = asReads(cmds)
	}
	if s.noAddGet.Load() {
		cmds = byScript(cmds)
	}
	switch op {
	case "scan", "time":
		return store.Wire{Command: op, Commands: 1}
	case "read_clock", "add_tombstones", "publish":
		return store.Wire{Command: "evalsha", Script: op, Commands: 1}
	}
	if len(cmds) > 1 && s.transactions.state.Load() == transactionsTaken {
		if from, ends := s.asTransactions(cmds, nil); len(ends) > 0 {
			return wireOfTransactions(cmds, from, len(ends))
		}
	}
	if order := s.fillsLast(cmds); order != nil {
		cmds = inOrder(cmds, order)
	}
	for i := 0; i < len(cmds); {
		if n := gets(cmds[i:]); n > 1 && !s.split() && !s.noMget.Load() {
			w.Add("mget", "")
			i += n
			continue
		}
		w.Add(commandName(&cmds[i]))
		i += s.asOne(cmds[i:])
	}
	return w
}

// wireOfTransactions is for a Get, if from is 1, and Sets in as many transactions.
func wireOfTransactions(cmds []store.Command, from, transactions int) store.Wire {
	w := store.Wire{Commands: len(cmds) + 2*transactions + 1}
	for i := range cmds[from:] {
		if cmds[from+i].Notifies() {
			w.Commands++
		}
	}
	return w
}

// commandName is the name of the command that build makes, and of its script.
func commandName(c *store.Command) (command, script string) {
	if scripted(c) {
		return "evalsha", c.Op.String()
	}
	switch c.Op {
	case store.Set, store.SetNX, store.CompareAndSet:
		return "set", ""
	case store.Delete:
		return "unlink", ""
	case store.GetHeader:
		return "getrange", ""
	}
	if c.Most > 0 {
		return "getrange", ""
	}
	return "get", ""
}

// defaultPort is the port of Redis unless something else is configured.
const defaultPort = 6379

// Address is the address of the servers as the client was configured with it: the host, or the
// path of a socket, and the port, 0 if it is [defaultPort]. Several hosts are sorted and
// separated by commas; if their ports differ, these are part of the address. It is "" for a
// client that is told by sentinels, of which it does not say where they are, and for one of
// unknown kind.
func (s *Redis) Address() (address string, port int) {
	var all []string
	switch {
	case s.single != nil:
		o := s.single.Options()
		if o.Network == "unix" {
			return o.Addr, 0
		}
		all = []string{o.Addr}
	case s.cluster != nil:
		all = s.cluster.Options().Addrs
	case s.ring != nil:
		for _, addr := range s.ring.Options().Addrs {
			all = append(all, addr)
		}
	}
	return joinAddresses(all)
}

func joinAddresses(all []string) (address string, port int) {
	hosts, ports := make([]string, len(all)), make([]int, len(all))
	for i, addr := range all {
		host, text, err := net.SplitHostPort(addr)
		if err != nil {
			return "", 0 // such as the name that go-redis gives to a client with sentinels
		}
		if host == "" {
			host = "localhost" // as go-redis dials it
		}
		if ports[i], err = strconv.Atoi(text); err != nil {
			return "", 0
		}
		hosts[i] = host
	}
	if len(all) == 0 {
		return "", 0
	}
	if port = ports[0]; slices.ContainsFunc(ports, func(p int) bool { return p != port }) {
		for i := range hosts {
			hosts[i] = net.JoinHostPort(hosts[i], strconv.Itoa(ports[i]))
		}
		port = 0
	}
	slices.Sort(hosts)
	if port == defaultPort {
		port = 0
	}
	return strings.Join(slices.Compact(hosts), ","), port
}
