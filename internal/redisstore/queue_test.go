package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// A client library that sends an Append again, because the answer was lost, must not
// bring back what another one has replaced meanwhile.
func TestAnAppendIsRepeatedWithoutHarm(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		client, scissors := retrying(t, b)
		st, others := newReal(t, client), newReal(t, b.Client)
		q := store.NewQueueNames(b.Prefix, "c", 0)
		write := func(s store.Queue, sender string, seq int64, value string) ([]string, error) {
			return s.Append(t.Context(), q, store.Append{Sender: sender, Seq: seq, Max: 4, Writes: []store.Write{
				{Key: "k", Value: []byte(value)}, {Key: "x" + sender, Value: []byte(value)}, {Key: "y", Value: []byte(value)},
			}})
		}
		newest := func() string {
			es, err := others.Newest(t.Context(), []store.Ask{{Queue: q, Keys: []string{"k"}}})
			if err != nil {
				t.Fatal(err)
			}
			return string(es[0][0].Value)
		}
		first, err := write(st, "a", 1, "1")
		if err != nil || slices.Contains(first, "") {
			t.Fatalf("%q, %v", first, err)
		}
		before := scissors.cuts.Load()
		scissors.armed.Store(true)
		ids, err := write(st, "a", 2, "2")
		d, derr := others.Depths(t.Context(), []store.QueueNames{q})
		if err != nil || derr != nil || scissors.cuts.Load() != before+1 || newest() != "2" || d[0].Log != 4 || ids[0] == "" || ids[1]+ids[2] != "" {
			t.Errorf("%q, %v; %d cuts; the newest is %s; %+v, %v", ids, err, scissors.cuts.Load()-before, newest(), d, derr)
		}
		// As if the second attempt came after another process's write.
		if _, err := write(others, "b", 1, "3"); err != nil {
			t.Fatal(err)
		}
		again, err := write(st, "a", 2, "2")
		if err != nil || !slices.Equal(again, ids) || newest() != "3" {
			t.Errorf("%q instead of %q, %v; the newest is %s", again, ids, err, newest())
		}
		if _, err := write(st, "a", 1, "1"); !errors.Is(err, store.ErrOvertaken) || newest() != "3" {
			t.Errorf("%v; the newest is %s", err, newest())
		}
	})
}

