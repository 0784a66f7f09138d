package redisstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// newMigration is of the slot of a key, to any other master.
func newMigration(t *testing.T, cluster *redistest.Cluster, client *redis.ClusterClient, key string) *migration {
	t.Helper()
	ctx := t.Context()
	m := &migration{slot: client.ClusterKeySlot(ctx, key).Val()}
	home, err := client.MasterForKey(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	// A node takes a slot by an epoch that is greater than those that it knows, and it has to
	// know that of the node before. If it is not, nodes disagree for good on whose the slot is.
	for epochs := map[string]bool{}; len(epochs) != 1; {
		clear(epochs)
		for _, s := range cluster.Nodes {
			info, err := s.Client(t).ClusterInfo(ctx).Result()
			if err != nil {
				t.Fatal(err)
			}
			_, epoch, _ := strings.Cut(info, "cluster_current_epoch:")
			epoch, _, _ = strings.Cut(epoch, "\r")
			epochs[epoch] = true
		}
	}
	for _, s := range cluster.Nodes {
		c := s.Client(t)
		id, err := c.ClusterMyID(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		if port(c) == port(home) {
			m.from, m.ids[0] = c, id
		} else {
			m.to, m.ids[1] = c, id
		}
	}
	return m
}

// tellings returns what waits for the next message on a channel that has not been heard
// before. It listens to each node, since what they pass on may be lost while slots move.
func tellings(t *testing.T, cluster *redistest.Cluster, channel string) func(t *testing.T) string {
	t.Helper()
	heard, seen := make(chan string, 100), map[string]bool{}
	for _, s := range cluster.Nodes {
		sub := s.Client(t).Subscribe(t.Context(), channel)
		t.Cleanup(func() { sub.Close() })
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		shardSubscribe(t, sub, channel)
		go func() {
			for m := range sub.Channel() {
				heard <- m.Payload
			}
		}()
	}
	return func(t *testing.T) string {
		t.Helper()
		for {
			select {
			case m := <-heard:
				if !seen[m] {
					seen[m] = true
					return m
				}
			case <-time.After(enough):
				t.Fatal("nothing is told")
			}
		}
	}
}

// While the slot of a logical clock moves, whichever of its keys have been moved, or are not
// there, marks are made and known as ever.
func TestMarksWorkWhileTheirSlotMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	client := cluster.Client(t)
	s := newReal(t, client)
	ctx := t.Context()
	n := 0
	for first, prepare := range map[string]func(names store.Names) error{
		"nothing is there": func(store.Names) error { return nil },
		"an epoch": func(names store.Names) error {
			_, err := s.AddTombstones(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{})
			return err
		},
		"an epoch and tags": func(names store.Names) error {
			_, err := s.AddTombstones(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"old"}})
			return err
		},
		"an epoch without its tags": func(names store.Names) error {
			if _, err := s.AddTombstones(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"old"}}); err != nil {
				return err
			}
			return client.Del(ctx, names.Tags).Err()
		},
		"tags without an epoch": func(names store.Names) error {
			if _, err := s.AddTombstones(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{"old"}}); err != nil {
				return err
			}
			return client.Del(ctx, names.Epoch).Err()
		},
		"tags of another epoch": func(names store.Names) error {
			if _, err := s.AddTombstones(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{}); err != nil {
				return err
			}
			return client.HSet(ctx, names.Tags, "", "1", "t:old", "m1 1 0 0 0").Err()
		},
		"other types": func(names store.Names) error {
			if err := client.RPush(ctx, names.Tags, "x").Err(); err != nil {
				return err
			}
			return client.RPush(ctx, names.Epoch, "x").Err()
		},
	} {
		for _, moved := range [][]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
			t.Run(fmt.Sprint(first, ", moved: ", moved), func(t *testing.T) {
				n++
				names := store.NewNames("p", fmt.Sprint("n", n))
				if err := prepare(names); err != nil {
					t.Fatal(err)
				}
				told := tellings(t, cluster, names.Channel)
				m := newMigration(t, cluster, client, names.Epoch)
				m.begin(t)
				for i, key := range []string{names.Epoch, names.Tags} {
					if moved[i] && client.Exists(ctx, key).Val() == 1 {
						m.move(t, key)
					}
				}
				var known logicalclock.Known
				learn := func(got logicalclock.Reading, err error) logicalclock.Reading {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
					if got.Epoch.Tick <= known.Tick || got.Epoch.Clock < known.Clock || known.Epoch != 0 && got.Epoch.ID != known.Epoch {
						t.Fatalf("%+v after %+v", got, known)
					}
					known = logicalclock.Known{Epoch: got.Epoch.ID, Tick: got.Epoch.Tick, Clock: got.Epoch.Clock}
					return got
				}
				agreed := func() (got logicalclock.Reading, err error) { // by the nodes, on who has the slot
					for got, err = s.ReadClock(ctx, names, known, nil); redis.HasErrorPrefix(err, "MOVED"); {
						time.Sleep(10 * time.Millisecond)
						got, err = s.ReadClock(ctx, names, known, nil)
					}
					return got, err
				}
				learn(agreed())
				cleared := learn(s.AddTombstones(ctx, names, known, logicalclock.NewTombstone{Channel: names.Channel, Message: "m\n"}))
				if cleared.Epoch.All.Hard != cleared.Epoch.Clock {
					t.Errorf("after everything is marked: %+v", cleared)
				}
				if got := told(t); got != string(cleared.AppendText([]byte("m\n"))) {
					t.Errorf("heard %q of %+v", got, cleared)
				}
				learn(s.ReadClock(ctx, names, known, []string{"a", "old"}))
				marked := learn(s.AddTombstones(ctx, names, known, logicalclock.NewTombstone{Tags: []string{"a", "b"}, Channel: names.Channel, Message: "m\n"}))
				if marked.Epoch.Clock <= cleared.Epoch.Clock || marked.Tags[0].Hard <= cleared.Epoch.Clock || marked.Tags[1].Hard <= cleared.Epoch.Clock {
					t.Errorf("after tags are marked: %+v, after %+v", marked, cleared)
				}
				if got, ok := logicalclock.ParseReading(strings.TrimPrefix(told(t), "m\n"), 2); !ok || got.Tags[0] != marked.Tags[0] || got.Tags[1] != marked.Tags[1] || got.Epoch.Clock != marked.Epoch.Clock {
					t.Errorf("heard %+v of %+v", got, marked)
				}
				soft := learn(s.AddTombstones(ctx, names, known, logicalclock.NewTombstone{Tags: []string{"a"}, Mode: logicalclock.Soft}))
				late := learn(s.AddTombstones(ctx, names, known, logicalclock.NewTombstone{Tags: []string{"b"}, Mode: logicalclock.Delayed, Delay: 3_600_000_000}))
				want := []logicalclock.Tombstone{{Hard: marked.Tags[0].Hard, Soft: soft.Epoch.Clock}, {Hard: marked.Tags[1].Hard, Next: late.Epoch.Clock, When: late.Tags[0].When}, {}}
				check := func(when string) {
					t.Helper()
					got := learn(s.ReadClock(ctx, names, known, []string{"a", "b", "c"}))
					for i := range want {
						if got.Tags[i] != want[i] {
							t.Errorf("%s: mark %d is %+v instead of %+v", when, i, got.Tags[i], want[i])
						}
					}
				}
				check("while it moves")
				for _, key := range []string{names.Epoch, names.Tags} {
					m.move(t, key)
				}
				check("all is moved")
				m.end(t)
				learn(agreed())
				check("afterwards")
				for _, key := range []string{names.Epoch, names.Tags} {
					if left := client.PTTL(ctx, key).Val(); left <= 0 || left > logicalclock.ClockLife {
						t.Errorf("%s lives for %v", key, left)
					}
				}
			})
		}
	}
}

