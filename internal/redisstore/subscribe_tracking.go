package redisstore

import (
	"context"
	"fmt"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"
)

// speakRESP3 makes sure of the protocol in which a server reports changes. A client falls back
// silently to the old one if HELLO is refused; with that the server would accept tracking, and
// report nothing.
func speakRESP3(ctx context.Context, cn *redis.Conn) (hello map[string]any, err error) {
	hello, err = cn.Hello(ctx, 3, "", "", "").Result()
	return hello, noTracking(err)
}

// trackCommand makes the server report on a connection every change of a key with prefix, by any
// client, besides what it reports already.
func trackCommand(prefix string) []byte {
	return command("client", "tracking", "on", "bcast", "prefix", prefix)
}

// noTracking marks the error of a server that refuses permanently.
func noTracking(err error) error {
	if isRefusal(err) {
		return fmt.Errorf("%w: %w", store.ErrNoTracking, err)
	}
	return err
}

// changes takes the server's push messages about keys that were changed, in the goroutine that
// reads the connection.
type changes struct{ *listenConn }

// HandlePushNotification implements push.NotificationHandler. A notification that it can't read
// may mean any key.
func (c changes) HandlePushNotification(_ context.Context, _ push.NotificationHandlerContext, n []any) error {
	var keys []string
	if len(n) == 2 {
		list, _ := n[1].([]any) // nil: a flush
		for _, k := range list {
			key, ok := k.(string)
			if !ok {
				keys = nil
				break
			}
			keys = append(keys, key)
		}
	}
	for _, m := range c.session.all() {
		m.changed(keys)
	}
	return nil
}
