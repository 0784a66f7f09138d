package ctl

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// eachServer calls f for each master, in the order of their addresses.
func (s *session) eachServer(ctx context.Context, f func(ctx context.Context, addr string, c redis.UniversalClient) error) error {
	cluster, ok := s.rdb.(*redis.ClusterClient)
	if !ok {
		return f(ctx, "", s.rdb)
	}
	var nodes []*redis.Client
	err := eachNode(ctx, cluster, func(_ context.Context, c *redis.Client) error {
		nodes = append(nodes, c)
		return nil
	})
	slices.SortFunc(nodes, func(a, b *redis.Client) int { return cmp.Compare(a.Options().Addr, b.Options().Addr) })
	for _, c := range nodes {
		if err == nil {
			err = f(ctx, c.Options().Addr, c)
		}
	}
	return err
}

// anyServer returns the client of a server.
func (s *session) anyServer(ctx context.Context) (*redis.Client, error) {
	var found *redis.Client
	err := s.eachServer(ctx, func(_ context.Context, _ string, c redis.UniversalClient) error {
		if single, ok := c.(*redis.Client); ok && found == nil {
			found = single
		}
		return nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("the client is no client of a server")
	}
	return found, err
}

// facts are what a server says of itself.
type facts struct {
	addr   string
	info   map[string]string // nil: not permitted, or not known
	config map[string]string // likewise
	ahead  time.Duration     // of its clock before this machine's
	ping   time.Duration
}

// get looks a setting up, under its names in CONFIG GET and in INFO.
func (f *facts) get(config, info string) (string, bool) {
	if v, ok := f.config[config]; ok {
		return v, true
	}
	v, ok := f.info[info]
	return v, ok
}

var settings = []string{
	"maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save", "maxclients", "stop-writes-on-bgsave-error",
}

func (e *examination) gather(ctx context.Context) ([]facts, error) {
	var all []facts
	err := e.eachServer(ctx, func(ctx context.Context, addr string, c redis.UniversalClient) error {
		f := facts{addr: addr}
		info, err := c.Info(ctx).Result()
		switch {
		case err == nil:
			f.info = infoOf(info)
		case !answered(err):
			return err
		}
		f.config = map[string]string{}
		for _, s := range settings {
			m, err := c.ConfigGet(ctx, s).Result()
			if err != nil && !answered(err) {
				return err
			}
			if v, ok := m[s]; ok {
				f.config[s] = v
			}
		}
		before := time.Now()
		t, err := c.Time(ctx).Result()
		if err != nil && !answered(err) {
			return err
		}
		if f.ping = time.Since(before); err == nil {
			f.ahead = t.Sub(before.Add(f.ping / 2))
		}
		all = append(all, f)
		return nil
	})
	return all, err
}

// each adds the finding of each server; where all servers have the same, once.
func (e *examination) each(check string, f func(*facts) finding) {
	var list []finding
	for i := range e.facts {
		list = append(list, f(&e.facts[i]))
	}
	same := !slices.ContainsFunc(list, func(f finding) bool { return f != list[0] })
	for i, f := range list {
		if f.Check = check; f.Status == "" || same && i > 0 {
			continue
		}
		if len(list) > 1 {
			f.Found = orElse(same, fmt.Sprintf("%d masters: ", len(list)), e.facts[i].addr+": ") + f.Found
		}
		e.Findings = append(e.Findings, f)
	}
}

func (e *examination) checkServer() {
	e.each("server", func(f *facts) finding {
		v := f.info["redis_version"]
		if v == "" {
			return finding{Status: unknown, Found: "it does not say its version", Means: "which version it is could not be checked", Do: "permit +info"}
		}
		name, version := redisstore.ServerOf(f.info)
		if name += " " + version; version != v {
			name += " (as Redis " + v + ")"
		}
		role := orElse(f.info["role"] == "slave", "replica", cmp.Or(f.info["role"], "master"))
		found := fmt.Sprintf("%s, %s", name, role)
		switch major, _ := strconv.Atoi(strings.Split(v, ".")[0]); {
		case f.info["loading"] == "1":
			return finding{Status: warning, Found: found + ", is loading its data", Means: "operations are refused until it is done", Do: "wait"}
		case role == "replica":
			return finding{Status: fault, Found: found, Means: store.Replica.Problem(), Do: store.Replica.Remedy()}
		case f.info["redis_mode"] == "cluster" && !e.isCluster() && e.caps != nil && e.caps.AllSlots == cache.Supported:
			return finding{Status: warning, Found: found + ", node of a cluster, and takes the keys of all slots", Means: "keys are sent one by one; the keys of other nodes, if it gets some, can't be reached", Do: store.OneOfACluster.Remedy()}
		case f.info["redis_mode"] == "cluster" && !e.isCluster():
			return finding{Status: fault, Found: found + ", node of a cluster", Means: store.OneOfACluster.Problem(), Do: store.OneOfACluster.Remedy()}
		case major > 0 && major < 7:
			return finding{Status: warning, Found: found, Means: "as servers before Redis 7.0 do, it lacks something; see capabilities", Do: store.Outdated.Remedy()}
		}
		return finding{Status: good, Found: found}
	})
	e.each("latency", func(f *facts) finding {
		if f.ping < 50*time.Millisecond {
			return finding{}
		}
		return finding{Status: warning, Found: fmt.Sprintf("an answer took %s", span(f.ping)), Means: "each read that the local tier does not answer takes as long; operations of a cache end after 250 ms by default", Do: "look at the network and at SLOWLOG GET; run this in the network of the programs"}
	})
}

func (e *examination) checkMemory() {
	e.each("eviction", func(f *facts) finding {
		policy, ok := f.get("maxmemory-policy", "maxmemory_policy")
		limit, okLimit := f.get("maxmemory", "maxmemory")
		if !ok || !okLimit {
			return finding{Status: unknown, Found: "the server does not say its limit of memory", Means: "whether it evicts, and what, could not be checked", Do: "permit +info"}
		}
		n, _ := strconv.ParseInt(limit, 10, 64)
		if n == 0 {
			return finding{Status: warning, Found: "no limit of memory (maxmemory 0)", Means: "what caches keep grows until the machine has no memory left, and the server is killed",
				Do: "CONFIG SET maxmemory, and maxmemory-policy " + orElse(e.queues, "volatile-lru", "allkeys-lru")}
		}
		found := fmt.Sprintf("%s at %s", policy, bytes(n))
		switch {
		case policy == "noeviction":
			return finding{Status: warning, Found: found, Means: "when memory is full, writes and fills are refused, and what is not there is loaded by every read; invalidations go on",
				Do: "CONFIG SET maxmemory-policy " + orElse(e.queues, "volatile-lru, which leaves write-behind queues alone", "allkeys-lru")}
		case strings.HasPrefix(policy, "allkeys-") && e.queues:
			return finding{Status: fault, Found: found + ", and a cache has a write-behind queue", Means: "writes that were acknowledged, and have not reached the source, can be evicted",
				Do: "CONFIG SET maxmemory-policy " + strings.Replace(policy, "allkeys-", "volatile-", 1) + ": the keys of a queue have no lifetime"}
		case strings.HasPrefix(policy, "volatile-"):
			return finding{Status: good, Found: found + ": keys with a lifetime, which entries have unless they are kept for ever"}
		case policy == "allkeys-random":
			return finding{Status: warning, Found: found, Means: "the logical clock of a cache may be evicted, which invalidates all its entries at once", Do: "CONFIG SET maxmemory-policy allkeys-lru: the clock is used all the time"}
		}
		return finding{Status: good, Found: found}
	})
	e.each("memory", func(f *facts) finding {
		limit, _ := f.get("maxmemory", "maxmemory")
		n, _ := strconv.ParseInt(limit, 10, 64)
		used, evicted := infoInt(f.info, "used_memory"), infoInt(f.info, "evicted_keys")
		switch {
		case f.info == nil || used == 0:
			return finding{}
		case evicted > 0:
			return finding{Status: note, Found: fmt.Sprintf("%s have been evicted since the server was started", number(evicted, "key", "keys")), Means: "entries end before their time", Do: "give it more memory, or entries a shorter life, if the hit rate is too low"}
		case n > 0 && used > n/10*9:
			return finding{Status: note, Found: fmt.Sprintf("%s of %s are used", bytes(used), bytes(n)), Means: "it will evict, or refuse writes, soon"}
		}
		return finding{Status: good, Found: bytes(used) + " used"}
	})
}

func (e *examination) checkConnections() {
	e.each("connections", func(f *facts) finding {
		limit, ok := f.get("maxclients", "maxclients")
		n, _ := strconv.ParseInt(limit, 10, 64)
		clients, refused := infoInt(f.info, "connected_clients"), infoInt(f.info, "rejected_connections")
		switch {
		case f.info == nil || !ok || n == 0:
			return finding{}
		case clients > n/10*9:
			return finding{Status: warning, Found: fmt.Sprintf("%d of at most %d clients", clients, n), Means: "further connections will be refused", Do: "raise maxclients, or lower the pool sizes of the programs"}
		case refused > 0:
			return finding{Status: note, Found: fmt.Sprintf("%s refused since the server was started, for want of places", number(refused, "connection was", "connections were")), Do: "raise maxclients"}
		}
		return finding{}
	})
}

func (e *examination) checkNotifications(ctx context.Context) error {
	name := "doctor"
	if len(e.caches) > 0 {
		name = string(e.caches[0].Name)
	}
	s := newScratch(e.prefixOfFirst(), name, e.st.Clustered())
	err := e.echo(ctx, s.channel)
	switch {
	case err == nil:
		e.add("notifications", good, "what is published arrives", "", "")
	case ctx.Err() != nil:
		return err
	default:
		e.add("notifications", warning, "what is published does not arrive: "+err.Error(), "processes run without their local tier", "permit +subscribe and +publish, and connect to Redis itself if a proxy is in front of it")
	}
	return nil
}

func (e *examination) prefixOfFirst() string {
	if len(e.caches) > 0 {
		return string(e.caches[0].Prefix)
	}
	return e.keyPrefix
}

// echo subscribes to a channel and publishes on it.
func (e *examination) echo(ctx context.Context, channel string) error {
	sub := e.rdb.Subscribe(ctx, channel)
	defer sub.Close()
	if _, err := sub.ReceiveTimeout(ctx, patience); err != nil {
		return err
	}
	if err := e.rdb.Publish(ctx, channel, "").Err(); err != nil {
		return err
	}
	_, err := sub.ReceiveTimeout(ctx, patience)
	return err
}

func (e *examination) checkTracking(ctx context.Context) error {
	name := "doctor"
	if len(e.caches) > 0 {
		name = string(e.caches[0].Name)
	}
	err := e.track(ctx, newScratch(e.prefixOfFirst(), name, e.st.Clustered()).data)
	switch {
	case err == nil:
		e.add("tracking", good, "CLIENT TRACKING works", "", "")
	case !answered(err):
		return err
	default:
		e.add("tracking", note, "CLIENT TRACKING does not work: "+err.Error(), "invalidate.Tracking is replaced by Broadcast, which does not notice what other programs change", "needed only for invalidate.Tracking: Redis itself, RESP3, and +client|tracking")
	}
	return nil
}

func (e *examination) checkClock() {
	first, last := time.Duration(0), time.Duration(0)
	for i, f := range e.facts {
		if i == 0 {
			first, last = f.ahead, f.ahead
		}
		first, last = min(first, f.ahead), max(last, f.ahead)
	}
	if apart := last - first; apart > micros(invalidation.ClocksApart) {
		e.add("clock", warning, fmt.Sprintf("the clocks of the masters are up to %s apart", span(apart)), "ages and lives are wrong by that much after a failover, and entries may end early", "run NTP on the machines of the servers")
		return
	}
	if apart := max(last, -first); apart > time.Second {
		e.add("clock", note, fmt.Sprintf("it is %s %s this machine's", span(apart), orElse(last == apart, "ahead of", "behind")), "nothing for caches, which go by Redis's clock alone", "run NTP on both if times in logs are to agree")
		return
	}
	e.add("clock", good, "it agrees with this machine's to within a second", "", "")
}

func (e *examination) checkPersistence() {
	if !e.queues {
		e.add("persistence", good, "not needed: no cache has a write-behind queue", "", "")
		return
	}
	e.each("persistence", func(f *facts) finding {
		on := f.config["appendonly"] == "yes" || f.info["aof_enabled"] == "1"
		_, said := f.get("appendonly", "aof_enabled")
		sync := f.config["appendfsync"]
		const lost = "writes that were acknowledged, and have not reached the source, are lost "
		switch {
		case !said:
			return finding{Status: unknown, Found: "the server does not say whether it keeps an append-only file", Do: "permit +info"}
		case f.info["aof_last_write_status"] == "err" || f.info["aof_last_bgrewrite_status"] == "err":
			return finding{Status: fault, Found: "the append-only file could not be written", Means: lost + "with the server", Do: "look at the server's log and at the disk"}
		case !on:
			return finding{Status: fault, Found: "no append-only file, and a cache has a write-behind queue", Means: lost + "when the server ends, apart from what a snapshot has", Do: "CONFIG SET appendonly yes, and in redis.conf; appendfsync always loses nothing"}
		case sync == "no":
			return finding{Status: warning, Found: "append-only file, appendfsync no", Means: lost + "when the machine fails, of up to half a minute", Do: "CONFIG SET appendfsync everysec, or always"}
		case sync == "always":
			return finding{Status: good, Found: "append-only file, flushed at each write"}
		}
		return finding{Status: good, Found: "append-only file, flushed once a second", Means: lost + "when the machine fails, of up to one second"}
	})
}

func (e *examination) checkCluster(ctx context.Context) error {
	cluster, ok := e.rdb.(*redis.ClusterClient)
	if !ok {
		return nil
	}
	text, err := cluster.ClusterInfo(ctx).Result()
	if err != nil && !answered(err) {
		return err
	}
	if err != nil {
		e.add("cluster", unknown, "it does not say its state: "+err.Error(), "", "permit +cluster|info")
		return nil
	}
	m := infoOf(text)
	bad := infoInt(m, "cluster_slots_fail") + infoInt(m, "cluster_slots_pfail")
	switch covered := infoInt(m, "cluster_slots_assigned"); {
	case m["cluster_state"] != "ok" || covered < 16384:
		e.add("cluster", fault, fmt.Sprintf("state %s, %d of 16384 slots have a master", m["cluster_state"], covered-bad), "operations on keys of the other slots fail, or all do", "look at CLUSTER NODES: start the masters that are down, or assign their slots")
	case bad > 0:
		e.add("cluster", warning, fmt.Sprintf("the masters of %d slots don't answer others", bad), "operations on their keys fail until a replica takes over", "look at CLUSTER NODES")
	default:
		e.add("cluster", good, fmt.Sprintf("state ok, %s masters", m["cluster_size"]), "", "")
	}
	return nil
}

// waitsLong is the age of a queued write from which on the source seems not to take it.
const waitsLong = time.Minute

func (e *examination) checkCaches(ctx context.Context) error {
	for i := range e.caches {
		f := &e.caches[i]
		name := quote(string(f.Prefix) + string(f.Name))
		l, err := e.readClocks(ctx, string(f.Prefix), string(f.Name))
		if err != nil {
			if answered(err) {
				continue // a permission
			}
			return err
		}
		healthy, state, ahead, lost, damaged := false, l.state(), time.Duration(math.MinInt64), false, ""
		for i := range l.parts {
			c := &l.parts[i]
			ahead = max(ahead, micros(max(c.epoch.Tick-c.now, c.epoch.Clock-c.now)))
			lost = lost || c.tagged && !c.hash
			if c.state == clockDamaged {
				damaged = l.names[i].Epoch
			}
		}
		switch {
		case state == clockMissing:
			e.add("cache "+name, note, "its logical clock is missing", "it was not used in the last 100 days, or the clock was evicted or flushed: then all its entries are invalid", "check the name and the prefix: cachectl list")
		case state == clockDamaged:
			e.add("cache "+name, warning, "its logical clock can't be read", orElse(len(l.parts) > 1, "all entries of a part of its keys", "all its entries")+" are invalid, and the next use begins another clock", "look for a program that writes to "+quote(damaged))
		case ahead > micros(logicalclock.GoneBack):
			e.add("cache "+name, warning, fmt.Sprintf("its logical clock is %s ahead of the server's", span(ahead)), "the server's clock was set back, or that of the server before it was ahead: ages are wrong by as much, and late invalidations invalidate more than they must", "run NTP on the machines of the servers; it passes by itself")
		case lost:
			e.add("cache "+name, warning, "the times of its tags' invalidations were lost (evicted, or removed)", "entries with tags are invalid, once", "")
		default:
			healthy = true
		}
		if q := f.Queue; q != nil {
			if q.DeadLetters > 0 {
				healthy = false
				e.add("cache "+name, warning, number(int64(q.DeadLetters), "dead letter", "dead letters"), "the source has rejected writes for good: it lacks what callers were told is written", "cachectl deadletters list "+quote(string(f.Name))+e.prefixFlag(f))
			}
			if ofSeconds(q.OldestSecs) > waitsLong {
				healthy = false
				e.add("cache "+name, warning, fmt.Sprintf("%s wait for the source, the oldest for %s", number(int64(q.Writes), "write", "writes"), span(ofSeconds(q.OldestSecs))),
					orElse(q.Consumers == 0, "no process of this cache runs, which would apply them", "the source does not take them, or not fast enough"), "look at the logs of the processes, and at the source")
			}
		}
		if healthy {
			e.add("cache "+name, good, fmt.Sprintf("%s, %s with an invalidation", listening(f.Listeners), number(f.Tags, "tag", "tags")), "", "")
		}
	}
	return nil
}

func listening(n int64) string {
	if n < 0 {
		return "clock ok"
	}
	return "clock ok, " + number(n, "process listens", "processes listen")
}

// prefixFlag is the flag that a command for a cache needs.
func (e *examination) prefixFlag(f *found) string {
	if string(f.Prefix) == "" {
		return ""
	}
	return " -prefix " + quote(string(f.Prefix))
}
