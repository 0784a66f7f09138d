package cache

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/invalidate"
)

// However often something has been told while a read was under way, the read does not
// believe an answer from before its own key was.
//
//  1. a key is invalidated; Redis does not acknowledge
//  2. a read asks Redis, which answers what it had before
//  3. Redis is told, so that the key is none of those any more that are not believed
//  4. the answer of 2 arrives
func TestAnAnswerFromBeforeAKeyWasToldIsNotBelieved(t *testing.T) {
	for _, concerned := range []bool{true, false} {
		for last := 1; last <= askAgain; last++ {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				st := storetest.NewMemory()
				c, net := onWireWith(t, st, Source[string, string]{}, WithTransport(invalidate.NoTransport()))
				if err := errors.Join(c.Set(ctx, "k", "old"), c.Set(ctx, "else", "old")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Second) // nothing is recent
				net.lose()
				if err := c.Invalidate(ctx, "k"); !errors.Is(err, ErrUnavailable) {
					t.Fatal(err)
				}
				net.lose("head")
				key := c.RedisKey("k")
				if !concerned {
					key = c.RedisKey("else")
				}
				gets := 0
				net.watch(nil, func(cmds []store.Command) {
					if cmds[0].Op != store.Get || cmds[0].Key != key {
						return
					}
					if gets++; gets < last {
						// Something else is told.
						c.coherence.SchedulePattern("other*", nil, local.Now())
						c.coherence.NotedPattern("other*", local.Now())
					} else if gets == last {
						net.heal()
						if err := c.Sync(ctx); err != nil {
							t.Error(err)
						}
					}
				})
				if concerned {
					if v, err := c.Get(ctx, "k"); err == nil || !errors.Is(err, ErrMiss) {
						t.Errorf("told after %d answers: %q, %v", last, v, err)
					}
				} else if v, err := c.Get(ctx, "else"); v != "old" || err != nil {
					t.Errorf("told after %d answers: a key that is not concerned: %q, %v", last, v, err)
				}
			})
		}
	}
}
