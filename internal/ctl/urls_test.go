package ctl_test

import (
	"strings"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
)

// TestEveryKindOfURL looks at caches through the URLs with which programs reach them.
func TestEveryKindOfURL(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"database": func(t *testing.T) string {
			return strings.TrimSuffix(redistest.Start(t).URL(), "/0") + "/3"
		},
		"password": func(t *testing.T) string { return redistest.Start(t, redistest.Password("p%/ss")).URL() },
		"tls":      func(t *testing.T) string { return redistest.Start(t, redistest.TLS()).URL() },
		"cluster":  func(t *testing.T) string { return redistest.StartCluster(t, 3).URL() },
		"sentinel": func(t *testing.T) string { return redistest.StartSentinel(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			url := url(t)
			rdb, err := cache.NewClient(url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { rdb.Close() })
			c, err := cache.New[string, person](rdb, "users", slowly)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			set(t, c, "ann", cache.Tags("x"))
			u := &user{t: t}
			contains(t, u.ok("list", "-redis", url), "users")
			contains(t, u.ok("inspect", "users", "ann", "-redis", url), "would be a hit")
			fs := u.doctor("-redis", url)
			fs.want(t, "server", "ok", "master")
			fs.want(t, "permissions", "ok", "default has all permissions of 1 cache")
			fs.want(t, "tracking", "ok")
			fs.want(t, "notifications", "ok")
			w := u.watch("users", "-redis", url)
			if e := w.next(); e.Event != "connected" {
				t.Fatalf("first: %+v", e)
			}
			contains(t, u.ok("invalidate", "users", "ann", "-redis", url), "invalidated 1 key")
			if e := w.next(); e.Event != "changed" || e.Keys[0].Key != "ann" {
				t.Errorf("the invalidation: %+v", e)
			}
			contains(t, u.ok("stats", "users", "-redis", url, "-scan", "0"), "no record of the cache")
			leavesNothing(t, rdb, "")
		})
	}
}
