package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// A need is what permissions are for.
type need int

const (
	forAll           need = iota // every cache
	forPattern                   // InvalidatePattern
	forListener                  // notifications
	forTracking                  // invalidate.Tracking
	forQueue                     // strategy.WriteBehind
	forTidiness                  // an empty queue leaves nothing behind
	forCluster                   // on a cluster
	forShards                    // notifications there
	forShardsOnly                // notifications there that no other node learns of
	forShardsLeaving             // a cache there that closes before others
	forIdentity                  // whether Redis still is the same server
	forDirect                    // messages without numbers
	forLeaving                   // a cache that closes before others
	forTransactions              // large values that are written together
	needs
)

// A want is a permission: a command on keys or channels.
type want struct {
	need  need
	rule  string   // for ACL SETUSER: "+get"
	words []string // the command
}

// scratch are the names that permissions are tried on: they match the patterns of a cache's keys.
type scratch struct {
	data, lock, hash, stream, set, channel string

	parted bool // hash is among the keys of a part's logical clock, as on a cluster
}

const scratchName = "cachectl-doctor"

// emptyScript is SHA-1 of "return 1".
const emptyScript = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"

func newScratch(prefix, name string, cluster bool) scratch {
	n := store.NewNames(prefix, name)
	end := fmt.Sprintf("%016x-%s", rand.Uint64(), scratchName)
	parts := n.Parted(cluster)
	clock := strings.TrimSuffix(parts[0].Epoch, "epoch")
	queue := strings.TrimSuffix(store.NewQueueNames(prefix, name, 0).Log, "log")
	return scratch{
		data: n.Data + end, lock: n.Lock + end, hash: clock + end,
		stream: queue + "s" + end, set: queue + "z" + end, channel: strings.TrimSuffix(parts[0].Channel, "events") + end,
		parted: len(parts) > 1,
	}
}

// wants are the permissions that docs/deployment.md lists, in an order in which they can be tried.
func (s *scratch) wants() []want {
	w := func(n need, words ...string) want { return want{need: n, rule: "+" + words[0], words: words} }
	sub := func(n need, words ...string) want {
		return want{need: n, rule: "+" + words[0] + "|" + words[1], words: words}
	}
	return []want{
		w(forAll, "set", s.data, "0", "px", "10000"), w(forAll, "get", s.data), w(forAll, "mget", s.data),
		w(forAll, "getrange", s.data, "0", "0"), w(forAll, "strlen", s.data), w(forAll, "setrange", s.data, "0", "1"),
		w(forAll, "pexpire", s.data, "10000"), w(forAll, "pttl", s.data),
		w(forAll, "eval", "return 1", "1", s.data), w(forAll, "evalsha", emptyScript, "1", s.data),
		w(forAll, "set", s.lock, "0", "px", "10000"), w(forAll, "get", s.lock), w(forAll, "unlink", s.lock),
		w(forAll, "hset", s.hash, "f", "1"), w(forAll, "pexpire", s.hash, "10000"), w(forAll, "hget", s.hash, "f"), w(forAll, "hlen", s.hash),
		w(forAll, "hrandfield", s.hash, "1"), w(forAll, "hdel", s.hash, "f"), w(forAll, "unlink", s.hash),
		w(forAll, "time"), w(forAll, "publish", s.channel, ""), w(forAll, "unlink", s.data),
		w(forPattern, "scan", "0", "count", "1"),
		w(forListener, "subscribe", s.channel), sub(forTracking, "client", "tracking", "on", "bcast", "prefix", s.data),
		w(forQueue, "xadd", s.stream, "1-1", "f", "1"), w(forQueue, "pexpire", s.stream, "10000"), w(forQueue, "xlen", s.stream), w(forQueue, "xrange", s.stream, "-", "+"),
		w(forQueue, "xdel", s.stream, "1-1"),
		w(forQueue, "zadd", s.set, "1", "m"), w(forQueue, "pexpire", s.set, "10000"), w(forQueue, "zcard", s.set), w(forQueue, "zremrangebyscore", s.set, "0", "0"),
		w(forTidiness, "persist", s.stream), w(forQueue, "del", s.stream, s.set),
		sub(forCluster, "cluster", "slots"), sub(forCluster, "cluster", "info"), sub(forCluster, "cluster", "myid"),
		w(forShards, "ssubscribe", s.channel), w(forShardsOnly, "spublish", s.channel, ""), sub(forShardsOnly, "pubsub", "shardnumsub", s.channel),
		w(forIdentity, "info", "server"),
		sub(forDirect, "pubsub", "numsub", s.channel), w(forLeaving, "unsubscribe", s.channel), w(forShardsLeaving, "sunsubscribe", s.channel),
		w(forTransactions, "multi"), w(forTransactions, "exec"),
	}
}

