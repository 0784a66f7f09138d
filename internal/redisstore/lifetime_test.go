package redisstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// lives are lifetimes from the shortest to the longest.
var lives = []time.Duration{
	time.Millisecond, 2 * time.Millisecond, 999 * time.Millisecond, time.Second, 1001 * time.Millisecond, time.Minute,
	time.Hour + time.Millisecond, 30 * 24 * time.Hour, 30*24*time.Hour + 7*time.Millisecond, 290 * 365 * 24 * time.Hour,
}

// giveLife are the ways to give a key a lifetime.
var giveLife = []store.Command{
	{Op: store.Set},
	{Op: store.SetNX},
	{Op: store.CompareAndSet},
	{Op: store.CompareAndSet, Seen: store.TokenOf(frame("o"))},
	{Op: store.CompareAndSet, Seen: store.TokenOf([]byte("short"))},
	{Op: store.CompareAndSet, Seen: store.CASToken{State: store.WrongType}},
	{Op: store.Extend, Seen: store.TokenOf(frame("o"))},
	{Op: store.Extend, Seen: store.CASToken{State: store.WrongType}},
}

// prepare puts what c has seen where it will look.
func prepare(t *testing.T, s world, del func(), c store.Command) {
	t.Helper()
	del()
	switch {
	case c.Seen.State == store.WrongType:
		s.other(t, c.Key)
	case c.Seen.Token == "short":
		do(t, s, store.Command{Op: store.Set, Key: c.Key, Frame: []byte("short"), TTL: time.Hour})
	case c.Seen.State == store.Found:
		do(t, s, store.Command{Op: store.Set, Key: c.Key, Frame: frame("o"), TTL: time.Hour})
	}
}

// stopwatch is a hook that puts each command into a transaction, between two looks
// at the server's clock and before one at the time when the key will end: nothing
// ends inside a transaction, however short its life.
type stopwatch struct {
	client        *redis.Client // without the hook
	key           string
	before, after time.Time
	end           int64 // Unix ms
}

func (s *stopwatch) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *stopwatch) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var err error
		for _, cmd := range cmds { // one
			err = s.ProcessHook(nil)(ctx, cmd)
		}
		return err
	}
}

func (s *stopwatch) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		tx := s.client.TxPipeline()
		before := tx.Time(ctx)
		_ = tx.Process(ctx, cmd)
		end := redis.NewIntCmd(ctx, "pexpiretime", s.key)
		_ = tx.Process(ctx, end)
		after := tx.Time(ctx)
		_, _ = tx.Exec(ctx)
		s.before, s.after, s.end = before.Val(), after.Val(), end.Val()
		return cmd.Err()
	}
}

func TestLifetimesAreExactOnAServer(t *testing.T) {
	server := redistest.Start(t)
	plain, client := server.Client(t), server.Client(t)
	watch := &stopwatch{client: plain, key: "k"}
	client.AddHook(watch)
	watched, others := newReal(t, client), newReal(t, plain)
	for _, d := range lives {
		for _, c := range giveLife {
			c.Key, c.Frame, c.TTL = watch.key, frame("n"), d
			prepare(t, others, func() { plain.Del(t.Context(), c.Key) }, c)
			r := do(t, watched, c)
			// What the transaction said of its time is cut to the millisecond.
			from, to := watch.before.UnixMilli()+d.Milliseconds(), watch.after.UnixMilli()+d.Milliseconds()
			// Redis looks at its clock once to work out the end of a PEXPIRE, and again to
			// see whether it has passed: then there is no key any more.
			exact := watch.end >= from && watch.end <= to || watch.end == -2 && to > from && d == time.Millisecond
			if !r.OK || r.Err != nil || !exact {
				t.Errorf("%v of %v over %+v: %+v; the end is %d, not between %d and %d", c.Op, d, c.Seen, r, watch.end, from, to)
			}
		}
	}
}

func TestLifetimesAreExactInTests(t *testing.T) {
	m, c := inMemory(t)
	m.SetTime(time.Unix(1700000000, 0)) // it stands still
	mini, model := newReal(t, c), memory{storetest.NewMemory()}
	for _, d := range append(lives, 0) {
		for i, c := range giveLife {
			c.Key, c.Frame, c.TTL = fmt.Sprint(d, i), frame("n"), d
			prepare(t, mini, func() {}, c)
			if r := do(t, mini, c); !r.OK || m.TTL(c.Key) != d {
				t.Errorf("miniredis: %v of %v over %+v: %+v, %v", c.Op, d, c.Seen, r, m.TTL(c.Key))
			}
			prepare(t, model, func() {}, c)
			want := d
			if d == 0 {
				want = -time.Millisecond
			}
			start := time.Now()
			if r := do(t, model, c); !r.OK {
				t.Errorf("memory: %v of %v over %+v: %+v", c.Op, d, c.Seen, r)
			}
			// The one of a millisecond may have ended.
			if left := model.TTL(c.Key); left > want || left < want-time.Since(start) && left != -2*time.Millisecond {
				t.Errorf("memory: %v of %v over %+v: %v", c.Op, d, c.Seen, left)
			}
		}
	}
}

// The remaining life is kept to the millisecond, and no end stays no end.
func TestKeepTTLKeepsTheEnd(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		st, ctx, key := newReal(t, b.Client), t.Context(), b.Prefix+"k"
		for _, old := range []store.Command{
			{Op: store.Set, Frame: frame("o"), TTL: time.Hour}, {Op: store.Set, Frame: frame("o")}, {Op: store.Set, Frame: []byte("short"), TTL: time.Hour},
		} {
			old.Key = key
			do(t, st, old)
			before := b.Client.PExpireTime(ctx, key)
			r := do(t, st, store.Command{Op: store.CompareAndSet, Key: key, Frame: frame("n"), TTL: store.KeepTTL, Seen: store.TokenOf(old.Frame)})
			after := b.Client.PExpireTime(ctx, key)
			if !r.OK || before.Err() != nil || after.Err() != nil {
				t.Fatalf("%+v, %v, %v", r, before, after)
			}
			// miniredis works out the end from what is left, in whole seconds.
			if d := after.Val() - before.Val(); d != 0 && (b.Mini == nil || d < 0 || d > time.Minute) {
				t.Errorf("it ended at %v, and now at %v", before.Val(), after.Val())
			}
		}
	})
}

func TestALifetimeIsNeverTakenForNoEnd(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for _, st := range []world{newReal(t, b.Client), memory{storetest.NewMemory()}} {
			for i, c := range giveLife {
				c.Key, c.Frame = fmt.Sprint(b.Prefix, i), frame("n")
				for _, d := range []time.Duration{-1, -time.Microsecond, -time.Hour} {
					if c.TTL = d; d == store.KeepTTL && c.Op == store.CompareAndSet {
						continue
					}
					prepare(t, st, func() { do(t, st, store.Command{Op: store.Delete, Key: c.Key}) }, c)
					before, _ := st.look(t, c.Key)
					r := do(t, st, c)
					if after, _ := st.look(t, c.Key); r.OK || r.Err == nil || after != before {
						t.Errorf("%T: %v of %v: %+v; it holds %s", st, c.Op, d, r, after)
					}
				}
				c.TTL = time.Nanosecond
				prepare(t, st, func() { do(t, st, store.Command{Op: store.Delete, Key: c.Key}) }, c)
				r := do(t, st, c)
				if _, left := st.look(t, c.Key); !r.OK || r.Err != nil || left == -time.Millisecond || left > time.Millisecond {
					t.Errorf("%T: %v of 1 ns: %+v; left %v", st, c.Op, r, left)
				}
			}
		}
	})
}
