package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// A process that listens to nothing is caught by its audit, on real servers and a cluster; one that
// listens is not.
func TestAnAuditOnServers(t *testing.T) {
	redistest.Thorough(t)
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		audited := cache.WithStrategy(strategy.Audit(1), strategy.LocalTTL(time.Hour), strategy.TTL(time.Hour))
		writer := on(t, b, "n", cache.Source[string, string]{}, withLocal)
		deaf := on(t, b, "n", cache.Source[string, string]{}, withLocal, audited, cache.WithTransport(invalidate.NoTransport()))
		listens := on(t, b, "n", cache.Source[string, string]{}, withLocal, audited)
		read := func(c *cache.Cache[string, string], key, want string) error {
			if v, err := c.Get(ctx, key); v != want || err != nil {
				return fmt.Errorf("%s is %q, %w; want %q", key, v, err, want)
			}
			return nil
		}
		const keys = 10
		for _, v := range []string{"old", "new"} {
			for i := range keys {
				k := fmt.Sprint("k", i)
				if err := writer.Set(ctx, k, v); err != nil {
					t.Fatal(err)
				}
				if err := read(deaf, k, "old"); err != nil { // as long as its entries live
					t.Fatal(err)
				}
				for range 2 {
					awaits(t, k, func() error { return read(listens, k, v) })
				}
			}
		}
		awaits(t, "as many finds as there are keys", func() error {
			for i := range keys { // a hit is not looked at if Redis does not answer in time
				if err := read(deaf, fmt.Sprint("k", i), "old"); err != nil {
					return err
				}
			}
			if m := deaf.Metrics(); m.StaleBeyond < keys {
				return fmt.Errorf("%d beyond the bound, %d dropped", m.StaleBeyond, m.AuditsDropped)
			}
			return nil
		})
		if m := listens.Metrics(); m.StaleBeyond != 0 || m.Audited == 0 {
			t.Errorf("%d beyond the bound, of %d", m.StaleBeyond, m.Audited)
		}
	})
}
