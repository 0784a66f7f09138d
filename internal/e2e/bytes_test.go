package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/cachetest"
	"github.com/delqhi/cache/invalidate"
)

// What reads work in is used again and again, and reads share round trips. A value is its
// reader's own all the same: its bytes are in no other value, even if another reader has read the
// same key, or another one, at that time, and whatever is done with them.
func TestValuesShareNoBytes(t *testing.T) {
	for name, opts := range map[string][]cache.Option{
		"looking at the clock": nil,
		"listening":            {cache.WithTransport(invalidate.Broadcast())},
	} {
		t.Run(name, func(t *testing.T) {
			rdb := cachetest.New(t).Client()
			// Who has written nothing need not look whether Redis has lost it, at each new
			// connection.
			writer, err := cache.New[int, []byte](rdb, "bytes", slowly)
			if err != nil {
				t.Fatal(err)
			}
			defer writer.Close()
			c, err := cache.New[int, []byte](rdb, "bytes", append(opts, slowly)...)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			const keys, readers, rounds = 20, 16, 30
			want := func(k int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("<%d>", k)), 10+k) }
			ctx := context.Background()
			for k := range keys {
				if err := writer.Set(ctx, k, want(k)); err != nil {
					t.Fatal(err)
				}
			}
			var wg sync.WaitGroup
			for r := range readers {
				wg.Go(func() {
					mark := byte('A' + r)
					var mine [][]byte
					take := func(k int, v []byte) {
						if !bytes.Equal(v, want(k)) {
							t.Errorf("key %d: %q", k, v)
						}
						// To the end of what it could be grown into without a copy.
						v = v[:cap(v)]
						for i := range v {
							v[i] = mark
						}
						mine = append(mine, v)
					}
					for i := range rounds {
						k := (i*7 + r) % keys
						v, err := c.Get(ctx, k)
						if err != nil {
							t.Error(err)
							return
						}
						take(k, v)
						some := []int{k, (k + 1) % keys, (k + 5) % keys, k}
						vals, err := c.GetMany(ctx, some)
						if err != nil || len(vals) != 3 {
							t.Errorf("%d values, %v", len(vals), err)
							return
						}
						for k, v := range vals {
							take(k, v)
						}
					}
					for _, v := range mine {
						if len(bytes.Trim(v, string(mark))) > 0 {
							t.Errorf("another reader has written into a value: %q", v)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
