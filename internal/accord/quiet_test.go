package accord

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/remote"
	"github.com/delqhi/cache/internal/revoke"
	"github.com/delqhi/cache/internal/untold"
)

// posts counts messages, of which it may fail some.
type posts struct {
	*remote.Memory
	n, failing int
}

func (p *posts) Publish(ctx context.Context, t remote.Tell) error {
	p.n++
	if p.failing > 0 {
		p.failing--
		return errors.New("not published")
	}
	return p.Memory.Publish(ctx, t)
}

// Reads may wait for a reconciliation: others are told in common of the keys that Redis
// does not have, and of each of them, whatever fails.
func TestKeysThatAreMissingAreToldInCommon(t *testing.T) {
	const keys = 300
	store := &posts{Memory: remote.NewMemory()}
	guard := remote.NewGuard(store, time.Minute)
	t.Cleanup(guard.Close)
	a := New(Config{
		Guard: guard, Names: remote.Names{Data: "n:", Channel: ":{c:n}:events", Epoch: ":{c:n}:epoch", Tags: ":{c:n}:tags"},
		Fences: fence.NewTable(), Events: quiet{}, Local: flushHook(func() {}),
	})
	t.Cleanup(a.Close)
	for i := range keys {
		a.addItem(untold.Item{Key: fmt.Sprint("n:", i)})
	}
	store.failing = 2
	if a.tell(context.Background()) {
		t.Error("all was told, and two messages were not")
	}
	if n := a.queue.Len(); n == 0 || n > 2*revoke.KeysPerNotice {
		t.Errorf("%d keys are left", n)
	}
	if !a.tell(context.Background()) {
		t.Error("not all was told")
	}
	if most := keys/revoke.KeysPerNotice + 6; store.n > most {
		t.Errorf("%d messages, want %d at most", store.n, most)
	}
}
