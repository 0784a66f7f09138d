package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/metrics"
	"github.com/delqhi/cache/strategy"
)

// templates is a source of values that no codec can encode.
type templates struct {
	mu    sync.Mutex
	texts map[string]string
	loads atomic.Int32
}

func (s *templates) set(name, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[name] = text
}

func (s *templates) source() cache.Source[string, *template.Template] {
	return cache.Source[string, *template.Template]{
		Load: func(_ context.Context, name string) (*template.Template, error) {
			s.loads.Add(1)
			s.mu.Lock()
			text, ok := s.texts[name]
			s.mu.Unlock()
			if !ok {
				return nil, cache.ErrNotFound
			}
			return template.New(name).Parse(text)
		},
		Tags: func(name string, _ *template.Template) []string { return []string{"theme", "of " + name} },
	}
}

var valuesStay = cache.WithOptions(cache.LocalValues(), cache.WithStrategy(strategy.LRU(1000), strategy.TTL(time.Hour), strategy.Jitter(0)))

func render(t *testing.T, c *cache.Cache[string, *template.Template], name string) (text string, tier metrics.Tier) {
	t.Helper()
	var info cache.Info
	tm, err := c.Get(t.Context(), name, cache.Report(&info))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := tm.Execute(&b, "x"); err != nil {
		t.Fatal(err)
	}
	return b.String(), info.Tier
}

// On every backend, by every transport that hears: each process loads once, and each change, by a
// process or by another program, is seen by all.
func TestLocalValuesOnServers(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for _, tr := range []invalidate.Transport{invalidate.Broadcast(), invalidate.Tracking()} {
			t.Run(tr.String(), func(t *testing.T) {
				ctx := t.Context()
				src := &templates{texts: map[string]string{"a": "a0 {{.}}", "b": "b0 {{.}}"}}
				on := *b
				on.Prefix += tr.String() + ":"
				writer := process(t, &on, "templates", src.source(), valuesStay, cache.WithTransport(tr))
				reader := process(t, &on, "templates", src.source(), valuesStay, cache.WithTransport(tr))
				program, err := invalidate.NewClient(b.NewClient(t), "templates", invalidate.Prefix(on.Prefix))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { program.Close() })
				lazily, err := invalidate.NewClient(b.NewClient(t), "templates", invalidate.Prefix(on.Prefix), invalidate.WithPolicy(invalidate.Lazy()))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { lazily.Close() })
				changes := map[string]func() error{
					"set":               func() error { return writer.Set(ctx, "a", template.Must(template.New("a").Parse("set"))) },
					"delete":            func() error { return writer.Delete(ctx, "b", "a") },
					"invalidate":        func() error { return writer.Invalidate(ctx, "a") },
					"pattern":           func() error { _, err := writer.InvalidatePattern(ctx, "[a]"); return err },
					"tag":               func() error { return writer.InvalidateTags(ctx, "of a") },
					"clear":             func() error { return writer.Clear(ctx) },
					"program":           func() error { return program.Invalidate(ctx, "a") },
					"program, pattern":  func() error { _, err := program.InvalidatePattern(ctx, "*"); return err },
					"program, tag":      func() error { return program.InvalidateTags(ctx, "theme") },
					"program, clear":    func() error { return program.Clear(ctx) },
					"program, lazy":     func() error { return lazily.Invalidate(ctx, "a") },
					"program, lazy tag": func() error { return lazily.InvalidateTags(ctx, "of a") },
				}
				if b.Name == "redis" && tr == invalidate.Tracking() {
					changes["SET of the key"] = func() error {
						return b.Client.Set(ctx, on.Prefix+"templates:a", "x", time.Minute).Err()
					}
				}
				n := 0
				for what, change := range changes {
					eventually(t, "the reader's tier answers, before "+what, func() bool {
						_, tier := render(t, reader, "a")
						return tier == metrics.Local
					})
					n++
					text := fmt.Sprint("a", n)
					src.set("a", text+" {{.}}")
					if err := change(); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					eventually(t, "the reader sees "+what, func() bool {
						got, _ := render(t, reader, "a")
						return got == text+" x"
					})
					if what != "set" && what != "SET of the key" {
						eventually(t, "the writer sees "+what, func() bool {
							got, _ := render(t, writer, "a")
							return got == text+" x"
						})
					} else if err := writer.Invalidate(ctx, "a"); err != nil {
						t.Fatal(err)
					}
				}
				// Nothing is left in Redis but the logical clock.
				for _, name := range []string{"a", "b"} {
					if b.Client.Exists(ctx, on.Prefix+"templates:"+name).Val() != 0 {
						t.Errorf("Redis has a record of %s", name)
					}
				}
			})
		}
	})
}

