package invalidation

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// uneven is a cluster of which one node needs longer than the others. What it publishes arrives in an
// inbox.
type uneven struct {
	*storetest.Memory
	slow string // the clock of a part there

	mu       sync.Mutex
	inbox    *message.Inbox
	received int
	gaps     int
}

func (s *uneven) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (logicalclock.Reading, error) {
	wait := time.Millisecond
	if names.Epoch == s.slow {
		wait *= 10
	}
	time.Sleep(wait)
	m, err := message.Parse(n.Message)
	if err != nil {
		return logicalclock.Reading{}, err
	}
	s.mu.Lock()
	s.received++
	if s.inbox.Receive(&m, time.Now().UnixNano()) {
		s.gaps++
	}
	s.mu.Unlock()
	return s.Memory.AddTombstones(ctx, names, known, n)
}

func onParts(t *testing.T, st store.Store) *Invalidator {
	t.Helper()
	g := client.New(st, time.Minute)
	t.Cleanup(g.Close)
	names := store.NewNames("", "n")
	return &Invalidator{
		Store: g, Names: names, Parts: names.Parted(true), Outbox: message.NewOutbox(message.NewSender()),
		Known: func(uint8) logicalclock.Known { return logicalclock.Known{} },
	}
}

// However many invalidations of tags begin at once, no process believes that messages were lost because
// those of one node are late.
func TestManyInvalidationsOfTagsAtOnceLookLikeNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &uneven{Memory: storetest.NewMemory(), inbox: message.NewInbox()}
		r := onParts(t, st)
		st.slow = r.Parts[3].Epoch
		st.inbox.Subscribed(time.Now().UnixNano())
		const callers, each = 300, 4
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for j := range each {
					r.EachPart(t.Context(), func(part uint8) {
						if _, _, err := r.InvalidateTags(t.Context(), part, []string{fmt.Sprint(i, j)}); err != nil {
							t.Error(err)
						}
					})
				}
			})
		}
		wg.Wait()
		if want := callers * each * len(r.Parts); st.received != want || st.gaps > 0 {
			t.Errorf("%d of %d messages are received, and %d times some are believed to be lost", st.received, want, st.gaps)
		}
	})
}

// A caller that waits for others obeys its context. Its invalidations fail then as they do without others.
func TestAnInvalidationOfTagsWaitsForNoOthersLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &uneven{Memory: storetest.NewMemory(), inbox: message.NewInbox()}
		r := onParts(t, st)
		over := make(chan struct{})
		for range callsAtOnce {
			go r.EachPart(t.Context(), func(uint8) { <-over })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin, errs := time.Now(), make([]error, len(r.Parts))
		r.EachPart(ctx, func(part uint8) { _, _, errs[part] = r.InvalidateTags(ctx, part, nil) })
		if d := time.Since(begin); d != time.Second || st.received != 0 {
			t.Errorf("it took %v, and %d messages were sent", d, st.received)
		}
		for part, err := range errs {
			if err == nil {
				t.Errorf("part %d: no error", part)
			}
		}
		close(over)
	})
}
