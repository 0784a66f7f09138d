package engine

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func TestWhatIsNeverCopied(t *testing.T) {
	type plain struct {
		ID    int
		Names [3]string
		At    time.Time
		From  netip.Prefix
	}
	for _, tt := range []struct {
		typ      reflect.Type
		constant bool
	}{
		{reflect.TypeFor[string](), true}, {reflect.TypeFor[float64](), true}, {reflect.TypeFor[plain](), true},
		{reflect.TypeFor[[2]plain](), true}, {reflect.TypeFor[struct{}](), true}, {reflect.TypeFor[time.Duration](), true},
		{reflect.TypeFor[[]byte](), false}, {reflect.TypeFor[*plain](), false}, {reflect.TypeFor[map[string]int](), false},
		{reflect.TypeFor[any](), false}, {reflect.TypeFor[struct{ Next *plain }](), false}, {reflect.TypeFor[[1][]int](), false},
		{reflect.TypeFor[struct{ V error }](), false},
	} {
		if got := IsConstant(tt.typ); got != tt.constant {
			t.Errorf("%v: %v", tt.typ, got)
		}
	}
	if c := testCache[plain](t, nil, func(cfg *Config) { cfg.CloneByCodec = true }); c.Clones() {
		t.Error("values without anything to modify are copied")
	}
}
