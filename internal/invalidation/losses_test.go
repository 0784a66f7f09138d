package invalidation

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// frozen is a cluster of which the node of one channel does not answer.
type frozen struct {
	*channels
	channel string
}

func (s *frozen) Publish(ctx context.Context, n store.Notify) error {
	if n.Channel == s.channel {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.channels.Publish(ctx, n)
}

// A node that does not answer, and is still to learn that something was lost, does not hold up those who
// have nothing to publish there.
func TestALossThatCannotBePublishedDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := store.NewNames("", "n")
		parts := names.Parted(true)
		st := &frozen{&channels{Memory: storetest.NewMemory(), sent: map[string][]message.Message{}}, parts[store.PartOf(names.Data+"k")].Channel}
		const timeout = 300 * time.Millisecond
		g := client.New(st, timeout) // as of invalidate.Client: without a breaker
		defer g.Close()
		r := &Invalidator{Store: g, Names: names, Parts: parts, Outbox: message.NewOutboxOf(message.NewSender(), len(parts))}
		_, sent := r.NotifyOf(message.Invalidated, "k")
		r.Outbox.GiveUp(sent.Resolve(true, errDown)...)
		r.Watermark(t.Context(), false)

		const callers = 20
		var waited atomic.Int32
		calls := func(most int32) {
			t.Helper()
			began := time.Now()
			waited.Store(0)
			var wg sync.WaitGroup
			for range callers { // of keys of other nodes; none of them has anything to tell
				wg.Go(func() {
					if r.Watermark(t.Context(), false); time.Since(began) > 0 {
						waited.Add(1)
					}
				})
			}
			wg.Wait()
			if d, n := time.Since(began), waited.Load(); d > timeout || n > most {
				t.Errorf("of %d calls at the same time %d waited, up to %v", callers, n, d)
			}
		}
		calls(0)
		time.Sleep(lossesFirst)
		calls(1)
		calls(0)
	})
}
