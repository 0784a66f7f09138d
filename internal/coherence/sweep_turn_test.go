package coherence

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// busyTier is a local tier whose passes take a tenth of a second.
type busyTier struct {
	*tier
	passes atomic.Int32
}

func (l *busyTier) RemoveMatching(func(string) bool) {
	time.Sleep(100 * time.Millisecond)
	l.passes.Add(1)
}

// Who asks for a pass over the local tier is not held up by those who ask for later ones.
func TestASweepEndsThoughOthersFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, l := onNames(t, store.NewNames("", "n"), None, true, newParted())
		a.cfg.Local = &busyTier{tier: l}
		stop := make(chan struct{})
		// Two other parts receive patterns, each one during the pass that the other has asked for.
		var others sync.WaitGroup
		for i := range 2 {
			others.Go(func() {
				for time.Sleep(time.Duration(50+100*i) * time.Millisecond); ; time.Sleep(50 * time.Millisecond) {
					select {
					case <-stop:
						return
					default:
						a.sweep(uint8(i+1), "x*")
					}
				}
			})
		}
		began := time.Now()
		done := make(chan struct{})
		go func() {
			a.sweep(0, "z*")
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
		}
		if d := time.Since(began); d > 300*time.Millisecond {
			t.Errorf("a pass of 100 ms took %v", d)
		}
		close(stop)
		<-done
		others.Wait()
	})
}
