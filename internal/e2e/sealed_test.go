package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/writebehind"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
)

// sealed are the codecs that seal, in both orders.
func sealed() map[string]cache.Option {
	key := []byte("0123456789abcdef0123456789abcdef")
	return map[string]cache.Option{
		"sealed":       cache.WithCodec(codec.Encrypted(codec.Compressed(codec.JSON(), codec.Threshold(0)), key)),
		"sealed first": cache.WithCodec(codec.Compressed(codec.Encrypted(codec.JSON(), key), codec.Threshold(0))),
	}
}

// repaired gives a record that was changed the checksums that it should have: a client that can
// write to Redis can count.
func repaired(t *testing.T, rk string, raw []byte) []byte {
	t.Helper()
	out := frame.AppendSeal(nil, frame.Kind(raw[4]), frame.ID(raw[8:24]), int64(be64(raw[24:])))
	copy(out[5:8], raw[5:8])
	frame.SetMark(out, frame.Mark(out)) // counts the flags in
	if len(raw) <= 36 {
		return out
	}
	out, err := frame.Finish(append(out, raw[36:len(raw)-8]...), 0, rk)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func be64(b []byte) (n uint64) {
	for _, c := range b[:8] {
		n = n<<8 | uint64(c)
	}
	return n
}

// forgery is a cache whose source counts, and its key in Redis.
type forgery struct {
	*cache.Cache[string, string]
	b      *redistest.Backend
	loads  int // read when no load runs
	absent bool
	fails  bool
	mu     sync.Mutex
}

func newForgery(t *testing.T, b *redistest.Backend, opts ...cache.Option) *forgery {
	f := &forgery{b: b}
	f.Cache = on(t, b, "sealed", cache.SourceFunc(func(context.Context, string) (string, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.loads++
		switch {
		case f.absent:
			return "", cache.ErrNotFound
		case f.fails:
			return "", errors.New("the source is down")
		}
		return fmt.Sprint("loaded ", f.loads), nil
	}), opts...)
	return f
}

func (f *forgery) raw(t *testing.T, key string) []byte {
	t.Helper()
	raw, err := f.b.Client.Get(t.Context(), f.RedisKey(key)).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (f *forgery) put(t *testing.T, key string, raw []byte) {
	t.Helper()
	if err := f.b.Client.Set(t.Context(), f.RedisKey(key), raw, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
}

// asks reports whether a read of the key asks the source.
func (f *forgery) asks(t *testing.T, key string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	before := f.loads
	if _, err := f.Get(ctx, key); err != nil && !errors.Is(err, cache.ErrNotFound) {
		t.Error(err)
	}
	return f.loads > before
}

// No byte of a sealed record can be changed, whatever checksums it is given.
func TestNoByteOfASealedRecordCanBeChanged(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for name, opt := range sealed() {
			for _, kind := range []string{"value", "absence"} {
				f := newForgery(t, b, opt, cache.WithVersion(1), cache.WithStrategy(strategy.TTL(time.Hour), strategy.NotFoundTTL(time.Hour)))
				f.absent = kind == "absence"
				key := kind + name
				if !f.asks(t, key) || f.asks(t, key) {
					t.Fatalf("%s, %s: it is not kept", name, kind)
				}
				good := f.raw(t, key)
				for i := 4; i < len(good)-8; i++ {
					if testing.Short() && i%4 != 0 || i >= 32 && i < 36 || i >= 96 && i < 100 {
						continue // what is counted anew
					}
					bad := bytes.Clone(good)
					bad[i] ^= 1 << (i % 8)
					f.put(t, key, repaired(t, f.RedisKey(key), bad))
					if !f.asks(t, key) {
						t.Errorf("%s, %s: byte %d was changed, and it is believed", name, kind, i)
					}
				}
				f.put(t, key, good)
				if f.asks(t, key) {
					t.Errorf("%s, %s: the record as it was is not believed", name, kind)
				}
			}
		}
	})
}

// Nothing that is made without the key is believed.
func TestNoRecordIsBelievedThatWasNotSealed(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for name, opt := range sealed() {
			f := newForgery(t, b, opt, cache.WithStrategy(strategy.TTL(time.Hour), strategy.NotFoundTTL(time.Hour), strategy.StaleIfError(time.Hour)))
			key := "k" + name
			rk := f.RedisKey(key)
			f.asks(t, key)
			h, err := frame.ReadHead(f.raw(t, key))
			if err != nil {
				t.Fatal(err)
			}
			make := func(kind frame.Kind, change func(*frame.Header), payload string) []byte {
				h := h
				h.Kind, h.ID, h.Limit = kind, frame.NewID(), math.MaxInt64
				if change != nil {
					change(&h)
				}
				raw, err := frame.Finish(append(frame.AppendHeader(nil, &h), payload...), 0, rk)
				if err != nil {
					t.Fatal(err)
				}
				return raw
			}
			id := frame.NewID()
			for what, raw := range map[string][]byte{
				"an absence": make(frame.Absence, nil, ""), "an absence for a reason": make(frame.Absence, nil, "\x05cache"),
				"a value": make(frame.Value, nil, `"forged"`), "a value of a newer version": make(frame.Value, func(h *frame.Header) { h.Version = 9 }, ""),
				"a failure": make(frame.Failure, nil, string(id[:])+"\x00forged"), "a lease": frame.AppendLease(nil, id), "an intent": frame.AppendIntent(nil, id),
			} {
				f.put(t, key, raw)
				if !f.asks(t, key) {
					t.Errorf("%s: %s is believed", name, what)
				}
				if f.asks(t, key) {
					t.Errorf("%s: %s is not replaced", name, what)
				}
			}
			// A record of another key, or under the lock of this one.
			f.asks(t, key+"2")
			f.put(t, key, repaired(t, rk, f.raw(t, key+"2")))
			if !f.asks(t, key) {
				t.Errorf("%s: the record of another key is believed", name)
			}
		}
	})
}