// Several processes change and read at a time, and the source is changed before each invalidation:
// own changes are seen at once, no version comes back, and in the end each has what the source has.
func TestLocalValuesUnderLoad(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		type versioned struct{ version func() int64 }
		var truth [4]atomic.Int64
		var all []*cache.Cache[int, versioned]
		for range 3 {
			all = append(all, process(t, b, "versions", cache.Source[int, versioned]{
				Load: func(_ context.Context, k int) (versioned, error) {
					v := truth[k].Load()
					time.Sleep(time.Millisecond)
					return versioned{func() int64 { return v }}, nil
				},
				Tags: func(k int, _ versioned) []string { return []string{fmt.Sprint("t", k)} },
			}, valuesStay))
		}
		var wg sync.WaitGroup
		rounds := redistest.Times(40, 400)
		for i, c := range all {
			wg.Go(func() { // the only writer of its key
				for range rounds {
					v := truth[i].Add(1)
					var err error
					switch v % 4 {
					case 0:
						err = c.InvalidateTags(ctx, fmt.Sprint("t", i))
					case 1:
						_, err = c.InvalidatePattern(ctx, fmt.Sprint(i))
					default:
						err = c.Invalidate(ctx, i)
					}
					if err != nil {
						t.Error(err)
						return
					}
					// Own changes are seen at once.
					if got, err := c.Get(ctx, i); err != nil || got.version() < v {
						t.Errorf("after its own change to %d: %v", v, err)
						return
					}
				}
			})
			for range 2 {
				wg.Go(func() {
					var last [4]int64
					for n := range rounds * 4 {
						k := n % 4
						got, err := c.Get(ctx, k)
						if err != nil {
							t.Error(err)
							return
						}
						if v := got.version(); v < last[k] && k < len(all) {
							t.Errorf("version %d of %d after %d", v, k, last[k])
							return
						} else {
							last[k] = v
						}
					}
				})
			}
		}
		wg.Wait()
		for i, c := range all {
			for k := range truth {
				eventually(t, fmt.Sprintf("process %d has the last version of %d", i, k), func() bool {
					got, err := c.Get(ctx, k)
					return err == nil && got.version() == truth[k].Load()
				})
			}
		}
	})
}

// A server that is killed and comes back empty: in between each read asks the source, and afterwards
// the tiers are used again, with nothing from before the changes of the outage.
func TestLocalValuesOverARestart(t *testing.T) {
	redistest.Require(t)
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	src := &templates{texts: map[string]string{"a": "old {{.}}"}}
	var all []*cache.Cache[string, *template.Template]
	for range 2 {
		c, err := cache.NewFrom(server.Client(t), "templates", src.source(), discard, valuesStay)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		all = append(all, c)
		eventually(t, "the tier is in use", func() bool { _, tier := render(t, c, "a"); return tier == metrics.Local })
	}
	server.Kill()
	eventually(t, "the tiers are not in use", func() bool {
		_, one := render(t, all[0], "a")
		_, two := render(t, all[1], "a")
		return one == metrics.Source && two == metrics.Source
	})
	src.set("a", "new {{.}}")
	if err := all[0].Invalidate(ctx, "a"); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("Invalidate without Redis: %v", err)
	}
	for _, c := range all {
		if text, _ := render(t, c, "a"); text != "new x" {
			t.Errorf("in the outage: %q", text)
		}
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if err := c.Sync(ctx); err != nil {
			t.Error(err)
		}
		eventually(t, "the tier is in use again", func() bool {
			text, tier := render(t, c, "a")
			if text != "new x" {
				t.Fatalf("after the restart: %q", text)
			}
			return tier == metrics.Local
		})
	}
}
