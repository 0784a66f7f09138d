package redisstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// aliases names ids by the order in which they came: those of different stores have
// different times in them.
type aliases struct {
	names map[string]string // by id
	ids   []string          // by number
}

func (a *aliases) name(id string) string {
	if id == "" {
		return ""
	}
	if a.names[id] == "" {
		a.ids = append(a.ids, id)
		a.names[id] = fmt.Sprint("#", len(a.ids)-1)
	}
	return a.names[id]
}

// id returns the nth one, or one that never was.
func (a *aliases) id(n int) string {
	if n < 0 || n >= len(a.ids) {
		return "1-1"
	}
	return a.ids[n]
}

// side is a store and what its ids are called.
type side struct {
	q store.Queue
	aliases
	graves aliases // of ids in Dead: another stream, another order
}

func newSide(q store.Queue) *side {
	return &side{q, aliases{names: map[string]string{}}, aliases{names: map[string]string{}}}
}

// queueScript makes the same random requests for every store, and tells the answers.
type queueScript struct {
	*rand.Rand
	names   store.QueueNames
	members string
	keys    []string
	last    map[string]store.Append // by sender
	at      int                     // how many requests so far
	exact   bool                    // times are the same, too
}

func (s *queueScript) key() string    { return s.keys[s.IntN(len(s.keys))] }
func (s *queueScript) sender() string { return []string{"a", "b"}[s.IntN(2)] }
func (s *queueScript) owner() string  { return []string{"x:1", "y 2"}[s.IntN(2)] }

// id is that of the newest ids mostly: a number, so that it means the same to all.
func (s *queueScript) id(a *aliases) int { return len(a.ids) - 1 - s.IntN(7) }

// next returns the next request, which answers with a text.
func (s *queueScript) next(t *testing.T, a *aliases) func(*side) string {
	ctx := t.Context()
	s.at++
	switch s.IntN(12) {
	case 0, 1, 2, 3:
		ap := store.Append{Sender: s.sender(), Max: 5 + s.IntN(8)}
		ap.Seq = s.last[ap.Sender].Seq + 1
		if s.IntN(8) == 0 {
			ap.Seq = max(ap.Seq-2, 1) // too late
		}
		for range 1 + s.IntN(4) {
			w := store.Write{Key: s.key(), Delete: s.IntN(4) == 0}
			if !w.Delete {
				w.Value, w.Meta = fmt.Appendf(nil, "v\x00\xff%d", s.IntN(1000)), []byte(strings.Repeat("m", s.IntN(3)))
			}
			ap.Writes = append(ap.Writes, w)
		}
		switch last := s.last[ap.Sender]; {
		case last.Seq > 0 && (s.IntN(6) == 0 || ap.Seq == last.Seq):
			ap = last // again
		case ap.Seq > last.Seq:
			s.last[ap.Sender] = ap
		}
		return func(x *side) string {
			ids, err := x.q.Append(ctx, s.names, ap)
			for i := range ids {
				ids[i] = x.name(ids[i])
			}
			return fmt.Sprintf("append %q %v", ids, err)
		}
	case 4:
		keys := []string{s.key(), s.key(), s.key()}
		return func(x *side) string {
			es, err := x.q.Newest(ctx, []store.Ask{{Queue: s.names, Keys: keys}, {Queue: s.names}})
			if err != nil || len(es) != 2 || len(es[1]) != 0 {
				return fmt.Sprintf("newest %d %v", len(es), err)
			}
			return "newest " + x.entries(es[0])
		}
	case 5:
		owner, renew, lease := s.owner(), s.IntN(2) == 0, time.Hour
		if s.IntN(3) == 0 {
			lease = 0 // over at once
		}
		return func(x *side) string {
			ok, err := x.q.Acquire(ctx, s.names, owner, lease, renew)
			return fmt.Sprint("hold ", ok, err)
		}
	case 6:
		owner := s.owner()
		if s.IntN(3) > 0 {
			owner = "nobody"
		}
		return func(x *side) string { return fmt.Sprint("leave ", x.q.Leave(ctx, s.names, owner)) }
	case 7, 8:
		f := store.Fetch{Owner: s.owner(), Lease: time.Hour, Count: 1 + s.IntN(20), Bytes: 1 + s.IntN(40)}
		if s.IntN(3) == 0 {
			f.Keys = []string{s.key(), s.key(), s.key()}
		}
		if s.IntN(8) == 0 {
			f.Delay, f.Full = time.Hour, s.IntN(12)
		}
		after := s.id(a) - 5
		return func(x *side) string {
			f := f
			if after >= 0 {
				f.After = x.id(after)
			}
			got, err := x.q.Fetch(ctx, s.names, f)
			if errors.Is(err, store.ErrNotOwner) != (err != nil) {
				return "fetch " + err.Error()
			}
			wait := got.Wait
			if !s.exact && wait > 59*time.Minute && wait <= time.Hour {
				wait = time.Hour
			}
			return fmt.Sprint("fetch ", got.Len, got.Looked, x.name(got.Last), wait, x.entries(got.Entries), err)
		}
	case 9:
		st := store.Settle{Owner: s.owner(), Lease: time.Hour, MaxDead: 1 + s.IntN(4)}
		var ids []int
		for range 1 + s.IntN(3) {
			st.Outcomes = append(st.Outcomes, store.Outcome{Verdict: store.Verdict(1 + s.IntN(3)), Key: s.key(), Attempts: s.IntN(9), Error: "e\xff"})
			ids = append(ids, s.id(a))
		}
		newest := s.IntN(4) > 0
		return func(x *side) string {
			st := st
			st.Outcomes = append([]store.Outcome(nil), st.Outcomes...)
			for i := range st.Outcomes {
				o := &st.Outcomes[i]
				o.ID = x.id(ids[i])
				if es, err := x.q.Newest(ctx, []store.Ask{{Queue: s.names, Keys: []string{o.Key}}}); newest && err == nil && es[0][0].ID != "" {
					o.ID = es[0][0].ID
				}
			}
			codes, err := x.q.Settle(ctx, s.names, st)
			return fmt.Sprint("settle ", codes, err)
		}
	case 10:
		r := store.Revive{Discard: s.IntN(3) == 0, Max: 3 + s.IntN(8)}
		which := []int{s.IntN(3), s.IntN(3)}
		return func(x *side) string {
			letters, err := x.q.Letters(ctx, s.names, "", 10)
			if err != nil {
				return err.Error()
			}
			r := r
			r.IDs = []string{"1-1"}
			for _, n := range which {
				if n < len(letters) {
					r.IDs = append(r.IDs, letters[n].ID)
				}
			}
			codes, err := x.q.Revive(ctx, s.names, r)
			return fmt.Sprint("revive ", codes, err)
		}
	}
	member, d := s.sender(), time.Duration(s.IntN(2))*time.Hour
	return func(x *side) string {
		n, err := x.q.Join(ctx, s.members, member, d)
		return fmt.Sprint("attend ", n, err)
	}
}

