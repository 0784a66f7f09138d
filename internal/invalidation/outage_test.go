package invalidation

import (
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// What can't be published for a while, and will be published again, is not lost, however much it is: where
// nothing is counted, no process is notified of a loss, and least of all of one in other parts.
func TestAnOutageOfOnePartIsNoLossToOthers(t *testing.T) {
	st := &channels{Memory: storetest.NewMemory(), sent: map[string][]message.Message{}}
	g := client.New(st, time.Minute)
	defer g.Close()
	names := store.NewNames("", "n")
	parts := names.Parted(true)
	r := &Invalidator{Store: g, Names: names, Parts: parts, Outbox: message.NewOutboxOf(message.NewSender(), len(parts))}
	var open []uint64
	for i := range 10000 {
		if k := fmt.Sprint(i); store.PartOf(names.Data+k) < 8 { // of one node
			_, sent := r.NotifyOf(message.Invalidated, k)
			open = append(open, sent.Resolve(true, errDown)...)
		}
	}
	r.Watermark(t.Context(), false)
	if n := len(st.sent); n > 0 {
		t.Errorf("while the node is down, all of %d parts are told that something is lost", n)
	}
	clear(st.sent)
	r.Outbox.Skip(open...) // the node is back, and the queue was delivered
	r.Watermark(t.Context(), false)
	if n := len(st.sent); n > 0 {
		t.Errorf("when it is back, all of %d parts are told that something is lost", n)
	}
}
