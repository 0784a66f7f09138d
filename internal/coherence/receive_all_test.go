package coherence

import (
	"testing"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// A call of ReceiveAll returns when the sessions by key of all parts have ended, also if another call is
// about to end them.
func TestReceiveAllTwice(t *testing.T) {
	a, _ := onNames(t, store.NewNames("", "n"), TrackingKeys, true, newParted())
	b := &a.byKey
	s := &session{p: a.parts[3], byKey: true}
	s.mu.Lock() // its tier is being emptied, say
	b.begin(s, func() {})
	first, second := make(chan struct{}), make(chan struct{})
	go func() { a.ReceiveAll(); close(first) }()
	for b.wanted() {
		time.Sleep(time.Millisecond)
	}
	go func() { a.ReceiveAll(); close(second) }()
	select {
	case <-second:
		t.Error("a value may be kept, and a session goes on that does not receive what concerns it")
	case <-time.After(100 * time.Millisecond):
	}
	s.mu.Unlock()
	<-first
	<-second
}
