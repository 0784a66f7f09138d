package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// all is what a server has that lacks nothing.
var all = cache.Capabilities{
	AllSlots: cache.Supported, Writes: cache.Supported, Scripts: cache.Supported, ScriptFlags: cache.Supported, SetNXGet: cache.Supported, ManyKeys: cache.Supported,
	PubSub: cache.Supported, RESP3: cache.Supported, Tracking: cache.Supported, Streams: cache.Supported, Scan: cache.Supported, Info: cache.Supported,
}

func TestProbe(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.MaxMemory("100mb", "allkeys-lru"))
	const no = cache.Unsupported
	for name, tt := range map[string]struct {
		r       redistest.Restriction
		without func(*cache.Capabilities)
		fatal   string // part of the error; "" for none
		missing string // parts of the text, separated by |
	}{
		"nothing": {func([]string) string { return "" }, func(*cache.Capabilities) {}, "", "has all that caches can use"},
		"scripts": {redistest.NoScripts, func(c *cache.Capabilities) { c.Scripts, c.ScriptFlags = no, 0 }, "lacks EVAL and EVALSHA", "caches can't be used|each write"},
		"pub/sub": {redistest.NoPubSub, func(c *cache.Capabilities) { c.PubSub = no }, "", "lacks SUBSCRIBE and PUBLISH|the local tier is not used"},
		"INFO": {redistest.NoInfo, func(c *cache.Capabilities) {
			c.Info, c.Server, c.Version = no, "", ""
		}, "", "the server, evicts by allkeys-lru|lacks INFO"},
		"tracking":    {redistest.NoTracking, func(c *cache.Capabilities) { c.Tracking = no }, "", "Broadcast"},
		"RESP3":       {redistest.OnlyRESP2, func(c *cache.Capabilities) { c.RESP3, c.Tracking = no, no }, "", "over RESP3|Broadcast"},
		"SET NX GET":  {redistest.OldSet, func(c *cache.Capabilities) { c.SetNXGet = no }, "", "a script is used"},
		"flags":       {redistest.OldScripts, func(c *cache.Capabilities) { c.ScriptFlags = no }, "", "older scripts"},
		"many keys":   {redistest.OneSlot, func(c *cache.Capabilities) { c.ManyKeys = no }, "", "one by one"},
		"streams":     {redistest.Lacking("xlen", "xadd"), func(c *cache.Capabilities) { c.Streams = no }, "", "WriteBehind"},
		"SCAN":        {redistest.Lacking("scan"), func(c *cache.Capabilities) { c.Scan = no }, "", "InvalidatePattern"},
		"a hangup":    {hangup("subscribe"), func(c *cache.Capabilities) { c.PubSub = no }, "", "lacks SUBSCRIBE"},
		"two hangups": {redistest.Restricted(hangup("evalsha"), hangup("eval")), func(c *cache.Capabilities) { c.Scripts, c.ScriptFlags = no, 0 }, "EVAL", "caches can't be used"},
		"a master": {func(args []string) string {
			if strings.EqualFold(args[0], "set") {
				return "-READONLY You can't write against a read only replica.\r\n"
			}
			return ""
		}, func(c *cache.Capabilities) { c.Writes, c.SetNXGet = no, no }, "lacks SET", "connect to the master"},
		"other nodes": {func(args []string) string {
			if strings.EqualFold(args[0], "get") && strings.Contains(args[1], "{3}") {
				return "-MOVED 12182 127.0.0.1:7001\r\n"
			}
			return ""
		}, func(c *cache.Capabilities) { c.AllSlots = no }, "NewClusterClient", "caches can't be used"},
		"permissions": {func(args []string) string {
			switch strings.ToLower(args[0]) {
			case "scan":
				return "-NOPERM User app has no permissions to run the 'scan' command\r\n"
			case "xlen":
				return "-NOPERM No permissions to access a key\r\n"
			}
			return ""
		}, func(c *cache.Capabilities) { c.Scan, c.Streams = cache.NotPermitted, 0 }, "", "lacks SCAN (not permitted): InvalidatePattern fails"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := redistest.NewFront(t, server.Addr(), tt.r)
			rdb, err := cache.NewClient("redis://" + f.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer rdb.Close()
			want := all
			want.Server, want.Version, want.Eviction, want.MaxMemory = "Redis", "x", "allkeys-lru", 100<<20
			tt.without(&want)
			got, err := cache.Probe(t.Context(), rdb)
			if err != nil {
				t.Fatal(err)
			}
			if got.Version != "" {
				got.Version = "x"
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
			text := got.String()
			for part := range strings.SplitSeq(tt.missing, "|") {
				if !strings.Contains(text, part) {
					t.Errorf("%q does not say %q", text, part)
				}
			}
			err = got.Err()
			if (err != nil) != (tt.fatal != "") || err != nil && (!strings.Contains(err.Error(), tt.fatal) || !errors.Is(err, errors.ErrUnsupported)) {
				t.Errorf("Err: %v", err)
			}
			if tt.fatal == "" && len(got.Missing()) > 1 && !strings.Contains(name, "RESP3") {
				t.Errorf("missing: %v", got.Missing())
			}
		})
	}
	t.Cleanup(func() { // after all of them
		c := redis.NewClient(server.Options())
		defer c.Close()
		if n := c.DBSize(context.Background()).Val(); n != 0 {
			t.Errorf("%d keys are left", n)
		}
	})
}

