package redisurl

import (
	"errors"
	"strings"
	"testing"

	"github.com/delqhi/cache/internal/errs"
	"github.com/redis/go-redis/v9"
)

// secret stands for a user, a password, or a piece of one. It is made of bytes
// that no text of an error contains.
const secret = "QZQZ"

// checkError checks what holds for every error: that it is printable, and that it
// gives nothing away.
func checkError(t *testing.T, raw string, err error) {
	t.Helper()
	text := err.Error()
	if strings.ContainsAny(text, "QZ") || strings.Contains(text, "%51") || strings.Contains(text, "%5A") {
		t.Errorf("%q: the error quotes it: %v", raw, err)
	}
	for _, r := range text {
		if r < ' ' || r > '~' && r != '…' {
			t.Errorf("%q: the error can't be printed: %q", raw, text)
			break
		}
	}
}

func TestBadURLs(t *testing.T) {
	for raw, want := range map[string]string{
		"":                              "it is empty: write redis://",
		"QZQZ":                          "it has no scheme: write redis://",
		"u:QZQZ@h:6379":                 "it has no scheme",
		"redis:QZQZ":                    "it has no scheme",
		"://u:QZQZ@h":                   "its scheme is unknown: write redis://",
		"QZQZ://h":                      "its scheme is unknown",
		"http://u:QZQZ@h":               "its scheme is unknown",
		"redis-sentinel://u:QZQZ@h/m":   "redis+sentinel://",
		"unix+sentinel://u:QZQZ@h/m":    "its scheme is unknown",
		"redis://u:QZQZ@h\n":            "line break",
		" redis://u:QZQZ@h":             "a space",
		"redis://u:QZ QZ@h":             "a space",
		"redis://u:QZQZ@h\x7f":          "can't be printed",
		"redis://u:QZQZ@":               "it has no host",
		"redis://":                      "it has no host",
		"redis:///0":                    "it has no host",
		"redis://:6379":                 "its name is missing",
		"redis://u:QZQZ@:6379":          "its name is missing",
		"redis://QZQZ@h":                "a user without a password",
		"redis://QZQZ:@h":               "a user without a password",
		"redis://u:QZ%ZZ@h":             "can't be decoded",
		"redis://QZ%:p@h":               "can't be decoded",
		"redis://u:QZ/QZ@h":             "%2F",
		"redis://u:QZ?QZ@h":             "%3F",
		"redis://u:QZ#QZ@h":             "%23",
		"redis://u:QZ@Q/Z@h":            "%40",
		"redis://u:p@h/0?client_name=@": "%40",
		"redis://u:p@h#QZQZ":            "%23",
		"redis://h#":                    "%23",

		"redis://QZQZ~":                "a name has letters",
		"redis://hä":                   "xn--",
		"redis://h%51":                 "a name has letters",
		"redis://h:0":                  "between 1 and 65535",
		"redis://h:65536":              "between 1 and 65535",
		"redis://h:":                   "between 1 and 65535",
		"redis://h:+1":                 "between 1 and 65535",
		"redis://h:QZQZ":               "between 1 and 65535",
		"redis://h:99999999999999999":  "between 1 and 65535",
		"redis://u:QZQZ:h":             "more than one colon",
		"redis://::1":                  "in brackets",
		"redis://::1:6379":             "in brackets",
		"redis://[::1":                 "write [::1]:6379",
		"redis://[::1]6379":            "write [::1]:6379",
		"redis://[]":                   "write [::1]:6379",
		"redis://[10.0.0.1]":           "write [::1]:6379",
		"redis://[QZQZ]":               "write [::1]:6379",
		"redis://h1,":                  "host 2 of 2: its name is missing",
		"redis://,h2":                  "host 1 of 2: its name is missing",
		"redis://h1,,h3":               "host 2 of 3: its name is missing",
		"redis://h1,h2:x":              "host 2 of 2: its port",
		"redis://u:QZQZ@h1,QZ~QZ,h3:1": "host 2 of 3",

		"redis://u:QZQZ@h/QZQZ":       "the database must be a number",
		"redis://h/-1":                "the database must be a number",
		"redis://h/+1":                "the database must be a number",
		"redis://h/1/2":               "the database must be a number",
		"redis://h/9999999999":        "the database must be a number",
		"redis://h?db=QZQZ":           "the database must be a number",
		"redis://h?db=-1":             "the database must be a number",
		"redis://h/1?db=1":            "the database twice",
		"redis+sentinel://h/m/x":      "the database must be a number",
		"redis+sentinel://h/m/1/2":    "the database must be a number",
		"redis+sentinel://h/m/1?db=1": "the database twice",
		"redis+sentinel://h":          "the name of the master is missing",
		"redis+sentinel://h/":         "the name of the master is missing",
		"redis+sentinel://h//1":       "the name of the master is missing",
		"redis+sentinel:///m":         "it has no host",
		"redis+sentinel://h/%ZZ":      "can't be decoded",
		"unix://run/redis.sock":       "write unix:///path",
		"unix://u:QZQZ/redis.sock":    "write unix:///path",
		"unix://":                     "the path of the socket is missing",
		"unix:///":                    "the path of the socket is missing",
		"unix:///a%00b":               "can't be decoded",
		"unix:///%":                   "can't be decoded",
		"redis://h1,h2/0":             "a cluster has no databases",
		"redis://h1,h2?db=0":          "a cluster has no databases",
		"redis://h/1?cluster=true":    "a cluster has no databases",

		"redis://h?cluster=yes":                           "cluster must be true or false",
		"redis://h1,h2?cluster=false":                     "several hosts are a cluster",
		"unix:///s?cluster=true":                          "cluster is for single servers, clusters only",
		"redis+sentinel://h/m?cluster=1":                  "cluster is for single servers, clusters only",
		"redis://h?skip_verify=true":                      "write rediss://",
		"unix:///s?skip_verify=true":                      "skip_verify is for ",
		"redis://h?sentinel_password=QZQZ":                "sentinel_password is for sentinels only",
		"redis+sentinel://h/m?sentinel_username=QZQZ":     "both or none",
		"redis://h?conn_max_lifetime_jitter=1s":           "does nothing without conn_max_lifetime",
		"redis+sentinel://h/m?sentinel_passwrod=QZQZ":     "did you mean sentinel_password?",
		"redis+sentinel://h/m?sentinel_password=QZ&ZQ":    "parameter 2 is unknown",
		"redis+sentinel://h/m?sentinel_password=QZ;ZQ":    "can't be decoded",
		"redis+sentinel://h/m?sentinel_password=QZ%ZQ":    "can't be decoded",
		"redis+sentinel://h/m?sentinel_password=":         "sentinel_password has no value",
		"redis+sentinel://h/m?sentinel_password":          "sentinel_password has no value",
		"redis+sentinel://h/m?route_randomly=true":        "a cache would not see its own writes",
		"redis+sentinel://h/m?replica_only=true":          "a cache would not see its own writes",
		"redis://h1,h2?route_by_latency=QZ":               "a cache would not see its own writes",
		"redis://h?addr=QZQZ":                             "write all hosts before the path",
		"redis://h?master_name=QZQZ":                      "write redis+sentinel://",
		"redis://h?password=QZQZ":                         "write user:password@",
		"redis://h?username=QZQZ":                         "write user:password@",
		"redis://h?QZQZ":                                  "parameter 1 is unknown",
		"redis://h?QZQZ=1&pool_size=1&pool_size=2":        "pool_size is given more than once",
		"redis://h?conn_max_idle_time=1s&idle_timeout=1s": "conn_max_idle_time is given more than once",
		"redis://h?protocol=1":                            "protocol must be a whole number between 2 and 3",
		"redis://h?protocol=4":                            "protocol must be a whole number between 2 and 3",
		"redis://h?pool_size=QZQZ":                        "pool_size must be",
		"redis://h?pool_size=-1":                          "pool_size must be",
		"redis://h?pool_size=65537":                       "pool_size must be",
		"redis://h?pool_size=9999999999":                  "pool_size must be",
		"redis://h?pool_size=99999999999999999999":        "pool_size must be",
		"redis://h?pool_size=1.5":                         "pool_size must be",
		"redis://h?min_idle_conns=-1":                     "min_idle_conns must be",
		"redis://h?max_retries=-2":                        "max_retries must be",
		"redis://h?dialer_retries=0":                      "dialer_retries must be",
		"redis://h?dial_timeout=0":                        "longer than 0",
		"redis://h?dial_timeout=-1s":                      "longer than 0",
		"redis://h?pool_timeout=0":                        "longer than 0",
		"redis://h?read_timeout=QZQZ":                     "read_timeout must be a duration",
		"redis://h?read_timeout=5 s":                      "a space",
		"redis://h?read_timeout=1.5":                      "read_timeout must be a duration",
		"redis://h?read_timeout=9999999999":               "read_timeout must be a duration",
		"redis://h?read_timeout=-9999999999":              "read_timeout must be a duration",
		"redis://h?pool_fifo=yes":                         "pool_fifo must be true or false",
		"redis://h?pipeline_read_buffer_size=9999999999":  "pipeline_read_buffer_size must be",
		"redis://h?pool_size=1?db=QZ":                     "pool_size must be",
	} {
		c, err := Parse(raw)
		if err == nil {
			t.Errorf("%q is accepted", raw)
			_ = c.Close()
			continue
		}
		checkError(t, raw, err)
		if !errors.Is(err, errs.ErrInvalidOption) {
			t.Errorf("%q: the error is of no class: %v", raw, err)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error does not say %q: %v", raw, want, err)
		}
	}
}

