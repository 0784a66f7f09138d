package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

func TestAnErrorLosesWhatItRepeats(t *testing.T) {
	const key = "users:alice o'hara"
	args := []any{"evalsha", "5d0f", 1, key, []byte("\x00frame of it"), "alice@example.com"}
	for text, want := range map[string]string{
		"ERR unknown command 'evalsha', with args beginning with: '5d0f' '1' 'users:alice o'hara' ": "ERR unknown command 'evalsha'",
		"ERR unknown command `evalsha`, with args beginning with: `5d0f`, `1`, `users:alice o'har":  "ERR unknown command `evalsha`",
		"ERR unknown command 'users:alice o'hara'":                                                  "ERR unknown command …",
		"NOGROUP No such key 'users:alice o'hara' or consumer group 'g' in XREADGROUP":              "NOGROUP No such key … in XREADGROUP",
		"NOGROUP No such key users:alice o'hara or so":                                              "NOGROUP No such key …",
		"WRONGTYPE of users:alice o'hara":                                                           "WRONGTYPE of …",
		"ERR user alice@example.com exists":                                                         "ERR user …",
		"ERR wrong value \"\x00frame of it\"":                                                       "ERR wrong value …",
		"ERR unfinished 'users:ali":                                                                 "ERR unfinished …",

		"ERR wrong number of arguments for 'get' command":                                      "",
		"NOPERM this user has no permissions to run the 'evalsha' command":                     "",
		"NOPERM User app has no permissions to run the 'client|tracking' command":              "",
		"NOPERM this user has no permissions to access one of the keys used as arguments":      "",
		"CROSSSLOT Keys in request don't hash to the same slot":                                "",
		"READONLY You can't write against a read only replica.":                                "",
		"MOVED 12182 127.0.0.1:7001":                                                           "",
		"WRONGTYPE Operation against a key holding the wrong kind of value":                    "",
		"OOM command not allowed when used memory > 'maxmemory'.":                              "OOM command not allowed when used memory > ….",
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.":     "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to ….",
		"ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'": "ERR Error compiling script (new function): user_script:1: unexpected symbol near …",
	} {
		if want == "" {
			want = text
		}
		err := withoutEcho(reply(text), args...)
		var is redis.Error
		if err.Error() != want || !errors.As(err, &is) || is.Error() != want {
			t.Errorf("%q\nis  %q\nnot %q", text, err, want)
		}
		if (want == text) != (err == reply(text)) {
			t.Errorf("%q is another error", text)
		}
	}
}

func TestAnErrorOfGoRedisLosesWhatItQuotes(t *testing.T) {
	_, number := strconv.ParseInt("users:alice", 10, 64)
	for err, want := range map[error]string{
		errors.New(`redis: can't parse reply="users:alice" reading string`): "redis: can't parse reply=… reading string",
		errors.New(`redis: invalid reply: "$5 users:al"`):                   "redis: invalid reply: …",
		number: "strconv.ParseInt: parsing …: invalid syntax",
	} {
		if got := withoutEcho(err, "get", "users:alice"); got.Error() != want {
			t.Errorf("%q\nis  %q\nnot %q", err, got, want)
		}
	}
}

// Whatever an error loses, what it is stays.
func TestAnErrorThatLosesSomethingStaysWhatItIs(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("refused")}
	for _, inner := range []error{io.EOF, context.DeadlineExceeded, dial, redis.ErrPoolTimeout} {
		err := withoutEcho(fmt.Errorf("hook: GET users:alice: %w", inner), "get", "users:alice")
		var op *net.OpError
		if strings.Contains(err.Error(), "alice") || !errors.Is(err, inner) || errors.As(err, &op) != (inner == error(dial)) {
			t.Errorf("%v of %v", err, inner)
		}
		if timeouts(err) != timeouts(inner) {
			t.Errorf("%v is a timeout: %v", inner, timeouts(err))
		}
	}
	err := withoutEcho(fmt.Errorf("hook: GET users:alice: %w", reply("READONLY You can't")), "get", "users:alice")
	if err.Error() != "READONLY You can't" || !redis.HasErrorPrefix(err, "READONLY") {
		t.Error(err)
	}
	for _, tag := range []string{"NOSCRIPT", "SCRIPT", "No matching"} {
		if err := withoutEcho(reply("NOSCRIPT No matching script."), "evalsha", tag); !redis.HasErrorPrefix(err, "NOSCRIPT") || !isNoScript(err) {
			t.Errorf("of a script whose argument is %q: %v", tag, err)
		}
	}
	record := (*frameArg)(&store.Command{Frame: []byte("secret value")})
	if err := withoutEcho(reply("ERR can't store secret value"), "evalsha", record); strings.Contains(err.Error(), "secret") {
		t.Errorf("a record that a script stores is repeated: %v", err)
	}
	if plain := errors.New("dial tcp 127.0.0.1:6379: connect: connection refused"); withoutEcho(plain, "get", "users:alice") != plain {
		t.Error("changed without need")
	}
}

func FuzzWithoutEcho(f *testing.F) {
	f.Add("ERR unknown command 'x', with args beginning with: ", "users:1", "'")
	f.Add("NOGROUP No such key ", "it's", "`")
	f.Add("redis: can't parse reply=", "\x00'", "\"")
	f.Fuzz(func(t *testing.T, before, key, quote string) {
		if len(key) < argLen || isWord(key) || errorCodes[before+key] || strings.Contains(before, key) || strings.Contains(omitted, key) {
			t.Skip()
		}
		for _, err := range []error{reply(before + key + " or so"), reply(before + quote + key + quote), fmt.Errorf("%s: %s: %w", before, key, io.EOF)} {
			cut := withoutEcho(err, "get", key)
			// Short keys may be made of what is left.
			if strings.Contains(cut.Error(), key) && !strings.Contains(strings.ReplaceAll(err.Error(), key, ""), key) && !strings.Contains(cut.Error(), omitted) {
				t.Errorf("%q of %q", cut, err)
			}
		}
	})
}

// reply is an error that a server answers.
type reply string

func (e reply) Error() string { return string(e) }
func (reply) RedisError()     {}

// timeouts reports whether err says that time ran out.
func timeouts(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
