package remote

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

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