// patterns are the keys and channels of a cache, as ACL SETUSER takes them, for a want that was
// denied because of its keys or channels.
func patternsOf(prefix, name string, s *scratch, w *want) string {
	n := store.NewNames(prefix, name)
	p := func(key string) string { return escapeACL(key) + "*" }
	switch {
	case slices.Contains(w.words, s.channel) && w.rule != "+unlink" && !strings.HasPrefix(w.rule, "+h") && w.rule != "+pexpire":
		if s.parted {
			return "&" + p(prefix+":{") + p("}:c:"+name+":")
		}
		return "&" + p(strings.TrimSuffix(n.Channel, "events"))
	case slices.Contains(w.words, s.lock):
		return "~" + p(n.Lock)
	case slices.Contains(w.words, s.hash) && s.parted:
		return "~" + p(prefix+":{") + p("}:c:"+name+":")
	case slices.Contains(w.words, s.hash):
		return "~" + p(strings.TrimSuffix(n.Epoch, "epoch"))
	case slices.Contains(w.words, s.stream), slices.Contains(w.words, s.set):
		return "~" + p(prefix+":{c:"+name+":w")
	}
	return "~" + p(n.Data)
}

// escapeACL escapes what means something in a pattern of ACL SETUSER.
func escapeACL(s string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(s)
}

// denial is why a permission is missing.
type denial int

const (
	allowed denial = iota
	deniedCommand
	deniedKey
	deniedChannel
	lacksCommand // the server, or a proxy, does not know it
	notKnown
)

// readDenial reads the text of ACL DRYRUN, or of an error.
func readDenial(s string) denial {
	l := strings.ToLower(s)
	switch {
	case l == "" || l == "ok":
		return allowed
	case strings.Contains(l, "unknown command"), strings.Contains(l, "unknown subcommand"), strings.Contains(l, "unknown redis command"),
		strings.Contains(l, "not found"), strings.Contains(l, "command is disabled"), strings.Contains(l, "cluster support disabled"):
		return lacksCommand
	case strings.Contains(l, "to run the"), strings.Contains(l, "noperm") && strings.Contains(l, " command"):
		return deniedCommand
	case strings.HasSuffix(l, " channel"), strings.Contains(l, "channels used"):
		return deniedChannel
	case strings.HasSuffix(l, " key"), strings.Contains(l, "keys used"):
		return deniedKey
	}
	return notKnown
}

// missing collects what is missing for a need, over all caches and nodes.
type missing struct {
	rules   []string // for ACL SETUSER
	lacking []string // commands that the server lacks
	other   []string // other answers
}

func (m *missing) add(list *[]string, s string) {
	if !slices.Contains(*list, s) {
		*list = append(*list, s)
	}
}

// consequences are what a missing permission means.
var consequences = [needs]struct {
	of     string
	status status
	means  string
}{
	forAll:           {"permissions", fault, "operations fail: reads load from the source each time, or fail without one, and writes fail"},
	forPattern:       {"permissions: patterns", warning, "InvalidatePattern fails"},
	forListener:      {"permissions: notifications", warning, "processes run without their local tier"},
	forTracking:      {"permissions: tracking", note, "invalidate.Tracking is replaced by Broadcast, which does not notice what other programs change"},
	forQueue:         {"permissions: write-behind", fault, "writes of caches with strategy.WriteBehind fail"},
	forTidiness:      {"permissions: persist", note, "an empty write-behind queue leaves some keys behind"},
	forCluster:       {"permissions: cluster", fault, "the cluster's client does not find its nodes, or notices failovers late"},
	forShards:        {"permissions: notifications of a cluster", warning, "processes run without their local tier"},
	forShardsOnly:    {"permissions: sharded messages", note, "each message goes to all nodes of the cluster"},
	forDirect:        {"permissions: pubsub", note, "the numbers of messages are watched: where messages seem to be missing, the local tier is flushed"},
	forShardsLeaving: {"permissions: sunsubscribe", note, "a process goes on to receive the messages of a cache that it has closed, until all are closed"},
	forLeaving:       {"permissions: unsubscribe", note, "a process goes on to receive the messages of a cache that it has closed, until all are closed"},
	forTransactions:  {"permissions: transactions", note, "large values that are written together are sent as scripts, which take Redis twice as long"},
	forIdentity:      {"permissions: info", note, "after each new connection, what was written in the last 10 seconds is checked key by key"},
}

// cachesToCheck bounds the caches whose permissions are checked.
const cachesToCheck = 20