// What was invalidated stays so, whatever is written into the head of its record; what is
// rewritten by an invalidation of this library is as it should be.
func TestNoInvalidationOfASealedRecordIsTakenBack(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for name, opt := range sealed() {
			for policy, inv := range map[string]invalidate.Policy{"lazy": invalidate.Lazy(), "delayed": invalidate.Delayed(10 * time.Minute)} {
				for _, by := range []string{"the cache", "a client"} {
					f := newForgery(t, b, opt, cache.WithInvalidator(inv), cache.WithStrategy(strategy.TTL(time.Hour), strategy.StaleIfError(time.Hour)))
					key := name + policy + by
					f.asks(t, key)
					before := f.raw(t, key)
					drop := func() error { return f.Invalidate(t.Context(), key) }
					if by == "a client" {
						cl, err := invalidate.NewClient(b.Client, "sealed", invalidate.Prefix(b.Prefix), invalidate.WithPolicy(inv))
						if err != nil {
							t.Fatal(err)
						}
						defer cl.Close()
						drop = func() error { return cl.Invalidate(t.Context(), key) }
					}
					if err := drop(); err != nil {
						t.Fatal(err)
					}
					after := f.raw(t, key)
					if bytes.Equal(before[:36], after[:36]) || !bytes.Equal(before[36:], after[36:]) {
						t.Fatalf("%s: the head was not rewritten in place", key)
					}
					for what, limit := range map[string]int64{"no limit": math.MaxInt64, "a later limit": int64(be64(before[48:])) + int64(50*time.Minute/time.Microsecond)} {
						forged := append(frame.AppendSeal(nil, frame.Value, frame.NewID(), limit), after[36:]...)
						f.put(t, key, forged)
						kept := append(frame.AppendSeal(nil, frame.Value, frame.ID(after[8:24]), limit), after[36:]...)
						if !f.asks(t, key) {
							t.Errorf("%s: a new head with %s revives it", key, what)
						}
						f.put(t, key, kept)
						if !f.asks(t, key) {
							t.Errorf("%s: %s in its head revives it", key, what)
						}
						// Nor does another invalidation of what was forged.
						f.put(t, key, forged)
						if err := drop(); err != nil {
							t.Fatal(err)
						}
						if !f.asks(t, key) {
							t.Errorf("%s: with %s, a second invalidation revives it", key, what)
						}
					}
					// As it was left, it is what the policy says, or less.
					f.put(t, key, after)
					if asks := f.asks(t, key); asks != (policy == "lazy" || by == "a client") {
						t.Errorf("%s: the source is asked: %v", key, asks)
					}
					// And it covers a failure.
					f.put(t, key, after)
					f.fails = true
					if v, err := f.Get(t.Context(), key); !strings.HasPrefix(v, "loaded") || err != nil {
						t.Errorf("%s: while the source is down: %q, %v", key, v, err)
					}
				}
			}
		}
	})
}

