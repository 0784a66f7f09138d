package memory_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// A SetMany whose first unit is large sends its look at the logical clock by itself. If that has
// timed out, it may still be on its way, although all keys are stored: its memory is not used again.
func TestALookThatTimedOutKeepsItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := onWireWith(t, storetest.NewMemory(), cache.Source[string, string]{})
		vals := map[string]string{}
		for i := range 20 {
			vals[fmt.Sprint(i)] = strings.Repeat("x", 10_000)
		}
		if err := c.Set(t.Context(), "first", "x"); err != nil { // which learns the clocks
			t.Fatal(err)
		}
		release, checked := make(chan struct{}), make(chan struct{})
		var held atomic.Bool
		w.watch(func(cmds []store.Command) {
			if held.Load() || len(cmds) != 1 || !cmds[0].Shared {
				return
			}
			held.Store(true)
			defer close(checked)
			key := cmds[0].Key
			<-release
			if cmds[0].Key != key || cmds[0].Op != store.Get {
				t.Errorf("the look at %s became %v of %q", key, cmds[0].Op, cmds[0].Key)
			}
		}, nil)
		if err := c.SetMany(t.Context(), vals); err != nil {
			t.Error(err)
		}
		if !held.Load() {
			t.Fatal("no look was sent by itself")
		}
		close(release)
		<-checked
	})
}
