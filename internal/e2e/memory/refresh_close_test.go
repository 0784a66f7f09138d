package memory_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/strategy"
)

// Close ends although a function of the source goes on, whichever that is.
func TestCloseDoesNotWaitForASourceThatIgnoresItsContext(t *testing.T) {
	for _, kind := range []string{"Store", "StoreMany", "Delete", "codec"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release, inside := make(chan struct{}), make(chan struct{}, 10)
				defer func() { close(release); synctest.Wait() }()
				block := func(here string) error {
					if here == kind {
						inside <- struct{}{}
						<-release
					}
					return nil
				}
				src := cache.Source[string, string]{
					Store:  func(context.Context, string, string) error { return block("Store") },
					Delete: func(context.Context, string) error { return block("Delete") },
				}
				if kind == "StoreMany" {
					src.StoreMany = func(context.Context, map[string]string) error { return block("StoreMany") }
				}
				opts := []cache.Option{quietLog, cache.WithStrategy(strategy.WriteBehind())}
				if kind == "codec" {
					opts = append(opts, cache.WithCodec(slowDecoder{func() { _ = block("codec") }}))
				}
				c, err := build("users", src, opts, func() store.Store { return storetest.NewMemory() })
				if err != nil {
					t.Fatal(err)
				}
				ctx := t.Context()
				if err := c.Set(ctx, "k", "v"); err != nil {
					t.Fatal(err)
				}
				if kind == "Delete" {
					if err := c.Delete(ctx, "k"); err != nil {
						t.Fatal(err)
					}
				}
				<-inside
				begin := time.Now()
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				if d := time.Since(begin); d > 6*time.Second {
					t.Errorf("Close took %v", d)
				}
			})
		})
	}
}

// slowDecoder is a codec for strings that calls wait when it decodes.
type slowDecoder struct{ wait func() }

func (slowDecoder) Name() string                              { return "slow" }
func (slowDecoder) Marshal(dst []byte, v any) ([]byte, error) { return append(dst, v.(string)...), nil }
func (d slowDecoder) Unmarshal(data []byte, v any) error {
	d.wait()
	*v.(*string) = string(data)
	return nil
}
