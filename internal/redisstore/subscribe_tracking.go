package redisstore

import (
	"context"
	"fmt"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"
)

// track makes the server report on this connection every change of a key with prefix, by any
// client.
func track(ctx context.Context, cn *redis.Conn, prefix string) error {
	// A client falls back silently to the old protocol if HELLO is refused. With that protocol
	// the server would accept tracking, and report nothing.
	if err := cn.Hello(ctx, 3, "", "", "").Err(); err != nil {
		return noTracking(err)
	}
	return noTracking(cn.Do(ctx, "client", "tracking", "on", "bcast", "prefix", prefix).Err())
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
	if !c.open {
		return nil
	}
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
	c.session.sink.KeysChanged(keys)
	return nil
}
