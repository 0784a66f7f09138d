package cachetest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/metrics"
)

// However long an outage was, 5 seconds after Heal all is as before: what Redis has missed it
// has been told, and local tiers are used.
func TestAfterHealFiveSecondsAreEnough(t *testing.T) {
	for _, outage := range []time.Duration{0, time.Millisecond, time.Second, 7 * time.Second, time.Minute, 61700 * time.Millisecond} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env := cachetest.New(t)
				src := cachetest.NewSource(map[int]string{1: "Ada"})
				a, b := open(t, env.Process().Client(), src.ReadOnly()), open(t, env.Process().Client(), src.ReadOnly())
				for _, fault := range []func(){env.CutRedis, env.CutNotifications, func() { env.Slow(time.Hour) }} {
					get(t, a, 1, "Ada")
					get(t, b, 1, "Ada")
					fault()
					synctest.Wait()
					src.Put(1, "Grace")
					_ = a.Set(t.Context(), 1, "Grace")
					env.Advance(outage)
					env.Heal()
					env.Advance(5 * time.Second)
					for name, c := range map[string]*cache.Cache[int, string]{"a": a, "b": b} {
						// The first read makes sure that Redis has lost nothing. What it sends again for that
						// drops the key, and may come after the value is kept.
						get(t, c, 1, "Grace")
						synctest.Wait()
						get(t, c, 1, "Grace")
						if tier := get(t, c, 1, "Grace"); tier != metrics.Local {
							t.Errorf("%s reads from the tier %v", name, tier)
						}
					}
					src.Put(1, "Ada")
					if err := b.Set(t.Context(), 1, "Ada"); err != nil {
						t.Error(err)
					}
					synctest.Wait()
				}
			})
		})
	}
}
