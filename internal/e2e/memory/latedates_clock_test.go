package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/storetest"
)

// misjudged is a wire of a process that has waited long for the answer when it asked for Redis's
// time: its estimate is wrong by as much as it may be.
type misjudged struct {
	wire
	by    time.Duration
	nodes bool // several, that all have one clock
}

func (m *misjudged) OneNode() bool { return !m.nodes }

func (m *misjudged) Now(ctx context.Context, key string) (int64, error) {
	at, err := m.Memory.Now(ctx, key)
	return at + m.by.Microseconds(), err
}

func (m *misjudged) EstimateAt(key string, _ time.Time) (int64, bool) {
	at, err := m.Now(context.Background(), key)
	return at, err == nil
}

func (m *misjudged) ClockError(string) int64 { return m.by.Abs().Microseconds() }

// An invalidation that is sent later takes all that was stored before it was called for, however
// badly the two processes know Redis's time.
func TestWhatIsSentLaterTakesAllThatWasThereBefore(t *testing.T) {
	const wrong = 200 * time.Millisecond
	load := func(context.Context, string) (string, error) { return "loaded", nil }
	ways := map[string]func(context.Context, *cache.Cache[string, string]) error{
		"Invalidate": func(ctx context.Context, c *cache.Cache[string, string]) error {
			return c.Invalidate(ctx, "old", "loaded")
		},
		"Delete": func(ctx context.Context, c *cache.Cache[string, string]) error { return c.Delete(ctx, "old", "loaded") },
	}
	for way, change := range wide {
		ways[way] = change
	}
	for way, change := range ways {
		for _, nodes := range []bool{false, true} {
			for _, ahead := range []time.Duration{wrong, -wrong} {
				t.Run(fmt.Sprintf("%s, several nodes %v, ahead by %v", way, nodes, ahead), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ctx := t.Context()
						store := storetest.NewMemory()
						writer := onMemory(t, &misjudged{wire: wire{Memory: store}, by: ahead, nodes: nodes}, cache.Source[string, string]{})
						net := &misjudged{wire: wire{Memory: store}, by: -ahead, nodes: nodes}
						a := onMemory(t, net, cache.Source[string, string]{})
						if err := writer.Set(ctx, "old", "v", cache.Tags("t", "u")); err != nil {
							t.Fatal(err)
						}
						if v, err := writer.GetOrLoad(ctx, "loaded", load, cache.Tags("t", "u")); v != "loaded" || err != nil {
							t.Fatal(v, err)
						}
						for _, k := range []string{"old", "loaded"} {
							if _, err := a.Get(ctx, k); err != nil {
								t.Fatal(err)
							}
						}
						time.Sleep(time.Millisecond)
						net.lose()
						if err := change(ctx, a); !errors.Is(err, cache.ErrUnavailable) {
							t.Fatal(err)
						}
						time.Sleep(8*wrong + 50*time.Millisecond) // no error hides what comes now, nor those of readers
						if err := writer.Set(ctx, "new", "v", cache.Tags("t", "u")); err != nil {
							t.Fatal(err)
						}
						net.heal()
						if err := a.Sync(ctx); err != nil {
							t.Fatal(err)
						}
						time.Sleep(5 * time.Second)
						for name, c := range map[string]*cache.Cache[string, string]{"the one": a, "the other": writer} {
							if v, err := c.Get(ctx, "new"); v != "v" || err != nil {
								t.Errorf("%s: what came later is %q, %v", name, v, err)
							}
							for _, k := range []string{"old", "loaded"} {
								if v, err := c.Get(ctx, k); !errors.Is(err, cache.ErrMiss) {
									t.Errorf("%s: %s is %q, %v", name, k, v, err)
								}
							}
						}
					})
				})
			}
		}
	}
}
