package metrictable

import (
	"reflect"
	"testing"

	"github.com/delqhi/cache/metrics"
)

// Exporters show what is in the table.
func TestEveryFieldOfASnapshotIsShown(t *testing.T) {
	before := Of(new(metrics.Snapshot))
	for f := range reflect.TypeFor[metrics.Snapshot]().Fields() {
		var s metrics.Snapshot
		switch v := reflect.ValueOf(&s).Elem().FieldByIndex(f.Index); {
		case v.CanUint():
			v.SetUint(uint64(metrics.Up)) // a number as well
		case v.CanInt():
			v.SetInt(1)
		default:
			h, ok := v.Addr().Interface().(*metrics.Histogram)
			if !ok {
				t.Fatalf("field %s of a new kind", f.Name)
			}
			h.Record(1, 1)
		}
		if reflect.DeepEqual(Of(&s), before) {
			t.Errorf("field %s makes no difference", f.Name)
		}
	}
}

func TestEveryFieldOfAnOutboxIsShown(t *testing.T) {
	base := metrics.Outbox{Cache: "users", Held: true}
	before := OfOutbox(&base)
	for f := range reflect.TypeFor[metrics.Outbox]().Fields() {
		o := base
		switch v := reflect.ValueOf(&o).Elem().FieldByIndex(f.Index); {
		case v.CanUint():
			v.SetUint(7)
		case v.CanInt():
			v.SetInt(7)
		case v.Kind() == reflect.Bool:
			v.SetBool(!v.Bool())
		case f.Name == "Cache": // the label
			continue
		}
		if reflect.DeepEqual(OfOutbox(&o), before) {
			t.Errorf("field %s makes no difference", f.Name)
		}
	}
	// Where the relay is not at work, what it does not know has no series, and no number.
	for _, m := range OfOutbox(&metrics.Outbox{Lag: 1, Backlog: 1, DeadLetters: 1, Unavailable: true}) {
		gauge := m.Kind == Gauge || m.Kind == Seconds
		if want := !gauge || m.Prometheus == "cache_outbox_held"; (len(m.Series) == 1) != want {
			t.Errorf("%s has %d series", m.Prometheus, len(m.Series))
		}
	}
}

type relays []metrics.Outbox

func (r relays) Outboxes() []metrics.Outbox { return r }

func TestOutboxesOfSeveralRelays(t *testing.T) {
	got := Outboxes([]metrics.Relay{
		relays{{Cache: "b", Applied: 1}, {Cache: "c", Applied: 2}},
		relays{{Cache: "a", Applied: 3}, {Cache: "c", Applied: 4, Held: true, Lag: 5}},
	})
	want := []metrics.Outbox{{Cache: "a", Applied: 3}, {Cache: "b", Applied: 1}, {Cache: "c", Applied: 6, Held: true, Lag: 5}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}
