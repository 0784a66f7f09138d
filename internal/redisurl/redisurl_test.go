package redisurl

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func mustParse(t *testing.T, raw string) *redis.UniversalOptions {
	t.Helper()
	o, err := parse(raw)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return o
}

// chosen returns the options of the client that go-redis makes.
func chosen(o *redis.UniversalOptions) reflect.Value {
	switch {
	case o.MasterName != "":
		return reflect.ValueOf(o.Failover()).Elem()
	case o.IsClusterMode:
		return reflect.ValueOf(o.Cluster()).Elem()
	}
	return reflect.ValueOf(o.Simple()).Elem()
}

// place is what a URL says about where to go and as whom.
type place struct {
	kind           string
	addrs          []string
	user, password string
	db             int
	master         string
	tls            bool
	serverName     string
}

func placeOf(o *redis.UniversalOptions) place {
	c := redis.NewUniversalClient(o)
	defer c.Close()
	kind := "cluster"
	if c, ok := c.(*redis.Client); ok {
		kind = c.Options().Network
		if c.Options().Addr == "FailoverClient" {
			kind = "sentinel"
		}
	}
	p := place{kind: kind, addrs: o.Addrs, user: o.Username, password: o.Password, db: o.DB, master: o.MasterName}
	if p.tls = o.TLSConfig != nil; p.tls {
		p.serverName = o.TLSConfig.ServerName
	}
	return p
}

func TestFormsOfURLs(t *testing.T) {
	for raw, want := range map[string]place{
		"redis://localhost":                     {kind: "tcp", addrs: []string{"localhost:6379"}},
		"redis://localhost/":                    {kind: "tcp", addrs: []string{"localhost:6379"}},
		"REDIS://Localhost:1/15":                {kind: "tcp", addrs: []string{"Localhost:1"}, db: 15},
		"redis://h?db=3":                        {kind: "tcp", addrs: []string{"h:6379"}, db: 3},
		"redis://h/3/":                          {kind: "tcp", addrs: []string{"h:6379"}, db: 3},
		"redis://@h":                            {kind: "tcp", addrs: []string{"h:6379"}},
		"redis://:p@h":                          {kind: "tcp", addrs: []string{"h:6379"}, password: "p"},
		"redis://u:p@h:7/2":                     {kind: "tcp", addrs: []string{"h:7"}, user: "u", password: "p", db: 2},
		"redis://u:p:q@r@h":                     {kind: "tcp", addrs: []string{"h:6379"}, user: "u", password: "p:q@r"},
		"redis://u%3a:%2F%3F%23%40%25%0a+,@h":   {kind: "tcp", addrs: []string{"h:6379"}, user: "u:", password: "/?#@%\n+,"},
		"redis://[::1]":                         {kind: "tcp", addrs: []string{"[::1]:6379"}},
		"redis://[fe80::1%25eth0]:7":            {kind: "tcp", addrs: []string{"[fe80::1%eth0]:7"}},
		"redis://10.0.0.1:65535":                {kind: "tcp", addrs: []string{"10.0.0.1:65535"}},
		"redis://my_redis-1.svc.cluster.local.": {kind: "tcp", addrs: []string{"my_redis-1.svc.cluster.local.:6379"}},
		"redis://h?cluster=false":               {kind: "tcp", addrs: []string{"h:6379"}},
		"rediss://u:p@h:7/2":                    {kind: "tcp", addrs: []string{"h:7"}, user: "u", password: "p", db: 2, tls: true, serverName: "h"},
		"rediss://[fe80::1%25eth0]":             {kind: "tcp", addrs: []string{"[fe80::1%eth0]:6379"}, tls: true, serverName: "fe80::1"},

		"unix:///run/redis.sock":                 {kind: "unix", addrs: []string{"/run/redis.sock"}},
		"unix://u:p@/run/a%20b%40c%3F.sock?db=4": {kind: "unix", addrs: []string{"/run/a b@c?.sock"}, user: "u", password: "p", db: 4},

		"redis://a:7000,b,[::1]:7002":   {kind: "cluster", addrs: []string{"a:7000", "b:6379", "[::1]:7002"}},
		"redis://u:p,q@a,b/":            {kind: "cluster", addrs: []string{"a:6379", "b:6379"}, user: "u", password: "p,q"},
		"redis://a,b?cluster=true":      {kind: "cluster", addrs: []string{"a:6379", "b:6379"}},
		"redis://a:7000?cluster=1":      {kind: "cluster", addrs: []string{"a:7000"}},
		"rediss://a,b":                  {kind: "cluster", addrs: []string{"a:6379", "b:6379"}, tls: true},
		"rediss://config?cluster=true":  {kind: "cluster", addrs: []string{"config:6379"}, tls: true, serverName: "config"},
		"redis://a:7000?&cluster=true&": {kind: "cluster", addrs: []string{"a:7000"}},

		"redis+sentinel://s/m":                     {kind: "sentinel", addrs: []string{"s:26379"}, master: "m"},
		"redis+sentinel://s/m/":                    {kind: "sentinel", addrs: []string{"s:26379"}, master: "m"},
		"redis+sentinel://u:p@s1,s2:7,[::1]/m/5":   {kind: "sentinel", addrs: []string{"s1:26379", "s2:7", "[::1]:26379"}, user: "u", password: "p", master: "m", db: 5},
		"redis+sentinel://s/m%2Fn?db=6":            {kind: "sentinel", addrs: []string{"s:26379"}, master: "m/n", db: 6},
		"rediss+sentinel://s/m":                    {kind: "sentinel", addrs: []string{"s:26379"}, master: "m", tls: true},
		"redis+sentinel://s/m?sentinel_password=x": {kind: "sentinel", addrs: []string{"s:26379"}, master: "m"},
	} {
		if got := placeOf(mustParse(t, raw)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", raw, got, want)
		}
	}
}

