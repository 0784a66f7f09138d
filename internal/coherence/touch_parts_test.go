package coherence

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/retryqueue"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// parted is a cluster of two nodes that counts how often each part's clock is touched and read.
type parted struct {
	*storetest.Memory
	mu     sync.Mutex
	touch  map[string]int
	reads  map[string]int
	trips  int    // of reads
	frozen string // the node that does not answer; "": none
}

func newParted() *parted {
	return &parted{Memory: storetest.NewMemory(), touch: map[string]int{}, reads: map[string]int{}}
}

func (*parted) Clustered() bool { return true }
func (*parted) OneNode() bool   { return false }

func (*parted) Endpoint(key string) string {
	if store.SlotOf(key) < store.Slots/2 {
		return "low"
	}
	return "high"
}

// freeze has a node not answer; "": none.
func (s *parted) freeze(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = node
}

// at waits for as long as a node does not answer.
func (s *parted) at(ctx context.Context, key string) error {
	s.mu.Lock()
	frozen := s.frozen
	s.mu.Unlock()
	if frozen == "" || s.Endpoint(key) != frozen {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *parted) ReadClock(ctx context.Context, names store.Names, known logicalclock.Known, tags []string) (logicalclock.Reading, error) {
	s.mu.Lock()
	s.touch[names.Epoch]++
	s.mu.Unlock()
	if err := s.at(ctx, names.Epoch); err != nil {
		return logicalclock.Reading{}, err
	}
	return s.Memory.ReadClock(ctx, names, known, tags)
}

func (s *parted) AddTombstones(ctx context.Context, names store.Names, known logicalclock.Known, n logicalclock.NewTombstone) (logicalclock.Reading, error) {
	if err := s.at(ctx, names.Epoch); err != nil {
		return logicalclock.Reading{}, err
	}
	return s.Memory.AddTombstones(ctx, names, known, n)
}

func (s *parted) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	s.mu.Lock()
	s.trips++
	for i := range cmds {
		s.reads[cmds[i].Key]++
	}
	s.mu.Unlock()
	for i := range cmds {
		if err := s.at(ctx, cmds[i].Key); err != nil { // nor does it for any other command of the call
			replies := make([]store.Reply, len(cmds))
			for i := range replies {
				replies[i].Err = err
			}
			return replies
		}
	}
	return s.Memory.Do(ctx, cmds)
}

func (s *parted) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.touch)
	clear(s.reads)
	s.trips = 0
}

// tick is that of a part's clock in Redis; 0: none.
func (s *parted) tick(p *Part) int64 {
	r := s.Memory.Do(context.Background(), []store.Command{{Op: store.Get, Key: p.names.Epoch}})[0]
	e, _ := logicalclock.ParseEpoch(r.Record.Raw)
	return e.Tick
}

// keysOf returns a key of each part of a cache, as it is encoded.
func keysOf(a *Coordinator) []string {
	keys, left := make([]string, len(a.parts)), len(a.parts)
	for i := 0; left > 0; i++ {
		k := fmt.Sprint(i)
		if p := a.Of(a.cfg.Names.Data + k); keys[p.of] == "" {
			keys[p.of], left = k, left-1
		}
	}
	return keys
}

// fleet makes coordinators of one cache, which look after their clocks at different times, and lets
// them come to rest.
func fleet(t *testing.T, transport Transport, st store.Store, n int) []*Coordinator {
	all := make([]*Coordinator, n)
	for i := range all {
		all[i], _ = onNames(t, store.NewNames("", "n"), transport, true, st)
		all[i].Ready(t.Context())
	}
	time.Sleep(renewLifeFirst + 20*time.Second)
	for _, a := range all {
		if transport != None && !a.LocalValid(now()) || len(a.parts) != store.Parts {
			t.Fatal("a process is not connected, or has other parts")
		}
	}
	return all
}

// notice has another process write a key.
func notice(t *testing.T, a *Coordinator, number uint64, key string) {
	t.Helper()
	n := message.Message{Sender: 100, Number: number, Base: number - 1, Kind: message.Invalidated, Keys: []string{key}}
	if err := a.cfg.Client.Publish(t.Context(), store.Notify{Channel: a.invalidator.NamesOf(a.cfg.Names.Data + key).Channel, Message: string(n.Append(nil))}); err != nil {
		t.Fatal(err)
	}
}

