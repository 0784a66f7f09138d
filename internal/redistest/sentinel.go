package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// MasterName is the sentinels' name of the master.
const MasterName = "mymaster"

// Sentinel is a master with one replica, watched by sentinels, which consider a master down
// that has been silent for a second. Failover changes its fields, so it must not be called
// while they are read.
type Sentinel struct {
	Master, Replica *Server // after a failover the two have changed places
	Watchers        []*Server

	config config
}

// StartSentinel starts a master, a replica and a sentinel, or more of them by the option
// [Sentinels], and waits until the sentinels have discovered the replica and each other. They
// are stopped at the end of the test.
func StartSentinel(tb testing.TB, opts ...Option) *Sentinel {
	tb.Helper()
	config := newConfig(opts)
	requireFor(tb, config)
	st, err := newSentinel(config)
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range st.servers() {
		s.stopAfter(tb)
	}
	return st
}

func newSentinel(config config) (st *Sentinel, err error) {
	if config.dir != "" {
		return nil, errors.New("redistest: a master and its replica can't share one Dir")
	}
	if config.sentinels < 1 {
		return nil, errors.New("redistest: no sentinels")
	}
	st = &Sentinel{config: config}
	begun := st // a return of an error sets st to nil
	defer func() {
		if err != nil {
			for _, s := range begun.servers() {
				s.close()
			}
		}
	}()
	if st.Master, err = newServer(config, false, redisArgs); err != nil {
		return nil, err
	}
	follower := config
	follower.args = slices.Concat([]string{"--replicaof", "127.0.0.1 " + strconv.Itoa(st.Master.Port())}, config.args)
	if st.Replica, err = newServer(follower, false, redisArgs); err != nil {
		return nil, err
	}
	if err = st.Replica.waitFor("the link to its master", linked); err != nil {
		return nil, err
	}
	// A sentinel speaks TLS like the others, but has a password of its own.
	watcher := config
	watcher.password = config.sentinelPassword
	for range config.sentinels {
		w, err := newServer(watcher, false, st.sentinelArgs)
		if err != nil {
			return nil, err
		}
		st.Watchers = append(st.Watchers, w)
	}
	for _, w := range st.Watchers {
		if err = w.waitFor("a sentinel that knows all", st.knowsAll); err != nil {
			return nil, err
		}
	}
	return st, nil
}

func (st *Sentinel) servers() []*Server {
	all := append([]*Server{st.Master, st.Replica}, st.Watchers...)
	return slices.DeleteFunc(all, func(s *Server) bool { return s == nil })
}

// sentinelArgs writes the configuration file, which a sentinel requires. The sentinel rewrites
// it with what it discovers.
func (st *Sentinel) sentinelArgs(s *Server) ([]string, error) {
	var text strings.Builder
	set := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	set("bind 127.0.0.1")
	set("dir %q", s.home)
	if s.config.tls {
		settings, err := writeIdentity(s.home)
		if err != nil {
			return nil, err
		}
		set("port 0")
		set("tls-port %d", s.Port())
		for _, kv := range settings {
			set("%s %q", kv[0], kv[1])
		}
	} else {
		set("port %d", s.Port())
	}
	if s.config.password != "" {
		set("requirepass %q", s.config.password) // also the one that it uses with the other sentinels
	}
	set("sentinel monitor %s 127.0.0.1 %d %d", MasterName, st.Master.Port(), st.config.sentinels/2+1)
	set("sentinel down-after-milliseconds %s 1000", MasterName)
	set("sentinel failover-timeout %s 5000", MasterName)
	if st.config.password != "" {
		set("sentinel auth-pass %s %q", MasterName, st.config.password)
	}
	path := filepath.Join(s.home, "sentinel.conf")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	return []string{path, "--sentinel"}, nil
}

