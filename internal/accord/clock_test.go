package accord

import (
	"context"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/remote"
)

// flushHook is a local tier that does something when it is flushed.
type flushHook func()

func (f flushHook) Flush()                         { f() }
func (flushHook) Remove(string) bool               { return false }
func (flushHook) RemoveMatching(func(string) bool) {}

// quiet is an operator who wants to know nothing.
type quiet struct{}

func (quiet) Received(int)      {}
func (quiet) Flushed()          {}
func (quiet) Heard(bool, error) {}
func (quiet) Downgraded(error)  {}
func (quiet) Overflowed()       {}
func (quiet) Redone(int)        {}

// What begins when Redis has lost its data is stamped with the new era, even if a notice
// of the old one arrives just then.
func TestAStampDespiteALateNotice(t *testing.T) {
	ctx, store := context.Background(), remote.NewMemory()
	names := remote.Names{Data: "n:", Epoch: ":{c:n}:epoch", Tags: ":{c:n}:tags"}
	guard := remote.NewGuard(store, time.Second)
	defer guard.Close()
	var a *Accord
	late := 0
	var old remote.Marks
	a = New(Config{Guard: guard, Names: names, Fences: fence.NewTable(), Events: quiet{}, Local: flushHook(func() {
		late++
		a.Ages.Heard(nil, &old, now())
	})})
	defer a.Close()
	before, _, err := a.Stamp(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if old, err = guard.Marks(ctx, names, a.Ages.Known(), nil); err != nil {
		t.Fatal(err)
	}
	guard.Do(ctx, []remote.Command{{Op: remote.Delete, Key: names.Epoch}, {Op: remote.Delete, Key: names.Tags}})
	a.learned.Store(never)
	era, _, err := a.Stamp(ctx)
	if err != nil || era == before {
		t.Errorf("era %d after %d, %v", era, before, err)
	}
	if late == 0 {
		t.Error("no notice came late")
	}
}
