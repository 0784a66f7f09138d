package invalidation

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
)

// Watermark publishes the number up to which messages have been published, if that is due. Where there are
// several parts of the keys nothing is counted: there it only says of which of them the content of some
// message is lost.
func (r *Invalidator) Watermark(ctx context.Context, closing bool) {
	if len(r.Parts) > 1 {
		r.lost(ctx, closing)
		return
	}
	n, due := r.Outbox.Watermark(closing)
	if due && Publish(ctx, r.Store, r.namesIn(0), &n) != nil {
		r.Outbox.Unpublished(&n) // the next one includes it
	}
}

// Pauses, at first and at most, before the channel of a part is tried again on which it could not be
// published that the content of some message is lost. Each attempt holds up one caller.
const (
	lossesFirst = time.Second
	lossesMost  = 5 * time.Second
)

// losses are the parts on whose channels it is still to be published that the content of some message is
// lost. No caller waits for another one.
type losses struct {
	mu        sync.Mutex // guards what follows
	open      uint32     // as bits
	published uint32     // those that a caller is about to publish on
	again     map[uint8]time.Time
	pauses    map[uint8]time.Duration
}

func (r *Invalidator) lost(ctx context.Context, closing bool) {
	n, lost := r.Outbox.Lost(closing)
	l := &r.losses
	l.mu.Lock()
	due, now := lost, time.Now()
	for part := range uint8(len(r.Parts)) {
		if l.open>>part&1 != 0 && (closing || !now.Before(l.again[part])) {
			due |= 1 << part
		}
	}
	if closing {
		due |= l.published // the context of that caller may end with what is closed
	}
	l.open &^= due
	l.published |= due
	l.mu.Unlock()
	if due == 0 {
		return
	}
	var done atomic.Uint32
	r.EachPart(func(part uint8) {
		if due>>part&1 != 0 && Publish(ctx, r.Store, r.namesIn(part), &n) == nil {
			done.Or(1 << part)
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.published &^= due
	if l.again == nil {
		l.again, l.pauses = map[uint8]time.Time{}, map[uint8]time.Duration{}
	}
	for part := range uint8(len(r.Parts)) {
		switch {
		case due>>part&1 == 0:
		case done.Load()>>part&1 != 0:
			delete(l.pauses, part)
		default:
			l.open |= 1 << part
			l.pauses[part] = min(max(2*l.pauses[part], lossesFirst), lossesMost)
			l.again[part] = time.Now().Add(l.pauses[part])
		}
	}
}

// Publisher publishes a message; see store.Store.
type Publisher interface {
	Publish(ctx context.Context, t store.Notify) error
}

// Publish publishes a message on a cache's channel, and also on that of the processes whose keys are
// tracked one by one, if it concerns more than the keys that it names.
func Publish(ctx context.Context, p Publisher, names store.Names, n *message.Message) error {
	return p.Publish(ctx, store.Notify{
		Channel: names.Channel, Message: string(n.Append(nil)), Wide: n.Kind == message.Pattern || n.Unresolved, Sharded: names.Slots != store.SlotRange{},
	})
}
