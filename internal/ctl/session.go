package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// session is a connection to Redis.
type session struct {
	rdb       redis.UniversalClient
	st        *redisstore.Redis
	keyPrefix string
}

func newSession(rdb redis.UniversalClient, prefix string) (*session, error) {
	st, err := redisstore.NewRedis(rdb)
	if err != nil {
		_ = rdb.Close()
		return nil, err
	}
	return &session{rdb: rdb, st: st, keyPrefix: prefix}, nil
}

func (s *session) close() {
	s.st.Close()
	_ = s.rdb.Close()
}

func (s *session) names(name string) store.Names { return s.namesOf(s.keyPrefix, name) }

func (s *session) namesOf(prefix, name string) store.Names {
	return store.NewNames(prefix, name).In(s.st.Database())
}

// isCluster reports whether the client is one of a cluster.
func (s *session) isCluster() bool {
	_, ok := s.rdb.(*redis.ClusterClient)
	return ok
}

// checkName says what cache.New would say.
func checkName(name string) error {
	switch {
	case name == "":
		return usagef("the name of a cache is not empty")
	case strings.Contains(name, ":"):
		return usagef("%q can't be the name of a cache, because of the ':': give a prefix with -prefix, and the key as an argument of its own", name)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return usagef("%q can't be the name of a cache: it has no white space and no control characters", name)
	}
	return nil
}

// scan calls f with batches of the keys that match a pattern, on all masters. f may be given a
// key more than once. It ends early when f returns errEnough.
func (s *session) scan(ctx context.Context, pattern string, f func(keys []string) error) error {
	masters, err := s.st.Masters(ctx)
	if err != nil {
		return err
	}
	for _, m := range masters {
		if err := s.scanMaster(ctx, m, pattern, f); err != nil {
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		}
	}
	return nil
}

var errEnough = errors.New("enough")

func (s *session) scanMaster(ctx context.Context, master, pattern string, f func(keys []string) error) error {
	for cursor := uint64(0); ; {
		keys, next, err := s.st.Scan(ctx, master, pattern, cursor)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := f(keys); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// pipelined sends the commands that f queues in one round trip to each node. Their own errors
// stay in them: the result is the first that is no answer of the server.
func (s *session) pipelined(ctx context.Context, f func(redis.Pipeliner)) error {
	pipe := s.rdb.Pipeline()
	f(pipe)
	cmds, err := pipe.Exec(ctx)
	for _, c := range cmds {
		if e := c.Err(); e != nil && !answered(e) {
			return e
		}
	}
	if err != nil && !answered(err) {
		return err
	}
	return nil
}

// answered reports whether an error came from the server itself, so that the connection works.
func answered(err error) bool {
	var reply redis.Error
	return errors.Is(err, redis.Nil) || errors.As(err, &reply)
}

// isWrongType reports whether err says that a key is of another type.
func isWrongType(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE") }

// infoOf parses the answer of INFO.
func infoOf(s string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(s) {
		if k, v, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok && !strings.HasPrefix(line, "#") {
			m[k] = v
		}
	}
	return m
}

func infoInt(m map[string]string, key string) int64 {
	n, _ := strconv.ParseInt(m[key], 10, 64)
	return n
}

// mustExist returns an error if no cache of this name has left a logical clock: for commands that
// would otherwise do something to a cache that is only a mistyped name.
func (s *session) mustExist(ctx context.Context, name string, force bool) error {
	if force {
		return nil
	}
	var found []*redis.IntCmd
	err := s.pipelined(ctx, func(p redis.Pipeliner) {
		for _, names := range s.partsOf(s.keyPrefix, name) {
			found = append(found, p.Exists(ctx, names.Epoch))
		}
	})
	n := int64(0)
	for _, f := range found {
		n, err = n+f.Val(), cmp.Or(err, f.Err())
	}
	if err == nil && n == 0 {
		err = fmt.Errorf("no cache %s is known in this Redis%s: cachectl list shows those that are. If its logical clock was lost, use -force", quote(name), s.underPrefix())
	}
	return err
}

func (s *session) underPrefix() string {
	if s.keyPrefix == "" {
		return " without a prefix"
	}
	return " under the prefix " + quote(s.keyPrefix)
}