// An event has a clock touched by one of the processes that have heard of it. Each of them knows a
// greater tick then than any state from before the event has.
func TestOneProcessTouchesTheClockOfAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newParted()
		all := fleet(t, Broadcast, st, 8)
		keys := keysOf(all[0])
		var number uint64
		for part, key := range keys {
			before := st.tick(all[0].parts[part])
			st.reset()
			number++
			notice(t, all[0], number, key)
			time.Sleep(2*time.Second + tick)
			for i, a := range all {
				if k := a.parts[part].Clock.Known(); k.Tick <= before {
					t.Errorf("part %d: process %d knows %d, and it was %d before", part, i, k.Tick, before)
				}
			}
			time.Sleep(time.Minute)
			name := all[0].parts[part].names.Epoch
			st.mu.Lock()
			if touched := len(st.touch); touched != 1 || st.touch[name] != 1 {
				t.Errorf("part %d: touched %v", part, st.touch)
			}
			// Beside what the session looks at: each of them twice, and once more whether it moves on.
			if n := st.reads[name] - st.reads[all[0].parts[(part+1)%len(keys)].names.Epoch]; n < 2*len(all) || n > 3*len(all) {
				t.Errorf("part %d: read %d times", part, n)
			}
			st.mu.Unlock()
		}
	})
}

// How often the clocks of a busy cache are touched does not depend on the number of its processes.
func TestTheClocksOfPartsAreTouchedByTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newParted()
		all := fleet(t, Broadcast, st, 8)
		keys := keysOf(all[0])
		var number uint64
		type event struct {
			at   time.Time
			part int
			tick int64
		}
		var events []event
		st.reset()
		const seconds = 30
		for end := time.Now().Add(seconds * time.Second); time.Now().Before(end); time.Sleep(11 * time.Millisecond) {
			part := int(number) % len(keys)
			events = append(events, event{time.Now(), part, st.tick(all[0].parts[part])})
			number++
			notice(t, all[0], number, keys[part])
			for ; time.Since(events[0].at) >= 2*time.Second+tick; events = events[1:] {
				for i, a := range all {
					if k := a.parts[events[0].part].Clock.Known(); k.Tick <= events[0].tick {
						t.Fatalf("process %d knows %d of part %d, and it was %d before an event", i, k.Tick, events[0].part, events[0].tick)
					}
				}
			}
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		for name, n := range st.touch {
			if n < seconds/3 || n > 2*seconds {
				t.Errorf("%s is touched %d times in %d seconds", name, n, seconds)
			}
		}
		// Each process reads what is on a node in one go, once a second; the session reads all now and then.
		if most := len(all) * (2*seconds + seconds/2); st.trips > most {
			t.Errorf("%d round trips, at most %d", st.trips, most)
		}
	})
}

// A node that does not answer keeps no clock of another node from being touched in time.
func TestClocksAreTouchedBesideANodeThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newParted()
		a := fleet(t, Broadcast, st, 1)[0]
		keys := keysOf(a)
		st.freeze("low")
		for i := range uint64(20) {
			before := make([]int64, len(keys))
			for part, key := range keys {
				before[part] = st.tick(a.parts[part])
				notice(t, a, i*uint64(len(keys))+uint64(part)+1, key)
			}
			time.Sleep(2*time.Second + 10*time.Millisecond)
			for part := range keys {
				p := a.parts[part]
				if down := st.Endpoint(p.names.Epoch) == "low"; !down && p.Clock.Known().Tick <= before[part] {
					t.Fatalf("part %d: %d is known, and it was %d before", part, p.Clock.Known().Tick, before[part])
				}
			}
		}
		st.freeze("")
		was := make([]int64, len(keys))
		for part := range keys {
			was[part] = st.tick(a.parts[part])
		}
		time.Sleep(4 * time.Second)
		for part := range keys {
			if k := a.parts[part].Clock.Known(); k.Tick <= was[part] && st.Endpoint(a.parts[part].names.Epoch) == "low" {
				t.Errorf("part %d: %d is known after the outage, and it was %d", part, k.Tick, was[part])
			}
		}
	})
}

