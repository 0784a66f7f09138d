package ctl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/ctl"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

type finding struct{ Check, Status, Found, Means, Do string }

type findings []finding

// doctor runs doctor, whose exit code is 1 exactly if there is a fault.
func (u *user) doctor(args ...string) findings {
	u.t.Helper()
	var o, e bytes.Buffer
	code := ctl.Run(u.t.Context(), u.program(false, &o, &e, append([]string{"doctor"}, args...)...))
	var r struct {
		Healthy  bool
		Findings findings
	}
	if err := json.Unmarshal(o.Bytes(), &r); err != nil {
		u.t.Fatalf("doctor: %v, exit code %d\n%s%s", err, code, &o, &e)
	}
	faulty := slices.ContainsFunc(r.Findings, func(f finding) bool { return f.Status == "fault" })
	if r.Healthy == faulty || (code == 1) != faulty || code > 1 {
		u.t.Errorf("healthy: %v, exit code %d, with %+v", r.Healthy, code, r.Findings)
	}
	for _, f := range r.Findings {
		if (f.Status == "fault" || f.Status == "warning") && (f.Means == "" || f.Do == "") {
			u.t.Errorf("what does it mean, and what is to be done? %+v", f)
		}
	}
	return r.Findings
}

// want looks for a finding.
func (fs findings) want(t *testing.T, check, status string, parts ...string) {
	t.Helper()
	for _, f := range fs {
		text := f.Found + "\n" + f.Means + "\n" + f.Do
		if f.Check == check && f.Status == status && !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) }) {
			return
		}
	}
	rest := slices.DeleteFunc(slices.Clone(fs), func(f finding) bool { return f.Status == "ok" && f.Check != check })
	t.Errorf("no finding %s of %s with %q, but:\n%+v", status, check, parts, []finding(rest))
}

func TestDoctorOnAHealthyServer(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u := userOf(t, b)
		fs := u.doctor()
		fs.want(t, "permissions", "unknown", "there are no caches yet")
		set(t, people(t, b, "users"), "ann")
		fs = u.doctor()
		fs.want(t, "cache "+b.Prefix+"users", "ok")
		fs.want(t, "clock", "ok")
		fs.want(t, "notifications", "ok")
		fs.want(t, "persistence", "ok", "not needed")
		if b.Name == "miniredis" { // it has no ACL, and what it lacks is tried
			fs.want(t, "server", "unknown")
			fs.want(t, "tracking", "note")
		} else {
			fs.want(t, "server", "ok", "Redis ", "master")
			fs.want(t, "permissions", "ok", "has all permissions of 1 cache")
			fs.want(t, "eviction", "warning", "maxmemory 0")
			fs.want(t, "tracking", "ok")
		}
		if b.Name == "cluster" {
			fs.want(t, "cluster", "ok", "3 masters")
		}
		leavesNothing(t, b.Client, b.Prefix)
	})
}

// leavesNothing fails if a key of doctor's own is there.
func leavesNothing(t *testing.T, rdb redis.UniversalClient, prefix string) {
	t.Helper()
	look := func(ctx context.Context, c redis.Cmdable) error {
		for it := c.Scan(ctx, 0, "*cachectl-doctor*", 1000).Iterator(); it.Next(ctx); {
			if strings.HasPrefix(it.Val(), prefix) {
				t.Errorf("doctor has left %s behind", it.Val())
			}
		}
		return nil
	}
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		_ = cluster.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error { return look(ctx, c) })
		return
	}
	_ = look(t.Context(), rdb)
}

// rulesOf are the permissions that docs/deployment.md lists for the cache n with the prefix p:,
// by the purpose that stands behind them.
func rulesOf(t *testing.T) (rules map[string][]string, all []string) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/deployment.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(doc), "## Permissions")
	_, text, ok2 := strings.Cut(text, "```\n")
	text, _, ok3 := strings.Cut(text, "```")
	if !ok || !ok2 || !ok3 {
		t.Fatal("docs/deployment.md has no list of permissions")
	}
	rules = map[string][]string{}
	gap := regexp.MustCompile(`\s{3,}`)
	for line := range strings.Lines(text) {
		parts := gap.Split(strings.TrimSpace(line), 2)
		purpose := ""
		if len(parts) == 2 {
			purpose = strings.Fields(parts[1])[0]
		}
		rules[purpose] = append(rules[purpose], strings.Fields(parts[0])...)
		all = append(all, strings.Fields(parts[0])...)
	}
	return rules, all
}