// What others put into our keys neither stops a consumer nor reaches it.
func TestWhatIsNotOursInAQueueIsNoHarm(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		s := newReal(t, b.Client)
		ctx := t.Context()
		q := store.NewQueueNames(b.Prefix, "c", 0)
		add := func(key string, fields ...any) {
			t.Helper()
			if err := b.Client.Do(ctx, append([]any{"xadd", key, "*"}, fields...)...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		add(q.Log, "a", "b")
		add(q.Log, "k", "key", "o", "s", "v", "1")
		if err := errors.Join(
			b.Client.HSet(ctx, q.Pending, "k", "nonsense", "lost", "1-1 1-1 3").Err(), b.Client.Set(ctx, q.Owner, "nonsense", 0).Err(),
			b.Client.HSet(ctx, q.From, "a", "nonsense").Err(), b.Client.HSet(ctx, q.DeadIndex, "k", "1-1").Err(),
		); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(ctx, q, store.Append{Sender: "a", Seq: 1, Max: 10, Writes: []store.Write{{Key: "k", Value: []byte("v")}, {Key: "lost", Value: []byte("v")}}}); err != nil {
			t.Fatal(err)
		}
		if ok, err := s.Acquire(ctx, q, "me", time.Minute, false); !ok || err != nil {
			t.Fatal(ok, err)
		}
		got, err := s.Fetch(ctx, q, store.Fetch{Owner: "me", Lease: time.Minute, Count: 10, Bytes: 1000})
		if err != nil || len(got.Entries) != 2 || got.Entries[0].Key != "k" || got.Entries[1].Key != "lost" || got.Looked != 4 {
			t.Fatalf("%+v, %v", got, err)
		}
		var outcomes []store.Outcome
		for _, e := range got.Entries {
			outcomes = append(outcomes, store.Outcome{Verdict: store.Applied, Key: e.Key, ID: e.ID})
		}
		if codes, err := s.Settle(ctx, q, store.Settle{Owner: "me", Lease: time.Minute, Outcomes: outcomes}); err != nil || !slices.Equal(codes, []store.Settled{0, 0}) {
			t.Errorf("%v, %v", codes, err)
		}
		d, err := s.Depths(ctx, []store.QueueNames{q})
		if err != nil || d[0] != (store.Depth{}) {
			t.Errorf("%+v, %v", d, err)
		}
		// Of another type altogether, there is an error.
		if err := errors.Join(b.Client.Del(ctx, q.Log, q.Pending).Err(), b.Client.Set(ctx, q.Log, "x", 0).Err()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(ctx, q, store.Append{Sender: "a", Seq: 2, Max: 10, Writes: []store.Write{{Key: "k"}}}); err == nil {
			t.Error("no error")
		}
	})
}

// A queue of which the hash of places was lost loses no writes; one of which the log was
// lost shows none that will not come.
func TestAQueueThatHasLostAKey(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		s := newReal(t, b.Client)
		ctx := t.Context()
		q := store.NewQueueNames(b.Prefix, "c", 0)
		if ok, err := s.Acquire(ctx, q, "me", time.Minute, false); !ok || err != nil {
			t.Fatal(ok, err)
		}
		appendOne := func(seq int64) {
			t.Helper()
			if _, err := s.Append(ctx, q, store.Append{Sender: "a", Seq: seq, Max: 10, Writes: []store.Write{{Key: "k", Value: []byte("v")}}}); err != nil {
				t.Fatal(err)
			}
		}
		fetch := func() []store.Entry {
			t.Helper()
			got, err := s.Fetch(ctx, q, store.Fetch{Owner: "me", Lease: time.Minute, Count: 10, Bytes: 1000})
			if err != nil {
				t.Fatal(err)
			}
			return got.Entries
		}
		appendOne(1)
		b.Client.Del(ctx, q.Pending)
		es := fetch()
		if len(es) != 1 || string(es[0].Value) != "v" {
			t.Fatalf("%+v", es)
		}
		if _, err := s.Settle(ctx, q, store.Settle{Owner: "me", Lease: time.Minute, Outcomes: []store.Outcome{{Verdict: store.Applied, Key: "k", ID: es[0].ID}}}); err != nil || len(fetch()) != 0 {
			t.Error(err, fetch())
		}
		appendOne(2)
		b.Client.Del(ctx, q.Log)
		newest, err := s.Newest(ctx, []store.Ask{{Queue: q, Keys: []string{"k"}}})
		if err != nil || newest[0][0].ID != "" || len(fetch()) != 0 {
			t.Errorf("%+v, %v, %+v", newest, err, fetch())
		}
		appendOne(3)
		if es := fetch(); len(es) != 1 {
			t.Errorf("%+v", es)
		}
	})
}

// A server without memory for writes still lets consumers make room.
func TestAFullServerLetsAQueueDrain(t *testing.T) {
	server := redistest.Start(t)
	c := server.Client(t)
	s := newReal(t, c)
	ctx := t.Context()
	q := store.NewQueueNames("p", "c", 0)
	a := store.Append{Sender: "a", Seq: 1, Max: 10, Writes: []store.Write{{Key: "k", Value: []byte("v")}, {Key: "l", Value: []byte("v")}}}
	if _, err := s.Append(ctx, q, a); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.ConfigSet(ctx, "maxmemory-policy", "noeviction").Err(), c.ConfigSet(ctx, "maxmemory", "1").Err()); err != nil {
		t.Fatal(err)
	}
	a.Seq++
	if _, err := s.Append(ctx, q, a); err == nil {
		t.Error("the server is not full")
	}
	ok, err := s.Acquire(ctx, q, "me", time.Minute, false)
	n, err2 := s.Join(ctx, store.MembersName("p", "c"), "me", time.Minute)
	got, err3 := s.Fetch(ctx, q, store.Fetch{Owner: "me", Lease: time.Minute, Count: 10, Bytes: 1000})
	if err := errors.Join(err, err2, err3); !ok || n != 1 || err != nil || len(got.Entries) != 2 {
		t.Fatalf("%v, %d, %+v, %v", ok, n, got, err)
	}
	codes, err := s.Settle(ctx, q, store.Settle{Owner: "me", Lease: time.Minute, MaxDead: 10, Outcomes: []store.Outcome{
		{Verdict: store.Applied, Key: "k", ID: got.Entries[0].ID}, {Verdict: store.Died, Key: "l", ID: got.Entries[1].ID, Attempts: 1},
	}})
	if err != nil || !slices.Equal(codes, []store.Settled{0, 0}) {
		t.Errorf("%v, %v", codes, err)
	}
	letters, err := s.Letters(ctx, q, "", 10)
	if err != nil || len(letters) != 1 {
		t.Fatalf("%+v, %v", letters, err)
	}
	if codes, err := s.Revive(ctx, q, store.Revive{IDs: []string{letters[0].ID}, Max: 10}); err != nil || codes[0] != store.Gone {
		t.Errorf("%v, %v", codes, err)
	}
	if err := s.Leave(ctx, q, "me"); err != nil {
		t.Error(err)
	}
}