func (e *examination) checkPermissions(ctx context.Context, user string, trial, searched bool) error {
	if len(e.caches) == 0 {
		why := "there are no caches yet"
		if !searched {
			why = "the caches could not be looked for (SCAN is not permitted)"
		}
		e.add("permissions", unknown, why, "", "name a cache: cachectl doctor NAME")
		return nil
	}
	whom := user
	if whom == "" {
		var err error
		whom, err = e.rdb.Do(ctx, "acl", "whoami").Text()
		if err != nil && !answered(err) {
			return err
		}
	}
	var lacks [needs]missing
	caches := e.caches[:min(len(e.caches), cachesToCheck)]
	for _, f := range caches {
		ok, err := e.dryRun(ctx, whom, f, &lacks)
		if err != nil {
			return err
		}
		if ok {
			continue
		}
		switch {
		case user != "":
			e.add("permissions", unknown, "ACL DRYRUN can't be used by this user, or there is no user "+quote(user), "the permissions of "+quote(user)+" could not be checked", "give -redis the URL of a user with +acl|dryrun")
			return nil
		case !trial:
			e.add("permissions", unknown, "ACL DRYRUN can't be used", "the permissions could not be checked", "leave out -no-trial, or permit +acl|dryrun")
			return nil
		}
		if err := e.try(ctx, f, &lacks); err != nil {
			return err
		}
	}
	if whom == "" {
		if single, err := e.anyServer(ctx); err == nil {
			whom = cmp.Or(single.Options().Username, "default")
		}
	}
	e.reportMissing(whom, &lacks, len(caches))
	return nil
}

func (e *examination) reportMissing(whom string, lacks *[needs]missing, caches int) {
	clean := true
	for n := range needs {
		m, c := &lacks[n], consequences[n]
		if n == forQueue && !e.queues && c.status == fault {
			c.status = note
		}
		if slices.Contains([]need{forCluster, forShards, forShardsOnly, forShardsLeaving}, n) && !e.isCluster() {
			continue
		}
		if len(m.rules) > 0 {
			clean = false
			e.add(c.of, c.status, fmt.Sprintf("%s lacks %s", whom, strings.Join(m.rules, " ")), c.means, fmt.Sprintf("ACL SETUSER %s %s", whom, strings.Join(m.rules, " ")))
		}
		if len(m.lacking) > 0 {
			clean = false
			e.add(c.of, c.status, "the server, or a proxy in front of it, does not know "+strings.Join(m.lacking, " "), c.means, store.UnknownCommand.Remedy())
		}
		if len(m.other) > 0 {
			clean = false
			e.add(c.of, unknown, strings.Join(m.other, "; "), "", "")
		}
	}
	if clean {
		e.add("permissions", good, fmt.Sprintf("%s has all permissions of %s", whom, number(int64(caches), "cache", "caches")), "", "")
	}
}

// note records the answer to a want.
func (m *missing) note(w *want, text, pattern string) {
	switch readDenial(text) {
	case deniedCommand:
		m.add(&m.rules, w.rule)
	case deniedKey, deniedChannel:
		m.add(&m.rules, pattern)
	case lacksCommand:
		m.add(&m.lacking, strings.ToUpper(strings.ReplaceAll(w.rule[1:], "|", " ")))
	case notKnown:
		m.add(&m.other, strings.ToUpper(w.words[0])+": "+text)
	}
}

// wantsOf are the permissions to check for a cache: those for a queue if it has one, or if the
// cache was named.
func (e *examination) wantsOf(f found, s *scratch) []want {
	return slices.DeleteFunc(s.wants(), func(w want) bool {
		return f.Queue == nil && len(e.args) == 0 && (w.need == forQueue || w.need == forTidiness)
	})
}

// dryRun checks the permissions of a cache with ACL DRYRUN, on every master. ok is false if that
// can't be used.
func (e *examination) dryRun(ctx context.Context, user string, f found, lacks *[needs]missing) (ok bool, err error) {
	if user == "" {
		return false, nil
	}
	prefix, name := string(f.Prefix), string(f.Name)
	s := newScratch(prefix, name, e.st.Clustered())
	wants := e.wantsOf(f, &s)
	ok = true
	err = e.eachServer(ctx, func(ctx context.Context, _ string, c redis.UniversalClient) error {
		cmds := make([]*redis.Cmd, len(wants))
		pipe := c.Pipeline()
		for i := range wants {
			args := []any{"acl", "dryrun", user}
			for _, w := range wants[i].words {
				args = append(args, w)
			}
			cmds[i] = pipe.Do(ctx, args...)
		}
		_, _ = pipe.Exec(ctx)
		for i, cmd := range cmds {
			text, err := cmd.Text()
			switch {
			case err != nil && !answered(err):
				return err
			case err != nil && readDenial(err.Error()) == lacksCommand && strings.Contains(err.Error(), "'"+wants[i].words[0]+"'"):
				text = err.Error() // the command in question, not ACL DRYRUN
			case err != nil && strings.Contains(err.Error(), "wrong number"):
				text = ""
			case err != nil:
				ok = false
				return nil
			}
			lacks[wants[i].need].note(&wants[i], text, patternsOf(prefix, name, &s, &wants[i]))
		}
		return nil
	})
	return ok, err
}

