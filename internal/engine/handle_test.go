package engine

import (
	"sync"
	"testing"
)

// A loader may ask for its handle while its load ends, from a goroutine that it has left running. What it
// gets is closed, whichever comes first, and all that ask get the same.
func TestAHandleThatIsMadeWhileTheLoadEndsIsClosed(t *testing.T) {
	c := testCache[string](t, nil, nil)
	for range 5000 {
		var l loadHandle
		l.begin(c, nil)
		var got [2]any
		var all sync.WaitGroup
		for i := range got {
			all.Go(func() { got[i] = l.get() })
		}
		l.end()
		all.Wait()
		for _, h := range got {
			if h != nil && (h.(*Handle).isActive() || h != l.get()) {
				t.Fatal("a handle is open after its load, or is not that of the load")
			}
		}
	}
}