// A secret that is put anywhere into any URL stays out of the error.
func TestNoErrorGivesASecretAway(t *testing.T) {
	for _, raw := range []string{
		"redis://u:p@h:6379/0?pool_size=1&read_timeout=1s", "rediss://u:p@h1:1,[::1]:2?cluster=true&max_redirects=1", "unix://u:p@/a/b?db=1",
		"redis+sentinel://u:p@s1:1,s2:2/m/0?sentinel_username=a&sentinel_password=b", "redis://h?", "redis://h?a&b=c;d", "redis://h#f", "%",
	} {
		for i := range len(raw) + 1 {
			for _, insert := range []string{secret, secret + "@", ":" + secret, "/" + secret, "?" + secret, "&" + secret, "#" + secret, "=" + secret, "%" + secret, "%51%5A", secret + "\x00"} {
				for _, rest := range []string{raw[i:], ""} {
					bad := raw[:i] + insert + rest
					if _, err := parse(bad); err != nil {
						checkError(t, bad, err)
					}
				}
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, raw := range []string{
		"redis://u:p@h:6379/0?pool_size=1", "rediss://[::1]:1,h?skip_verify=1&max_redirects=3", "unix:///s?db=1&pool_size=-1",
		"redis+sentinel://u:p@s1:1,s2/m/0?sentinel_username=a&sentinel_password=b&read_timeout=1s", "redis://h?cluster=true",
		"redis://h?a=%zz;b#c", "rediss+sentinel://[fe80::1%25e]:1/m%2f", "redis://h?pool_size=65536&dial_timeout=1&protocol=2",
	} {
		f.Add(raw, "")
		f.Add(raw[:len(raw)/2], raw[len(raw)/2:])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		o, err := parse(before + after)
		if err != nil {
			if o != nil {
				t.Error("options and an error")
			}
		} else {
			checkOptions(t, before+after, o)
		}
		// The secret may fall anywhere. What surrounds it must not look like it.
		bad := strings.NewReplacer("Q", "q", "Z", "z").Replace(before) + secret + strings.NewReplacer("Q", "q", "Z", "z").Replace(after)
		if _, err := parse(bad); err != nil {
			checkError(t, bad, err)
		}
	})
}

// checkOptions checks what holds for every URL that is accepted, and that go-redis
// doesn't panic at it.
func checkOptions(t *testing.T, raw string, o *redis.UniversalOptions) {
	t.Helper()
	// Idle connections are the one thing that a client may open by itself.
	o.MinIdleConns = 0
	p := placeOf(o)
	if len(p.addrs) == 0 || p.db < 0 || (p.kind == "sentinel") != (p.master != "") || p.user != "" && p.password == "" {
		t.Errorf("%q: %+v", raw, p)
	}
	for _, addr := range p.addrs {
		if ok := strings.HasPrefix(addr, "/"); ok != (p.kind == "unix") {
			t.Errorf("%q: address %q", raw, addr)
		}
	}
	if o.DialTimeout <= 0 || o.ReadTimeout == 0 || o.WriteTimeout == 0 {
		t.Errorf("%q: %+v", raw, o)
	}
}
