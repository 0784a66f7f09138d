package invalidation

import (
	"context"

	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
)

// Publisher publishes a message; see store.Store.
type Publisher interface {
	Publish(ctx context.Context, t store.Notify) error
}

// Publish publishes a message on a cache's channel, and also on that of the processes whose keys are
// tracked one by one, if it concerns more than the keys that it names.
func Publish(ctx context.Context, p Publisher, names store.Names, n *message.Message) error {
	return p.Publish(ctx, store.Notify{
		Channel: names.Channel, Message: string(n.Append(nil)), Wide: n.Kind == message.Pattern || n.Unresolved,
	})
}
