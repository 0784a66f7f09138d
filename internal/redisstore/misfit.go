package redisstore

import (
	"errors"
	"strings"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// Misfit returns the reason for an error of this store, if it does not pass by itself.
// [store.Replica] may pass, while another server takes over; [store.Hangup] can't be recognised
// from one error.
func (s *Redis) Misfit(err error) store.Misfit {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return store.Fits
	}
	text := reply.Error()
	code, rest, _ := strings.Cut(text, " ")
	switch code {
	case "NOPERM":
		return store.Forbidden
	case "NOAUTH", "WRONGPASS", "DENIED":
		return store.Unauthenticated
	case "READONLY":
		return store.Replica
	case "CROSSSLOT", "MOVED", "ASK":
		if s.single == nil {
			return store.Fits // a cluster whose topology is changing
		}
		return store.OneOfACluster
	case "ERR":
		text = rest
	default:
		if code != "" && strings.ToUpper(code) == code {
			return store.Fits
		}
	}
	text = strings.ToLower(text)
	for _, p := range phrases {
		if strings.Contains(text, p.of) {
			return commandOf(text, p.says)
		}
	}
	return store.Fits
}

// commandOf says more of an unknown command if the error names one that a feature depends on.
func commandOf(text string, m store.Misfit) store.Misfit {
	if m != store.UnknownCommand {
		return m
	}
	for _, c := range []struct {
		name string
		says store.Misfit
	}{{"eval", store.NoScripts}, {"subscribe", store.NoPubSub}, {"publish", store.NoPubSub}} {
		if strings.Contains(text, c.name) {
			return c.says
		}
	}
	return m
}

// phrases are parts of the texts of errors with the general code; the first match counts.
var phrases = []struct {
	of   string // in lower case
	says store.Misfit
}{
	{"cluster support disabled", store.NoCluster},
	{"select is not allowed in cluster mode", store.NoDatabase},
	{"db index is out of range", store.NoDatabase},
	{"invalid db index", store.NoDatabase},
	{"invalid password", store.Unauthenticated},
	{"operation not permitted", store.Unauthenticated},
	{"invalid username-password", store.Unauthenticated},
	{"no password is set", store.Unauthenticated},
	{"without any password configured", store.Unauthenticated},
	{"syntax error", store.Outdated},
	{"not allowed after non deterministic commands", store.Outdated},
	{"unknown command", store.UnknownCommand},
	{"unknown redis command", store.UnknownCommand},
	{"unsupport", store.UnknownCommand},
	{"not support", store.UnknownCommand},
	{"not allowed", store.UnknownCommand},
	{"invalid request", store.UnknownCommand},
	{"command is disabled", store.UnknownCommand},
}