// knowsAll checks that a sentinel could fail over at once.
func (st *Sentinel) knowsAll(ctx context.Context, rdb *redis.Client) error {
	m, err := masterState(ctx, rdb)
	if err != nil {
		return err
	}
	if m["flags"] != "master" || m["num-slaves"] != "1" || m["num-other-sentinels"] != strconv.Itoa(st.config.sentinels-1) {
		return fmt.Errorf("it sees a %s with %s replicas and %s other sentinels", m["flags"], m["num-slaves"], m["num-other-sentinels"])
	}
	// It must also have received an answer of the replica, or it would not promote it.
	replicas := redis.NewMapStringStringSliceCmd(ctx, "sentinel", "replicas", MasterName)
	if err := rdb.Process(ctx, replicas); err != nil {
		return err
	}
	for _, r := range replicas.Val() {
		if r["flags"] != "slave" || r["master-link-status"] != "ok" {
			return fmt.Errorf("it sees the replica as %s, whose link is %s", r["flags"], r["master-link-status"])
		}
	}
	return nil
}

func masterState(ctx context.Context, rdb *redis.Client) (map[string]string, error) {
	cmd := redis.NewMapStringStringCmd(ctx, "sentinel", "master", MasterName)
	err := rdb.Process(ctx, cmd)
	return cmd.Val(), err
}

// URL returns a URL for cache.NewClient. With TLS it leaves the certificates
// unverified, as a URL can't name an authority.
func (st *Sentinel) URL() string {
	params := map[string][]string{}
	if p := st.config.sentinelPassword; p != "" {
		params["sentinel_password"] = []string{p}
	}
	return st.config.writeURL("redis+sentinel", strings.Join(st.addrs(), ","), "/"+MasterName, params)
}

func (st *Sentinel) addrs() []string {
	var addrs []string
	for _, w := range st.Watchers {
		addrs = append(addrs, w.Addr())
	}
	return addrs
}

// Options returns those of a client that obeys contexts, does not retry and has
// timeouts of a few seconds. They are the caller's to change.
func (st *Sentinel) Options() *redis.FailoverOptions {
	o := st.Master.Options()
	return &redis.FailoverOptions{
		MasterName:            MasterName,
		SentinelAddrs:         st.addrs(),
		SentinelPassword:      st.config.sentinelPassword,
		Password:              o.Password,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled,
		MaxRetries:            o.MaxRetries,
		DialerRetries:         o.DialerRetries,
		DialTimeout:           o.DialTimeout,
		ReadTimeout:           o.ReadTimeout,
		WriteTimeout:          o.WriteTimeout,
		TLSConfig:             o.TLSConfig,
	}
}

// Client returns a client that follows the master and is closed at the end of the
// test.
func (st *Sentinel) Client(tb testing.TB) *redis.Client {
	return closeAfter(tb, redis.NewFailoverClient(st.Options()))
}

// Failover makes the sentinels promote the replica: at once if the master runs, and after they
// have noticed it if it was killed or frozen. It returns when all sentinels name the new master
// and that one accepts writes.
//
// A master that ran, or that comes back, remains one for about eight seconds more, until the
// sentinels make it a replica: in the meantime it accepts writes, which will be lost.
func (st *Sentinel) Failover(tb testing.TB) {
	tb.Helper()
	if err := st.failover(); err != nil {
		tb.Fatal(err)
	}
}

func (st *Sentinel) failover() error {
	next := st.Replica
	for i, w := range st.Watchers {
		if err := w.waitFor("the promotion", func(ctx context.Context, rdb *redis.Client) error {
			m, err := masterState(ctx, rdb)
			if err != nil {
				return err
			}
			if m["port"] == strconv.Itoa(next.Port()) {
				return nil
			}
			if i == 0 && st.Master.Running() && !strings.Contains(m["flags"], "failover_in_progress") {
				// Refused while the state of the replica is not known well enough: it is
				// repeated. While a failover is in progress it is not: right after its end, it
				// would be carried out, and lead back.
				_ = rdb.Do(ctx, "sentinel", "failover", MasterName).Err()
			}
			return fmt.Errorf("the master is still on port %s, and looks like a %s", m["port"], m["flags"])
		}); err != nil {
			return err
		}
	}
	if err := next.waitFor("its new role", isMaster); err != nil {
		return err
	}
	st.Master, st.Replica = next, st.Master
	return nil
}
