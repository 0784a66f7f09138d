package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// dialing is a store that makes a connection for each operation.
type dialing struct {
	*storetest.Memory
	dialed, looks uint32
}

func (d *dialing) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	d.dialed++
	return d.Memory.Do(ctx, cmds)
}

func (d *dialing) Publish(ctx context.Context, t store.Notify) error {
	d.dialed++
	return d.Memory.Publish(ctx, t)
}

func (d *dialing) Connections() uint32 {
	d.looks++
	return d.dialed
}

// A caller that has an answer finds the connection counted that it came by, whatever kind of
// operation it was, and who asks again while none has ended costs nothing.
func TestAConnectionIsCountedWhenItsOperationHasEnded(t *testing.T) {
	ctx, d := context.Background(), &dialing{Memory: storetest.NewMemory()}
	g := client.New(d, time.Minute)
	defer g.Close()
	one := store.Command{Op: store.Get, Key: "k"}
	for name, do := range map[string]func() error{
		"a read":  func() error { return g.Do(ctx, []store.Command{one})[0].Err },
		"a batch": func() error { return g.Do(ctx, []store.Command{one, one, one, one, one, one})[0].Err },
		"a write": func() error { return g.Do(ctx, []store.Command{{Op: store.Delete, Key: "k"}})[0].Err },
		"another": func() error { return g.Publish(ctx, store.Notify{Channel: "c", Message: "m"}) },
	} {
		before := g.Connections()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		looks := d.looks
		for range 3 {
			if n := g.Connections(); n != before+1 {
				t.Errorf("%s: %d connections after %d", name, n, before)
			}
		}
		if d.looks != looks+1 {
			t.Errorf("%s: the client was looked at %d times", name, d.looks-looks)
		}
	}
}
