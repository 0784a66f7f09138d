package redisurl

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is what a parameter's value must look like.
type kind uint8

const (
	whole kind = iota
	span       // a duration: "1.5s", or a number of seconds; 0 and less: none
	limit      // a duration that must not be none
	flag
	text
)

// param is a parameter that URLs may have.
type param struct {
	kind     kind
	min, max int  // of a whole number
	forms    form // that have it
	ours     bool // it is read here, since not all parsers of go-redis know it
}

const (
	// maxConns bounds the size of a pool. go-redis allocates memory for all of it at once, and
	// panics beyond the range of an int32.
	maxConns  = 1 << 16
	maxBuffer = 64 << 20 // bytes, per connection
)

// params are all parameters by their names, which are go-redis's but for "cluster",
// "sentinel_username" and "sentinel_password". The ranges leave out what go-redis
// would ignore, replace silently, or panic at.
var params = map[string]param{
	"protocol":    {kind: whole, min: 2, max: 3, forms: everywhere},
	"client_name": {kind: text, forms: everywhere},

	"max_retries":          {kind: whole, min: -1, max: 100, forms: everywhere}, // 0 and -1: none
	"min_retry_backoff":    {kind: span, forms: everywhere},
	"max_retry_backoff":    {kind: span, forms: everywhere},
	"dialer_retries":       {kind: whole, min: 1, max: 100, forms: everywhere, ours: true},
	"dialer_retry_timeout": {kind: limit, forms: everywhere, ours: true},

	"dial_timeout":            {kind: limit, forms: everywhere}, // go-redis fails every dial without one
	"read_timeout":            {kind: span, forms: everywhere},
	"write_timeout":           {kind: span, forms: everywhere},
	"context_timeout_enabled": {kind: flag, forms: everywhere, ours: true},

	"pool_fifo":                  {kind: flag, forms: everywhere},
	"pool_size":                  {kind: whole, max: maxConns, forms: everywhere}, // 0: go-redis's default
	"pool_timeout":               {kind: limit, forms: everywhere},                // without one no command waits for a connection
	"min_idle_conns":             {kind: whole, max: maxConns, forms: everywhere},
	"max_idle_conns":             {kind: whole, max: maxConns, forms: everywhere},
	"max_active_conns":           {kind: whole, max: maxConns, forms: everywhere},
	"max_concurrent_dials":       {kind: whole, max: maxConns, forms: everywhere},
	"pipeline_pool_size":         {kind: whole, min: -1, max: maxConns, forms: everywhere}, // -1: none
	"pipeline_read_buffer_size":  {kind: whole, max: maxBuffer, forms: everywhere},
	"pipeline_write_buffer_size": {kind: whole, max: maxBuffer, forms: everywhere},
	"conn_max_idle_time":         {kind: span, forms: everywhere},
	"conn_max_lifetime":          {kind: span, forms: everywhere},
	"conn_max_lifetime_jitter":   {kind: span, forms: everywhere},

	"disableIdentity": {kind: flag, forms: everywhere, ours: true},
	"identitySuffix":  {kind: text, forms: everywhere, ours: true},

	"skip_verify": {kind: flag, forms: single | cluster | sentinel, ours: true},
	"db":          {kind: text, forms: everywhere, ours: true}, // read with the path, which may give it too

	"cluster":                 {kind: flag, forms: single | cluster, ours: true},
	"max_redirects":           {kind: whole, min: -1, max: 100, forms: cluster},
	"failing_timeout_seconds": {kind: whole, max: 86400, forms: cluster},

	"sentinel_username": {kind: text, forms: sentinel, ours: true},
	"sentinel_password": {kind: text, forms: sentinel, ours: true},
}

// canonical are old names that go-redis still accepts for a single server.
func canonical(name string) string {
	switch name {
	case "idle_timeout":
		return "conn_max_idle_time"
	case "max_conn_age":
		return "conn_max_lifetime"
	}
	return name
}

// elsewhere has the replacement for parameters that go-redis supports, and URLs here do not.
func elsewhere(name string) string {
	switch name {
	case "addr":
		return "addr is not a parameter here: write all hosts before the path, with commas between them"
	case "master_name":
		return "master_name is not a parameter here: write redis+sentinel://host:26379/mymaster"
	case "username", "password":
		return "user and password are not parameters: write user:password@ before the host"
	case "read_only", "route_by_latency", "route_by_latency_tolerance", "route_randomly", "replica_only", "use_disconnected_replicas":
		return name + " is for reading from replicas, which lag behind: a cache would not see its own writes; leave it out"
	case "unstable_resp3":
		return name + " has no effect any more: leave it out"
	}
	return ""
}

// settings are the parameters of a URL.
type settings struct {
	theirs url.Values // parsed by go-redis

	db                             string
	cluster                        bool
	skipVerify                     bool
	sentinelUser, sentinelPassword string
	dialerRetries                  int
	dialerRetryTimeout             time.Duration
	contextTimeout                 bool
	noIdentity                     bool
	identitySuffix                 string
}

