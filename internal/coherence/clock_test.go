package coherence

import (
	"context"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// flushHook is a local tier that does something when it is flushed.
type flushHook func()

func (f flushHook) Flush()                         { f() }
func (flushHook) Remove(string) bool               { return false }
func (flushHook) RemoveMatching(func(string) bool) {}

// quiet is an operator who wants to know nothing.
type quiet struct{}

func (quiet) Received(int)                  {}
func (quiet) Flushed()                      {}
func (quiet) ConnectionChanged(bool, error) {}
func (quiet) Downgraded(error)              {}
func (quiet) Overflowed()                   {}
func (quiet) Retried(int)                   {}

// What begins when Redis has lost its data is stamped with the new epoch, even if a message
// of the old one arrives just then.
func TestAStampDespiteALateNotice(t *testing.T) {
	ctx, st := context.Background(), storetest.NewMemory()
	names := store.Names{Data: "n:", Epoch: ":{c:n}:epoch", Tags: ":{c:n}:tags"}
	guard := client.New(st, time.Second)
	defer guard.Close()
	var a *Coordinator
	late := 0
	var old logicalclock.Reading
	a = New(Config{Client: guard, Names: names, Fences: fence.NewTable(), Events: quiet{}, Local: flushHook(func() {
		late++
		a.parts[0].Clock.ApplyPeer(nil, &old, now())
	})})
	defer a.Close()
	before, _, err := a.parts[0].Version(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if old, err = guard.ReadClock(ctx, names, a.parts[0].Clock.Known(), nil); err != nil {
		t.Fatal(err)
	}
	guard.Do(ctx, []store.Command{{Op: store.Delete, Key: names.Epoch}, {Op: store.Delete, Key: names.Tags}})
	a.parts[0].learned.Store(never)
	epoch, _, err := a.parts[0].Version(ctx)
	if err != nil || epoch == before {
		t.Errorf("epoch %d after %d, %v", epoch, before, err)
	}
	if late == 0 {
		t.Error("no notice came late")
	}
}