func TestDoctorKnowsThePermissionsOfTheGuide(t *testing.T) {
	rules, all := rulesOf(t)
	if len(rules) < 6 || len(all) < 30 {
		t.Fatalf("the guide's list was read as %q", rules)
	}
	app := func(without ...string) string {
		kept := slices.DeleteFunc(slices.Clone(all), func(r string) bool { return slices.Contains(without, r) })
		return "app on >secret " + strings.Join(kept, " ")
	}
	server := redistest.Start(t)
	admin := server.Client(t)
	write := func(rule string) {
		t.Helper()
		args := []any{"acl", "setuser", "app", "reset"}
		for _, w := range strings.Fields(rule)[1:] {
			args = append(args, w)
		}
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%v: %s", err, rule)
		}
	}
	newCache(t, admin, "n", cache.WithPrefix("p:"))
	asAdmin := &user{t: t, prefix: "p:", connect: func() redis.UniversalClient { return server.Client(t) }}
	asApp := &user{t: t, prefix: "p:", connect: func() redis.UniversalClient {
		o := server.Options()
		o.Username, o.Password = "app", "secret"
		return redis.NewClient(o)
	}}
	check := func(want func(fs findings)) {
		t.Helper()
		want(asAdmin.doctor("n", "-user", "app")) // by ACL DRYRUN
		want(asApp.doctor("n"))                   // by trial: the guide does not list +acl|dryrun
	}
	write(app())
	check(func(fs findings) { fs.want(t, "permissions", "ok", "app has all permissions of 1 cache") })
	leavesNothing(t, admin, "p:")

	for _, r := range all {
		if r == "-@all" || strings.HasPrefix(r, "+cluster") || r == "+time" {
			continue // +time is used before anything can be checked
		}
		if strings.Contains(r, "p::{*}") || slices.Contains([]string{"+ssubscribe", "+spublish", "+pubsub|shardnumsub", "+sunsubscribe"}, r) {
			continue // on a cluster; see TestDoctorOfPermissionsOnACluster
		}
		write(app(r))
		purpose, status := "permissions", "fault"
		switch {
		case r == "+scan":
			purpose, status = "permissions: patterns", "warning"
		case r == "+subscribe":
			purpose, status = "permissions: notifications", "warning"
		case r == "+client|tracking":
			purpose, status = "permissions: tracking", "note"
		case r == "+persist":
			purpose, status = "permissions: persist", "note"
		case r == "+pubsub|numsub":
			purpose, status = "permissions: pubsub", "note"
		case r == "+multi", r == "+exec":
			purpose, status = "permissions: transactions", "note"
		case r == "+unsubscribe":
			purpose, status = "permissions: unsubscribe", "note"
		case r == "+info":
			purpose, status = "permissions: info", "note"
		case slices.Contains(rules["strategy.WriteBehind"], r):
			purpose, status = "permissions: write-behind", "note" // the cache has no queue
		}
		if r == "~p::{c:n}:*" || r == "~p:n:*" {
			// Nothing of the cache can be looked at: the admin sees it.
			asAdmin.doctor("n", "-user", "app").want(t, purpose, status, "lacks", r)
			continue
		}
		check(func(fs findings) { fs.want(t, purpose, status, "app lacks", r, "ACL SETUSER app ") })
	}

	write("app on >secret ~* &* +@all -acl -publish")
	fs := asApp.doctor("n", "-no-trial")
	fs.want(t, "permissions", "unknown", "ACL DRYRUN can't be used")
	asApp.doctor("n", "-user", "app").want(t, "permissions", "unknown", "ACL DRYRUN can't be used")
	asAdmin.doctor("n", "-user", "nobody").want(t, "permissions", "unknown", "no user nobody")
	asApp.doctor("n").want(t, "permissions", "fault", "+publish")
	asApp.doctor("n").want(t, "notifications", "warning", "does not arrive")
}

