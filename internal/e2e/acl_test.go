package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// What a user of Redis must be allowed to do, on the keys and channels of the cache:
// those that begin with its prefix and name, and those of its clock and messages.
var (
	neededKeys     = []string{"~p:n:*", "~p::{c:n}:*", "~p::n:lock:*", "~p::{*}:c:n:*"}
	neededChannels = []string{"&p::{c:n}:*"}

	neededCommands = []string{
		// reads
		"get", "mget", "getrange", "time",
		// writes
		"set", "unlink", "eval", "evalsha", "publish",
		// in scripts
		"pexpire", "pttl", "strlen", "setrange", "hget", "hset", "hlen", "hdel", "hrandfield",
		// InvalidatePattern
		"scan",
		// notifications
		"subscribe", "client|tracking",
	}
	// strategy.WriteBehind
	queueKeys     = []string{"~p::{c:n:w*"}
	queueCommands = []string{"xadd", "xdel", "xlen", "xrange", "del", "zadd", "zcard", "zremrangebyscore", "persist"}

	// a cluster
	clusterChannels = []string{"&p::{*}:c:n:*"}
	clusterCommands = []string{"cluster|slots", "cluster|info", "cluster|myid", "ssubscribe", "spublish", "pubsub|shardnumsub"}

	// Who may not use these does without.
	optionalCommands = []string{
		"info",          // whether Redis is the same server as before
		"pubsub|numsub", // whether messages need numbers
		"multi", "exec", // large values that are written together
	}
	// Used where caches of one client close one by one, and tested in package redisstore; on a cluster
	// also where the parts of one do.
	leavingCommands = []string{"unsubscribe", "sunsubscribe"}
	// Refused to a client library that asks for it, and does without; and to TrackingKeys, which has one
	// connection then.
	unneededCommands = []string{"client|setinfo", "command", "client|list", "client|getredir"}
)

var large = strings.Repeat("large", 100)

// everything does all that a cache can do, on request with more tags than are remembered,
// and stops where something fails.
func everything(ctx context.Context, connect func() redis.UniversalClient, without string, manyTags bool) error {
	var errs []error
	check := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	timeout := cache.WithTimeout(time.Second) // who may not hear waits so long at first
	if manyTags || mayAll(without) {
		timeout = slowly
	}
	for transport, policies := range map[string][]invalidate.Policy{
		"broadcast": {invalidate.Immediate()},
		"keys":      {invalidate.Immediate()},
		"tracking":  {invalidate.Delayed(time.Millisecond), invalidate.Lazy()},
	} {
		for _, policy := range policies {
			rdb := connect()
			c, err := cache.NewFrom(rdb, "n", cache.Source[string, string]{
				Load: func(_ context.Context, key string) (string, error) {
					switch key {
					case "absent":
						return "", cache.ErrNotFound
					case "fails":
						return "", errors.New("it fails")
					case "slow":
						time.Sleep(900 * time.Millisecond) // its lease is renewed
					}
					return "v", nil
				},
				Tags: func(key, _ string) []string { return []string{"t"} },
			}, append([]cache.Option{cache.WithPrefix("p:"), cache.WithInvalidator(policy), timeout, discard}, transports[transport]...)...)
			if err != nil {
				return err
			}
			get := func(key string) error { _, err := c.Get(ctx, key); return err }
			check("Get", get("k"))
			check("Clear", c.Clear(ctx))
			check("Get", get("k"))
			if policy == invalidate.Immediate() {
				check("Get of what takes long", get("slow"))
			}
			if err := get("absent"); !errors.Is(err, cache.ErrNotFound) {
				check("Get of an absence", err)
			}
			_ = get("fails")
			_, err = c.GetMany(ctx, []string{"k", "l", "m"}, cache.SkipLocal())
			check("GetMany", err)
			check("Set", c.Set(ctx, "k", "w"))
			check("Set without end", c.Set(ctx, "k", "w", cache.TTL(time.Hour)))
			check("Set without life", c.Set(ctx, "k", "w", cache.TTL(0)))
			check("SetMany", c.SetMany(ctx, map[string]string{"k": "1", "l": "2"}))
			for range 2 { // the first has the server asked for transactions
				check("SetMany of large values", c.SetMany(ctx, map[string]string{"k": large, "l": large}))
			}
			_, err = c.SetIfAbsent(ctx, "s", "v")
			check("SetIfAbsent", err)
			_, err = c.Update(ctx, "k", func(string, bool) (string, error) { return "u", nil })
			check("Update", err)
			check("Invalidate", c.Invalidate(ctx, "k"))
			check("Get", get("k"))
			_, err = c.InvalidatePattern(ctx, "*")
			check("InvalidatePattern", err)
			check("Get", get("k"))
			check("InvalidateTags", c.InvalidateTags(ctx, "t"))
			check("Get", get("k"))
			check("Refresh", c.Refresh(ctx, "k"))
			check("Delete", c.Delete(ctx, "k"))
			if manyTags && transport == "broadcast" {
				for part := range 3 { // more than are remembered
					many := make([]string, 7000)
					for i := range many {
						many[i] = fmt.Sprint(part, "tag", i)
					}
					check("InvalidateTags of many", c.InvalidateTags(ctx, many...))
				}
			}
			check("Close", c.Close())
			_ = rdb.Close()
			if len(errs) > 0 {
				return errors.Join(errs...)
			}
		}
	}
	return errors.Join(errs...)
}

