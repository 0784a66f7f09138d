package coherence

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// A process that does nothing but be there keeps the logical clock alive, the tags that
// others have marked included.
func TestTheLivesOfTheLogicalClockAreRenewed(t *testing.T) {
	for name, transport := range map[string]Transport{"hears": Broadcast, "does not hear": None} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := storetest.NewMemory()
				names := store.Names{Data: "n:", Epoch: ":{c:n}:epoch", Tags: ":{c:n}:tags", Channel: ":{c:n}:events"}
				guard := client.New(st, time.Second)
				defer guard.Close()
				a := New(Config{Client: guard, Names: names, Fences: fence.NewTable(), Events: quiet{}, Transport: transport, StartTimeout: time.Second})
				defer a.Close()
				m, err := st.AddTombstones(t.Context(), names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"a"}})
				if err != nil {
					t.Fatal(err)
				}
				a.Ready(t.Context())
				time.Sleep(3 * time.Hour)
				for _, key := range []string{names.Epoch, names.Tags} {
					if left := st.TTL(key); left < logicalclock.ClockLife-renewLifeEvery || left > logicalclock.ClockLife {
						t.Errorf("%s lives for %v", key, left)
					}
				}
				got, err := st.ReadClock(t.Context(), names, logicalclock.Known{}, []string{"a"})
				if err != nil || got.Epoch.ID != m.Epoch.ID || got.Tags[0] != m.Tags[0] {
					t.Errorf("%+v after %+v; %v", got, m, err)
				}
			})
		})
	}
}

// Without a process they end, and what is left is as good as lost: another epoch begins.
func TestALogicalClockOutOfUseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewMemory()
		names := store.Names{Data: "n:", Epoch: ":{c:n}:epoch", Tags: ":{c:n}:tags", Channel: ":{c:n}:events"}
		m, err := st.AddTombstones(t.Context(), names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(logicalclock.ClockLife)
		for _, key := range []string{names.Epoch, names.Tags} {
			if left := st.TTL(key); left != -2*time.Millisecond {
				t.Errorf("%s lives for %v", key, left)
			}
		}
		known := logicalclock.Known{Epoch: m.Epoch.ID, Tick: m.Epoch.Tick, Clock: m.Epoch.Clock}
		if got, err := st.ReadClock(t.Context(), names, known, nil); err != nil || got.Epoch.ID == m.Epoch.ID || got.Epoch.Clock <= known.Clock {
			t.Errorf("%+v after %+v; %v", got, m, err)
		}
	})
}
