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
