package invalidation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

// channels is a cluster that records what is published, by channel.
type channels struct {
	*storetest.Memory
	mu    sync.Mutex
	sent  map[string][]message.Message
	down  string // what is published on this channel fails
	tries int    // how often that was
}

func (*channels) Clustered() bool { return true }
func (*channels) OneNode() bool   { return false }

var errDown = errors.New("the node is down")

func (s *channels) Publish(ctx context.Context, n store.Notify) error {
	if n.Channel == s.down {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.tries++
		return errDown
	}
	s.note(n)
	return s.Memory.Publish(ctx, n)
}

func (s *channels) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	for i := range cmds {
		if cmds[i].Notifies() {
			s.note(cmds[i].Notify)
		}
	}
	return s.Memory.Do(ctx, cmds)
}

func (s *channels) note(n store.Notify) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := message.Parse(n.Message)
	if err != nil || !n.Sharded {
		panic(fmt.Sprint(n, err))
	}
	s.sent[n.Channel] = append(s.sent[n.Channel], m)
}

// Each message about keys goes out on the channel of their part, with keys of no other, and one about a
// pattern on all.
func TestMessagesGoOutByPart(t *testing.T) {
	var encoded []string
	for i := range 300 {
		encoded = append(encoded, fmt.Sprint("key", i))
	}
	for name, invalidate := range map[string]func(r *Invalidator) error{
		"keys": func(r *Invalidator) error {
			for _, o := range r.Keys(t.Context(), encoded) {
				if o.Err != nil {
					return o.Err
				}
			}
			return nil
		},
		"keys that are missing": func(r *Invalidator) error {
			r.Policy.Mode = Lazy
			for _, o := range r.Keys(t.Context(), encoded) {
				if o.Err != nil {
					return o.Err
				}
			}
			return nil
		},
		"a pattern": func(r *Invalidator) error {
			for _, enc := range encoded {
				if reply := r.Store.Do(t.Context(), []store.Command{{Op: store.Set, Key: r.Names.Data + enc, Frame: []byte("v")}})[0]; reply.Err != nil {
					return reply.Err
				}
			}
			m, err := r.Pattern(t.Context(), "key*", func(s string) string { return s })
			if int(m.Keys) != len(encoded) {
				t.Errorf("%d keys", m.Keys)
			}
			return err
		},
	} {
		st := &channels{Memory: storetest.NewMemory(), sent: map[string][]message.Message{}}
		g := client.New(st, time.Minute)
		names := store.NewNames("", "n")
		r := &Invalidator{
			Store: g, Names: names, Parts: names.Parted(true), Outbox: message.NewOutbox(message.NewSender()),
			Known: func(uint8) logicalclock.Known { return logicalclock.Known{} },
		}
		if err := invalidate(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var told []string
		for i, p := range r.Parts {
			patterns := 0
			for _, m := range st.sent[p.Channel] {
				if m.Kind == message.Pattern {
					patterns++
				}
				for _, k := range m.Keys {
					told = append(told, k)
					if store.PartOf(names.Data+k) != uint8(i) {
						t.Errorf("%s: %s is not in part %d", name, k, i)
					}
				}
			}
			if want := name == "a pattern"; (patterns == 1) != want {
				t.Errorf("%s: %d messages about patterns in part %d", name, patterns, i)
			}
		}
		slices.Sort(told)
		if want := slices.Sorted(slices.Values(encoded)); !slices.Equal(told, want) {
			t.Errorf("%s: %d keys are named, not %d", name, len(told), len(want))
		}
		g.Close()
	}
}

// Where there are several parts, a watermark says nothing but that the content of a message is lost, and says
// so once, to the part that it was for, also if the node of that is down for a while.
func TestALossIsToldToItsPartOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &channels{Memory: storetest.NewMemory(), sent: map[string][]message.Message{}}
		g := client.New(st, time.Minute)
		defer g.Close()
		names := store.NewNames("", "n")
		parts := names.Parted(true)
		r := &Invalidator{Store: g, Names: names, Parts: parts, Outbox: message.NewOutboxOf(message.NewSender(), len(parts))}
		keyOf := func(part int) string {
			for i := 0; ; i++ {
				if k := fmt.Sprint(i); store.PartOf(names.Data+k) == uint8(part) {
					return k
				}
			}
		}
		lose := func(part int) {
			_, sent := r.NotifyOf(message.Invalidated, keyOf(part))
			r.Outbox.GiveUp(sent.Resolve(true, errDown)...)
		}
		told := map[int]int{}
		check := func(when string) {
			t.Helper()
			for i, p := range parts {
				got := st.sent[p.Channel]
				if len(got) != told[i] || slices.ContainsFunc(got, func(n message.Message) bool { return !n.Unresolved }) {
					t.Errorf("%s, part %d is told %+v, not %d times", when, i, got, told[i])
				}
			}
		}
		_, sent := r.NotifyOf(message.Invalidated, "k")
		sent.Resolve(true, nil)
		r.Watermark(t.Context(), false)
		check("when nothing is lost")

		st.down = parts[3].Channel
		lose(3)
		lose(5)
		told[5] = 1
		for range 3 {
			r.Watermark(t.Context(), false)
		}
		if check("while a node is down"); st.tries != 1 {
			t.Errorf("%d attempts within a second", st.tries)
		}
		time.Sleep(lossesFirst)
		if r.Watermark(t.Context(), false); st.tries != 2 {
			t.Errorf("%d attempts after a second", st.tries)
		}
		st.down = ""
		time.Sleep(lossesMost)
		told[3] = 1
		for range 3 {
			r.Watermark(t.Context(), false)
		}
		check("when it is back")

		// What can't be published in time is published by the last watermark.
		st.down = parts[7].Channel
		lose(7)
		r.Watermark(t.Context(), false)
		st.down = ""
		_, open := r.NotifyOf(message.Invalidated, keyOf(9))
		open.Resolve(true, errDown)
		told[7], told[9] = 1, 1
		r.Watermark(t.Context(), true)
		check("at the end")
	})
}

// A number that is forgotten may have been of any part.
func TestWhatIsForgottenIsToldToAllParts(t *testing.T) {
	st := &channels{Memory: storetest.NewMemory(), sent: map[string][]message.Message{}}
	g := client.New(st, time.Minute)
	defer g.Close()
	names := store.NewNames("", "n")
	parts := names.Parted(true)
	r := &Invalidator{Store: g, Names: names, Parts: parts, Outbox: message.NewOutboxOf(message.NewSender(), len(parts))}
	r.Outbox.GiveUp(1 << 20)
	r.Watermark(t.Context(), false)
	for i, p := range parts {
		if got := st.sent[p.Channel]; len(got) != 1 {
			t.Errorf("part %d is told %d times", i, len(got))
		}
	}
}