func TestUsersPasswordsAndHostsOfAnyKindComeThrough(t *testing.T) {
	for _, secret := range []string{"p", "ä ß 世", "a/b?c#d@e:f%g", "%2F", "\x00\n\t\x7f", "[::1]", ",", "://", `"'\`} {
		for _, form := range []string{"redis://%s@h", "rediss://%s@a,b", "unix://%s@/s", "redis+sentinel://%s@h/m"} {
			got := placeOf(mustParse(t, fmt.Sprintf(form, url.UserPassword("u"+secret, secret))))
			if got.user != "u"+secret || got.password != secret {
				t.Errorf("%s: %q became %q and %q", form, secret, got.user, got.password)
			}
		}
		o := mustParse(t, "redis+sentinel://h/m?"+url.Values{"sentinel_username": {secret}, "sentinel_password": {secret}}.Encode())
		if o.SentinelUsername != secret || o.SentinelPassword != secret || o.Password != "" {
			t.Errorf("%q became %q and %q", secret, o.SentinelUsername, o.SentinelPassword)
		}
	}
}

var bases = map[form]string{
	single:   "rediss://h",
	socket:   "unix:///s",
	cluster:  "rediss://a,b",
	sentinel: "rediss+sentinel://s/m",
}

func TestWhereTheURLIsSilent(t *testing.T) {
	for form, raw := range bases {
		o := mustParse(t, raw)
		for field, want := range map[string]any{
			"ContextTimeoutEnabled": true, "MaxRetries": -1, "DialerRetries": 1,
			"DialTimeout": time.Second, "ReadTimeout": time.Second, "WriteTimeout": time.Second,
			// Left to go-redis.
			"PoolSize": 0, "Protocol": 0, "MinIdleConns": 0, "PoolTimeout": time.Duration(0), "DisableIdentity": false,
		} {
			if got := chosen(o).FieldByName(field).Interface(); got != want {
				t.Errorf("%v: %s is %v, not %v", form, field, got, want)
			}
		}
		if form != sentinel { // which never has them
			m := chosen(o).FieldByName("MaintNotificationsConfig").Interface().(*maintnotifications.Config)
			if m == nil || m.Mode != maintnotifications.ModeDisabled {
				t.Errorf("%v: maintenance notifications are %+v", form, m)
			}
		}
		if c := o.TLSConfig; form != socket && (c.InsecureSkipVerify || c.MinVersion != tls.VersionTLS12) {
			t.Errorf("%v: TLS from version %x, unverified: %v", form, c.MinVersion, c.InsecureSkipVerify)
		}
	}
}

// What go-redis reads alone is left to it, but for an example of each kind.
func TestParametersMeanTheSameInEveryForm(t *testing.T) {
	for param, want := range map[string]struct {
		field string
		value any
	}{
		"client_name=me":                {"ClientName", "me"},
		"max_retries=2":                 {"MaxRetries", 2},
		"max_retries=0":                 {"MaxRetries", -1},
		"max_retries=-1":                {"MaxRetries", -1},
		"max_retry_backoff=0":           {"MaxRetryBackoff", time.Duration(-1)},
		"dialer_retries=3":              {"DialerRetries", 3},
		"dialer_retry_timeout=2":        {"DialerRetryTimeout", 2 * time.Second},
		"dial_timeout=1.5s":             {"DialTimeout", 1500 * time.Millisecond},
		"read_timeout=3":                {"ReadTimeout", 3 * time.Second},
		"read_timeout=0":                {"ReadTimeout", time.Duration(-1)},
		"write_timeout=-1":              {"WriteTimeout", time.Duration(-1)},
		"context_timeout_enabled=false": {"ContextTimeoutEnabled", false},
		"pool_fifo=1":                   {"PoolFIFO", true},
		"pipeline_pool_size=-1":         {"PipelinePoolSize", -1},
		"idle_timeout=1m":               {"ConnMaxIdleTime", time.Minute},
		"max_conn_age=1h":               {"ConnMaxLifetime", time.Hour},
		"conn_max_lifetime=1h&conn_max_lifetime_jitter=1m": {"ConnMaxLifetimeJitter", time.Minute},
	} {
		for form, raw := range bases {
			if got := chosen(mustParse(t, raw+"?"+param)).FieldByName(want.field).Interface(); got != want.value {
				t.Errorf("%v: %s makes %s %v, not %v", form, param, want.field, got, want.value)
			}
		}
	}
	if c := mustParse(t, bases[cluster]+"?skip_verify=true").TLSConfig; !c.InsecureSkipVerify {
		t.Error("skip_verify does nothing")
	}
	o := mustParse(t, bases[cluster]+"?max_redirects=7&failing_timeout_seconds=9").Cluster()
	if o.MaxRedirects != 7 || o.FailingTimeoutSeconds != 9 {
		t.Errorf("%d redirects, %d seconds", o.MaxRedirects, o.FailingTimeoutSeconds)
	}
}

// No parameter is accepted that does nothing.
func TestEveryParameterHasAnEffect(t *testing.T) {
	for name, p := range params {
		value := map[kind]string{whole: "3", span: "7s", limit: "7s", flag: "true", text: "3"}[p.kind]
		switch name {
		case "context_timeout_enabled":
			value = "false"
		case "conn_max_lifetime_jitter":
			value += "&conn_max_lifetime=1h"
		case "sentinel_username":
			value += "&sentinel_password=x"
		}
		for form, raw := range bases {
			if name == "db" && form == cluster {
				continue
			}
			if name == "cluster" && form == cluster {
				raw = "rediss://a"
			}
			o, err := parse(raw + "?" + name + "=" + value)
			if p.forms&form == 0 {
				if err == nil || !strings.Contains(err.Error(), name+" is for ") {
					t.Errorf("%v: %s: %v", form, name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%v: %v", form, err)
				continue
			}
			before := mustParse(t, raw)
			if name == "conn_max_lifetime_jitter" {
				before = mustParse(t, raw+"?conn_max_lifetime=1h")
			}
			if reflect.DeepEqual(chosen(o).Interface(), chosen(before).Interface()) {
				t.Errorf("%v: %s does nothing", form, name)
			}
		}
	}
}

// What go-redis reads from its URLs either works here or is refused with a reason.
func TestNoParameterOfGoRedisIsUnknown(t *testing.T) {
	for _, name := range []string{
		"addr", "client_name", "conn_max_idle_time", "conn_max_lifetime", "conn_max_lifetime_jitter", "context_timeout_enabled", "db",
		"dial_timeout", "dialer_retries", "dialer_retry_timeout", "disableIdentity", "failing_timeout_seconds", "identitySuffix",
		"idle_timeout", "master_name", "max_active_conns", "max_concurrent_dials", "max_conn_age", "max_idle_conns", "max_redirects",
		"max_retries", "max_retry_backoff", "min_idle_conns", "min_retry_backoff", "password", "pipeline_pool_size",
		"pipeline_read_buffer_size", "pipeline_write_buffer_size", "pool_fifo", "pool_size", "pool_timeout", "protocol", "read_only",
		"read_timeout", "replica_only", "route_by_latency", "route_by_latency_tolerance", "route_randomly", "skip_verify",
		"unstable_resp3", "use_disconnected_replicas", "username", "write_timeout",
	} {
		if _, ok := params[canonical(name)]; ok {
			continue
		}
		_, err := parse("redis://h?" + name + "=1")
		if err == nil || strings.Contains(err.Error(), "unknown") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nothing is dialed before the first command: the first connection that the
// listener gets is the test's own.
func TestParseDoesNoIO(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, raw := range []string{"redis://%s", "rediss://%s/1", "redis://%[1]s,%[1]s", "redis+sentinel://%s/m", "redis://%s?cluster=true"} {
		c, err := Parse(fmt.Sprintf(raw, l.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Parse("redis://no-such-host.invalid"); err != nil {
		t.Error(err)
	}
	own, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if first.RemoteAddr().String() != own.LocalAddr().String() {
		t.Error("a client has dialed")
	}
}

func TestErrorsReportEverythingThatIsWrong(t *testing.T) {
	_, err := Parse("redis://h?pool_size=many&nonsense=1&read_timeout=soon&pool_fifo=maybe&pool_fifo=1&client_name=&read_only=true&maxretries=3&max_redirects=3")
	if !errors.Is(err, errs.ErrInvalidOption) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"pool_size must be a whole number between 0 and 65536", "parameter 2 is unknown", "read_timeout must be a duration",
		"pool_fifo must be true or false", "pool_fifo is given more than once", "client_name has no value", "read_only is for reading from replicas",
		"parameter 8 is unknown: did you mean max_retries?", "max_redirects is for clusters only",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
	_, err = parse("redis://h?sentinel_username=1&max_redirects=1&conn_max_lifetime_jitter=1&failing_timeout_seconds=1")
	for range 20 {
		if _, again := parse("redis://h?sentinel_username=1&max_redirects=1&conn_max_lifetime_jitter=1&failing_timeout_seconds=1"); again.Error() != err.Error() {
			t.Fatalf("one URL, two errors: %v, %v", again, err)
		}
	}
}

func TestSuggestions(t *testing.T) {
	for name, want := range map[string]string{
		"poolsize": "pool_size", "PoolSize": "pool_size", "pool-size": "pool_size", "pool_sizes": "pool_size", "dialtimeout": "dial_timeout",
		"disable_identity": "disableIdentity", "sentinel_user_name": "sentinel_username", "DB": "db", "nonsense": "", "": "", strings.Repeat("x", 1e6): "",
	} {
		got := suggestion(name)
		if found := strings.Contains(got, "did you mean "+want+"?"); found != (want != "") {
			t.Errorf("%.20q: %q", name, got)
		}
	}
	// Against the definition, without a bound.
	var slow func(a, b string) int
	slow = func(a, b string) int {
		switch {
		case a == "":
			return len(b)
		case b == "":
			return len(a)
		case a[0] == b[0]:
			return slow(a[1:], b[1:])
		}
		return 1 + min(slow(a[1:], b), slow(a, b[1:]), slow(a[1:], b[1:]))
	}
	words := []string{"", "a", "ab", "ba", "abc", "acb", "cab", "aabb", "abab", "kitten", "sitting"}
	for _, a := range words {
		for _, b := range words {
			if got, want := edits(a, b, 100), slow(a, b); got != want {
				t.Errorf("%q, %q: %d edits, not %d", a, b, got, want)
			}
		}
	}
	if !slices.Contains(words, "kitten") || edits("kitten", "sitting", 2) < 2 {
		t.Error("the bound is not kept")
	}
}
