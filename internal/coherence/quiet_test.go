package coherence

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// posts counts messages, of which it may fail some.
type posts struct {
	*storetest.Memory
	n, failing int
}

func (p *posts) Publish(ctx context.Context, t store.Notify) error {
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
	st := &posts{Memory: storetest.NewMemory()}
	guard := client.New(st, time.Minute)
	t.Cleanup(guard.Close)
	a := New(Config{
		Client: guard, Names: store.Names{Data: "n:", Channel: ":{c:n}:events", Epoch: ":{c:n}:epoch", Tags: ":{c:n}:tags"},
		Fences: fence.NewTable(), Events: quiet{}, Local: flushHook(func() {}),
	})
	t.Cleanup(a.Close)
	for i := range keys {
		a.addItem(retryqueue.Item{Key: fmt.Sprint("n:", i)})
	}
	st.failing = 2
	if a.notify(context.Background()) {
		t.Error("all was told, and two messages were not")
	}
	if n := a.queue.Len(); n == 0 || n > 2*invalidation.KeysPerMessage {
		t.Errorf("%d keys are left", n)
	}
	if !a.notify(context.Background()) {
		t.Error("not all was told")
	}
	if most := keys/invalidation.KeysPerMessage + 6; st.n > most {
		t.Errorf("%d messages, want %d at most", st.n, most)
	}
}
