package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/delqhi/cache/codec"
	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// Whatever bytes stand at a key, and whatever payload a valid frame of this cache
// carries: a read neither panics nor fails, and a loader's value takes their place.
func FuzzAnyBytesInRedis(f *testing.F) {
	type value struct {
		ID   int64
		Tags []string
		Any  any
	}
	st := storetest.NewMemory()
	load := loadFunc[value](func(context.Context) (value, error) { return value{ID: 42}, nil })
	key := "k"
	var caches []*Cache
	for _, cd := range []codec.Codec{codec.JSON(), codec.Msgpack(), codec.Encrypted(codec.Compressed(codec.JSON(), codec.Threshold(0)), make([]byte, 32))} {
		caches = append(caches, testCache[value](f, st, func(cfg *Config) { cfg.Codec, cfg.Local = cd, nil }))
	}
	f.Add([]byte("OK"), uint8(0))
	f.Add([]byte(`{"ID":1}`), uint8(1))
	f.Add([]byte{0x81, 0xa2, 'I', 'D', 1}, uint8(1))
	f.Add([]byte{3, 'a', 'b', 'c'}, uint8(2))
	f.Add(frame.AppendLease(nil, frame.ID{}), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, how uint8) {
		ctx := t.Context()
		for _, c := range caches {
			rk, _ := c.RedisKey(&key)
			raw := data
			if kind := frame.Kind(how % 3); kind != 0 { // a valid frame around it
				r := c.backend.(*remote)
				s, err := r.version(ctx, "")
				if err != nil {
					t.Fatal(err)
				}
				h := r.header(kind, life{fresh: time.Minute}, time.Now().UnixMicro(), s)
				h.ID = frame.NewID()
				raw, _ = frame.Finish(append(frame.AppendHeader(nil, &h), data...), 0, rk)
			}
			if len(raw) == 36 && raw[0] == 0xC5 {
				raw = raw[:35] // a lease: the read would wait for its holder
			}
			st.Do(ctx, []store.Command{{Op: store.Set, Key: rk, Frame: raw}})
			_, err := get[value](ctx, c, key, nil, &Options{Peek: true})
			if err != nil && !errors.Is(err, errs.ErrMiss) && !errors.Is(err, errs.ErrNotFound) {
				t.Fatalf("%s: Peek: %v", c.codec.Name(), err)
			}
			if v, gerr := get[value](ctx, c, key, load, &NoOptions); errors.Is(err, errs.ErrMiss) && (gerr != nil || v.ID != 42) {
				t.Fatalf("%s: Get: %+v, %v", c.codec.Name(), v, gerr)
			}
		}
	})
}