// A mark in steps touches the epoch several times. It says what it has found first.
func TestMarksInStepsSayWhatTheyHaveFound(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx, s, names := t.Context(), newReal(t, b.Client), store.NewNames(b.Prefix, "x")
		tags := []string{"a"}
		before, err := s.AddTombstones(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: tags})
		if err != nil {
			t.Fatal(err)
		}
		for name, ask := range map[string]func(known logicalclock.Known) (logicalclock.Reading, error){
			"read": func(known logicalclock.Known) (logicalclock.Reading, error) {
				return s.ReadClockInSteps(ctx, names, known, tags)
			},
			"mark": func(known logicalclock.Known) (logicalclock.Reading, error) {
				return s.AddTombstonesInSteps(ctx, names, known, &logicalclock.NewTombstone{Tags: tags})
			},
		} {
			ahead := logicalclock.Known{Epoch: before.Epoch.ID, Tick: before.Epoch.Tick + logicalclock.LostFor/2, Clock: before.Epoch.Clock}
			m, err := ask(ahead)
			if err != nil || m.Found != before.Epoch.Tick || !m.Repaired(ahead) || m.Epoch.Tick <= ahead.Tick {
				t.Errorf("%s: %+v, %v, found %d instead of %d", name, m, err, m.Found, before.Epoch.Tick)
			}
			if before, err = s.ReadClock(ctx, names, logicalclock.Known{}, tags); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Some mark in steps while others do it at once, since they see the slot otherwise: what has
// been acknowledged is in every later answer, whatever happens to the keys in between.
func TestMarksInStepsAgreeWithMarksAtOnce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		ctx, s, names := t.Context(), newReal(t, b.Client), store.NewNames(b.Prefix, "x")
		tags := []string{"a", "b", "c", "d"}
		var acked [4]atomic.Int64 // of the epoch
		var wg sync.WaitGroup
		for g := range uint64(6) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(g, 1))
				marks, mark := s.ReadClock, s.AddTombstones
				if g%2 == 0 {
					marks = s.ReadClockInSteps
					mark = func(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (logicalclock.Reading, error) {
						return s.AddTombstonesInSteps(ctx, names, known, &n)
					}
				}
				for range redistest.Times(50, 150) {
					i := r.IntN(len(tags))
					switch r.IntN(12) {
					case 0: // evicted
						b.Client.Del(ctx, names.Tags)
					case 1, 2, 3, 4:
						m, err := mark(ctx, names, logicalclock.Known{}, logicalclock.NewTombstone{Tags: []string{tags[i]}})
						if err == nil {
							for at := acked[i].Load(); m.Tags[0].Hard > at && !acked[i].CompareAndSwap(at, m.Tags[0].Hard); at = acked[i].Load() {
							}
						}
						if err == redisstore.ErrSteps {
							continue // not acknowledged
						}
						if err != nil {
							t.Error(err)
							return
						}
						if last := max(m.Tags[0].Hard, m.Tags[0].Next); last > m.Epoch.Clock || m.Tags[0].Hard == 0 {
							t.Errorf("a mark of %+v", m)
						}
					default:
						least := acked[i].Load()
						m, err := marks(ctx, names, logicalclock.Known{}, []string{tags[i]})
						if err == redisstore.ErrSteps {
							continue
						}
						if err != nil {
							t.Error(err)
							return
						}
						if got := m.Tags[0].Hard; max(got, m.Epoch.LowWatermark) < least || got > m.Epoch.Clock {
							t.Errorf("%s was marked at %d, and %d is known: %+v", tags[i], least, got, m)
							return
						}
					}
				}
			})
		}
		wg.Wait()
	})
}
