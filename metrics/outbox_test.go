package metrics_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/delqhi/cache/metrics"
)

// Every field takes part: counters are added up, of gauges the greater one stays.
func TestOutboxesAreAdded(t *testing.T) {
	a, b := metrics.Outbox{Cache: "users"}, metrics.Outbox{Cache: "users"}
	for i := range reflect.TypeFor[metrics.Outbox]().NumField() {
		x, y := reflect.ValueOf(&a).Elem().Field(i), reflect.ValueOf(&b).Elem().Field(i)
		switch {
		case x.CanUint():
			x.SetUint(uint64(i))
			y.SetUint(100)
		case x.CanInt():
			x.SetInt(int64(i))
			y.SetInt(100)
		case x.Kind() == reflect.Bool:
			y.SetBool(true)
		}
	}
	sum := a.Add(b)
	want := metrics.Outbox{
		Cache: "users", Held: true, Unavailable: true, Lag: 100, Backlog: 100, DeadLetters: 100,
		Applied: 106, Merged: 107, Replaced: 108, Waited: 109 * time.Nanosecond, Postponed: 110, Refused: 111, Buried: 112, DatabaseErrors: 113,
	}
	if sum != want || b.Add(a) != want {
		t.Errorf("%+v and %+v, want %+v", sum, b.Add(a), want)
	}
}
