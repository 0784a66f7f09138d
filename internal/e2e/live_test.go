package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// departed notes what a process's Source.Removed is told.
type departed struct {
	mu  sync.Mutex
	all []string
}

func (d *departed) note(k, v string, why cache.Reason) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, fmt.Sprint(k, " ", v, " ", why))
}

// next waits until it was told something, and checks that it is one of these.
func (d *departed) next(t *testing.T, after string, want ...string) {
	t.Helper()
	var got []string
	eventually(t, "Removed is called after "+after, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		got = slices.Clone(d.all)
		return len(got) > 0
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) != 1 || !slices.Contains(want, d.all[0]) {
		t.Errorf("after %s: %q, want one of %q", after, d.all, want)
	}
	d.all = nil
}

// What leaves the local tier because of another process, or of another program, was invalidated:
// who has written or removed it there is not known here.
func TestRemovedIsToldWhatOthersHaveDone(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for _, tr := range []invalidate.Transport{invalidate.Broadcast(), invalidate.Tracking()} {
			t.Run(tr.String(), func(t *testing.T) {
				ctx, b := t.Context(), *b
				b.Prefix += tr.String() + ":"
				var gone departed
				src := cache.Source[string, string]{
					Load:    func(_ context.Context, k string) (string, error) { return "loaded", nil },
					Removed: gone.note,
				}
				opts := cache.WithOptions(cache.WithTransport(tr), withLocal, cache.WithStrategy(strategy.Jitter(0)))
				c := process(t, &b, "n", src, opts)
				src.Removed = nil
				other := process(t, &b, "n", src, opts)
				do := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
				}
				// held waits until a value is in the local tier. What others invalidate at the moment
				// of a Set may keep it out, until it is read.
				held := func(key, val string) {
					t.Helper()
					eventually(t, key+" "+val+" is in the local tier", func() bool {
						v, err := c.Get(ctx, key)
						return v == val && err == nil && isLocal(t, c, key)
					})
				}
				// fill has a value of the key in the local tier. It is this process's own: of another
				// one's, the notification may come after it was read.
				fill := func(key, val string, tags ...string) {
					t.Helper()
					do(c.Set(ctx, key, val, cache.Tags(tags...)))
					held(key, val)
				}
				// With Tracking, Redis notifies of any DEL, and that may come before its reply.
				ownDelete := func(what string) []string {
					if tr == invalidate.Tracking() {
						return []string{what + " deleted", what + " invalidated"}
					}
					return []string{what + " deleted"}
				}
				listed := func(key string) bool {
					for k := range c.Local() {
						if k == key {
							return true
						}
					}
					return false
				}
				// Each has a key of its own: more than one message may be sent of an invalidation.
				fill("set", "1")
				do(other.Set(ctx, "set", "2"))
				gone.next(t, "a Set elsewhere", "set 1 invalidated")
				if listed("set") {
					t.Error("Local shows what was invalidated")
				}
				fill("many", "1")
				do(other.SetMany(ctx, map[string]string{"many": "2", "beside": "2"}))
				gone.next(t, "a SetMany elsewhere", "many 1 invalidated")
				fill("delete", "1")
				do(other.Delete(ctx, "delete"))
				gone.next(t, "a Delete elsewhere", "delete 1 invalidated")
				fill("key", "1")
				do(other.Invalidate(ctx, "key"))
				gone.next(t, "an Invalidate elsewhere", "key 1 invalidated")
				fill("pattern", "1")
				_, err := other.InvalidatePattern(ctx, "patt*")
				do(err)
				gone.next(t, "a pattern elsewhere", "pattern 1 invalidated")
				fill("tag", "1", "t")
				arrives := func(what string, err error, before uint64) {
					t.Helper()
					do(err)
					parts := uint64(1)
					if b.Name == "cluster" {
						parts = store.Parts // a message for each, which keep out what is stored meanwhile
					}
					eventually(t, what+" has arrived", func() bool { return c.Metrics().InvalidationsReceived >= before+parts })
				}
				before := c.Metrics().InvalidationsReceived
				arrives("the invalidation of the tag", other.InvalidateTags(ctx, "t"), before)
				eventually(t, "the tag is invalid", func() bool { return !listed("tag") })
				do(c.Set(ctx, "tag", "2")) // it has to make way
				gone.next(t, "a tag elsewhere", "tag 1 invalidated")
				held("tag", "2")
				do(c.Delete(ctx, "tag"))
				gone.next(t, "a Delete", ownDelete("tag 2")...)

				// What this process does itself has its own reasons.
				fill("own", "1")
				do(c.Set(ctx, "own", "2"))
				gone.next(t, "a second Set", "own 1 replaced")
				held("own", "2")
				do(c.Delete(ctx, "own"))
				gone.next(t, "a Delete", ownDelete("own 2")...)
				do(c.Set(ctx, "own", "3", cache.TTL(30*time.Millisecond)))
				eventually(t, "it is over", func() bool { _, err := c.Peek(ctx, "own"); return errors.Is(err, cache.ErrMiss) })
				do(c.Set(ctx, "own", "4"))
				// With Tracking, Redis may have said before that it has removed it.
				want := []string{"own 3 expired"}
				if tr == invalidate.Tracking() {
					want = append(want, "own 3 invalidated")
				}
				gone.next(t, "the end of its life", want...)
				held("own", "4")
				if tr == invalidate.Tracking() && b.RealTime {
					do(b.Client.Del(ctx, c.RedisKey("own")).Err())
					gone.next(t, "a DEL by hand", "own 4 invalidated")
					fill("own", "4")
				}
				do(c.Resize(1))
				fill("last", "5")
				gone.next(t, "a smaller tier that has to make room", "own 4 evicted")
				before = c.Metrics().InvalidationsReceived
				arrives("the Clear", other.Clear(ctx), before)
				eventually(t, "all is gone", func() bool { return !listed("last") })
				do(c.Set(ctx, "last", "6")) // where the other one is still there, it has to make way
				gone.next(t, "a Clear elsewhere", "last 5 invalidated")
				held("last", "6")
				do(c.Close())
				gone.next(t, "Close", "last 6 evicted")
			})
		}
	})
}