// The entries of a queue reach the source only if they were sealed for this key, operation
// and cache.
func TestNoQueueEntryIsBelievedThatWasNotSealed(t *testing.T) {
	redistest.Thorough(t)
	t.Parallel()
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		for name, opt := range sealed() {
			var mu sync.Mutex
			var seen []string
			hold := true
			note := func(what string) error {
				mu.Lock()
				defer mu.Unlock()
				if hold {
					return errors.New("secret reason")
				}
				seen = append(seen, what)
				return nil
			}
			open := func(id string) *cache.Cache[string, string] {
				return on(t, b, id, cache.Source[string, string]{
					Store:  func(_ context.Context, k, v string) error { return note(id + ": " + k + "=" + v) },
					Delete: func(_ context.Context, k string) error { return note(id + ": delete " + k) },
				}, opt, cache.WithStrategy(strategy.WriteBehind(strategy.MaxAttempts(1), strategy.BatchDelay(0))))
			}
			id := strings.ReplaceAll(name, " ", "-")
			c, other := open(id), open(id+"-other")
			stream := func(cacheName, key string) string {
				return store.NewQueueNames(b.Prefix, cacheName, partitionOf(key)).Dead
			}
			log := func(key string) string { return store.NewQueueNames(b.Prefix, id, partitionOf(key)).Log }
			// What was sealed is seen in dead letters.
			if err := errors.Join(c.Set(ctx, "a", "1"), c.Delete(ctx, "b"), other.Set(ctx, "a2", "2"), other.Delete(ctx, "b2"), c.Sync(ctx), other.Sync(ctx)); err != nil {
				t.Fatal(err)
			}
			entry := func(cacheName, key string) map[string]any {
				m, err := b.Client.XRange(ctx, stream(cacheName, key), "-", "+").Result()
				if err != nil {
					t.Fatal(err)
				}
				for i := range m {
					if m[i].Values["k"] == key {
						return m[i].Values
					}
				}
				t.Fatalf("%s is no dead letter of %s", key, cacheName)
				return nil
			}
			add := func(key, op string, value, meta any) {
				if err := b.Client.Do(ctx, "xadd", log(key), "*", "k", key, "o", op, "v", value, "m", meta).Err(); err != nil {
					t.Fatal(err)
				}
			}
			aEntry, bEntry, oa, ob := entry(id, "a"), entry(id, "b"), entry(id+"-other", "a2"), entry(id+"-other", "b2")
			if reason, _ := aEntry["e"].(string); strings.Contains(reason, "secret") || reason == "" {
				t.Errorf("the reason of a dead letter is kept as %q", reason)
			}
			letters, err := c.DeadLetters(ctx, 10)
			if err != nil || len(letters) != 2 || letters[0].Reason != "secret reason" || letters[0].Err != nil {
				t.Errorf("%+v, %v", letters, err)
			}
			if n, err := c.DiscardDeadLetters(ctx); n != 2 || err != nil {
				t.Fatal(n, err)
			}
			mu.Lock()
			hold = false
			mu.Unlock()
			record := string(mustRecord(t, b, c, "rec"))
			if err := c.Sync(ctx); err != nil {
				t.Fatal(err)
			}
			forged := 0
			for _, e := range []struct {
				key, op     string
				value, meta any
			}{
				{"x1", "d", "", ""}, {"x2", "s", `"forged"`, ""}, {"a", "d", aEntry["v"], ""}, {"b", "s", bEntry["v"], ""}, {"x3", "s", aEntry["v"], ""},
				{"x4", "d", bEntry["v"], ""}, {"x5", "d", bEntry["v"], "meta"}, {"c", "s", oa["v"], ""}, {"rec", "s", record, ""}, {"d", "d", ob["v"], ""}, {"a2", "s", oa["v"], ""}, {"b2", "d", ob["v"], ""},
			} {
				add(e.key, e.op, e.value, e.meta)
				forged++
			}
			if err := c.Set(ctx, "real", "3"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "all entries are dealt with", func() bool {
				mu.Lock()
				defer mu.Unlock()
				st, err := c.DeadLetters(ctx, 100)
				return err == nil && len(st) >= forged && len(seen) > 1
			})
			letters, err = c.DeadLetters(ctx, 100)
			for _, l := range letters {
				if l.Err == nil || l.Reason == "" {
					t.Errorf("a forged entry is listed as %+v", l)
				}
			}
			mu.Lock()
			for _, s := range seen {
				if s != id+": real=3" && s != id+": rec=payload" {
					t.Errorf("%s: the source was called for %q (%v)", name, s, err)
				}
			}
			mu.Unlock()
		}
	})
}

// partitionOf is that of a key in the queue; see package writebehind.
func partitionOf(key string) int { return int(xxhash.Sum64String(key) % writebehind.Partitions) }

// mustRecord writes a value and returns the payload of its record.
func mustRecord(t *testing.T, b *redistest.Backend, c *cache.Cache[string, string], key string) []byte {
	t.Helper()
	if err := c.Set(t.Context(), key, "payload"); err != nil {
		t.Fatal(err)
	}
	raw, err := b.Client.Get(t.Context(), c.RedisKey(key)).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	fr, err := frame.Parse(c.RedisKey(key), raw)
	if err != nil {
		t.Fatal(err)
	}
	return fr.Payload
}
