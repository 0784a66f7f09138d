package redisurl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// form is the kind of a URL. The values are bits, to make sets of.
type form uint8

const (
	single form = 1 << iota
	socket
	cluster
	sentinel

	everywhere = single | socket | cluster | sentinel
)

// target is a URL taken apart.
type target struct {
	form           form
	tls            bool
	user, password string
	addrs          []string // host:port, or the path of a socket
	path, query    string   // escaped
}

var schemes = map[string]target{
	"redis":           {form: single},
	"rediss":          {form: single, tls: true},
	"unix":            {form: socket},
	"redis+sentinel":  {form: sentinel},
	"rediss+sentinel": {form: sentinel, tls: true},
}

var (
	errScheme = errors.New("write redis://, rediss:// (TLS), unix://, redis+sentinel:// or rediss+sentinel://, as in redis://localhost:6379/0")
	errEscape = errors.New("user, password and path must have the characters % / ? # @ and those that can't be printed written as %XX: %25 %2F %3F %23 %40")
)

// split takes a URL apart, except for the path and the parameters. net/url, and with it go-redis,
// can't be used: it supports one host in a URL, and quotes it in its errors.
func split(raw string) (target, error) {
	if raw == "" {
		return target{}, errors.New("it is empty: write redis://host:port/db")
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return target{}, errors.New("it contains a space, a line break or another character that can't be printed, perhaps at an end: remove it, or write it as %XX")
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return target{}, fmt.Errorf("it has no scheme: %w", errScheme)
	}
	t, ok := schemes[strings.ToLower(scheme)]
	if !ok {
		return target{}, fmt.Errorf("its scheme is unknown: %w", errScheme)
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	// A password with a '/' would otherwise be taken for a host and a path.
	if strings.Contains(tail, "@") {
		return target{}, fmt.Errorf("it has an @ after the first of / ? #: %w", errEscape)
	}
	if strings.Contains(tail, "#") {
		return target{}, fmt.Errorf("it has a #, which means nothing here: %w", errEscape)
	}
	t.path, t.query, _ = strings.Cut(tail, "?")
	at := strings.LastIndexByte(authority, '@')
	if err := t.readUser(authority[:max(at, 0)]); err != nil {
		return target{}, err
	}
	return t, t.readHosts(authority[at+1:])
}

func (t *target) readUser(s string) error {
	user, password, _ := strings.Cut(s, ":")
	var err, err2 error
	t.user, err = url.PathUnescape(user)
	t.password, err2 = url.PathUnescape(password)
	if err != nil || err2 != nil {
		return fmt.Errorf("its user or password can't be decoded: %w", errEscape)
	}
	if t.user != "" && t.password == "" {
		// go-redis would ignore it.
		return errors.New("it has a user without a password: write user:password@, or :password@ for a password alone")
	}
	return nil
}

func (t *target) readHosts(list string) error {
	port := "6379"
	switch {
	case t.form == socket && list != "":
		return errors.New("a Unix socket has a path and no host: write unix:///path/to/redis.sock")
	case t.form == socket:
		return nil
	case list == "":
		return errors.New("it has no host: write redis://host:port")
	case t.form == sentinel:
		port = "26379"
	}
	all := strings.Split(list, ",")
	for i, s := range all {
		addr, err := readHost(s, port)
		if err != nil && len(all) > 1 {
			return fmt.Errorf("host %d of %d: %w", i+1, len(all), err)
		}
		if err != nil {
			return fmt.Errorf("its host: %w", err)
		}
		t.addrs = append(t.addrs, addr)
	}
	if len(all) > 1 && t.form == single {
		t.form = cluster
	}
	return nil
}

// readHost returns host:port for host[:port] or [address][:port].
func readHost(s, defaultPort string) (string, error) {
	if strings.LastIndexByte(s, ':') <= strings.LastIndexByte(s, ']') {
		s += ":" + defaultPort
	}
	name, port, err := net.SplitHostPort(s)
	brackets := strings.HasPrefix(s, "[")
	if brackets {
		name = strings.Replace(name, "%25", "%", 1) // a zone
	}
	ip, _ := netip.ParseAddr(name)
	n, err2 := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || brackets && !ip.Is6():
		return "", errors.New("it has more than one colon, or no IPv6 address in brackets: write host:port, or write [::1]:6379")
	case name == "":
		return "", errors.New("its name is missing: write host:port")
	case !brackets && strings.ContainsFunc(name, notInHost):
		return "", errors.New("a name has letters a to z, digits, dots, hyphens and underscores; others are not possible (international names have the form xn--…)")
	case err2 != nil || n == 0:
		return "", errors.New("its port must be a number between 1 and 65535: write host:port, or host alone")
	}
	return net.JoinHostPort(name, port), nil
}

func notInHost(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '-' || r == '_')
}

// readPath parses the path according to the form of the URL. The database may also have been a
// parameter.
func (t *target) readPath(db string) (master string, number int, err error) {
	path := strings.TrimSuffix(strings.TrimPrefix(t.path, "/"), "/")
	switch t.form {
	case socket:
		name, err := url.PathUnescape(t.path)
		if err != nil || strings.Contains(name, "\x00") {
			return "", 0, fmt.Errorf("its path can't be decoded: %w", errEscape)
		}
		if strings.Trim(name, "/") == "" {
			return "", 0, errors.New("the path of the socket is missing: write unix:///path/to/redis.sock")
		}
		t.addrs, path = []string{name}, ""
	case cluster:
		if strings.Trim(path, "/") != "" || db != "" {
			return "", 0, errors.New("a cluster has no databases: leave the number out")
		}
		return "", 0, nil
	case sentinel:
		master, path, _ = strings.Cut(path, "/")
		if master, err = url.PathUnescape(master); err != nil {
			return "", 0, fmt.Errorf("the name of its master can't be decoded: %w", errEscape)
		}
		if master == "" {
			return "", 0, errors.New("the name of the master is missing: write redis+sentinel://host:26379/mymaster")
		}
	}
	if path != "" && db != "" {
		return "", 0, errors.New("it gives the database twice, in the path and as db: leave one of them out")
	}
	if db += path; db == "" {
		return master, 0, nil
	}
	n, err := strconv.ParseUint(db, 10, 31)
	if err != nil {
		return "", 0, errors.New("the database must be a number that is not negative: write redis://host:port/0, redis+sentinel://host:port/mymaster/0, or db=0")
	}
	return master, int(n), nil
}

// serverName returns the name under which certificates are verified; if it is empty, each server
// is verified under the name that it is dialed by. That is right where the hosts differ: go-redis's
// parsers would have the master verified under the name of a sentinel. One host alone may be the
// common name of a cluster whose nodes call themselves by their IP addresses.
func (t *target) serverName() string {
	if t.form == sentinel || len(t.addrs) > 1 {
		return ""
	}
	host, _, _ := net.SplitHostPort(t.addrs[0])
	name, _, _ := strings.Cut(host, "%") // certificates have no zones
	return name
}
