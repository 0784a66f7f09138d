package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// listeners returns the connections of a server that have subscribed to something.
func listeners(t *testing.T, c redis.UniversalClient) int {
	t.Helper()
	list, err := c.Do(t.Context(), "client", "list", "type", "pubsub").Text()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(list, "id=")
}

// waitListeners waits until so many are left: a server notices the end of a connection a moment
// after the client.
func waitListeners(t *testing.T, c redis.UniversalClient, want int) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		n := listeners(t, c)
		if n == want {
			return
		}
		if time.Since(start) > enough {
			t.Fatalf("%d connections are subscribed, not %d", n, want)
		}
	}
}

func eachTransport(t *testing.T, f func(t *testing.T, with func(l store.Subscription, prefix string) store.Subscription)) {
	t.Run("messages", func(t *testing.T) {
		f(t, func(l store.Subscription, _ string) store.Subscription { return l })
	})
	t.Run("tracking", func(t *testing.T) { f(t, tracking) })
}

// However many stores there are on a client, and whatever they subscribe to, they share one
// connection and its heartbeats; each is notified of its own keys; each may leave at any time.
func TestSubscriptionsOfAClientShareASession(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	eachTransport(t, func(t *testing.T, with func(store.Subscription, string) store.Subscription) {
		client := redis.NewClient(server.Options())
		defer client.Close()
		const n = 20
		var stores [n]real
		var all [n]*hearing
		for i := range n {
			stores[i] = newReal(t, client)
			all[i] = listen(t, stores[i], with(steady(fmt.Sprint("news", i/2)), fmt.Sprint("k", i/2, ":"))) // two of each
		}
		if got := listeners(t, admin); got != 1 {
			t.Errorf("%d connections are subscribed", got)
		}
		tell := func(from int) {
			for i := range n / 2 {
				publish(t, stores[from], fmt.Sprint("news", i), fmt.Sprint("m", i))
				if err := admin.Set(t.Context(), fmt.Sprint("k", i, ":x"), "v", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			since := time.Now()
			for _, h := range all[from:] {
				h.aliveSince(t, since)
			}
		}
		tell(0)
		for i, h := range all {
			for _, ev := range h.all("message") {
				if ev.text != fmt.Sprint("m", i/2) {
					t.Errorf("subscriber %d was told %v", i, ev)
				}
			}
			if len(h.all("message")) != 1 {
				t.Errorf("subscriber %d: %v", i, h.all("message"))
			}
			for _, ev := range h.all("changed", "any") {
				if ev.text != fmt.Sprint("k", i/2, ":x") {
					t.Errorf("subscriber %d was told %v", i, ev)
				}
			}
			if strings.Contains(t.Name(), "tracking") && len(h.all("changed")) == 0 {
				t.Errorf("subscriber %d was notified of no change", i)
			}
		}
		// The rounds are the same for all: that of one is one of the first.
		first := map[time.Time]bool{}
		for _, ev := range all[0].all("alive") {
			first[ev.sent] = true
		}
		for _, ev := range all[n-1].all("alive")[:1] {
			if !first[ev.sent] {
				t.Error("a subscriber has heartbeats of its own")
			}
		}
		for i := range n {
			all[i].stop()
			if err := all[i].end(t); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			all[i].checkOrder(t)
			stores[i].Close() // what the others use is not the store's
			before := len(all[i].all())
			if i < n-1 {
				publish(t, stores[n-1], fmt.Sprint("news", n/2-1), "more")
				all[n-1].expectText(t, "message", "more")
				if got := listeners(t, admin); got != 1 {
					t.Errorf("%d connections after %d have left", got, i+1)
				}
			}
			if len(all[i].all()) > before {
				t.Errorf("subscriber %d is notified after it has left", i)
			}
		}
		waitListeners(t, admin, 0)
		if err := client.Ping(t.Context()).Err(); err != nil {
			t.Errorf("the client: %v", err)
		}
	})
}

// When the connection breaks, all are told, and all come back by one connection.
func TestABrokenSharedSessionEndsForAll(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	eachTransport(t, func(t *testing.T, with func(store.Subscription, string) store.Subscription) {
		client := redis.NewClient(server.Options())
		defer client.Close()
		s := newReal(t, client)
		for range 5 {
			var all []*hearing
			for i := range 5 {
				all = append(all, listen(t, s, with(steady(fmt.Sprint("news", i)), fmt.Sprint("k", i, ":"))))
			}
			if got := listeners(t, admin); got != 1 {
				t.Errorf("%d connections", got)
			}
			if n, err := admin.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Result(); n != 1 || err != nil {
				t.Errorf("%d killed, %v", n, err)
			}
			for _, h := range all {
				if err := h.end(t); errors.Is(err, store.ErrNoTracking) || errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				h.checkOrder(t)
			}
		}
		waitListeners(t, admin, 0)
	})
}

// What a user may not subscribe to costs its own subscriber only.
func TestARefusedChannelCostsItsOwnSubscriber(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.ACL("app on >secret ~* +@all resetchannels &good*"))
	o := server.Options()
	o.Username, o.Password = "app", "secret"
	client := redis.NewClient(o)
	defer client.Close()
	s := newReal(t, client)
	good := listen(t, s, steady("good1"))
	for range 3 {
		if err := start(t, s, steady("bad")).end(t); !strings.Contains(err.Error(), "NOPERM") {
			t.Error(err)
		}
	}
	other := listen(t, s, steady("good2"))
	publish(t, s, "good1", "m")
	publish(t, s, "good2", "m")
	good.expectText(t, "message", "m")
	other.expectText(t, "message", "m")
	for _, h := range []*hearing{good, other} {
		if n := len(h.all("ended", "armed")); n != 1 {
			t.Errorf("%v", h.all("ended", "armed"))
		}
	}
	if got := listeners(t, server.Client(t)); got != 1 {
		t.Errorf("%d connections", got)
	}
}

// That also holds for the first subscriber, below whose channel the heartbeats would be: the others
// begin another session, and are told nothing of it.
func TestARefusedFirstChannelCostsItsOwnSubscriber(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.ACL("app on >secret ~* +@all resetchannels &good*"))
	proxy := redistest.NewProxy(t, server.Addr())
	o := server.Options()
	o.Addr, o.Username, o.Password = proxy.Addr(), "app", "secret"
	client := redis.NewClient(o)
	defer client.Close()
	s := newReal(t, client)
	eachTransport(t, func(t *testing.T, with func(store.Subscription, string) store.Subscription) {
		for range 3 {
			proxy.Blackhole() // until all have joined
			all := 0
			join := func(channel, prefix string) *hearing {
				h := start(t, s, with(steady(channel), prefix))
				for all++; redisstore.Subscribers(client) != all; {
					time.Sleep(time.Millisecond)
				}
				return h
			}
			var bad, good []*hearing
			for i := range 2 {
				bad = append(bad, join("bad", fmt.Sprint("b", i, ":")))
				for j := range 2 {
					good = append(good, join(fmt.Sprint("good", j), fmt.Sprint("g", i, j, ":")))
				}
			}
			leaves := join("good2", "l:")
			leaves.stop()
			leaves.end(t)
			proxy.Heal()
			for _, h := range bad {
				if err := h.end(t); !strings.Contains(err.Error(), "NOPERM") {
					t.Error(err)
				}
			}
			for _, h := range good {
				h.expectKind(t, "alive")
			}
			publish(t, s, "good1", "m")
			good[1].expectText(t, "message", "m")
			for _, h := range good {
				if n := len(h.all("ended", "armed")); n != 1 {
					t.Errorf("%v", h.all("ended", "armed"))
				}
				h.checkOrder(t)
				h.stop()
				h.end(t)
			}
			waitListeners(t, server.Client(t), 0)
		}
	})
}