// mayAll reports whether a user may do everything without a command: nothing is waited for in vain.
func mayAll(without string) bool {
	return without == "" || without == "persist" || slices.Contains(optionalCommands, without)
}

// queued does all that strategy.WriteBehind adds.
func queued(ctx context.Context, connect func() redis.UniversalClient, without string) error {
	var errs []error
	check := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	rdb := connect()
	defer rdb.Close()
	timeout, enough := time.Second, 3*time.Second // who may not is never done
	if mayAll(without) {
		timeout, enough = 10*time.Second, patience
	}
	var fails atomic.Bool
	fails.Store(true)
	c, err := cache.NewFrom(rdb, "n", cache.Source[string, string]{
		StoreMany: func(_ context.Context, vals map[string]string) error {
			if _, ok := vals["fails"]; ok && fails.Load() {
				return errors.New("it fails")
			}
			return nil
		},
		Delete: func(context.Context, string) error { return nil },
	}, cache.WithPrefix("p:"), cache.WithTimeout(timeout), discard,
		cache.WithStrategy(strategy.WriteBehind(strategy.BatchDelay(time.Millisecond), strategy.MaxAttempts(2))))
	if err != nil {
		return err
	}
	defer c.Close()
	landed := func() error {
		ctx, cancel := context.WithTimeout(ctx, enough)
		defer cancel()
		return c.Sync(ctx)
	}
	check("Set", c.Set(ctx, "k", "v"))
	check("SetMany", c.SetMany(ctx, map[string]string{"k": "v", "l": "w"}))
	_, err = c.Update(ctx, "k", func(string, bool) (string, error) { return "u", nil })
	check("Update", err)
	check("Delete", c.Delete(ctx, "l"))
	if check("Sync", landed()); len(errs) > 0 {
		return errors.Join(errs...)
	}
	for range 2 {
		check("Set of what fails", c.Set(ctx, "fails", "v"))
		check("Sync", landed())
		letters, err := c.DeadLetters(ctx, 10)
		if check("DeadLetters", err); len(letters) == 0 {
			errs = append(errs, errors.New("there is no dead letter"))
		}
		if fails.Swap(false) {
			_, err = c.ReplayDeadLetters(ctx)
			check("ReplayDeadLetters", err)
			check("Sync", landed())
			fails.Store(true)
			continue
		}
		_, err = c.DiscardDeadLetters(ctx)
		check("DiscardDeadLetters", err)
	}
	return errors.Join(errs...)
}

// permissions are what a user is given, on one or several servers.
type permissions struct {
	hands          []*redis.Client
	keys, commands []string
	connect        func(user string) redis.UniversalClient
	do             func(ctx context.Context, connect func() redis.UniversalClient, without string) error
}

