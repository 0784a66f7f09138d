package writebehind_test

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/internal/writebehind"
)

func diff(t *testing.T, got, want []string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestAWriteReachesTheSourceAndIsSeenMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		q := process(t, storetest.NewMemory(), s)
		k := keysOf(0, 2)
		enqueue(t, q, set(k[0], 1), set(k[1], 2), set(k[0], 3))
		newest, err := q.Newest(t.Context(), append(k, "other"))
		if err != nil || len(newest) != 2 || string(newest[k[0]].Value) != "3" || string(newest[k[1]].Value) != "2" {
			t.Errorf("%+v, %v", newest, err)
		}
		time.Sleep(time.Second)
		diff(t, s.log(), []string{"100ms: [" + k[0] + "=3 " + k[1] + "=2]"})
		if newest, err := q.Newest(t.Context(), k); err != nil || len(newest) != 0 {
			t.Errorf("afterwards: %+v, %v", newest, err)
		}
		if st, err := q.Stats(t.Context()); err != nil || st != (writebehind.Stats{}) {
			t.Errorf("afterwards: %+v, %v", st, err)
		}
	})
}
