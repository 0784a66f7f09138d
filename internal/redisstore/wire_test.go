package redisstore_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// firstSent is a hook that keeps the names of the commands that are sent first.
type firstSent struct{ names []string }

func (f *firstSent) note(cmds ...redis.Cmder) {
	if f.names == nil {
		for _, c := range cmds {
			f.names = append(f.names, c.Name())
		}
	}
}

func (f *firstSent) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (f *firstSent) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { f.note(cmd); return next(ctx, cmd) }
}

func (f *firstSent) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { f.note(cmds...); return next(ctx, cmds) }
}

// What Wire says is what Do sends.
func TestWireIsWhatIsSent(t *testing.T) {
	notify := store.Notify{Channel: "c", Message: "m"}
	seen := store.CASToken{State: store.Found, Token: "t"}
	commands := map[string][]store.Command{
		"a read":                        {{Op: store.Get, Key: "a"}},
		"a bounded read":                {{Op: store.Get, Key: "a", Most: 9}},
		"a header":                      {{Op: store.GetHeader, Key: "a"}},
		"two reads":                     {{Op: store.Get, Key: "a"}, {Op: store.Get, Key: "b"}},
		"more reads than fit":           slices.Repeat([]store.Command{{Op: store.Get, Key: "a"}}, 600),
		"reads of two kinds":            {{Op: store.Get, Key: "a"}, {Op: store.Get, Key: "b", Most: 9}},
		"a write":                       {{Op: store.Set, Key: "a", Frame: frame("a")}},
		"a write with a message":        {{Op: store.Set, Key: "a", Frame: frame("a"), Notify: notify}},
		"writes":                        {{Op: store.Set, Key: "a", Frame: frame("a")}, {Op: store.Set, Key: "b", Frame: frame("b")}},
		"writes with messages":          {{Op: store.Set, Key: "a", Frame: frame("a"), Notify: notify}, {Op: store.Set, Key: "b", Frame: frame("b"), Notify: notify}},
		"a unit":                        {{Op: store.Set, Key: "a", Frame: frame("a"), Notify: notify, With: 1}, {Op: store.Set, Key: "b", Frame: frame("b")}},
		"a unit after a read":           {{Op: store.Get, Key: "e"}, {Op: store.Delete, Key: "a", Notify: notify, With: 1}, {Op: store.Delete, Key: "b"}},
		"a large unit after a read":     append([]store.Command{{Op: store.Get, Key: "e"}}, largeSets(100, true)...),
		"large writes":                  largeSets(3, false),
		"a removal":                     {{Op: store.Delete, Key: "a"}},
		"a removal with a message":      {{Op: store.Delete, Key: "a", Notify: notify}},
		"a lease":                       {{Op: store.SetNX, Key: "l", Frame: frame("a")}},
		"a lease with a message":        {{Op: store.SetNX, Key: "l", Frame: frame("a"), Notify: notify}},
		"a lease by script":             {{Op: store.SetNX, Key: "l", Frame: frame("a"), ByScript: true}},
		"a fill over nothing":           {{Op: store.CompareAndSet, Key: "f", Frame: frame("a")}},
		"a fill":                        {{Op: store.CompareAndSet, Key: "f", Frame: frame("b"), Seen: seen}},
		"leases and fills in turns":     {{Op: store.SetNX, Key: "l", Frame: frame("a")}, fillOf("a", leaseFrame("a"), "c"), {Op: store.SetNX, Key: "m", Frame: frame("a")}, fillOf("b", leaseFrame("b"), "c")},
		"a fill and a lease of one key": {{Op: store.SetNX, Key: "a", Frame: frame("a")}, fillOf("b", leaseFrame("a"), "c"), {Op: store.SetNX, Key: "c", Frame: frame("a")}, fillOf("a", leaseFrame("b"), "c")},
		"a conditional removal":         {{Op: store.CompareAndDelete, Key: "f", Seen: seen}},
		"a prolongation":                {{Op: store.Extend, Key: "f", Seen: seen}},
		"an adoption":                   {{Op: store.Adopt, Key: "f", Seen: store.Record{State: store.Found, Raw: []byte("other")}.WholeToken()}},
		"a sign":                        {{Op: store.AwaitLease, Key: "f", Seen: store.TokenOf(leaseFrame("a"))}},
		"a seal":                        {{Op: store.PatchHeader, Key: "f", Frame: seal("a"), Seen: seen}},
		"a lease, a fill and a set":     {{Op: store.SetNX, Key: "l", Frame: frame("a")}, {Op: store.CompareAndSet, Key: "f", Frame: frame("b"), Seen: seen}, {Op: store.Set, Key: "s", Frame: frame("a")}},
	}
	check := func(t *testing.T, connect func() redis.UniversalClient) {
		for name, cmds := range commands {
			rdb := connect()
			s, err := redisstore.NewRedis(rdb)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if !s.OneNode() && slices.ContainsFunc(cmds, func(c store.Command) bool { return c.With > 0 }) {
				continue
			}
			if s.OneNode() && !s.AskForTransactions(t.Context()) {
				t.Fatal("the server takes no transactions")
			}
			var sent firstSent
			rdb.AddHook(&sent)
			s.Do(t.Context(), cmds)
			want := store.Wire{Command: sent.names[0], Commands: len(sent.names)}
			if len(slices.Compact(slices.Sorted(slices.Values(sent.names)))) > 1 {
				want.Command = ""
			}
			got := s.Wire("any", cmds)
			if got.Command != want.Command || got.Commands != want.Commands {
				t.Errorf("%s: %+v, and sent was %v", name, got, sent.names)
			}
			if got.Script != "" != (got.Command == "evalsha") {
				t.Errorf("%s: the script %q of %q", name, got.Script, got.Command)
			}
		}
	}
	t.Run("server", func(t *testing.T) {
		server := redistest.Start(t)
		check(t, func() redis.UniversalClient { return server.Client(t) })
	})
	t.Run("cluster", func(t *testing.T) {
		cluster := redistest.StartCluster(t, 3)
		check(t, func() redis.UniversalClient { return cluster.Client(t) })
	})
}