func TestSupportIsTextInJSON(t *testing.T) {
	text, err := json.Marshal([]cache.Support{cache.SupportUnknown, cache.Supported, cache.Unsupported, cache.NotPermitted, 99})
	if want := `["unknown","yes","no","not permitted","unknown"]`; string(text) != want || err != nil {
		t.Errorf("%s, %v", text, err)
	}
}

func hangup(command string) redistest.Restriction {
	return func(args []string) string {
		if strings.EqualFold(args[0], command) {
			return redistest.Hangup
		}
		return ""
	}
}

func TestProbeOfACluster(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		got, err := cache.Probe(t.Context(), b.Client)
		if err != nil {
			t.Fatal(err)
		}
		want := all
		want.Server, want.Version, want.Eviction, want.MaxMemory = got.Server, got.Version, got.Eviction, got.MaxMemory
		switch b.Name {
		case "miniredis":
			want.ScriptFlags, want.Tracking = cache.Unsupported, cache.Unsupported
			want.SetNXGet = got.SetNXGet
			want.Info = got.Info
		case "cluster":
			want.Cluster, want.ManyKeys = true, cache.SupportUnknown
		}
		if got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		if got.Err() != nil {
			t.Error(got.Err())
		}
	})
}

func TestProbeThatFails(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	if _, err := cache.Probe(ctx, nil); !errors.Is(err, cache.ErrInvalidOption) {
		t.Error(err)
	}
	reads := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ReadOnly: true})
	defer reads.Close()
	if _, err := cache.Probe(ctx, reads); !errors.Is(err, cache.ErrInvalidOption) {
		t.Error(err)
	}
	nowhere, err := cache.NewClient("redis://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer nowhere.Close()
	if _, err := cache.Probe(ctx, nowhere); !errors.Is(err, cache.ErrUnavailable) {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := cache.Probe(ended, nowhere); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	server := redistest.Start(t, redistest.Password("secret"))
	wrong, err := cache.NewClient("redis://" + server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	if _, err := cache.Probe(ctx, wrong); !errors.Is(err, cache.ErrUnavailable) || !strings.Contains(err.Error(), "correct the credentials") {
		t.Error(err)
	}
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr()}, Password: "secret", MaxRedirects: -1})
	defer cluster.Close()
	short, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := cache.Probe(short, cluster); !errors.Is(err, cache.ErrUnavailable) || !strings.Contains(err.Error(), "one for a cluster") {
		t.Error(err)
	}
}
