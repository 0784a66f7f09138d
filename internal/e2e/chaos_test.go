package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/metrics"
)

// Every fault that a network and a server can have, one after the other, while all
// caches are in use: every read succeeds, none is wrong or too old, no caller waits for what
// does not answer once the circuit is open, and when it is over, all is as it was.
func TestChaos(t *testing.T) {
	redistest.Long(t)
	redistest.Require(t)
	where := names(sites)
	if redistest.UnderRace {
		// The detector makes callers so slow that few of them meet. One site, one after
		// the other, shows it what all of them do.
		where = []string{"single"}
	}
	sideBySide(t, where, func(t *testing.T, name string) {
		c := newChaos(t, name)
		c.start()
		c.stop()
		before, _ := c.goroutines()
		if before < 10 {
			t.Fatalf("%d goroutines: they are not seen", before)
		}
		for _, fault := range names(faults) {
			t.Log(fault)
			c.start()
			c.endure(fault)
			c.stop()
			c.flat(before)
			if t.Failed() {
				t.Fatalf("with the fault %q", fault)
			}
		}
	})
}

// chaos is a world whose processes have faults with a site. One node has none, and
// writes; the others are behind the proxies and read, and one of them writes as well.
type chaos struct {
	*world
	t     *testing.T
	site  *site
	near  *cache.Cache[string, int64]
	far   map[string]*cache.Cache[string, int64]
	keys  []string
	label pprof.LabelSet
	name  string
	end   func() // of the writers and readers
}

const (
	chaosCallers = 6 // of each cache
	chaosStill   = 8 // keys that are not written

	chaosTimeout = 250 * time.Millisecond // the default
)

// hardly is more answers than all callers of a cache could get in a test's patience if
// each of these took them the timeout.
const hardly = (chaosCallers + 1) * uint64(patience/chaosTimeout) * 3 / 2

func newChaos(t *testing.T, name string) *chaos {
	c := &chaos{world: newWorld(t), t: t, site: sites[name](t), name: t.Name(), end: func() {}}
	c.label = pprof.Labels("chaos", c.name)
	c.keys = append(c.keys, usual...)
	for _, k := range []string{"set", "invalidate", "tag"} {
		c.keys = append(c.keys, "far "+k)
	}
	for i := range chaosStill {
		c.keys = append(c.keys, fmt.Sprint("still ", i))
	}
	for i, k := range c.keys {
		c.number(k, int64(i+1))
	}
	c.far = map[string]*cache.Cache[string, int64]{}
	pprof.Do(t.Context(), c.label, func(context.Context) {
		c.near = c.node(c.site.near(), transports["broadcast"]...)
		for _, transport := range names(transports) {
			c.far[transport] = c.node(c.site.far(), transports[transport]...)
		}
	})
	t.Cleanup(c.site.heal)        // before Close: what waits for an answer gets it
	t.Cleanup(func() { c.end() }) // if the test has failed
	return c
}

// start has all caches used until stop.
func (c *chaos) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	pprof.Do(ctx, c.label, func(context.Context) {
		all.Go(func() { c.writes(ctx, c.near, usual, nil) })
		all.Go(func() { c.writes(ctx, c.far["broadcast"], []string{"far set", "far invalidate", "far tag"}, nil) })
		for transport, far := range c.far {
			for i := range chaosCallers {
				var opts []cache.ReadOption
				if i%2 == 1 {
					opts = append(opts, cache.SkipLocal())
				}
				all.Go(func() { c.reads(ctx, transport, far, c.keys, opts...) })
			}
		}
	})
	c.end = func() {
		cancel()
		all.Wait()
	}
}

// stop waits until every cache answers from Redis again, ends their use, and waits until all of
// them have told everything and see the latest.
func (c *chaos) stop() {
	c.t.Helper()
	ctx := context.Background()
	caches := []*cache.Cache[string, int64]{c.near}
	for who, far := range c.far {
		caches = append(caches, far)
		for i := range chaosStill {
			key := fmt.Sprint("still ", i)
			awaits(c.t, who+": an answer from Redis", func() error {
				var info cache.Info
				began := time.Now()
				got, err := far.Get(ctx, key, cache.SkipLocal(), cache.Report(&info))
				c.check(who, key, got, err, began)
				if info.Tier != metrics.Remote {
					return fmt.Errorf("%s is from %v", key, info.Tier)
				}
				if b := far.Metrics().Breaker; b != metrics.Closed {
					return fmt.Errorf("the circuit is %v", b)
				}
				return nil
			})
		}
	}
	c.end()
	c.settle(caches...)
	for _, one := range caches {
		for _, key := range c.keys {
			want, _ := c.load(ctx, key)
			awaits(c.t, "the latest of "+key, func() error { return sees(one, key, want) })
		}
	}
}

// endure lets one fault come and go.
func (c *chaos) endure(name string) {
	c.t.Helper()
	was := map[string]metrics.Snapshot{}
	for who, far := range c.far {
		was[who] = far.Metrics()
	}
	defer c.site.suffers(c.t, name, rand.New(rand.NewPCG(1, 2)))()
	if !faults[name].silent {
		pause(c.t.Context(), 700*time.Millisecond)
		return
	}
	defer func() {
		if c.t.Failed() {
			_, all := c.goroutines()
			c.t.Log(all)
		}
	}()
	for who, far := range c.far {
		awaits(c.t, who+": many answers while Redis gives none", func() error {
			m := far.Metrics()
			if n := m.Fallbacks - was[who].Fallbacks; n < hardly || m.Breaker == metrics.Closed {
				return fmt.Errorf("%d are there, %d operations failed, the circuit is %v", n, m.RemoteErrors-was[who].RemoteErrors, m.Breaker)
			}
			return nil
		})
	}
}

// goroutines returns how many there are of the caches, their clients and callers.
func (c *chaos) goroutines() (n int, all string) {
	var text bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&text, 1); err != nil {
		c.t.Fatal(err)
	}
	for _, g := range strings.Split(text.String(), "\n\n") {
		if m := sameStacks.FindStringSubmatch(g); m != nil && strings.Contains(g, strconv.Quote(c.name)) {
			k, _ := strconv.Atoi(m[1])
			n += k
			all += g + "\n\n"
		}
	}
	return n, all
}

// sameStacks finds how many goroutines a profile has of a stack.
var sameStacks = regexp.MustCompile(`(?m)^(\d+) @ 0x`)

// flat waits until there are no more goroutines than before.
func (c *chaos) flat(before int) {
	c.t.Helper()
	var last string
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.t.Log(last)
		}
	})
	awaits(c.t, "goroutines to end", func() error {
		n, all := c.goroutines()
		if n > before {
			last = all
			return fmt.Errorf("%d, and not %d", n, before)
		}
		last = ""
		return nil
	})
}
