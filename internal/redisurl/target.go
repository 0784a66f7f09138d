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

// target is the part of a URL before its parameters.
type target struct {
	form           form
	tls            bool
	user, password string
	hosts          []host
	rawPath        string

	// The result of readPath for rawPath.
	path   string // of a socket
	master string
	db     int
}

// host is a name or address, without brackets, and a port.
type host struct {
	name string
	port string
}

func (h host) addr() string { return net.JoinHostPort(h.name, h.port) }

func (t *target) addrs() []string {
	addrs := make([]string, len(t.hosts))
	for i, h := range t.hosts {
		addrs[i] = h.addr()
	}
	return addrs
}

var (
	errScheme = errors.New("write redis://, rediss:// (TLS), unix://, redis+sentinel:// or rediss+sentinel://, as in redis://localhost:6379/0")
	errEscape = errors.New("user, password and path must have the characters % / ? # @ and those that can't be printed written as %XX: %25 %2F %3F %23 %40")
)

// split takes a URL apart, except for the parameters. net/url can't be used: it supports one
// host in a URL, and quotes it in its errors.
func split(raw string) (t *target, query string, err error) {
	if raw == "" {
		return nil, "", errors.New("it is empty: write redis://host:port/db")
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, "", errors.New("it contains a space, a line break or another character that can't be printed, perhaps at an end: remove it, or write it as %XX")
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, "", fmt.Errorf("it has no scheme: %w", errScheme)
	}
	t = &target{}
	switch strings.ToLower(scheme) {
	case "redis":
		t.form = single
	case "rediss":
		t.form, t.tls = single, true
	case "unix":
		t.form = socket
	case "redis+sentinel":
		t.form = sentinel
	case "rediss+sentinel":
		t.form, t.tls = sentinel, true
	default:
		return nil, "", fmt.Errorf("its scheme is unknown: %w", errScheme)
	}

	end := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		end = i
	}
	authority, tail := rest[:end], rest[end:]
	// A password with a '/' would otherwise be taken for a host and a path.
	if strings.Contains(tail, "@") {
		return nil, "", fmt.Errorf("it has an @ after the first of / ? #: %w", errEscape)
	}
	if strings.Contains(tail, "#") {
		return nil, "", fmt.Errorf("it has a #, which means nothing here: %w", errEscape)
	}
	hosts := authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		hosts = authority[i+1:]
		if err := t.readUser(authority[:i]); err != nil {
			return nil, "", err
		}
	}
	if err := t.readHosts(hosts); err != nil {
		return nil, "", err
	}
	t.rawPath, query, _ = strings.Cut(tail, "?")
	return t, query, nil
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
	if t.form == socket {
		if list != "" {
			return errors.New("a Unix socket has a path and no host: write unix:///path/to/redis.sock")
		}
		return nil
	}
	if list == "" {
		return errors.New("it has no host: write redis://host:port")
	}
	port := "6379"
	if t.form == sentinel {
		port = "26379"
	}
	all := strings.Split(list, ",")
	for i, s := range all {
		h, err := readHost(s, port)
		if err != nil {
			if len(all) > 1 {
				return fmt.Errorf("host %d of %d: %w", i+1, len(all), err)
			}
			return fmt.Errorf("its host: %w", err)
		}
		t.hosts = append(t.hosts, h)
	}
	if len(all) > 1 && t.form == single {
		t.form = cluster
	}
	return nil
}

// readHost reads host[:port] or [address][:port].
func readHost(s, defaultPort string) (host, error) {
	name, port, hasPort := s, "", false
	if inner, ok := strings.CutPrefix(s, "["); ok {
		address, rest, closed := strings.Cut(inner, "]")
		port, hasPort = strings.CutPrefix(rest, ":")
		name = strings.Replace(address, "%25", "%", 1) // a zone
		ip, err := netip.ParseAddr(name)
		if !closed || rest != "" && !hasPort || err != nil || !ip.Is6() {
			return host{}, errors.New("between brackets must stand an IPv6 address, and after them a port or nothing: write [::1]:6379")
		}
	} else {
		name, port, hasPort = strings.Cut(s, ":")
		switch {
		case strings.Contains(port, ":"):
			return host{}, errors.New("it has more than one colon: write host:port, and an IPv6 address in brackets, as in [::1]:6379")
		case name == "":
			return host{}, errors.New("its name is missing: write host:port")
		case strings.ContainsFunc(name, notInHost):
			return host{}, errors.New("a name has letters a to z, digits, dots, hyphens and underscores; others are not possible (international names have the form xn--…)")
		}
	}
	if !hasPort {
		return host{name, defaultPort}, nil
	}
	if n, ok := number(port); !ok || n < 1 || n > 65535 {
		return host{}, errors.New("its port must be a number between 1 and 65535: write host:port, or host alone")
	}
	return host{name, port}, nil
}

func notInHost(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '-' || r == '_')
}

// number reads digits: neither signs nor a way around them.
func number(s string) (int, bool) {
	if s == "" || len(s) > 9 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// readPath parses the path according to the form of the URL. The database may also have been a
// parameter.
func (t *target) readPath(s settings) error {
	db := ""
	switch t.form {
	case socket:
		var err error
		if t.path, err = url.PathUnescape(t.rawPath); err != nil || strings.Contains(t.path, "\x00") {
			return fmt.Errorf("its path can't be decoded: %w", errEscape)
		}
		if strings.Trim(t.path, "/") == "" {
			return errors.New("the path of the socket is missing: write unix:///path/to/redis.sock")
		}
	case cluster:
		if strings.Trim(t.rawPath, "/") != "" || s.db != "" {
			return errors.New("a cluster has no databases: leave the number out")
		}
	case sentinel:
		var err error
		t.master, db, _ = strings.Cut(strings.TrimPrefix(t.rawPath, "/"), "/")
		if t.master, err = url.PathUnescape(t.master); err != nil {
			return fmt.Errorf("the name of its master can't be decoded: %w", errEscape)
		}
		if t.master == "" {
			return errors.New("the name of the master is missing: write redis+sentinel://host:26379/mymaster")
		}
	default:
		db = strings.TrimPrefix(t.rawPath, "/")
	}
	db = strings.TrimSuffix(db, "/")
	if db != "" && s.db != "" {
		return errors.New("it gives the database twice, in the path and as db: leave one of them out")
	}
	if db += s.db; db == "" {
		return nil
	}
	n, ok := number(db)
	if !ok {
		return errors.New("the database must be a number that is not negative: write redis://host:port/0, redis+sentinel://host:port/mymaster/0, or db=0")
	}
	t.db = n
	return nil
}
