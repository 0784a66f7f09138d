package memory_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// The fence of an Update is from before its value is held against the logical clock: what Clear
// invalidates while the value is copied does not enter the local tier.
func TestAClearWhileAnUpdateCopiesItsValue(t *testing.T) {
	for _, write := range []string{"", "through"} {
		for _, by := range []string{"the same process", "another one"} {
			t.Run(write+"/"+by, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, st := t.Context(), storetest.NewMemory()
					var during atomic.Pointer[func()]
					src := cache.Source[string, string]{Clone: func(v string) string {
						if f := during.Swap(nil); f != nil {
							(*f)()
						}
						return v
					}}
					if write != "" {
						src.Store = func(context.Context, string, string) error { return nil }
					}
					hour := cache.WithStrategy(strategy.LRU(100), strategy.TTL(time.Hour))
					b, a := onMemory(t, st, src, hour), onMemory(t, st, cache.Source[string, string]{}, hour)
					if err := b.Set(ctx, "k", "v"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
					clears := func() {
						c := b
						if by != "the same process" {
							c = a
						}
						if err := c.Clear(ctx); err != nil {
							t.Error(err)
						}
						time.Sleep(100 * time.Millisecond) // for the notification
					}
					if _, err := b.Update(ctx, "k", func(old string, _ bool) (string, error) {
						during.Store(&clears)
						return old + "+", nil
					}); err != nil {
						t.Error(err)
					}
					if v, err := b.Get(ctx, "k"); err == nil {
						t.Errorf("a value from before the Clear: %q", v)
					}
				})
			})
		}
	}
}

// exiting is a value whose encoder ends its goroutine the second time: the first one is for the
// record, the second one for the queue.
type exiting struct{ times *atomic.Int32 }

func (e exiting) MarshalJSON() ([]byte, error) {
	if e.times != nil && e.times.Add(1) == 2 {
		runtime.Goexit()
	}
	return json.Marshal("v")
}

func (e *exiting) UnmarshalJSON([]byte) error { return nil }

func TestAnEncoderThatEndsItsGoroutineLeavesNoIntent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background() // nothing else ends the intent
		c := onMemory(t, storetest.NewMemory(), cache.Source[string, exiting]{
			Load:  func(context.Context, string) (exiting, error) { return exiting{}, nil },
			Store: func(context.Context, string, exiting) error { return nil },
		}, cache.WithStrategy(strategy.WriteBehind()))
		var times atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = c.Set(ctx, "k", exiting{&times})
			t.Error("Set has returned")
		}()
		<-done
		if times.Load() != 2 {
			t.Fatalf("the value was encoded %d times", times.Load())
		}
		soon, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if _, err := c.Get(soon, "k"); err != nil {
			t.Errorf("Get: %v", err)
		}
	})
}

// slowly is a codec that takes its time to encode.
type slowCodec struct{ codec.Codec }

func (s slowCodec) Marshal(dst []byte, v any) ([]byte, error) {
	time.Sleep(400 * time.Millisecond)
	return s.Codec.Marshal(dst, v)
}

// The local entry of a loaded value is as old as its record, however long encoding takes.
func TestTheEntryOfALoadedValueEndsWithItsRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := cache.SourceFunc(func(context.Context, string) (string, error) { return "v", nil })
		c := onMemory(t, storetest.NewMemory(), src, cache.WithStrategy(strategy.LRU(100), strategy.TTL(time.Second)), cache.WithCodec(slowCodec{codec.JSON()}))
		if _, err := c.Get(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		var here, there cache.Info
		if _, err := c.Get(t.Context(), "k", cache.Report(&here)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), "k", cache.SkipLocal(), cache.Report(&there)); err != nil {
			t.Fatal(err)
		}
		if here.Age < there.Age || here.TTL > there.TTL {
			t.Errorf("here %+v, in Redis %+v", here, there)
		}
	})
}

// A SetIfAbsent that waits for a write to the source dates its value by when it is stored.
func TestSetIfAbsentThatHasWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := cache.Source[string, string]{Store: func(_ context.Context, _, v string) error {
			if v == "slow" {
				time.Sleep(2 * time.Second)
				return errors.New("no")
			}
			return nil
		}}
		c, err := build("test", src, []cache.Option{quietLog, cache.LocalOnly(), cache.WithStrategy(strategy.WriteThrough())}, func() store.Store { return nil })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() { _ = c.Set(t.Context(), "k", "slow") }()
		synctest.Wait()
		if ok, err := c.SetIfAbsent(t.Context(), "k", "v", cache.TTL(time.Second)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if v, err := c.Get(t.Context(), "k"); v != "v" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
}
