package memory_test

import (
	"errors"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

type generic[T any] struct{ X T }

// A record of another type of the same name is a miss.
func TestARecordOfAnotherTypeOfTheNameIsAMiss(t *testing.T) {
	st := storetest.NewMemory()
	over := func() store.Store { return st }
	ctx := t.Context()
	func() {
		type T struct{ Cents int }
		c, err := build("x", cache.Source[string, []generic[T]]{}, []cache.Option{quietLog}, over)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Set(ctx, "k", []generic[T]{{T{5}}}); err != nil {
			t.Fatal(err)
		}
	}()
	func() {
		type T struct{ Euros int }
		c, err := build("x", cache.Source[string, []generic[T]]{}, []cache.Option{quietLog}, over)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if v, err := c.Get(ctx, "k"); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("%+v, %v", v, err)
		}
	}()
}
