package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// Calls of SetMany use memory again that others have used before. Each stores its own values, of
// whatever number and size.
func TestManyWritesKeepTheirValuesApart(t *testing.T) {
	ctx := t.Context()
	c, _ := onWireWith(t, storetest.NewMemory(), cache.Source[string, []byte]{}, cache.WithStrategy(strategy.LRU(10_000)))
	var wg sync.WaitGroup
	for caller := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(caller), 1))
			for range 50 {
				vals := map[string][]byte{}
				for i := range 1 + rnd.IntN(70) {
					vals[fmt.Sprint(caller, " ", i)] = bytes.Repeat([]byte{byte(rnd.IntN(256))}, rnd.IntN(4000))
				}
				if err := c.SetMany(ctx, vals); err != nil {
					t.Error(err)
				}
				for k, want := range vals {
					for _, o := range [][]cache.ReadOption{nil, {cache.SkipLocal()}} {
						if got, err := c.Peek(ctx, k, o...); !bytes.Equal(got, want) || err != nil {
							t.Errorf("%s: %.10q of %d bytes, want %.10q of %d, %v", k, got, len(got), want, len(want), err)
						}
					}
				}
			}
		})
	}
	wg.Wait()
}

// The commands of a SetMany whose caller has left may still be on their way: their memory is not
// used by another call.
func TestAWriteThatWasLeftKeepsItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := onWireWith(t, storetest.NewMemory(), cache.Source[string, string]{})
		valsOf := func(s string) map[string]string {
			vals := map[string]string{}
			for i := range 10 {
				vals[fmt.Sprint(s, i)] = strings.Repeat(s, 500)
			}
			return vals
		}
		for range 3 {
			if err := c.SetMany(t.Context(), valsOf("first")); err != nil {
				t.Fatal(err)
			}
		}
		release, checked := make(chan struct{}), make(chan struct{})
		var once sync.Once
		w.watch(func(cmds []store.Command) {
			if !slices.ContainsFunc(cmds, func(c store.Command) bool { return strings.Contains(c.Key, "left") && c.Op == store.Set }) {
				return
			}
			once.Do(func() {
				defer close(checked)
				kept := slices.Clone(cmds)
				for i := range kept {
					kept[i].Frame = bytes.Clone(kept[i].Frame)
				}
				<-release
				for i := range kept {
					if cmds[i].Key != kept[i].Key || !bytes.Equal(cmds[i].Frame, kept[i].Frame) {
						t.Errorf("%s became %s, or its record changed", kept[i].Key, cmds[i].Key)
					}
				}
			})
		}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { left <- c.SetMany(ctx, valsOf("left")) }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("it was left with %v", err)
		}
		for range 3 {
			if err := c.SetMany(t.Context(), valsOf("other")); err != nil {
				t.Error(err)
			}
		}
		close(release)
		<-checked
	})
}
