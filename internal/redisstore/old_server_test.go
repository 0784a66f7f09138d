package redisstore_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// refusals counts what a restriction refuses.
type refusals struct {
	mu    sync.Mutex
	texts []string
}

func (r *refusals) of(restriction redistest.Restriction) redistest.Restriction {
	return func(args []string) string {
		reply := restriction(args)
		if reply != "" {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.texts = append(r.texts, reply)
		}
		return reply
	}
}

func (r *refusals) with(part string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.texts {
		if strings.Contains(t, part) {
			n++
		}
	}
	return n
}

// What an old server, or a node of a cluster, refuses is asked in another form from then on, and
// reported once.
func TestWhatIsRefusedIsRemembered(t *testing.T) {
	t.Parallel()
	var refused refusals
	server := redistest.Start(t)
	front := redistest.NewFront(t, server.Addr(), refused.of(redistest.Restricted(redistest.OldSet, redistest.OldScripts, redistest.OneSlot)))
	o := server.Options()
	o.Addr = front.Addr()
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	r := newReal(t, c)
	var told []store.Misfit
	r.OnDetour(func(m store.Misfit) { told = append(told, m) })
	ctx := t.Context()
	names := store.NewNames("p:", "n")
	do := func(cmds ...store.Command) []store.Reply {
		t.Helper()
		replies := r.Do(ctx, cmds)
		for i, r := range replies {
			if r.Err != nil {
				t.Fatalf("%v: %v", cmds[i].Op, r.Err)
			}
		}
		return replies
	}
	for i := range 3 {
		k := strings.Repeat("k", i+1)
		if got := do(store.Command{Op: store.SetNX, Key: k, Frame: frame("a"), TTL: time.Minute}); !got[0].OK {
			t.Errorf("%s was not stored", k)
		}
		if got := do(store.Command{Op: store.SetNX, Key: k, Frame: frame("b")}); got[0].OK || string(got[0].Record.Raw) != string(frame("a")) {
			t.Errorf("%s holds %+v", k, got[0])
		}
		if got := do(store.Command{Op: store.Get, Key: k}, store.Command{Op: store.Get, Key: "other"}, store.Command{Op: store.Get, Key: "third"}); string(got[0].Record.Raw) != string(frame("a")) || got[1].Record.State != store.Missing {
			t.Errorf("%s is read as %+v", k, got)
		}
		tell := store.Notify{Channel: "c", Message: "m"}
		do(store.Command{Op: store.Set, Key: k, Frame: frame("c"), Notify: tell}, store.Command{Op: store.Set, Key: k + "2", Frame: frame("c"), Notify: tell})
		do(store.Command{Op: store.Delete, Key: k, Notify: tell}, store.Command{Op: store.Delete, Key: k + "2", Notify: tell})
		if _, err := r.ReadClock(ctx, names, logicalclock.Known{}, []string{"tag"}); err != nil {
			t.Error(err)
		}
		if _, err := r.AddTombstones(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"tag"}, Channel: tell.Channel, Message: tell.Message}); err != nil {
			t.Error(err)
		}
		if err := r.Publish(ctx, tell); err != nil {
			t.Error(err)
		}
	}
	for part, n := range map[string]int{"syntax error": 1, "CROSSSLOT": 1, "compiling": 1} {
		if got := refused.with(part); got != n {
			t.Errorf("%q was answered %d times", part, got)
		}
	}
	if len(told) != 2 || told[0] != store.Outdated || told[1] != store.OneSlot {
		t.Errorf("it reported %v", told)
	}
}

// On an old server, too, a replica refuses to publish, and an urgent script runs when memory is full.
func TestScriptsOfOldServers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	front := redistest.NewFront(t, server.Addr(), redistest.OldScripts)
	o := server.Options()
	o.Addr = front.Addr()
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	r := newReal(t, c)
	ctx, hand := t.Context(), server.Client(t)
	names, tell := store.NewNames("p:", "n"), store.Notify{Channel: "c", Message: "m"}
	if err := r.Publish(ctx, tell); err != nil {
		t.Fatal(err)
	}
	set := func(setting, value string) {
		t.Helper()
		if err := hand.ConfigSet(ctx, setting, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("maxmemory-policy", "noeviction")
	set("maxmemory", "1")
	if err := r.Do(ctx, []store.Command{{Op: store.Set, Key: "k", Frame: frame("a"), Notify: tell}})[0].Err; err == nil || !strings.HasPrefix(err.Error(), "OOM") {
		t.Errorf("memory is not full: %v", err)
	}
	if _, err := r.AddTombstones(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"tag"}}); err != nil {
		t.Error(err)
	}
	q := store.NewQueueNames("p:", "n", 0)
	if ok, err := r.Acquire(ctx, q, "owner", time.Minute, false); !ok || err != nil {
		t.Error(ok, err)
	}
	if n, err := r.Join(ctx, "p:members", "one", time.Minute); n != 1 || err != nil {
		t.Error(n, err)
	}
	set("maxmemory", "0")
	if err := hand.ReplicaOf(ctx, "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	before := r.Demotions()
	if err := r.Publish(ctx, tell); err == nil || !strings.Contains(err.Error(), "no master any more") {
		t.Errorf("a replica has published: %v", err)
	}
	if r.Demotions() == before {
		t.Error("the demotion was not counted")
	}
	if err := r.Renew(ctx); err == nil {
		t.Error("a replica is taken for a master")
	}
}
