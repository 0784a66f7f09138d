package invalidation

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/logicalclock"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/storetest"
)

var (
	errLost = errors.New("no answer") // it may have been carried out
	names   = store.Names{Data: "n:", Channel: "news", Epoch: "epoch", Tags: "tags"}
)

// scripted is a store in memory that a test has fail, or others write to in between.
type scripted struct {
	*storetest.Memory
	mu     sync.Mutex                        // pieces of a call go at the same time
	nodes  bool                              // there are several
	before func(cmds []store.Command)        // called before commands are carried out
	lose   func(c *store.Command) error      // the error of a command instead of its reply
	late   func() error                      // that of a message
	now    func(key string) error            // that of a look at the clock
	ask    func() ([]string, error)          // Masters
	scan   func(master string) (bool, error) // the error of a Scan, if true
	found  []string                          // what a Scan finds, if not nil
	told   []message.Message                 // what was sent
	wide   []string                          // what was sent also on the control channel
	do     [][]store.Command                 // the calls of Do
}

func (s *scripted) OneNode() bool { return !s.nodes }

func (s *scripted) Do(ctx context.Context, cmds []store.Command) []store.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.before != nil {
		s.before(cmds)
	}
	s.do = append(s.do, slices.Clone(cmds))
	replies := s.Memory.Do(ctx, cmds)
	for i := range cmds {
		if t := cmds[i].Notify; t.Channel != "" {
			s.tell(t)
		}
		if s.lose != nil {
			if err := s.lose(&cmds[i]); err != nil {
				replies[i] = store.Reply{Err: err}
			}
		}
	}
	return replies
}

func (s *scripted) tell(t store.Notify) {
	n, err := message.Parse(t.Message)
	if err != nil || t.Channel != names.Channel {
		panic("not a notice")
	}
	s.told = append(s.told, n)
}

func (s *scripted) Publish(ctx context.Context, t store.Notify) error {
	s.tell(t)
	if t.Wide {
		s.wide = append(s.wide, t.Message)
	}
	if s.late != nil {
		if err := s.late(); err != nil {
			return err
		}
	}
	return s.Memory.Publish(ctx, t)
}

func (s *scripted) Now(ctx context.Context, key string) (int64, error) {
	if s.now != nil {
		if err := s.now(key); err != nil {
			return 0, err
		}
	}
	return s.Memory.Now(ctx, key)
}

func (s *scripted) Masters(ctx context.Context) ([]string, error) {
	if s.ask != nil {
		return s.ask()
	}
	return s.Memory.Masters(ctx)
}

func (s *scripted) Scan(ctx context.Context, master, pattern string, cursor uint64) ([]string, uint64, error) {
	if s.scan != nil {
		if is, err := s.scan(master); is {
			return nil, 0, err
		}
	}
	if s.found != nil {
		return s.found, 0, nil
	}
	return s.Memory.Scan(ctx, "", pattern, cursor)
}

// put stores without a script.
func (s *scripted) put(enc string, raw []byte) {
	s.Memory.Do(context.Background(), []store.Command{{Op: store.Set, Key: names.Data + enc, Frame: raw, TTL: time.Hour}})
}

func (s *scripted) record(enc string) store.Record {
	return s.Memory.Do(context.Background(), []store.Command{{Op: store.Get, Key: names.Data + enc}})[0].Record
}

func (s *scripted) head(t *testing.T, enc string) frame.Header {
	t.Helper()
	h, err := frame.ReadHead(s.record(enc).Raw)
	if err != nil {
		t.Fatalf("%s: %v", enc, err)
	}
	return h
}

// dropped returns the keys of the messages, and checks that there is nothing else.
func (s *scripted) dropped(t *testing.T) (list []string) {
	t.Helper()
	for _, n := range s.told {
		if n.Kind != message.Invalidated {
			t.Errorf("a notice of kind %d", n.Kind)
		}
		list = append(list, n.Keys...)
	}
	slices.Sort(list)
	return list
}

func newRevoker(t *testing.T, p Policy) (*Invalidator, *scripted) {
	s := &scripted{Memory: storetest.NewMemory()}
	g := client.New(s, time.Minute)
	t.Cleanup(g.Close)
	return &Invalidator{Store: g, Names: names, Policy: p, Outbox: message.NewOutbox(1), Known: func(uint8) logicalclock.Known { return logicalclock.Known{} }}, s
}

// value is a record that is fresh for an hour unless limit ends that.
func value(kind frame.Kind, limit int64) []byte {
	h := frame.Header{Kind: kind, ID: frame.NewID(), Limit: limit, Stored: 1, Fresh: 3_600_000_000}
	raw, err := frame.Finish(append(frame.AppendHeader(nil, &h), "payload"...), 0, "n:k")
	if err != nil {
		panic(err)
	}
	return raw
}

// isSettled reports whether no number is open in an outbox.
func isSettled(o *message.Outbox) bool {
	n, sent := o.Next(0)
	sent.Resolve(true, nil)
	tally, _ := o.Watermark(false)
	return tally.Number == n.Number
}

// settledBy checks that exactly these numbers are open.
func settledBy(t *testing.T, o *message.Outbox, open []uint64) {
	t.Helper()
	for _, n := range open {
		if isSettled(o) {
			t.Errorf("nothing is open, want %d of %d", n, open)
		}
		if o.IsOwnEcho(n) {
			t.Errorf("the echo of %d is skipped", n)
		}
		o.Skip(n)
	}
	if !isSettled(o) {
		t.Errorf("more is open than %d", open)
	}
}

func quote(s string) string { return keys.QuotePattern(s) }
