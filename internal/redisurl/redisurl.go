// Package redisurl makes a go-redis client of a URL, without I/O.
//
// A URL stands for a single server, a cluster, or a master watched by sentinels.
// go-redis has a parser for each of them, whose URLs differ in form and in the
// parameters that they take. This package takes a URL apart itself, checks every
// parameter, and lets go-redis read them only then, all by one of its parsers: the
// parameters have the names and meanings of go-redis, and are the same in all forms.
//
// No error quotes any part of a URL. A password may stand in any part of one that
// is malformed: after a '/' or '?' that should have been escaped, it is in what
// looks like the path or the name of a parameter.
package redisurl

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"strconv"

	"github.com/delqhi/cache/internal/errs"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// defaults are parameters. A cache has a fallback, so a prompt error is better for it than one after
// several attempts.
var defaults = url.Values{
	"dialer_retries":          {"1"}, // attempts, in fact: go-redis's default is five
	"dial_timeout":            {"1s"},
	"read_timeout":            {"1s"},
	"write_timeout":           {"1s"},
	"context_timeout_enabled": {"true"},
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
	o, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: the Redis URL: %w", errs.ErrInvalidOption, err)
	}
	return redis.NewUniversalClient(o), nil
}

func parse(raw string) (*redis.UniversalOptions, error) {
	t, err := split(raw)
	if err != nil {
		return nil, err
	}
	values, err := t.readQuery()
	if err != nil {
		return nil, err
	}
	master, db, err := t.readPath(values.Get("db"))
	if err != nil {
		return nil, err
	}
	o, err := readParams(values, t.tls)
	if err != nil {
		return nil, err
	}
	o.Addrs, o.MasterName, o.IsClusterMode = t.addrs, master, t.form == cluster
	o.Username, o.Password, o.DB = t.user, t.password, db
	o.SentinelUsername, o.SentinelPassword = values.Get("sentinel_username"), values.Get("sentinel_password")
	o.MaxRedirects, _ = strconv.Atoi(values.Get("max_redirects"))
	o.FailingTimeoutSeconds, _ = strconv.Atoi(values.Get("failing_timeout_seconds"))
	if o.TLSConfig != nil {
		o.TLSConfig.ServerName = t.serverName()
	}
	// go-redis would look up the names of servers for these notifications, which only a hosted
	// service sends.
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o, nil
}

// readParams has go-redis parse the parameters. Of its parsers only that for sentinels knows all
// that the forms have in common, and none returns UniversalOptions, whose fields have the same names.
func readParams(values url.Values, tls bool) (*redis.UniversalOptions, error) {
	theirs := maps.Clone(defaults)
	maps.Copy(theirs, values)
	maps.DeleteFunc(theirs, func(name string, _ []string) bool { return params[name].ours })
	bare := "redis://localhost?"
	if tls {
		bare = "rediss://localhost?"
	}
	parsed, err := redis.ParseFailoverURL(bare + theirs.Encode())
	if err != nil {
		return nil, errors.New("go-redis does not accept the parameters") // its error might quote a value
	}
	o := &redis.UniversalOptions{}
	from, to := reflect.ValueOf(parsed).Elem(), reflect.ValueOf(o).Elem()
	for field, target := range to.Fields() {
		if v := from.FieldByName(field.Name); v.IsValid() {
			target.Set(v)
		}
	}
	if o.MaxRetries == 0 {
		o.MaxRetries = -1 // none; 0 would be go-redis's default, three
	}
	return o, nil
}