// try tries the commands.
func (e *examination) try(ctx context.Context, f found, lacks *[needs]missing) error {
	prefix, name := string(f.Prefix), string(f.Name)
	s := newScratch(prefix, name, e.st.Clustered())
	// If something comes in between, or the user may not remove them, the keys end by themselves.
	defer func() {
		ctx := context.WithoutCancel(ctx)
		for _, k := range []string{s.data, s.lock, s.hash, s.stream, s.set} {
			if e.rdb.Unlink(ctx, k).Err() != nil {
				e.rdb.Del(ctx, k)
			}
		}
	}()
	wants := e.wantsOf(f, &s)
	for i := range wants {
		w := &wants[i]
		text := ""
		if err := e.tryOne(ctx, &s, w); err != nil && !errors.Is(err, redis.Nil) {
			if !answered(err) {
				return err
			}
			text = err.Error()
			if c := readDenial(text); c == notKnown && e.denies(lacks, w) {
				continue // a consequence, such as a script that could not be loaded
			}
		}
		lacks[w.need].note(w, text, patternsOf(prefix, name, &s, w))
	}
	return nil
}

// denies reports whether something was denied that other commands stand on.
func (e *examination) denies(lacks *[needs]missing, w *want) bool {
	return len(lacks[w.need].rules) > 0 || len(lacks[w.need].lacking) > 0
}

func (e *examination) tryOne(ctx context.Context, s *scratch, w *want) error {
	switch w.words[0] {
	case "subscribe":
		sub := e.rdb.Subscribe(ctx, s.channel)
		defer sub.Close()
		_, err := sub.ReceiveTimeout(ctx, patience)
		return err
	case "ssubscribe":
		if !e.isCluster() {
			return nil
		}
		sub := e.rdb.SSubscribe(ctx, s.channel)
		defer sub.Close()
		_, err := sub.ReceiveTimeout(ctx, patience)
		return err
	case "sunsubscribe":
		if !e.isCluster() {
			return nil
		}
		sub := e.rdb.SSubscribe(ctx)
		defer sub.Close()
		if err := sub.SUnsubscribe(ctx, s.channel); err != nil {
			return err
		}
		_, err := sub.ReceiveTimeout(ctx, patience)
		return err
	case "unsubscribe":
		sub := e.rdb.Subscribe(ctx)
		defer sub.Close()
		if err := sub.Unsubscribe(ctx, s.channel); err != nil {
			return err
		}
		_, err := sub.ReceiveTimeout(ctx, patience)
		return err
	case "client":
		return e.track(ctx, s.data)
	case "multi", "exec":
		return e.transact(ctx, w.words[0])
	case "del":
		for _, k := range w.words[1:] { // in two slots of a cluster, maybe
			if err := e.rdb.Del(ctx, k).Err(); err != nil {
				return err
			}
		}
		return nil
	}
	args := make([]any, len(w.words))
	for i, word := range w.words {
		args[i] = word
	}
	return e.rdb.Do(ctx, args...).Err()
}

// transact tries a transaction without commands, on a connection that is then closed, and returns
// the error of one of its two commands.
func (e *examination) transact(ctx context.Context, command string) error {
	single, err := e.anyServer(ctx)
	if err != nil {
		return err
	}
	o := *single.Options()
	o.PoolSize, o.MinIdleConns, o.MaxRetries = 1, 0, -1
	c := redis.NewClient(&o)
	defer c.Close()
	pipe := c.Pipeline()
	multi, exec := pipe.Do(ctx, "multi"), pipe.Do(ctx, "exec")
	_, _ = pipe.Exec(ctx)
	if command == "multi" {
		return multi.Err()
	}
	if err = exec.Err(); err != nil && strings.Contains(err.Error(), "without MULTI") {
		return nil // it may be sent
	}
	return err
}

// patience is how long doctor waits for what Redis sends by itself.
const patience = 2 * time.Second

// track turns tracking on for a connection that is then closed.
func (e *examination) track(ctx context.Context, prefix string) error {
	single, err := e.anyServer(ctx)
	if err != nil {
		return err
	}
	o := *single.Options()
	o.PoolSize, o.MinIdleConns, o.MaxRetries = 1, 0, -1
	c := redis.NewClient(&o)
	defer c.Close()
	return c.Do(ctx, "client", "tracking", "on", "bcast", "prefix", prefix).Err()
}
