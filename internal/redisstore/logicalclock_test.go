package redisstore_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/redis/go-redis/v9"
)

// onReal runs f on a miniredis, whose clock it may set, a server, a cluster and a ring.
func onReal(t *testing.T, f func(t *testing.T, s real, prefix string, m *miniredis.Miniredis)) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) { f(t, newReal(t, b.Client), b.Prefix, b.Mini) })
	t.Run("ring", func(t *testing.T) {
		ring, _ := newRing(t, 2)
		f(t, newReal(t, ring), "ring:", nil)
	})
}

// almost are texts that are no epoch, or that a program without regard might have
// put in its place.
var almost = []string{
	"", "e1", "e1 ", "foreign", "e1 1 2 3 4 5 6 7 8", "e1 1 2 3 4 5 6 7 8 2", "e1 0 2 3 4 5 6 7 8 0", "e1 1 2 3 4 5 6 7 8 0 ",
	"e1 1 2 3 4 5 6 7 8 0\n", " e1 1 2 3 4 5 6 7 8 0", "e1 01 2 3 4 5 6 7 8 0", "e1 1 -2 3 4 5 6 7 8 0", "e1 1 2 3.0 4 5 6 7 8 0",
	"e1 1 2 3 4 5 6 7 9007199254740992 0", "e1 9007199254740992 2 3 4 5 6 7 8 0", "e1 1 2 3 4 5 6 7 8 0" + strings.Repeat("x", 300),
	"e1 1 2 3 4 5 6 7 " + strings.Repeat("9", 400) + " 0", "e2 1 2 3 4 5 6 7 8 0", "e1\x001 2 3 4 5 6 7 8 0", "e1 1 2 3 4 5 6 7 8 0x1",
	"e1 9007199254740991 2 8 4 5 6 7 8 0", "e1 7 1 1 1 0 0 0 0 1", "e1 7 1 9 1 2 3 4 5 1", "e1 7 1 9 10 0 0 0 0 0", "e1 7 1 9 0 10 0 0 0 0",
	"e1 7 1 9 0 0 10 0 0 0", "e1 7 1 9 0 0 0 10 0 0", "e1 7 9007199254740991 1 1 0 0 0 0 0", "e1 7 1 9007199254740991 1 0 0 0 0 0", "e1 7 4000000000000000 4000000000000001 5 6 7 8 9 0",
}