// Nor does it where nothing is received, and each process loads.
func TestTheClocksOfPartsAreTouchedByTheCacheWithoutATransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newParted()
		all := fleet(t, None, st, 8)
		for _, a := range all {
			for _, p := range a.parts {
				if err := p.FetchTombstones(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		st.reset()
		const seconds = 30
		for range seconds * 10 {
			for _, a := range all {
				for _, p := range a.parts {
					p.use()
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		st.mu.Lock()
		for _, p := range all[0].parts {
			if n := st.touch[p.names.Epoch]; n < seconds/3 || n > 2*seconds {
				t.Errorf("part %d is touched %d times in %d seconds", p.of, n, seconds)
			}
		}
		st.mu.Unlock()
		time.Sleep(3 * time.Second)
		st.reset()
		time.Sleep(30 * time.Second)
		if len(st.touch) != 0 || len(st.reads) != 0 {
			t.Errorf("touched %v and read %v while nothing happens", st.touch, st.reads)
		}
		// What fails is not tried again until there is an operation.
		st.freeze("low")
		for _, p := range all[0].parts {
			p.use()
		}
		time.Sleep(5 * time.Second)
		st.reset()
		time.Sleep(30 * time.Second)
		if len(st.touch) != 0 || len(st.reads) != 0 {
			t.Errorf("touched %v and read %v in an outage", st.touch, st.reads)
		}
	})
}

// What is wrong with a clock is mended in the round that finds it.
func TestAClockOfAPartThatIsWrongIsTouched(t *testing.T) {
	for name, raw := range map[string]string{"gone": "", "no clock": "x", "another": "e1 7 1 1 1 0 0 0 0 0", "older": "older"} {
		synctest.Test(t, func(t *testing.T) {
			st := newParted()
			a := fleet(t, Broadcast, st, 1)[0]
			p, key := a.parts[3], keysOf(a)[3]
			known := p.Clock.Known()
			c := store.Command{Op: store.Set, Key: p.names.Epoch, Frame: []byte(raw), TTL: time.Hour}
			switch raw {
			case "":
				c = store.Command{Op: store.Delete, Key: p.names.Epoch}
			case "older":
				e, _ := logicalclock.ParseEpoch(st.Memory.Do(t.Context(), []store.Command{{Op: store.Get, Key: p.names.Epoch}})[0].Record.Raw)
				e.Tick--
				c.Frame = []byte(text(e))
			}
			st.Memory.Do(t.Context(), []store.Command{c})
			st.reset()
			notice(t, a, 1, key)
			time.Sleep(time.Second + 10*time.Millisecond)
			if k := p.Clock.Known(); st.touch[p.names.Epoch] == 0 || st.tick(p) <= known.Tick || k.Tick < st.tick(p) {
				t.Errorf("%s: %+v is known, was %+v; touched %v", name, k, known, st.touch)
			}
		})
	}
}

// A rest of a part counts for no longer than the writes that have ended it are replayed.
func TestARestOfAPartCountsWhileWritesAreReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newParted()
		a := fleet(t, Broadcast, st, 1)[0]
		p, key := a.parts[5], keysOf(a)[5]
		for after := range 20 {
			time.Sleep(2*time.Minute + 50*time.Millisecond) // at all times between two rounds
			was := p.Clock.Known()
			wrote := now()
			a.noted(retryqueue.Item{Key: a.cfg.Names.Data + key}, wrote)
			for a.recent.Any(now()) { // without a Claim, which would note sooner that the rest is over
				time.Sleep(10 * time.Millisecond)
			}
			p.rest.mu.Lock()
			reduced := p.rest.until > wrote
			p.rest.mu.Unlock()
			if k := p.Clock.Known(); a.Claim(p.of) != k || k.Tick == was.Tick || !reduced {
				t.Errorf("%d: %+v is claimed of %+v, was %+v; less was claimed: %v", after, a.Claim(p.of), k, was, reduced)
			}
		}
	})
}