func newCache(t *testing.T, rdb redis.UniversalClient, name string, opts ...cache.Option) {
	t.Helper()
	opts = append(opts, slowly, cache.WithLogger(slog.New(slog.DiscardHandler)))
	c, err := cache.New[string, person](rdb, name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	set(t, c, "ann")
}

func TestDoctorFindsWhatIsSetWrong(t *testing.T) {
	server := redistest.Start(t, redistest.MaxMemory("100mb", "allkeys-lru"))
	rdb := server.Client(t)
	u := &user{t: t, connect: func() redis.UniversalClient { return server.Client(t) }}
	newCache(t, rdb, "users")
	u.doctor().want(t, "eviction", "ok", "allkeys-lru at 100.0 MiB")

	c, err := cache.NewFrom(rdb, "orders", cache.Source[string, person]{Store: func(context.Context, string, person) error {
		return context.Canceled
	}}, slowly, cache.WithStrategy(strategy.WriteBehind(strategy.MaxAttempts(1))), cache.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	set(t, c, "7")
	if err := c.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	fs := u.doctor()
	fs.want(t, "eviction", "fault", "allkeys-lru", "write-behind queue", "volatile-lru")
	fs.want(t, "persistence", "fault", "no append-only file", "appendonly yes")
	fs.want(t, "cache orders", "warning", "1 dead letter", "cachectl deadletters list orders")

	for _, set := range [][2]string{{"maxmemory-policy", "volatile-lru"}, {"appendonly", "yes"}, {"appendfsync", "everysec"}} {
		if err := rdb.ConfigSet(t.Context(), set[0], set[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() string {
		fs = u.doctor()
		if slices.ContainsFunc(fs, func(f finding) bool { return f.Check == "persistence" && f.Status == "fault" }) {
			return "the append-only file is not there"
		}
		return ""
	})
	fs.want(t, "eviction", "ok", "volatile-lru")
	fs.want(t, "persistence", "ok", "once a second")

	if err := rdb.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err(); err != nil {
		t.Fatal(err)
	}
	u.doctor().want(t, "eviction", "warning", "noeviction", "refused")

	if err := rdb.Set(t.Context(), store.NewNames("", "users").Epoch, "nonsense", 0).Err(); err != nil {
		t.Fatal(err)
	}
	fs = u.doctor()
	fs.want(t, "cache users", "warning", "can't be read")
	u.doctor("nosuch").want(t, "cache nosuch", "note", "missing")

	replica := redistest.Start(t, redistest.Args("--replicaof", "127.0.0.1 "+strings.TrimPrefix(server.Addr(), "127.0.0.1:")))
	ofReplica := &user{t: t, connect: func() redis.UniversalClient { return replica.Client(t) }}
	ofReplica.doctor("users").want(t, "server", "fault", "replica")

	server.Kill()
	u.fails(1, "no answer from Redis", "doctor")
}

// On a cluster a user needs the keys of the parts' logical clocks, and the guide's list has them.
func TestDoctorOfPermissionsOnACluster(t *testing.T) {
	_, all := rulesOf(t)
	cluster := redistest.StartCluster(t, 3)
	admin := cluster.Client(t)
	newCache(t, admin, "n", cache.WithPrefix("p:"))
	u := &user{t: t, prefix: "p:", connect: func() redis.UniversalClient { return cluster.Client(t) }}
	for lacks, found := range map[string]struct{ check, status string }{
		"":                    {"permissions", "ok"},
		"~p::{*}:c:n:*":       {"permissions", "fault"},
		"&p::{*}:c:n:*":       {"permissions", "fault"},
		"+cluster|slots":      {"permissions: cluster", "fault"},
		"+cluster|info":       {"permissions: cluster", "fault"},
		"+cluster|myid":       {"permissions: cluster", "fault"},
		"+ssubscribe":         {"permissions: notifications of a cluster", "warning"},
		"+spublish":           {"permissions: sharded messages", "note"},
		"+pubsub|shardnumsub": {"permissions: sharded messages", "note"},
	} {
		if lacks != "" && !slices.Contains(all, lacks) {
			t.Fatalf("no rule %s in %q", lacks, all)
		}
		args := []any{"acl", "setuser", "app", "reset", "on", ">secret"}
		for _, r := range all {
			if r != lacks {
				args = append(args, r)
			}
		}
		err := admin.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error { return c.Do(ctx, args...).Err() })
		if err != nil {
			t.Fatal(err)
		}
		fs := u.doctor("n", "-user", "app")
		text := "app lacks " + lacks
		if lacks == "" {
			text = "app has all permissions of 1 cache"
		}
		fs.want(t, found.check, found.status, text)
	}
}

func TestDoctorOnANodeOfACluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3)
	node := cluster.Nodes[0]
	u := &user{t: t, connect: func() redis.UniversalClient { return node.Client(t) }}
	u.doctor().want(t, "server", "fault", "node of a cluster", "cluster=true")
	whole := &user{t: t, connect: func() redis.UniversalClient { return cluster.Client(t) }}
	whole.doctor().want(t, "cluster", "ok", "3 masters")
	cluster.Nodes[2].Kill()
	eventually(t, func() string {
		out, err := node.Client(t).ClusterInfo(t.Context()).Result()
		if err != nil || strings.Contains(out, "cluster_state:ok") {
			return "the cluster has not noticed: " + out
		}
		return ""
	})
	out, errs, code := whole.run("doctor", "users")
	if code != 1 || !strings.Contains(out+errs, "fail") && !strings.Contains(out+errs, "refused") {
		t.Errorf("with a master that is down: exit code %d\n%s%s", code, out, errs)
	}
}