// Memory does in Go what the scripts do: given the same clock they say the same, and
// leave the same, whatever happens to what they keep.
func TestMarksAreAlike(t *testing.T) {
	const most = 4
	t.Cleanup(logicalclock.SetMaxTags(most))
	tags := []string{"a", "b", "", "t:", "é\n 1", "\x00\xff", "c", "d"}
	onReal(t, func(t *testing.T, s real, prefix string, mini *miniredis.Miniredis) {
		for seed := range uint64(redistest.Times(2, 6)) {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 7))
				model := memory{storetest.NewMemory()}
				names := store.NewNames(fmt.Sprint(prefix, seed), "marks")
				posts := [2]*post{newPost(t, model, names.Channel), newPost(t, s, names.Channel)}
				knowns, epochs := []logicalclock.Known{{}}, []string{"e1 1 1 1 1 0 0 0 0 0"}
				var last logicalclock.Known
				ids, dated := map[uint64]bool{}, 0
				if mini != nil {
					mini.SetTime(time.Now())
				}
				for step := range 250 {
					set := func(key, text string) {
						for _, w := range []world{model, s} {
							do(t, w, store.Command{Op: store.Set, Key: key, Frame: []byte(text)})
						}
					}
					key := []string{names.Epoch, names.Tags}[r.IntN(2)]
					switch r.IntN(20) {
					case 0:
						do(t, model, store.Command{Op: store.Delete, Key: key})
						do(t, s, store.Command{Op: store.Delete, Key: key})
					case 1:
						model.other(t, key)
						s.other(t, key)
					case 2:
						set(key, almost[r.IntN(len(almost))])
					case 3: // Redis goes back
						set(names.Epoch, epochs[max(0, len(epochs)-1-r.IntN(6))])
					case 4:
						if mini != nil {
							mini.SetTime(time.Now().Add(time.Duration(r.IntN(40)-20) * time.Second))
						}
					}
					known := last
					lies := 6 // of what is known: a tick that is ahead leaves no tombstone dated
					if seed%2 == 1 {
						lies = 2
					}
					switch r.IntN(lies) {
					case 0:
						known = knowns[r.IntN(len(knowns))]
					case 1:
						known.Clock += int64(r.IntN(20_000_000))
					case 2:
						known.Tick += int64(r.IntN(2 * logicalclock.LostFor))
					case 3:
						known.Tick += logicalclock.LostFor + int64(r.IntN(3)) - 1
					case 4:
						if r.IntN(4) == 0 {
							*[]*int64{&known.Tick, &known.Clock}[r.IntN(2)] = 1<<53 - 1
						}
					}
					var asked []string
					for range r.IntN(most + 3) {
						asked = append(asked, tags[r.IntN(len(tags))])
					}
					n := logicalclock.NewTombstone{Tags: asked, Mode: logicalclock.Mode(r.IntN(3)), Delay: []int64{0, 500, 5000, 3_600_000_000}[r.IntN(4)]}
					if n.Mode == logicalclock.Hard && r.IntN(2) == 0 {
						for range max(len(asked), 1) {
							n.Before = append(n.Before, max(0, time.Now().UnixMicro()+int64(r.IntN(60_000_000)-50_000_000)))
						}
					}
					if r.IntN(2) == 0 {
						n.Channel, n.Message = names.Channel, fmt.Sprint(step, ":\n")
					}
					var want, got logicalclock.Reading
					var err error
					op := "mark"
					if r.IntN(2) == 0 {
						got, err = s.AddTombstones(t.Context(), names, known, n)
						want = model.AddTombstonesAt(names, known, got.Now, got.Epoch.ID, n)
					} else {
						op, n.Channel, n.Message = "marks", "", ""
						got, err = s.ReadClock(t.Context(), names, known, asked)
						want = model.ReadClockAt(names, known, got.Now, got.Epoch.ID, asked)
					}
					if err != nil || !reflect.DeepEqual(got, want) {
						t.Fatalf("step %d: %s of %+v, known %+v: %v\n%+v instead of\n%+v", step, op, n, known, err, got, want)
					}
					for _, key := range []string{names.Epoch, names.Tags} {
						x, want := model.look(t, key)
						y, d := s.look(t, key)
						if x != y || (d > 0) != (want > 0) || (d-want).Abs() > time.Hour {
							t.Fatalf("step %d: after %s of %+v, known %+v, %q holds\n%s for %v, instead of\n%s for %v", step, op, n, known, key, y, d, x, want)
						}
					}
					for _, m := range append(got.Tags, got.Epoch.All) {
						if m.Dated() {
							dated++
						}
					}
					var told []string
					if n.Channel != "" {
						told = []string{string(got.AppendText([]byte(n.Message)))}
					}
					if x, y := posts[0].heard(t), posts[1].heard(t); !slices.Equal(x, told) || !slices.Equal(y, told) {
						t.Fatalf("step %d: published was\n%q and\n%q instead of\n%q", step, x, y, told)
					}
					if max(known.Tick, known.Clock) == 1<<53-1 {
						known = logicalclock.Known{} // which is not believed
					}
					if got.Epoch.ID == known.Epoch && got.Epoch.Clock < known.Clock || got.Epoch.Tick <= known.Tick {
						t.Fatalf("step %d: %+v, known %+v", step, got.Epoch, known)
					}
					last = logicalclock.Known{Epoch: got.Epoch.ID, Tick: got.Epoch.Tick, Clock: got.Epoch.Clock}
					knowns, ids[last.Epoch] = append(knowns, last), true
					if r.IntN(5) == 0 {
						text, _ := model.look(t, names.Epoch)
						epochs = append(epochs, strings.TrimPrefix(text, "a string: "))
					}
				}
				if len(ids) < 3 || len(ids) > 200 {
					t.Errorf("%d epochs", len(ids))
				}
				if dated == 0 && seed%2 == 1 {
					t.Error("no mark was dated")
				}
			})
		}
	})
}

