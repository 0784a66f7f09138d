package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/hook"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/storetest"
)

// A deployment that rolls from version 1 to 2 and back, pod by pod, over one Redis: no
// program ever sees a value in the other's encoding, none reads what is older than a write
// that was acknowledged, and when the last of one version is gone, Redis is used again.
func TestARollingDeployment(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { roll(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func roll(t *testing.T, r *rand.Rand) {
	ctx := t.Context()
	store := storetest.NewMemory()
	var rows [4]atomic.Int64 // the source
	var loads atomic.Int64
	pod := func(version uint32) *cache.Cache[int, string] {
		src := cache.SourceFunc(func(_ context.Context, k int) (string, error) {
			loads.Add(1)
			return fmt.Sprintf("v%d:%d", version, rows[k].Load()), nil
		})
		return onMemory(t, store, src, cache.WithVersion(version))
	}
	check := func(c *cache.Cache[int, string], when string) {
		t.Helper()
		k := r.IntN(len(rows))
		v, err := c.Get(ctx, k)
		if want := fmt.Sprintf("v%d:%d", hook.Of(c).Version, rows[k].Load()); v != want || err != nil {
			t.Fatalf("%s: version %d reads %q, %v, and not %q", when, hook.Of(c).Version, v, err, want)
		}
	}
	pods := []*cache.Cache[int, string]{pod(1), pod(1), pod(1), pod(1)}
	rollTo := func(version uint32) {
		for i := range pods {
			for range 60 {
				c := pods[r.IntN(len(pods))]
				switch k := r.IntN(len(rows)); r.IntN(6) {
				case 0:
					n := rows[k].Add(1)
					if err := c.Set(ctx, k, fmt.Sprintf("v%d:%d", hook.Of(c).Version, n)); err != nil {
						t.Fatal(err)
					}
				case 1:
					rows[k].Add(1)
					if err := c.Invalidate(ctx, k); err != nil {
						t.Fatal(err)
					}
				default:
					check(c, fmt.Sprintf("on the way to %d", version))
				}
				time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
				synctest.Wait() // the news have arrived
			}
			if err := pods[i].Close(); err != nil {
				t.Fatal(err)
			}
			pods[i] = pod(version)
		}
		// Only this version is left: each key is loaded once at most, and then read from
		// Redis by all.
		for k := range rows {
			rows[k].Add(1)
			if err := pods[0].Set(ctx, k, fmt.Sprintf("v%d:%d", version, rows[k].Load())); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		before := loads.Load()
		for range 50 {
			check(pods[r.IntN(len(pods))], "afterwards")
		}
		if n := loads.Load() - before; n != 0 {
			t.Fatalf("%d loads when only version %d is left", n, version)
		}
	}
	rollTo(2)
	rollTo(1)
}

// No error and no line of the log contains a key or a value, whatever fails.
func TestErrorsAndLogsTellNoSecrets(t *testing.T) {
	const key, val = "SECRETKEY", "SECRETVALUE"
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := storetest.NewMemory()
		log := new(logLines)
		fails := cache.SourceFunc(func(context.Context, string) (string, error) { return "", errFlaky })
		c := onMemory(t, store, fails, cache.WithLogger(log.logger()), cache.WithMaxValueSize(1000))
		gone := onMemory(t, store, fails, cache.WithLogger(log.logger()))
		gone.Close()
		closed, cancel := context.WithCancel(ctx)
		cancel()
		huge := strings.Repeat(val, 1000)
		n := 0
		saw := func(err error) {
			t.Helper()
			if n++; err == nil {
				return
			}
			if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, "SECRET") {
				t.Errorf("%s", text)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if strings.Contains(e.Error(), "SECRET") {
					t.Errorf("wrapped: %v", e)
				}
			}
		}
		everything := func(ctx context.Context, c *cache.Cache[string, string]) {
			_, err := c.Get(ctx, key)
			saw(err)
			_, err = c.Peek(ctx, key)
			saw(err)
			_, err = c.Inspect(ctx, key)
			saw(err)
			_, err = c.GetMany(ctx, []string{key, key + "2"})
			saw(err)
			_, err = c.GetOrLoad(ctx, key, func(context.Context, string) (string, error) { panic("unlucky") })
			saw(err)
			saw(c.Set(ctx, key, val))
			saw(c.Set(ctx, key, huge))
			saw(c.Set(ctx, key, val, cache.Tags("")))
			saw(c.SetMany(ctx, map[string]string{key: val, key + "2": huge}))
			_, err = c.SetIfAbsent(ctx, key, val)
			saw(err)
			_, err = c.Update(ctx, key, func(string, bool) (string, error) { return val, nil })
			saw(err)
			saw(c.Delete(ctx, key))
			saw(c.Invalidate(ctx, key))
			_, err = c.InvalidatePattern(ctx, key+"[")
			saw(err)
			saw(c.InvalidateTags(ctx, key))
			saw(c.Refresh(ctx, key, key+"2"))
		}
		everything(ctx, c)
		everything(closed, c)
		everything(ctx, gone)
		if err := c.Set(ctx, key, val); err != nil {
			t.Fatal(err)
		}
		store.Fail(errors.New("the network is down"))
		everything(ctx, c)
		store.Fail(nil)
		time.Sleep(10 * time.Second)
		everything(ctx, c)
		if n == 0 || log.len() == 0 {
			t.Errorf("%d results, %d lines of the log", n, log.len())
		}
		if text := log.String(); strings.Contains(text, "SECRET") {
			t.Errorf("the log says %s", text)
		}
	})
}

// logLines are lines of a log, written by any number of goroutines.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logLines) len() int { return len(l.String()) }

// A client that can write to Redis can move a sealed value to another key, in the record of
// either: each is a miss, and the source's answer takes its place.
func TestSealedValuesThatAreSwapped(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx := t.Context()
		key := []byte("32 bytes that are kept in secret.")[:32]
		c, err := cache.NewFrom(b.Client, "sealed", cache.SourceFunc(func(_ context.Context, k string) (string, error) { return "role of " + k, nil }),
			quietLog, cache.WithPrefix(b.Prefix), cache.WithCodec(codec.Encrypted(codec.Raw(), key)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		raw := map[string][]byte{}
		for _, k := range []string{"root", "guest"} {
			if err := c.Set(ctx, k, "role of "+k); err != nil {
				t.Fatal(err)
			}
			if raw[k], err = b.Client.Get(ctx, c.RedisKey(k)).Bytes(); err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(raw[k], []byte("role")) {
				t.Error("the value is readable in Redis")
			}
		}
		head, err := frame.Parse(c.RedisKey("guest"), raw["guest"])
		if err != nil {
			t.Fatal(err)
		}
		root, err := frame.Parse(c.RedisKey("root"), raw["root"])
		if err != nil {
			t.Fatal(err)
		}
		// With a checksum that is right.
		mixed, err := frame.Finish(append(frame.AppendHeader(nil, &head.Header), root.Payload...), 0, c.RedisKey("guest"))
		if err != nil {
			t.Fatal(err)
		}
		for what, forged := range map[string][]byte{"the record of another key": raw["root"], "the sealed value of another key": mixed} {
			if err := b.Client.Set(ctx, c.RedisKey("guest"), forged, 0).Err(); err != nil {
				t.Fatal(err)
			}
			if v, err := c.Peek(ctx, "guest"); !errors.Is(err, cache.ErrMiss) {
				t.Errorf("%s: %q, %v", what, v, err)
			}
			if v, err := c.Get(ctx, "guest"); v != "role of guest" || err != nil {
				t.Errorf("%s: %q, %v", what, v, err)
			}
		}
	})
}