// denied runs everything as a user who may not use a command.
func (p *permissions) denied(t *testing.T, without string) (denied []string, err error) {
	t.Helper()
	ctx := t.Context()
	user := "app-" + strings.ReplaceAll(without, "|", "-")
	rules := slices.Concat([]string{"on", ">p", "-@all"}, p.keys)
	for _, c := range p.commands {
		if c != without {
			rules = append(rules, "+"+c)
		}
	}
	for _, hand := range p.hands {
		if err := hand.ACLSetUser(ctx, user, rules...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	err = p.do(ctx, func() redis.UniversalClient { return p.connect(user) }, without)
	for _, hand := range p.hands {
		log, lerr := hand.ACLLog(ctx, 10000).Result()
		if lerr != nil {
			t.Fatal(lerr)
		}
		for _, e := range log {
			what := strings.ToLower(e.Object)
			if e.Reason != "command" {
				what = e.Reason + " " + what
			}
			if e.Username == user && !slices.Contains(denied, what) && !slices.Contains(unneededCommands, what) {
				denied = append(denied, what)
			}
		}
	}
	return denied, err
}

// check checks that all are enough, and that each of some is needed.
func (p *permissions) check(t *testing.T, needed []string) {
	t.Helper()
	for _, hand := range p.hands {
		if err := hand.ConfigSet(t.Context(), "acllog-max-len", "10000").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := p.denied(t, ""); len(d) > 0 || err != nil {
		t.Fatalf("with all of them: %v was denied, %v", d, err)
	}
	sideBySide(t, needed, func(t *testing.T, c string) {
		// A busy machine may have a call end by its timeout, and with it the rest.
		var d []string
		var err error
		for range 3 {
			if d, err = p.denied(t, c); slices.Contains(d, c) {
				return
			}
		}
		t.Errorf("without %s nothing else was denied than %v: %v", c, d, err)
	})
}

// userOf returns a function that connects to a server as a user.
func userOf(s *redistest.Server) func(user string) redis.UniversalClient {
	return func(user string) redis.UniversalClient {
		o := s.Options()
		o.Username, o.Password = user, "p"
		return redis.NewClient(o)
	}
}

// The list of commands in the documentation is enough, and none of it is too much.
func TestTheCommandsOfAUser(t *testing.T) {
	redistest.Long(t)
	s := redistest.Start(t)
	p := &permissions{
		hands: []*redis.Client{s.Client(t)}, connect: userOf(s),
		keys: slices.Concat(neededKeys, neededChannels), commands: slices.Concat(neededCommands, optionalCommands),
		do: func(ctx context.Context, connect func() redis.UniversalClient, without string) error {
			return everything(ctx, connect, without, without == "" || without == "hdel" || without == "hrandfield")
		},
	}
	p.check(t, nil)
	for _, c := range optionalCommands {
		if d, err := p.denied(t, c); !slices.Equal(d, []string{c}) || err != nil {
			t.Errorf("without %s, which is optional, %v was denied, %v", c, d, err)
		}
	}
	if err := p.hands[0].ScriptFlush(t.Context()).Err(); err != nil { // eval comes first
		t.Fatal(err)
	}
	if d, _ := p.denied(t, "eval"); !slices.Contains(d, "eval") {
		t.Errorf("without eval nothing else was denied than %v", d)
	}
	p.check(t, slices.DeleteFunc(slices.Clone(neededCommands), func(c string) bool { return c == "eval" }))
}

// The same for what strategy.WriteBehind needs besides. A queue has one worker at a time, who
// may be another user's: each has a server of its own.
func TestTheCommandsOfAUserWhoWritesBehind(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	sideBySide(t, queueCommands, func(t *testing.T, c string) {
		s := redistest.Start(t)
		p := &permissions{
			hands: []*redis.Client{s.Client(t)}, connect: userOf(s),
			keys:     slices.Concat(neededKeys, neededChannels, queueKeys),
			commands: slices.Concat(neededCommands, optionalCommands, queueCommands),
			do:       queued,
		}
		p.check(t, []string{c})
		if c == "persist" { // which is optional
			if _, err := p.denied(t, c); err != nil {
				t.Error(err)
			}
		}
	})
}

// The same for what a cluster needs besides.
func TestTheCommandsOfAUserOfACluster(t *testing.T) {
	redistest.Long(t)
	cluster := redistest.StartCluster(t, 3)
	p := &permissions{
		keys:     slices.Concat(neededKeys, neededChannels, clusterChannels, queueKeys),
		commands: slices.Concat(neededCommands, optionalCommands, queueCommands, clusterCommands, leavingCommands),
		connect: func(user string) redis.UniversalClient {
			o := cluster.Options()
			o.Username, o.Password = user, "p"
			return redis.NewClusterClient(o)
		},
		do: func(ctx context.Context, connect func() redis.UniversalClient, without string) error {
			return errors.Join(everything(ctx, connect, without, false), queued(ctx, connect, without))
		},
	}
	for _, s := range cluster.Nodes {
		p.hands = append(p.hands, s.Client(t))
	}
	p.check(t, clusterCommands)
}

// What the tests above try is what the documentation says.
func TestThePermissionsInTheDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/deployment.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "## Permissions")
	_, rest, _ = strings.Cut(rest, "```\n")
	list, _, ok := strings.Cut(rest, "```")
	var said []string
	for _, word := range strings.Fields(list) {
		if strings.ContainsAny(word[:1], "+~&") {
			said = append(said, strings.TrimPrefix(word, "+"))
		}
	}
	tried := slices.Concat(neededKeys, neededChannels, clusterChannels, queueKeys, neededCommands, queueCommands, clusterCommands, optionalCommands, leavingCommands)
	slices.Sort(said)
	slices.Sort(tried)
	if !ok || !slices.Equal(said, tried) {
		t.Errorf("the documentation says\n%q, and the tests try\n%q", said, tried)
	}
}
