package remote

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Misfit is a reason for errors that does not pass by itself: the server, what stands in
// front of it, its user or the client is not what is needed.
type Misfit uint8

const (
	Fits            Misfit = iota // no such reason
	Forbidden                     // the user may not do something
	Unauthenticated               // there is no such user, or the password is wrong
	UnknownCommand                // the server, or a proxy, lacks a command
	OneOfACluster                 // a node of a cluster, through a client of one server
	NoCluster                     // one server, through a client of a cluster
	Replica                       // it takes no writes
	Outdated                      // it is older than Redis 7.0
	NoDatabase                    // the database can't be selected
	Hangup                        // the connection is closed at a command

	Misfits // how many there are
)

// A misfit is the problem, and what to do.
var misfitTexts = [Misfits]struct{ problem, remedy string }{
	Forbidden: {
		"the user of Redis may not run a command, or not on keys or channels of the cache",
		"grant what docs/deployment.md lists under Permissions",
	},
	Unauthenticated: {
		"Redis does not accept the user or the password",
		"correct the credentials of the client",
	},
	UnknownCommand: {
		"the server, or a proxy in front of it, does not know a command or does not allow it",
		"connect to Redis 7.0 or later itself, with the commands that docs/deployment.md lists under Permissions",
	},
	OneOfACluster: {
		"the server is a node of a cluster, and the client one for a single server",
		"use redis.NewClusterClient, or for cache.NewClient a URL with several hosts or with cluster=true",
	},
	NoCluster: {
		"the client is one for a cluster, and the server is none",
		"use redis.NewClient, or for cache.NewClient a URL with one host",
	},
	Replica: {
		"the server is a replica, which takes no writes",
		"connect to its master",
	},
	Outdated: {
		"the server is older than Redis 7.0: scripts are used in the place of commands that it does not know",
		"use Redis 7.0 or later",
	},
	NoDatabase: {
		"the server has no such database",
		"select database 0, the only one of a cluster and of most proxies",
	},
	Hangup: {
		"the connection is closed at a command each time, as proxies do that do not know it",
		"connect to Redis 7.0 or later itself",
	},
}

// Problem says what is wrong.
func (m Misfit) Problem() string { return misfitTexts[m].problem }

// Remedy says what to do about it.
func (m Misfit) Remedy() string { return misfitTexts[m].remedy }

// Misfit returns the reason of an error of this store, if it is one that does not pass by
// itself. [Replica] may pass, while another server takes over; [Hangup] is not to be told
// by one error.
func (s *Redis) Misfit(err error) Misfit {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return Fits
	}
	text := reply.Error()
	code, rest, _ := strings.Cut(text, " ")
	switch code {
	case "NOPERM":
		return Forbidden
	case "NOAUTH", "WRONGPASS", "DENIED":
		return Unauthenticated
	case "READONLY":
		return Replica
	case "CROSSSLOT", "MOVED", "ASK":
		if s.single == nil {
			return Fits // a cluster that is changing
		}
		return OneOfACluster
	case "ERR":
		text = rest
	default:
		if code != "" && strings.ToUpper(code) == code {
			return Fits
		}
	}
	text = strings.ToLower(text)
	for _, p := range phrases {
		if strings.Contains(text, p.of) {
			return p.says
		}
	}
	return Fits
}

// phrases are what errors of the general kind have in common; the first one counts.
var phrases = []struct {
	of   string // in lower case
	says Misfit
}{
	{"cluster support disabled", NoCluster},
	{"select is not allowed in cluster mode", NoDatabase},
	{"db index is out of range", NoDatabase},
	{"invalid db index", NoDatabase},
	{"invalid password", Unauthenticated},
	{"operation not permitted", Unauthenticated},
	{"invalid username-password", Unauthenticated},
	{"no password is set", Unauthenticated},
	{"without any password configured", Unauthenticated},
	{"syntax error", Outdated},
	{"not allowed after non deterministic commands", Outdated},
	{"unknown command", UnknownCommand},
	{"unknown redis command", UnknownCommand},
	{"unsupport", UnknownCommand},
	{"not support", UnknownCommand},
	{"not allowed", UnknownCommand},
	{"invalid request", UnknownCommand},
	{"command is disabled", UnknownCommand},
}

// Misfit is [Redis.Misfit] of the Guard's store.
func (g *Guard) Misfit(err error) Misfit {
	if s, ok := g.store.(interface{ Misfit(error) Misfit }); ok && err != nil {
		return s.Misfit(err)
	}
	return Fits
}

// Detours has f told of each misfit that is made up for, once. It is to be called before
// first use.
func (g *Guard) Detours(f func(Misfit)) {
	if s, ok := g.store.(*Redis); ok {
		s.found = f
	}
}
