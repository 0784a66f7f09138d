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
	ours     bool // it is read here: go-redis's parser does not know it, or has it elsewhere
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
	"dialer_retries":       {kind: whole, min: 1, max: 100, forms: everywhere},
	"dialer_retry_timeout": {kind: limit, forms: everywhere},

	"dial_timeout":            {kind: limit, forms: everywhere}, // go-redis fails every dial without one
	"read_timeout":            {kind: span, forms: everywhere},
	"write_timeout":           {kind: span, forms: everywhere},
	"context_timeout_enabled": {kind: flag, forms: everywhere},

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

	"disableIdentity": {kind: flag, forms: everywhere},
	"identitySuffix":  {kind: text, forms: everywhere},

	"skip_verify": {kind: flag, forms: single | cluster | sentinel},
	"db":          {kind: text, forms: everywhere, ours: true}, // read with the path, which may give it too

	"cluster":                 {kind: flag, forms: single | cluster, ours: true},
	"max_redirects":           {kind: whole, min: -1, max: 100, forms: cluster, ours: true},
	"failing_timeout_seconds": {kind: whole, max: 86400, forms: cluster, ours: true},

	"sentinel_username": {kind: text, forms: sentinel, ours: true},
	"sentinel_password": {kind: text, forms: sentinel, ours: true},
}

// only names sets of forms in errors.
var only = map[form]string{
	single | cluster | sentinel: "single servers, clusters, sentinels",
	single | cluster:            "single servers, clusters",
	cluster:                     "clusters",
	sentinel:                    "sentinels",
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

// readQuery checks all parameters, and reports everything that is wrong. It names a parameter
// only if it is a valid name: another could be a piece of a password. It decides whether a single
// host is a cluster.
func (t *target) readQuery() (url.Values, error) {
	values := url.Values{}
	var wrong []string
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	place := 0
	for pair := range strings.SplitSeq(t.query, "&") {
		if pair == "" {
			continue
		}
		place++
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if err != nil || err2 != nil || strings.Contains(pair, ";") {
			refuse("parameter %d can't be decoded: write name=value with & between them, and %% ; & + in a value as %%25 %%3B %%26 %%2B", place)
			continue
		}
		name = canonical(name)
		p, known := params[name]
		switch instead := elsewhere(name); {
		case instead != "":
			refuse("%s", instead)
		case !known:
			refuse("parameter %d is unknown%s", place, suggestion(name))
		case values.Has(name):
			refuse("%s is given more than once", name)
		case value == "":
			refuse("%s has no value: write %[1]s=value, or leave it out", name)
		default:
			if err := p.check(value); err != nil {
				refuse("%s must be %v", name, err)
			}
		}
		if known {
			values.Set(name, value)
		}
	}
	if t.form == single && isTrue(values.Get("cluster")) {
		t.form = cluster
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch p := params[name]; {
		case p.forms&t.form == 0:
			refuse("%s is for %s only: leave it out", name, only[p.forms])
		case name == "skip_verify" && !t.tls:
			refuse("skip_verify is for TLS: write rediss:// or rediss+sentinel://, or leave it out")
		case name == "cluster" && !isTrue(values.Get(name)) && t.form == cluster:
			refuse("several hosts are a cluster: leave cluster out, or write one host")
		}
	}
	for _, pair := range [][2]string{{"conn_max_lifetime_jitter", "conn_max_lifetime"}, {"sentinel_username", "sentinel_password"}} {
		if values.Get(pair[0]) != "" && values.Get(pair[1]) == "" {
			refuse("%s does nothing without %s: give both or none", pair[0], pair[1])
		}
	}
	if len(wrong) > 0 {
		return nil, errors.New(strings.Join(wrong, "; "))
	}
	return values, nil
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
