// Package redisurl makes a go-redis client of a URL, without I/O.
//
// A URL stands for a single server, a cluster, or a master watched by sentinels.
// go-redis has a parser for each of them, whose URLs differ in form and in the
// parameters that they take. This package takes a URL apart itself, checks every
// parameter, and lets go-redis read them only then: the parameters have the names
// and meanings of go-redis, and are the same in all forms.
//
// No error quotes any part of a URL. A password may stand in any part of one that
// is malformed: after a '/' or '?' that should have been escaped, it is in what
// looks like the path or the name of a parameter.
package redisurl

import (
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Defaults. A cache has a fallback, so a prompt error is better for it than one after several
// attempts.
const (
	dialTimeout   = time.Second
	ioTimeout     = time.Second
	maxRetries    = -1 // none; 0 would be go-redis's default, three
	dialerRetries = 1  // attempts, in fact: go-redis's default is five
)

// Options is the result of parsing a URL. Exactly one of the fields is set.
type Options struct {
	Single   *redis.Options
	Cluster  *redis.ClusterOptions
	Failover *redis.FailoverOptions
}

// Client returns a client with the options.
func (o Options) Client() redis.UniversalClient {
	switch {
	case o.Failover != nil:
		return redis.NewFailoverClient(o.Failover)
	case o.Cluster != nil:
		return redis.NewClusterClient(o.Cluster)
	}
	return redis.NewClient(o.Single)
}

// Parse returns a client for a URL. It does no I/O, except that min_idle_conns
// makes a client of a single server or of sentinels open that many connections in
// the background. The forms are
//
//	redis://[[user]:password@]host[:port][/db]
//	unix://[[user]:password@]/path/to/socket[?db=n]
//	redis://[[user]:password@]host[:port],host[:port],…         a cluster
//	redis://[[user]:password@]host[:port]?cluster=true          a cluster
//	redis+sentinel://[[user]:password@]host[:port],…/master[/db]
//
// and the same over TLS with rediss:// and rediss+sentinel://. The ports default
// to 6379, and to 26379 for sentinels. IPv6 addresses stand in brackets. Characters
// of users, passwords and paths that mean something in a URL are written as %XX.
//
// With sentinels, user and password are those of the master; the sentinels' own
// are the parameters sentinel_username and sentinel_password.
//
// With TLS, each server must have a certificate for the name under which it is
// reached, signed by an authority that the system trusts; skip_verify=true leaves
// it unverified. A cluster that is given by one host may use that host's name for
// all nodes. Other authorities and certificates of clients need a client that is
// built with go-redis.
//
// The other parameters are those of go-redis; see [params]. By default the client obeys the
// deadlines of contexts, does not retry, dials once, and waits a second at most to dial, to
// read and to write. Parameters that would read from replicas are refused: a cache would not
// see its own writes.
//
// The error wraps [errs.ErrInvalidOption], names what to write instead, and quotes
// nothing of the URL.
func Parse(raw string) (redis.UniversalClient, error) {
	o, err := ParseOptions(raw)
	if err != nil {
		return nil, err
	}
	return o.Client(), nil
}

// ParseOptions is [Parse] without the client.
func ParseOptions(raw string) (Options, error) {
	o, err := parse(raw)
	if err != nil {
		return Options{}, fmt.Errorf("%w: the Redis URL: %w", errs.ErrInvalidOption, err)
	}
	return o, nil
}

func parse(raw string) (Options, error) {
	t, query, err := split(raw)
	if err != nil {
		return Options{}, err
	}
	s, err := readQuery(query, t)
	if err != nil {
		return Options{}, err
	}
	if s.cluster {
		t.form = cluster
	}
	if err := t.readPath(s); err != nil {
		return Options{}, err
	}
	switch t.form {
	case sentinel:
		return t.failover(s)
	case cluster:
		return t.clusterOptions(s)
	}
	return t.singleOptions(s)
}

// The parsers of go-redis get the parameters alone, which have been checked. Hosts and
// passwords are filled in afterwards.
const bare = "redis://localhost?"

func (t *target) singleOptions(s settings) (Options, error) {
	o, err := redis.ParseURL(bare + s.theirs.Encode())
	if err != nil {
		return Options{}, refused()
	}
	o.Network, o.Addr = "tcp", t.path
	if t.form == socket {
		o.Network = "unix"
	} else {
		o.Addr = t.hosts[0].addr()
	}
	o.Username, o.Password, o.DB = t.user, t.password, t.db
	o.TLSConfig = t.tlsConfig(s)
	o.MaintNotificationsConfig = noMaintenance()
	s.apply(shared{
		&o.MaxRetries, &o.DialerRetries, &o.DialTimeout, &o.DialerRetryTimeout, &o.ReadTimeout, &o.WriteTimeout,
		&o.ContextTimeoutEnabled, &o.DisableIdentity, &o.IdentitySuffix,
	})
	return Options{Single: o}, nil
}

func (t *target) clusterOptions(s settings) (Options, error) {
	o, err := redis.ParseClusterURL(bare + s.theirs.Encode())
	if err != nil {
		return Options{}, refused()
	}
	o.Addrs = t.addrs()
	o.Username, o.Password = t.user, t.password
	o.TLSConfig = t.tlsConfig(s)
	o.MaintNotificationsConfig = noMaintenance()
	s.apply(shared{
		&o.MaxRetries, &o.DialerRetries, &o.DialTimeout, &o.DialerRetryTimeout, &o.ReadTimeout, &o.WriteTimeout,
		&o.ContextTimeoutEnabled, &o.DisableIdentity, &o.IdentitySuffix,
	})
	return Options{Cluster: o}, nil
}

// failover leaves maintenance notifications alone: go-redis never has them on for
// such clients.
func (t *target) failover(s settings) (Options, error) {
	o, err := redis.ParseFailoverURL(bare + s.theirs.Encode())
	if err != nil {
		return Options{}, refused()
	}
	o.SentinelAddrs, o.MasterName = t.addrs(), t.master
	o.Username, o.Password, o.DB = t.user, t.password, t.db
	o.SentinelUsername, o.SentinelPassword = s.sentinelUser, s.sentinelPassword
	o.TLSConfig = t.tlsConfig(s)
	s.apply(shared{
		&o.MaxRetries, &o.DialerRetries, &o.DialTimeout, &o.DialerRetryTimeout, &o.ReadTimeout, &o.WriteTimeout,
		&o.ContextTimeoutEnabled, &o.DisableIdentity, &o.IdentitySuffix,
	})
	return Options{Failover: o}, nil
}

// refused stands for an error of go-redis, which might quote a value.
func refused() error { return fmt.Errorf("go-redis does not accept the parameters") }

// noMaintenance turns off maintenance notifications, for which go-redis looks up the names of
// servers, and which only a hosted service sends.
func noMaintenance() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// tlsConfig returns nil without TLS. With an empty ServerName each server is
// verified under the name that it is dialed by. That is right where the hosts
// differ: go-redis's parsers would have the master verified under the name of a
// sentinel. One host alone may be the common name of a cluster whose nodes call
// themselves by their IP addresses.
func (t *target) tlsConfig(s settings) *tls.Config {
	if !t.tls {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: s.skipVerify}
	if t.form != sentinel && len(t.hosts) == 1 {
		c.ServerName, _, _ = strings.Cut(t.hosts[0].name, "%") // certificates have no zones
	}
	return c
}

// shared are the fields that the three kinds of options have in common, and that
// this package fills in.
type shared struct {
	maxRetries, dialerRetries         *int
	dialTimeout, dialerRetryTimeout   *time.Duration
	readTimeout, writeTimeout         *time.Duration
	contextTimeoutEnabled, noIdentity *bool
	identitySuffix                    *string
}

func (s settings) apply(f shared) {
	has := func(name string) bool { return s.theirs.Has(name) }
	if !has("max_retries") || *f.maxRetries == 0 {
		*f.maxRetries = maxRetries
	}
	if !has("dial_timeout") {
		*f.dialTimeout = dialTimeout
	}
	if !has("read_timeout") {
		*f.readTimeout = ioTimeout
	}
	if !has("write_timeout") {
		*f.writeTimeout = ioTimeout
	}
	*f.dialerRetries = s.dialerRetries
	*f.dialerRetryTimeout = s.dialerRetryTimeout
	*f.contextTimeoutEnabled = s.contextTimeout
	*f.noIdentity = s.noIdentity
	*f.identitySuffix = s.identitySuffix
}