// The calls of one key are in the order in which its values have left, whatever other processes
// do: with one writer for each key, versions only grow.
func TestRemovedIsInOrder(t *testing.T) {
	redistest.Thorough(t)
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		const writers = 3
		rounds := redistest.Times(60, 60)
		var gone departed
		c := process(t, b, "n", cache.Source[string, string]{Removed: gone.note}, withLocal)
		done := make(chan struct{})
		var all, readers sync.WaitGroup
		for i := range writers {
			key := fmt.Sprint("k", i)
			w := process(t, b, "n", cache.Source[string, string]{}, withLocal)
			all.Go(func() {
				for n := range rounds {
					err := w.Set(ctx, key, fmt.Sprintf("%05d", n))
					if n%7 == 3 {
						err = errors.Join(err, w.Invalidate(ctx, "other"), w.Touch(ctx, key))
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
			readers.Go(func() { // one: of two reads at once, the one that began first may fill last
				for {
					select {
					case <-done:
						return
					default:
					}
					if _, err := c.Get(ctx, key); err != nil && !errors.Is(err, cache.ErrMiss) {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		close(done)
		readers.Wait()
		if err := c.Close(); err != nil { // waits for the calls
			t.Fatal(err)
		}
		gone.mu.Lock()
		defer gone.mu.Unlock()
		last := map[string]string{}
		for _, line := range gone.all {
			key, rest, _ := strings.Cut(line, " ")
			version, why, _ := strings.Cut(rest, " ")
			if version < last[key] || why == "deleted" || why == "expired" {
				t.Errorf("after %s of %s: %s", last[key], key, line)
			}
			last[key] = version
		}
		if len(last) == 0 {
			t.Error("nothing has left")
		}
	})
}

// Touch of many keys, in all slots of a cluster, by several processes at once.
func TestTouchOfManyKeys(t *testing.T) {
	redistest.Thorough(t)
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		opts := cache.WithOptions(tiers, cache.WithStrategy(strategy.TTL(10*time.Hour), strategy.Jitter(0)))
		c := process(t, b, "n", cache.Source[string, string]{}, opts)
		vals, keys := map[string]string{}, []string{"none"}
		for i := range 300 {
			key := fmt.Sprint("k", i)
			vals[key], keys = fmt.Sprint(i), append(keys, key)
		}
		if err := c.SetMany(ctx, vals, cache.TTL(time.Hour)); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 3 {
			node := process(t, b, "n", cache.Source[string, string]{}, opts)
			all.Go(func() {
				var be *cache.BatchError[string]
				if err := node.Touch(ctx, keys...); !errors.As(err, &be) || len(be.Errs) != 1 || !errors.Is(be.For("none"), cache.ErrMiss) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got, err := c.GetMany(ctx, keys, cache.SkipLocal()); len(got) != len(vals) || err != nil {
			t.Errorf("%d values, %v", len(got), err)
		}
		for _, key := range keys[1:] {
			if pttl, err := b.Client.PTTL(ctx, c.RedisKey(key)).Result(); err != nil || pttl < 9*time.Hour {
				t.Fatalf("%s lives for %v, %v", key, pttl, err)
			}
		}
	})
}

// A value that another process touches while a load is to replace it is replaced.
func TestALoadReplacesATouchedValue(t *testing.T) {
	each(t, func(t *testing.T, b *redistest.Backend, tiers cache.Option) {
		ctx := t.Context()
		begun, touched := make(chan struct{}), make(chan struct{})
		src := cache.SourceFunc(func(ctx context.Context, _ string) (string, error) {
			begun <- struct{}{}
			select {
			case <-touched:
				return "new", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		})
		c, other := process(t, b, "n", src, tiers), process(t, b, "n", src, tiers)
		if err := c.Set(ctx, "k", "old", cache.TTL(time.Minute)); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- c.Refresh(ctx, "k") }()
		<-begun
		for range 3 {
			if err := other.Touch(ctx, "k"); err != nil {
				t.Error(err)
			}
		}
		close(touched)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, node := range []*cache.Cache[string, string]{c, other} {
			if v, err := node.Peek(ctx, "k", cache.SkipLocal()); v != "new" || err != nil {
				t.Errorf("%q, %v", v, err)
			}
		}
	})
}