func TestMarksComeBackAfterTheScriptsAreLost(t *testing.T) {
	eachOwn(t, func(t *testing.T, c redis.UniversalClient) {
		s, names := newReal(t, c), store.NewNames("p", "x")
		for range 2 {
			s.forget(t)
			m, err := s.AddTombstones(t.Context(), names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"a"}})
			if err != nil {
				t.Fatal(err)
			}
			s.forget(t)
			got, err := s.ReadClock(t.Context(), names, logicalclock.Known{}, []string{"a"})
			if err != nil || got.Tags[0] != m.Tags[0] || got.Epoch.ID != m.Epoch.ID {
				t.Errorf("%+v after %+v; %v", got, m, err)
			}
		}
	})
}

func TestMarksAreChecked(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		for _, s := range []world{newReal(t, b.Client), memory{storetest.NewMemory()}} {
			for _, n := range []logicalclock.NewTombstone{{Mode: 3}, {Delay: -1}, {Mode: logicalclock.Delayed, Delay: 1 << 52},
				{Mode: logicalclock.Soft, Before: []int64{1}}, {Before: []int64{}}, {Before: []int64{1, 2}}, {Before: []int64{-1}}, {Before: []int64{1 << 53}},
			} {
				if _, err := s.AddTombstones(t.Context(), store.NewNames(b.Prefix, "x"), logicalclock.Known{}, n); err == nil {
					t.Errorf("%T: %+v", s, n)
				}
			}
			if m, err := s.AddTombstones(t.Context(), store.NewNames(b.Prefix, "x"), logicalclock.Known{}, logicalclock.NewTombstone{Mode: logicalclock.Delayed, Delay: 1<<52 - 1}); err != nil {
				t.Errorf("%T: the longest delay: %+v, %v", s, m, err)
			}
		}
	})
}

// What is forgotten is not younger than the floor: of all that was marked, either the
// mark is still there or it says nothing that the floor does not.
func TestForgottenTagsAreBelowTheFloor(t *testing.T) {
	const most = 60
	t.Cleanup(logicalclock.SetMaxTags(most))
	check := func(t *testing.T, s world, names store.Names, hlen func() int64) {
		said := map[string]int64{}
		floor := int64(0)
		for i := range 300 {
			n := logicalclock.NewTombstone{Mode: logicalclock.Mode(i % 3), Delay: 3_600_000_000}
			for j := range 1 + i%3 {
				n.Tags = append(n.Tags, fmt.Sprint("tag", (i*7+j*13)%200))
			}
			m, err := s.AddTombstones(t.Context(), names, logicalclock.Known{}, n)
			if err != nil {
				t.Fatal(err)
			}
			if m.Epoch.LowWatermark < floor || m.Epoch.LowWatermark >= m.Epoch.Clock {
				t.Fatalf("floor %d after %d; %+v", m.Epoch.LowWatermark, floor, m.Epoch)
			}
			floor = m.Epoch.LowWatermark
			for j, tag := range n.Tags {
				said[tag] = m.Epoch.Clock
				if mark := m.Tags[j]; max(mark.Hard, mark.Soft, mark.Next) != m.Epoch.Clock {
					t.Fatalf("%+v", m)
				}
			}
			if n := hlen(); n > most+1 {
				t.Fatalf("%d tags", n-1)
			}
		}
		var all []string
		for tag := range said {
			all = append(all, tag)
		}
		m, err := s.ReadClock(t.Context(), names, logicalclock.Known{}, all)
		if err != nil {
			t.Fatal(err)
		}
		kept := 0
		for i, mark := range m.Tags {
			if mark != (logicalclock.Tombstone{}) {
				kept++
			}
			if last := max(mark.Hard, mark.Soft, mark.Next); last != said[all[i]] && said[all[i]] > m.Epoch.LowWatermark {
				t.Errorf("%s was marked at %d, is %+v, and the floor is %d", all[i], said[all[i]], mark, m.Epoch.LowWatermark)
			}
		}
		if kept < most/2 || kept > most {
			t.Errorf("%d tags are kept", kept)
		}
	}
	onReal(t, func(t *testing.T, s real, prefix string, _ *miniredis.Miniredis) {
		names := store.NewNames(prefix, "forget")
		check(t, s, names, func() int64 { return s.c.HLen(t.Context(), names.Tags).Val() })
	})
	t.Run("memory", func(t *testing.T) {
		check(t, memory{storetest.NewMemory()}, store.NewNames("p", "forget"), func() int64 { return 0 })
	})
}

