package redisstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
)

// queueLives are the lives of a queue's keys: negative without end, absent without the key.
func queueLives(t *testing.T, b *redistest.Backend, keys ...string) map[string]time.Duration {
	t.Helper()
	out := map[string]time.Duration{}
	for _, k := range keys {
		d, err := b.Client.PTTL(t.Context(), k).Result()
		if err != nil {
			t.Fatal(err)
		}
		if d != -2 {
			out[k] = d
		}
	}
	return out
}

// Whatever is done with a queue, what holds writes has no life, and what is empty gets one.
func TestWhatHoldsWritesStaysAndWhatIsEmptyGoes(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for seed := range uint64(redistest.Times(2, 6)) {
			s := newReal(t, b.Client)
			rnd := &queueScript{
				Rand: rand.New(rand.NewPCG(seed, 3)), names: store.NewQueueNames(b.Prefix, fmt.Sprint("life", seed), 0),
				members: store.MembersName(b.Prefix, fmt.Sprint("life", seed)), keys: []string{"a", "b", "c"}, last: map[string]store.Append{},
			}
			x, ctx, q := newSide(s), t.Context(), rnd.names
			check := func(after string) {
				d, err := s.Depths(ctx, []store.QueueNames{q})
				if err != nil {
					t.Fatal(err)
				}
				have := queueLives(t, b, q.Log, q.Dead, q.Pending, q.DeadIndex, q.Owner)
				for key, n := range map[string]int{q.Log: d[0].Log, q.Dead: d[0].Dead, q.Pending: d[0].Log, q.DeadIndex: d[0].Dead, q.Owner: 1} {
					if life, ok := have[key]; ok && n > 0 && life != -1 {
						t.Fatalf("seed %d, step %d: after %q, %q with %d entries has a life of %v", seed, rnd.at, after, key, n, life)
					}
				}
				for key := range queueLives(t, b, q.From, rnd.members) {
					if life := queueLives(t, b, key)[key]; life < 59*time.Minute || life > time.Hour {
						t.Fatalf("seed %d, step %d: after %q, %q has a life of %v", seed, rnd.at, after, key, life)
					}
				}
			}
			for range 120 {
				check(rnd.next(t, &x.aliases)(x))
			}
			empty(t, s, q)
			for key, life := range queueLives(t, b, q.Log, q.Dead, q.Pending, q.DeadIndex, q.Owner, q.From, rnd.members) {
				if life < 59*time.Minute || life > time.Hour {
					t.Errorf("seed %d: of a queue that is empty, %q has a life of %v", seed, key, life)
				}
			}
			// An hour later there is nothing.
			if b.RealTime {
				continue
			}
			b.Advance(time.Hour)
			if left := queueLives(t, b, q.Log, q.Dead, q.Pending, q.DeadIndex, q.Owner, q.From, rnd.members); len(left) > 0 {
				t.Errorf("seed %d: an hour later there are %v", seed, left)
			}
		}
	})
}

// empty has all writes applied, dead letters discarded and the partition left.
func empty(t *testing.T, s store.Queue, q store.QueueNames) {
	t.Helper()
	ctx := t.Context()
	for _, owner := range []string{"x:1", "y 2"} {
		_ = s.Leave(ctx, q, owner)
	}
	if ok, err := s.Acquire(ctx, q, "me", time.Minute, false); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for {
		got, err := s.Fetch(ctx, q, store.Fetch{Owner: "me", Lease: time.Minute, Count: 100, Bytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Entries) == 0 {
			break
		}
		st := store.Settle{Owner: "me", Lease: time.Minute}
		for _, e := range got.Entries {
			st.Outcomes = append(st.Outcomes, store.Outcome{Verdict: store.Applied, Key: e.Key, ID: e.ID})
		}
		if _, err := s.Settle(ctx, q, st); err != nil {
			t.Fatal(err)
		}
	}
	letters, err := s.Letters(ctx, q, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	r := store.Revive{Discard: true}
	for _, l := range letters {
		r.IDs = append(r.IDs, l.ID)
	}
	if _, err := s.Revive(ctx, q, r); err != nil {
		t.Fatal(err)
	}
	if err := s.Leave(ctx, q, "me"); err != nil {
		t.Fatal(err)
	}
}

// A queue may be used again in any moment of the life of what is empty.
func TestAWriteTakesTheLifeOfAnEmptyQueue(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		s, ctx, q := newReal(t, b.Client), t.Context(), store.NewQueueNames(b.Prefix, "again", 0)
		write := func(seq int64, key string) {
			t.Helper()
			a := store.Append{Sender: "a", Seq: seq, Max: 10, Writes: []store.Write{{Key: key, Value: []byte("v")}}}
			if ids, err := s.Append(ctx, q, a); err != nil || ids[0] == "" {
				t.Fatal(ids, err)
			}
		}
		write(1, "k")
		empty(t, s, q)
		write(2, "k")
		if life := queueLives(t, b, q.Log)[q.Log]; life != -1 {
			t.Errorf("a log with a write has a life of %v", life)
		}
		b.Advance(24 * time.Hour)
		es, err := s.Newest(ctx, []store.Ask{{Queue: q, Keys: []string{"k"}}})
		if err != nil || string(es[0][0].Value) != "v" {
			t.Errorf("%+v, %v", es, err)
		}
		// An Append that comes too late leaves the life of what is empty as it is.
		write(3, "k")
		empty(t, s, q)
		if _, err := s.Append(ctx, q, store.Append{Sender: "a", Seq: 2, Max: 10, Writes: []store.Write{{Key: "k"}}}); !errors.Is(err, store.ErrOvertaken) {
			t.Error(err)
		}
		for key, life := range queueLives(t, b, q.Log, q.Pending, q.Owner) {
			if life < 0 {
				t.Errorf("%q has no life", key)
			}
		}
	})
}
