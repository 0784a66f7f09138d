package redistest

import (
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// config is the result of a server's options.
type config struct {
	binary           string // "" for redis-server in the path
	args             []string
	password         string
	dir              string // "" for one of the server's own
	tls              bool
	socket           bool
	replicas         int // of a cluster's masters
	sentinels        int
	sentinelPassword string
}

// Option changes how servers are started. The last one of a kind holds; [Args]
// and [ACL] add up.
type Option func(*config)

func newConfig(opts []Option) config {
	c := config{sentinels: 1}
	for _, o := range opts {
		o(&c)
	}
	return c
}

// Args adds command-line arguments: Args("--maxmemory", "10mb"). They follow the harness's own
// and so override them.
func Args(args ...string) Option {
	return func(c *config) { c.args = append(c.args, args...) }
}

// AOF turns the append-only file on, flushed to disk at every write: acknowledged writes
// survive Kill and Restart. Without it a server loses everything when it ends.
func AOF() Option { return Args("--appendonly", "yes", "--appendfsync", "always") }

// MaxMemory limits the memory for data ("10mb"). policy is the eviction policy, such as
// "noeviction" or "allkeys-lru".
func MaxMemory(limit, policy string) Option {
	return Args("--maxmemory", limit, "--maxmemory-policy", policy)
}

// Binary starts this program instead of redis-server: another version, or a relative of Redis
// that takes the same arguments, such as valkey-server and keydb-server. It may be older than 7.0.
func Binary(path string) Option { return func(c *config) { c.binary = path } }

// Password sets the password of the server's default user.
func Password(p string) Option { return func(c *config) { c.password = p } }

// ACL adds users, each written as in an ACL file but without the word "user":
// ACL("app on >secret ~app:* +@read"). The user default must remain able to do
// everything, since the harness uses it, as do the clients that the Client methods
// return.
func ACL(users ...string) Option {
	return func(c *config) {
		for _, u := range users {
			c.args = append(append(c.args, "--user"), strings.Fields(u)...)
		}
	}
}

// TLS makes the server speak TLS only, with a certificate for localhost that is
// signed by the authority [CA]. A test is skipped, as [Require] does, where the server was
// built without TLS.
func TLS() Option { return func(c *config) { c.tls = true } }

// Socket makes the server also listen on a Unix socket; see [Server.Socket].
func Socket() Option { return func(c *config) { c.socket = true } }

// Dir makes the server keep its files in a directory that exists, and that is not
// removed at the end: for data that outlive the server. Only one server may use a
// directory at a time.
func Dir(path string) Option { return func(c *config) { c.dir = path } }

// Replicas gives each master of a cluster n replicas; without it there are none.
func Replicas(n int) Option { return func(c *config) { c.replicas = n } }

// Sentinels sets how many sentinels watch a master. The default, one, fails over
// fastest; more have to agree first, as they do in production.
func Sentinels(n int) Option { return func(c *config) { c.sentinels = n } }

// SentinelPassword sets the password of the default user of the sentinels, independent of that
// of the servers that they watch.
func SentinelPassword(p string) Option { return func(c *config) { c.sentinelPassword = p } }

// Timeouts of the clients that the harness makes. They are long enough for a busy machine and
// bound how long a test waits for a server that it has frozen.
const (
	dialTimeout = 2 * time.Second
	ioTimeout   = 3 * time.Second
)

// noMaintenance keeps clients from looking up names and from asking servers about
// notifications that they don't have.
func noMaintenance() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// baseOptions are those of a client that obeys contexts, does not retry and reports soon that a
// server is unreachable.
func baseOptions(addr string) *redis.Options {
	return &redis.Options{
		Addr:                     addr,
		ContextTimeoutEnabled:    true,
		MaxRetries:               -1,
		DialerRetries:            1,
		DialTimeout:              dialTimeout,
		ReadTimeout:              ioTimeout,
		WriteTimeout:             ioTimeout,
		MaintNotificationsConfig: noMaintenance(),
	}
}

// writeURL builds the URL of servers. A URL can't carry a certificate authority,
// so with TLS it has to turn the verification off.
func (c *config) writeURL(scheme, hosts, path string, params url.Values) string {
	if params == nil {
		params = url.Values{}
	}
	if c.tls {
		scheme = strings.Replace(scheme, "redis", "rediss", 1)
		params.Set("skip_verify", "true")
	}
	user := ""
	if c.password != "" {
		user = url.UserPassword("", c.password).String() + "@"
	}
	u := scheme + "://" + user + hosts + path
	if len(params) > 0 {
		u += "?" + params.Encode()
	}
	return u
}