// What another program has put in the place of a tombstone is taken for the worst.
func TestADamagedMarkIsTakenForAFreshOne(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		s, names := newReal(t, b.Client), store.NewNames(b.Prefix, "x")
		for _, text := range []string{"", "m1", "m1 1 2 3", "m1 1 2 3 x", "m1 1 2 3 04", "m2 1 2 3 4", "m1 1 2 3 9007199254740992"} {
			m, err := s.AddTombstones(t.Context(), names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"a", "b"}, Mode: logicalclock.Soft})
			if err != nil {
				t.Fatal(err)
			}
			b.Client.HSet(t.Context(), names.Tags, "t:a", text)
			got, err := s.ReadClock(t.Context(), names, logicalclock.Known{}, []string{"a", "b"})
			if err != nil || got.Tags[0] != (logicalclock.Tombstone{Hard: m.Epoch.Clock}) || got.Tags[1] != m.Tags[1] {
				t.Errorf("%q: %+v, %v", text, got, err)
			}
		}
	})
}

func TestAUserWhoMayNotPublishGetsAnErrorAndTheMark(t *testing.T) {
	server := redistest.Start(t, redistest.ACL("app on >secret ~* &* +@all -publish"))
	o := server.Options()
	o.Username, o.Password = "app", "secret"
	client := redis.NewClient(o)
	t.Cleanup(func() { client.Close() })
	s, names := newReal(t, client), store.NewNames("p", "x")
	before, err := s.ReadClock(t.Context(), names, logicalclock.Known{}, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.AddTombstones(t.Context(), names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"a"}, Channel: "c"}); err == nil {
		t.Errorf("%+v", m)
	}
	if after, err := s.ReadClock(t.Context(), names, logicalclock.Known{}, []string{"a"}); err != nil || after.Tags[0].Hard <= before.Epoch.Clock {
		t.Errorf("%+v, %v", after, err)
	}
}

// An invalidation must reach a Redis that takes no writes for want of memory.
func TestMarksNeedNoMemoryToSpare(t *testing.T) {
	server := redistest.Start(t, redistest.MaxMemory("8mb", "noeviction"))
	s, names := newReal(t, server.Client(t)), store.NewNames("p", "x")
	full := false
	for i := 0; i < 200 && !full; i++ {
		r := do(t, s, store.Command{Op: store.Set, Key: fmt.Sprint("k", i), Frame: make([]byte, 100_000)})
		full = r.Err != nil && strings.HasPrefix(r.Err.Error(), "OOM")
	}
	if !full {
		t.Fatal("there is memory left")
	}
	for i := range 3 { // with an epoch and without
		m, err := s.AddTombstones(t.Context(), names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"a"}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.ReadClock(t.Context(), names, logicalclock.Known{}, []string{"a"}); err != nil || got.Tags[0] != m.Tags[0] {
			t.Errorf("%d: %+v, %v", i, got, err)
		}
	}
	tell := store.Notify{Channel: "c", Message: "m"}
	for _, c := range []store.Command{
		{Op: store.CompareAndDelete, Seen: store.TokenOf(make([]byte, store.TokenLen))}, {Op: store.Delete},
	} {
		c.Key, c.Notify = "k0", tell
		if r := do(t, s, c); r.Err != nil || !r.OK {
			t.Errorf("%v: %+v", c.Op, r)
		}
	}
}
