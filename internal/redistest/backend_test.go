package redistest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestEachRunsOnEveryKindOfRedis(t *testing.T) {
	Require(t)
	var mu sync.Mutex
	var names, prefixes []string
	t.Run("all", func(t *testing.T) {
		Each(t, func(t *testing.T, b *Backend) {
			t.Parallel()
			mu.Lock()
			names, prefixes = append(names, b.Name), append(prefixes, b.Prefix)
			mu.Unlock()

			other := b.NewClient(t)
			for _, k := range []string{"a", "b", "c", "d"} {
				mustSet(t, b.Client, b.Prefix+k, k)
				mustGet(t, other, b.Prefix+k, k)
			}
			if err := other.Close(); err != nil {
				t.Error(err)
			}
			mustGet(t, b.Client, b.Prefix+"a", "a")

			_, cluster := b.Client.(*redis.ClusterClient)
			if cluster != (b.Name == "cluster") || (b.Mini == nil) != b.RealTime || b.RealTime != (b.Name != "miniredis") {
				t.Errorf("%+v", b)
			}
		})
	})
	slices.Sort(names)
	if !slices.Equal(names, []string{"cluster", "miniredis", "redis"}) {
		t.Errorf("it ran on %q", names)
	}
	slices.Sort(prefixes)
	if len(slices.Compact(prefixes)) != 3 {
		t.Errorf("the prefixes are %q", prefixes)
	}
}

func TestAdvanceEndsLifetimesOnlyWhereTimeIsNotReal(t *testing.T) {
	Each(t, func(t *testing.T, b *Backend) {
		if err := b.Client.Set(t.Context(), b.Prefix+"k", "v", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		b.Advance(time.Hour - 1)
		mustGet(t, b.Client, b.Prefix+"k", "v")
		b.Advance(1)
		want := "v"
		if !b.RealTime {
			want = ""
		}
		mustGet(t, b.Client, b.Prefix+"k", want)
	})
}

func TestServersAreSharedByTests(t *testing.T) {
	var first *Server
	for range 2 {
		Each(t, func(t *testing.T, b *Backend) {
			if b.Name != "redis" {
				return
			}
			shared.mu.Lock()
			defer shared.mu.Unlock()
			if first == nil {
				first = shared.server
			}
			if shared.server != first {
				t.Error("another server was started")
			}
		})
	}
}
