package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// readHere reads a key on memory that is used again, in the goroutine of the caller, who can't leave.
// It reports whether the memory may be used again.
func readHere(t *testing.T, c *Cache, s *Scratch, key string, load Loader) (again bool) {
	t.Helper()
	space := ""
	s.Grow(1)
	s.Add(&key, &space)
	c.Read(context.Background(), s, load, &Options{})
	v, err := c.Deliver("get", s.At(0))
	if err != nil {
		t.Fatal(err)
	}
	if got := *v.(*string); got != "of "+key {
		t.Errorf("%s has the value %q", key, got)
	}
	return s.Reset()
}

// The memory of a load in its caller's goroutine is used again, unless another goroutine may refer to
// it when the load has ended.
func TestTheMemoryOfALoadIsUsedAgainOnlyIfNothingElseHasIt(t *testing.T) {
	var c *Cache
	for name, test := range map[string]struct {
		during func()
		again  bool
	}{
		"nothing": {func() {}, true},
		"a caller has joined": {func() {
			go getEach(context.Background(), c, keyedLoad(nil), "k")
			synctest.Wait()
		}, false},
		"another load has waited for its claim": {func() {
			c.fences.Bump("k") // what comes later does not join, and has the same logical time
			go getEach(context.Background(), c, keyedLoad(nil), "k")
			synctest.Wait()
		}, false},
		"the watchdog is about to take it over": {func() {
			w := &c.watchdog
			w.mu.Lock()
			defer w.mu.Unlock()
			s := w.first
			w.removeLocked(s)
			go func() {
				time.Sleep(time.Second)
				s.takeOver() // has no effect
			}()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c = testCache[string](t, nil, nil)
				_ = getEach(context.Background(), c, keyedLoad(func(context.Context, string) (string, error) { return "", nil }), "first") // begins the logical clock
				s := new(Scratch)
				during := test.during
				load := keyedLoad(func(_ context.Context, key string) (string, error) {
					during()
					during = func() {}
					return "of " + key, nil
				})
				if again := readHere(t, c, s, "k", load); again != test.again {
					t.Errorf("used again: %v", again)
				}
				for _, key := range []string{"l", "m"} {
					if s.load == nil { // as for a new one
						s = new(Scratch)
					}
					memory := s.load
					if !readHere(t, c, s, key, load) || memory != nil && s.load != memory {
						t.Error("the memory is not used again")
					}
				}
				time.Sleep(2 * time.Second)
				if errs := getEach(t.Context(), c, nil, "k", "l", "m"); errs[0] != nil || errs[1] != nil || errs[2] != nil {
					t.Errorf("what was loaded is not there: %v", errs)
				}
			})
		})
	}
}