// The address is that of the configuration, in the form of the semantic conventions of
// OpenTelemetry.
func TestAddressIsThatOfTheConfiguration(t *testing.T) {
	// No name is looked up, and no server asked.
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no network") }
	cluster := func(addrs ...string) redis.UniversalClient {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, Dialer: dial, DialerRetries: 1})
	}
	single := func(o redis.Options) *redis.Client {
		o.Dialer, o.DialerRetries = dial, 1
		return redis.NewClient(&o)
	}
	failover := &redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"s:26379"}, Dialer: dial, DialerRetries: 1}
	for _, tt := range []struct {
		client  redis.UniversalClient
		address string
		port    int
	}{
		{single(redis.Options{Addr: "redis.example.com:6379"}), "redis.example.com", 0},
		{single(redis.Options{Addr: "redis.example.com:6380"}), "redis.example.com", 6380},
		{single(redis.Options{Addr: "[::1]:6380"}), "::1", 6380},
		{single(redis.Options{}), "localhost", 0},
		{single(redis.Options{Network: "unix", Addr: "/run/redis.sock"}), "/run/redis.sock", 0},
		{ownSingle{single(redis.Options{Addr: "a:1"})}, "a", 1},
		{cluster("b:6379", "a:6379"), "a,b", 0},
		{cluster("b:7000", "a:7000", "a:7000"), "a,b", 7000},
		{cluster("b:7000", "a:7001"), "a:7001,b:7000", 0},
		{cluster("[::1]:7000", "a:6379"), "[::1]:7000,a:6379", 0},
		{redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": "b:7000", "two": "a:7000"}, Dialer: dial}), "a,b", 7000},
		{redis.NewFailoverClient(failover), "", 0},
		{redis.NewFailoverClusterClient(failover), "", 0},
	} {
		s, err := redisstore.NewRedis(tt.client)
		if err != nil {
			t.Fatal(err)
		}
		if address, port := s.Address(); address != tt.address || port != tt.port {
			t.Errorf("%q and %d, want %q and %d", address, port, tt.address, tt.port)
		}
		s.Close()
		tt.client.Close()
	}
}