// Senders that have gone are forgotten when there are many.
func TestSendersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := inMemory(t)
		s := newReal(t, c)
		q := store.NewQueueNames("p", "c", 0)
		for i := range 1000 {
			if _, err := s.Append(t.Context(), q, store.Append{Sender: fmt.Sprint("s", i), Seq: 1, Max: 10, Writes: []store.Write{{Key: "k"}}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if n := c.HLen(t.Context(), q.From).Val(); n > 80 {
			t.Errorf("%d are known", n)
		}
	})
}

func TestIDsAreCompared(t *testing.T) {
	ordered := []string{"", "1-0", "1-1", "1-2", "1-10", "2-0", "10-0", "18446744073709551615-1"}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := store.CompareIDs(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%q, %q: %d", a, b, got)
			}
		}
	}
	if store.CompareIDs("5", "5-0") != 0 {
		t.Error("an id without a number")
	}
}

// A Client passes on what its store answers, within the timeout.
func TestGuardPassesQueuesOn(t *testing.T) {
	s := &queueScript{names: store.NewQueueNames("p", "c", 0), members: "m", keys: []string{"k"}}
	g := client.New(storetest.NewMemory(), time.Minute)
	defer g.Close()
	ctx := t.Context()
	var ops []string
	g.Observe = func(_ context.Context, o client.Observation) {
		ops = append(ops, fmt.Sprint(o.Op, " ", o.Err))
	}
	ids, err := g.Append(ctx, s.names, store.Append{Sender: "a", Seq: 1, Max: 9, Writes: []store.Write{{Key: "k", Value: []byte("v")}}})
	if err != nil || len(ids) != 1 {
		t.Error(ids, err)
	}
	if ok, err := g.Acquire(ctx, s.names, "me", time.Minute, false); !ok || err != nil {
		t.Error(ok, err)
	}
	if f, err := g.Fetch(ctx, s.names, store.Fetch{Owner: "me", Lease: time.Minute, Count: 1}); err != nil || len(f.Entries) != 1 {
		t.Error(f, err)
	}
	if es, err := g.Newest(ctx, []store.Ask{{Queue: s.names, Keys: s.keys}}); err != nil || es[0][0].ID != ids[0] {
		t.Error(es, err)
	}
	died := []store.Outcome{{Verdict: store.Died, Key: "k", ID: ids[0]}}
	if c, err := g.Settle(ctx, s.names, store.Settle{Owner: "me", Lease: time.Minute, MaxDead: 1, Outcomes: died}); err != nil || len(c) != 1 {
		t.Error(c, err)
	}
	letters, err := g.Letters(ctx, s.names, "", 1)
	if err != nil || len(letters) != 1 {
		t.Fatal(letters, err)
	}
	if d, err := g.Depths(ctx, []store.QueueNames{s.names}); err != nil || d[0].Dead != 1 {
		t.Error(d, err)
	}
	if c, err := g.Revive(ctx, s.names, store.Revive{IDs: []string{letters[0].ID}, Discard: true}); err != nil || c[0] != store.Gone {
		t.Error(c, err)
	}
	if n, err := g.Join(ctx, s.members, "me", time.Minute); n != 1 || err != nil {
		t.Error(n, err)
	}
	if err := g.Leave(ctx, s.names, "me"); err != nil {
		t.Error(err)
	}
	want := []string{"append <nil>", "hold <nil>", "fetch <nil>", "newest <nil>", "settle <nil>", "letters <nil>", "depths <nil>", "revive <nil>", "attend <nil>", "leave <nil>"}
	if !slices.Equal(ops, want) {
		t.Errorf("%q", ops)
	}
}