// A channel that others of the client don't need is left, unless the user may not unsubscribe:
// then what arrives there is ignored, and the user is not asked for it again.
func TestACacheThatClosesLeavesItsChannel(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.ACL("app on >secret ~* &* +@all", "stays on >secret ~* &* +@all -unsubscribe"))
	admin := server.Client(t)
	for user, leaves := range map[string]bool{"app": true, "stays": false} {
		o := server.Options()
		o.Username, o.Password = user, "secret"
		client := redis.NewClient(o)
		s := newReal(t, client)
		keeper := listen(t, s, steady(user+"keeper"))
		for i := range 3 {
			channel := fmt.Sprint(user, "news", i)
			for range 2 {
				h := listen(t, s, steady(channel)) // the second time it may still be subscribed
				publish(t, s, channel, "m")
				h.expectText(t, "message", "m")
				h.stop()
				h.end(t)
			}
			for start := time.Now(); ; time.Sleep(time.Millisecond) {
				keeper.aliveSince(t, time.Now())
				n := admin.PubSubNumSub(t.Context(), channel).Val()[channel]
				if (n == 0) == leaves && n <= 1 {
					break
				}
				if time.Since(start) > enough {
					t.Fatalf("%s: %d subscriptions to %s", user, n, channel)
				}
			}
		}
		publish(t, s, user+"keeper", "m")
		keeper.expectText(t, "message", "m")
		if n := len(keeper.all("message", "armed", "ended")); n != 2 {
			t.Errorf("%s: %v", user, keeper.all("message", "armed", "ended"))
		}
		keeper.stop()
		keeper.end(t)
		client.Close()
	}
	log, err := admin.ACLLog(t.Context(), 100).Result()
	if err != nil {
		t.Fatal(err)
	}
	var denied int64
	for _, e := range log {
		denied += e.Count
	}
	if denied != 1 {
		t.Errorf("%d refusals: %+v", denied, log)
	}
}