// readQuery checks all parameters, and reports everything that is wrong. It names a parameter
// only if it is a valid name: another could be a piece of a password.
func readQuery(query string, t *target) (settings, error) {
	s := settings{theirs: url.Values{}, dialerRetries: dialerRetries, contextTimeout: true}
	seen := map[string]bool{}
	var wrong []string
	place := 0
	values := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		place++
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if err != nil || err2 != nil || strings.Contains(pair, ";") {
			wrong = append(wrong, fmt.Sprintf("parameter %d can't be decoded: write name=value with & between them, and %% ; & + in a value as %%25 %%3B %%26 %%2B", place))
			continue
		}
		name = canonical(name)
		p, ok := params[name]
		switch instead := elsewhere(name); {
		case instead != "":
			wrong = append(wrong, instead)
		case !ok:
			wrong = append(wrong, fmt.Sprintf("parameter %d is unknown%s", place, suggestion(name)))
		case seen[name]:
			wrong = append(wrong, name+" is given more than once")
		case value == "":
			wrong = append(wrong, name+" has no value: write "+name+"=value, or leave it out")
		default:
			if err := p.check(value); err != nil {
				wrong = append(wrong, fmt.Sprintf("%s must be %v", name, err))
			}
			values[name] = value
		}
		seen[name] = true
	}
	// Which parameters fit depends on whether it is a cluster.
	f := t.form
	if isTrue(values["cluster"]) && f == single {
		f = cluster
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch p := params[name]; {
		case p.forms&f == 0:
			wrong = append(wrong, fmt.Sprintf("%s is for %s only: leave it out", name, p.forms))
		case name == "skip_verify" && !t.tls:
			wrong = append(wrong, "skip_verify is for TLS: write rediss:// or rediss+sentinel://, or leave it out")
		case name == "cluster" && !isTrue(values[name]) && f == cluster:
			wrong = append(wrong, "several hosts are a cluster: leave cluster out, or write one host")
		}
	}
	for _, pair := range [][2]string{{"conn_max_lifetime_jitter", "conn_max_lifetime"}, {"sentinel_username", "sentinel_password"}} {
		if values[pair[0]] != "" && values[pair[1]] == "" {
			wrong = append(wrong, pair[0]+" does nothing without "+pair[1]+": give both or none")
		}
	}
	if len(wrong) > 0 {
		return settings{}, errors.New(strings.Join(wrong, "; "))
	}
	s.fill(values)
	return s, nil
}

// fill stores values that have been checked.
func (s *settings) fill(values map[string]string) {
	for name, v := range values {
		if !params[name].ours {
			s.theirs.Set(name, v)
			continue
		}
		switch name {
		case "db":
			s.db = v
		case "cluster":
			s.cluster = isTrue(v)
		case "skip_verify":
			s.skipVerify = isTrue(v)
		case "context_timeout_enabled":
			s.contextTimeout = isTrue(v)
		case "disableIdentity":
			s.noIdentity = isTrue(v)
		case "identitySuffix":
			s.identitySuffix = v
		case "dialer_retries":
			s.dialerRetries, _ = strconv.Atoi(v)
		case "dialer_retry_timeout":
			s.dialerRetryTimeout, _ = duration(v)
		case "sentinel_username":
			s.sentinelUser = v
		case "sentinel_password":
			s.sentinelPassword = v
		}
	}
}

func isTrue(v string) bool { return v == "true" || v == "1" }

// check returns the requirement that a value does not meet, or nil.
func (p param) check(v string) error {
	switch p.kind {
	case whole:
		n, err := strconv.Atoi(v)
		if err != nil || n < p.min || n > p.max {
			return fmt.Errorf("a whole number between %d and %d", p.min, p.max)
		}
	case span:
		if _, ok := duration(v); !ok {
			return errors.New("a duration such as 500ms or 1.5s, or a number of seconds; 0 is none")
		}
	case limit:
		if d, ok := duration(v); !ok || d <= 0 {
			return errors.New("a duration such as 500ms or 1.5s, or a number of seconds, and longer than 0")
		}
	case flag:
		if !isTrue(v) && v != "false" && v != "0" {
			return errors.New("true or false")
		}
	}
	return nil
}

// duration parses what go-redis does: a number of seconds, or else a duration of Go. It refuses
// numbers that would overflow in go-redis.
func duration(v string) (time.Duration, bool) {
	const most = int(365 * 24 * time.Hour / time.Second)
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(n) * time.Second, -most <= n && n <= most
	}
	d, err := time.ParseDuration(v)
	return d, err == nil
}

// String names forms in an error.
func (f form) String() string {
	var names []string
	for _, n := range []struct {
		form form
		name string
	}{{single, "single servers"}, {socket, "Unix sockets"}, {cluster, "clusters"}, {sentinel, "sentinels"}} {
		if f&n.form != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ", ")
}
