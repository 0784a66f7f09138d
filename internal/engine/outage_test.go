package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// silent is a store that can stop answering commands. Notifications are received all the time.
type silent struct {
	*storetest.Memory
	on atomic.Bool
}

func (s *silent) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	if !s.on.Load() {
		return s.Memory.Do(ctx, cmds)
	}
	<-ctx.Done()
	replies := make([]store.Reply, len(cmds))
	for i := range replies {
		replies[i].Err = ctx.Err()
	}
	return replies
}

// The command of a read that was answered by what an outage has left may still be in flight.
func TestAReadInAnOutageKeepsItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &silent{Memory: storetest.NewMemory()}
		c := testCache[string](t, st, nil, strategy.LocalDuringOutage(time.Hour))
		load := loadFunc[string](func(context.Context) (string, error) { return "v", nil })
		if _, err := get[string](t.Context(), c, "other", load, &Options{}); err != nil {
			t.Fatal(err)
		}
		st.on.Store(true)
		if v, err := get[string](t.Context(), c, "k", load, &Options{}); v != "v" || err != nil {
			t.Fatalf("%q, %v", v, err)
		}
		key, s := "k", new(Scratch)
		s.Grow(1)
		s.Add(&key, nil)
		c.Read(t.Context(), s, nil, &Options{})
		if s.At(0).err != nil || c.Metrics().OutageHits != 1 {
			t.Fatalf("%v, %d hits", s.At(0).err, c.Metrics().OutageHits)
		}
		if s.Reset() {
			t.Error("the memory is free for the next read")
		}
		st.on.Store(false)
	})
}
