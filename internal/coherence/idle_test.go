package coherence

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/storetest"
)

// What Redis did not acknowledge is sent without a further call, and at once.
func TestWhatIsUntoldNeedsNoFurtherCall(t *testing.T) {
	for name, add := range map[string]func(a *Coordinator){
		"a key":     func(a *Coordinator) { a.ScheduleRetry(retryqueue.Item{Key: "n:k"}) },
		"a tag":     func(a *Coordinator) { a.ScheduleTombstones([]string{"t"}, 0, now()) },
		"a pattern": func(a *Coordinator) { a.SchedulePattern("p*", nil, now()) },
	} {
		synctest.Test(t, func(t *testing.T) {
			a, _ := onTier(t, None, true, storetest.NewMemory())
			add(a)
			if synctest.Wait(); a.AnyPending() {
				t.Errorf("%s: it is not sent", name)
			}
			add(a)
			if synctest.Wait(); a.AnyPending() {
				t.Errorf("%s: it is not sent the second time", name)
			}
			a.Close()
		})
	}
}

// Sync says why, whatever it is that fails, and an acknowledged pattern needs no more.
func TestWhyAPatternIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &wire{Memory: storetest.NewMemory(), scan: errLost}
		a, _ := onTier(t, None, true, store)
		a.started = true
		a.SchedulePattern("p*", []uint64{a.failedNumber()}, now())
		a.notify(t.Context())
		if f := a.failure.Load(); f == nil || !errors.Is(*f, errLost) {
			t.Error("it is not said why")
		}
		time.Sleep(time.Second)
		if a.NotedPattern("p*", now()); a.AnyPending() || a.isOpen() {
			t.Error("it is pending, and a later one was acknowledged")
		}
		if a.notify(t.Context()); a.failure.Load() != nil {
			t.Error("it is said why nothing fails")
		}
	})
}