func (x *side) entries(es []store.Entry) string {
	var b strings.Builder
	for _, e := range es {
		fmt.Fprintf(&b, "[%s %d %q %v %q %q]", x.name(e.ID), e.Attempts, e.Key, e.Delete, e.Value, e.Meta)
	}
	return b.String()
}

// state is all that is there.
func (x *side) state(t *testing.T, s *queueScript) string {
	t.Helper()
	ctx := t.Context()
	es, err1 := x.q.Newest(ctx, []store.Ask{{Queue: s.names, Keys: s.keys}})
	d, err2 := x.q.Depths(ctx, []store.QueueNames{s.names})
	letters, err3 := x.q.Letters(ctx, s.names, "", 100)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if !s.exact && d[0].Age < time.Minute {
		d[0].Age = 0
	}
	out := fmt.Sprint(d[0].Log, d[0].Dead, x.name(d[0].First), d[0].Age, x.entries(es[0]))
	for _, l := range letters {
		out += fmt.Sprintf("[%s %q %s]", x.graves.name(l.ID), l.Error, x.entries([]store.Entry{l.Entry}))
	}
	return out
}

func queuesAlike(t *testing.T, seed uint64, prefix string, st store.Queue, between func(*queueScript)) {
	t.Helper()
	s := &queueScript{
		Rand: rand.New(rand.NewPCG(seed, 7)), names: store.NewQueueNames(prefix, fmt.Sprint("c", seed), 3),
		members: store.MembersName(prefix, fmt.Sprint("c", seed)), last: map[string]store.Append{},
	}
	for i := range 7 {
		s.keys = append(s.keys, []string{"k", "", "k k", "\x00\xff", "line\r\n", "{x}", "t"}[i])
	}
	a, b := newSide(storetest.NewMemory()), newSide(st)
	for range 300 {
		between(s)
		do := s.next(t, &a.aliases)
		x, y := do(a), do(b)
		if x != y {
			t.Fatalf("step %d:\n%s\n%s", s.at, x, y)
		}
		if p, q := a.state(t, s), b.state(t, s); p != q {
			t.Fatalf("step %d: after %s\n%s\n%s", s.at, x, p, q)
		}
	}
	if len(a.ids) < 50 || !reflect.DeepEqual(len(a.ids), len(b.ids)) {
		t.Errorf("%d and %d ids", len(a.ids), len(b.ids))
	}
}

func TestAllQueuesAnswerAlike(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for seed := range uint64(redistest.Times(2, 12)) {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
				queuesAlike(t, seed, b.Prefix, newReal(t, b.Client), func(*queueScript) {})
			})
		}
	})
}

func TestQueuesAnswerAlikeThatForgetTheirScripts(t *testing.T) {
	redistest.Thorough(t)
	eachOwn(t, func(t *testing.T, c redis.UniversalClient) {
		store := newReal(t, c)
		queuesAlike(t, 100, "", store, func(s *queueScript) {
			if s.IntN(3) == 0 {
				store.forget(t)
			}
		})
	})
}

// Where time can be stopped, it passes alike.
func TestQueuesAnswerAlikeAsTimePasses(t *testing.T) {
	for seed := range uint64(redistest.Times(3, 10)) {
		synctest.Test(t, func(t *testing.T) {
			_, c := inMemory(t)
			queuesAlike(t, seed, "", newReal(t, c), func(s *queueScript) {
				s.exact = true
				if s.IntN(4) == 0 {
					time.Sleep(time.Duration(s.IntN(50)) * time.Minute)
				}
			})
		})
	}
}
