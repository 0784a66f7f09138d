package redisstore_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// scan returns all keys that match, each once, and in how many batches they came.
func scan(t *testing.T, s store.Store, pattern string) (keys []string, batches int) {
	t.Helper()
	masters, err := s.Masters(t.Context())
	if err != nil || len(masters) == 0 {
		t.Fatalf("%q, %v", masters, err)
	}
	if !slices.IsSorted(masters) {
		t.Errorf("%q", masters)
	}
	for _, m := range masters {
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			var batch []string
			if batch, cursor, err = s.Scan(t.Context(), m, pattern, cursor); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, batch...)
			batches++
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), batches
}

func TestScansAreAlike(t *testing.T) {
	onReal(t, func(t *testing.T, s real, prefix string, _ *miniredis.Miniredis) {
		model := memory{storetest.NewMemory()}
		names := []string{"", "a", "b", "ab", "*", "?", "[", "]", "[a]", "\\", "\\*", "{tag}a", "{tag}b", "line\r\nbreak", "\x00", "\xff\xfe", "éé", "-", "^", "a-z", "A"}
		for _, w := range []world{model, s} {
			for _, n := range names {
				do(t, w, store.Command{Op: store.Set, Key: prefix + n, Frame: []byte("x")})
			}
			w.other(t, prefix+"list")
			do(t, w, store.Command{Op: store.Set, Key: "elsewhere", Frame: []byte("x")})
		}
		for _, pattern := range []string{
			"*", "", "?", "a", "a*", "*b", "[ab]", "[^ab]*", "[a-c]*", "\\*", "\\?", "\\[*", "[\\]]", "*\\\\*", "\\\\", "[", "[a", "{tag}*", "*\n*", "\x00", "?????", "[]*", "*[*]*",
		} {
			want, _ := scan(t, model, prefix+pattern)
			if got, _ := scan(t, s, prefix+pattern); !slices.Equal(got, want) {
				t.Errorf("%q: %q instead of %q", pattern, got, want)
			}
		}
		for _, w := range []world{model, s} {
			if keys, _ := scan(t, w, ""); len(keys) != 0 {
				t.Errorf("%T: an empty pattern matches %q", w, keys)
			}
			if _, _, err := w.Scan(t.Context(), "127.0.0.1:1", "*", 0); err == nil {
				t.Errorf("%T: a master that is none", w)
			}
		}
	})
}

// Keys that are there all the time are found, whatever comes and goes meanwhile.
func TestAScanFindsWhatStays(t *testing.T) {
	check := func(t *testing.T, w world, prefix string) {
		const n = 3 * redisstore.ScanCount
		key := func(i int) string { return fmt.Sprintf("%sstays%d", prefix, i) }
		var cmds []store.Command
		for i := range n {
			cmds = append(cmds, store.Command{Op: store.Set, Key: key(i), Frame: []byte("x")})
		}
		for _, r := range w.Do(t.Context(), cmds) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		masters, err := w.Masters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found, batches := map[string]bool{}, 0
		for _, m := range masters {
			for cursor, first := uint64(0), true; first || cursor != 0; first = false {
				var keys []string
				if keys, cursor, err = w.Scan(t.Context(), m, prefix+"*", cursor); err != nil {
					t.Fatal(err)
				}
				for _, k := range keys {
					found[k] = true
				}
				batches++
				for i := range 50 {
					do(t, w, store.Command{Op: store.Set, Key: fmt.Sprint(prefix, "comes", batches, i), Frame: []byte("x")})
					do(t, w, store.Command{Op: store.Delete, Key: fmt.Sprint(prefix, "comes", batches-1, i)})
				}
			}
		}
		for i := range n {
			if !found[key(i)] {
				t.Errorf("%s was not found", key(i))
			}
		}
		if r, ok := w.(real); !ok && batches < 3 || ok && batches < len(masters) {
			t.Errorf("%d batches of %v", batches, r.c)
		}
	}
	t.Run("memory", func(t *testing.T) { check(t, memory{storetest.NewMemory()}, "p:") })
	onReal(t, func(t *testing.T, s real, prefix string, _ *miniredis.Miniredis) { check(t, s, prefix) })
}

// A client that hides what it is might be a cluster's: its SCAN would go to any node.
func TestAnUnknownClientIsNotScanned(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), MaintNotificationsConfig: noMaintenance()})
	t.Cleanup(func() { c.Close() })
	s := newReal(t, struct{ redis.UniversalClient }{c})
	if masters, err := s.Masters(t.Context()); err == nil {
		t.Errorf("%q", masters)
	}
	if _, _, err := s.Scan(t.Context(), "", "*", 0); err == nil {
		t.Error("scanned")
	}
}