// A session that can't take a subscriber is left as it was.
func TestASubscriberThatASessionCantTakeLeavesNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redis.NewClient(server.Options())
	defer client.Close()
	s := newReal(t, client)
	listen(t, s, tracking(steady("news"), "a:b:"))
	h := listen(t, s, tracking(steady("other"), "a:"))
	listen(t, s, tracking(steady("more"), "a:b:c:"))
	if n := server.Client(t).PubSubNumSub(t.Context(), "other").Val()["other"]; n != 1 {
		t.Errorf("%d subscriptions", n)
	}
	if n := redisstore.Topics(client); n != 3+2 {
		t.Errorf("%d topics: a prefix and two channels are used, and in another session a prefix and a channel", n)
	}
	h.expectKind(t, "alive")
}

// A server refuses prefixes that overlap on one connection.
func TestPrefixesThatOverlapAreTracked(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	client := redis.NewClient(server.Options())
	defer client.Close()
	s := newReal(t, client)
	hearers := map[string]*hearing{}
	for _, prefix := range []string{"a:b:", "a:b:c:", "a:", "d:", "a:b:c:d:", ""} {
		hearers[prefix] = listen(t, s, tracking(steady("news"), prefix))
	}
	if got := listeners(t, admin); got != 3 { // one for each of those that others begin with
		t.Errorf("%d connections", got)
	}
	for _, key := range []string{"a:x", "a:b:x", "a:b:c:x", "a:b:c:d:x", "d:x", "x"} {
		if err := admin.Set(t.Context(), key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for prefix, h := range hearers {
		got, flushed := h.changed(t)
		var want []string
		for _, key := range []string{"a:b:c:d:x", "a:b:c:x", "a:b:x", "a:x", "d:x", "x"} {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		var all []string
		for _, ev := range h.all("changed") {
			all = append(all, ev.text)
		}
		slices.Sort(all)
		if all = slices.Compact(all); !slices.Equal(all, want) || flushed {
			t.Errorf("%q: %q (%q), want %q", prefix, all, got, want)
		}
	}
}

// While others come and go, a subscriber hears everything that is published after Subscribed, and
// nothing once Subscribe has returned.
func TestASharedSessionWhileOthersComeAndGo(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := redis.NewClient(server.Options())
	defer client.Close()
	s := newReal(t, client)
	keeper := listen(t, s, steady("keeper"))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range redistest.Times(15, 100) {
				channel := fmt.Sprint("news", (g+i)%3) // shared with others now and then
				h := start(t, s, steady(channel))
				h.expectKind(t, "armed")
				want := fmt.Sprint("m", g, "-", i)
				publish(t, s, channel, want)
				h.expectText(t, "message", want)
				h.expectKind(t, "alive")
				h.stop()
				h.end(t)
				n := len(h.all())
				publish(t, s, channel, "late")
				if len(h.all()) > n {
					t.Error("told after it has left")
				}
				h.checkOrder(t)
			}
		})
	}
	wg.Wait()
	publish(t, s, "keeper", "m")
	keeper.expectText(t, "message", "m")
	if got := listeners(t, server.Client(t)); got != 1 {
		t.Errorf("%d connections", got)
	}
	if n := len(keeper.all("ended")); n > 0 {
		t.Error("it has ended")
	}
}
