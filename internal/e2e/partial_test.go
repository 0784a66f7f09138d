package e2e_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
)

// A master that does not answer does not keep the others from being gone through: what
// was done is counted, the rest is reported, and told when the master is back.
func TestAPatternThatAMasterDoesNotHear(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3, redistest.Args("--cluster-node-timeout", "60000"))
	ctx := t.Context()
	c, err := cache.New[string, int](cluster.Client(t), "c", others, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	const keys = 300
	left := func() (n int) {
		for i := range keys {
			if _, err := c.Peek(ctx, fmt.Sprint("k", i)); err == nil {
				n++
			}
		}
		return n
	}
	for i := range keys {
		if err := c.Set(ctx, fmt.Sprint("k", i), i); err != nil {
			t.Fatal(err)
		}
	}
	frozen := cluster.Nodes[1]
	if err := frozen.Freeze(); err != nil {
		t.Fatal(err)
	}
	n, err := c.InvalidatePattern(ctx, "k*")
	if thawed := frozen.Thaw(); thawed != nil {
		t.Fatal(thawed)
	}
	if !errors.Is(err, cache.ErrUnavailable) || n < keys/3 || n > keys*5/6 {
		t.Errorf("%d keys, %v", n, err)
	}
	if err := c.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if n := left(); n != 0 {
		t.Errorf("%d keys are left after it was told", n)
	}
}
