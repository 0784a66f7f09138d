package invalidation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/message"
	"github.com/delqhi/cache/internal/store"
)

// patterns returns the patterns and the keys of the messages.
func (s *scripted) patterns() (patterns, keys []string) {
	for _, n := range s.told {
		if n.Kind == message.Pattern {
			patterns = append(patterns, n.Pattern)
		}
		keys = append(keys, n.Keys...)
	}
	slices.Sort(keys)
	return patterns, keys
}

func TestAPatternIsRevokedByThePolicy(t *testing.T) {
	for _, p := range []Policy{{}, {Mode: Lazy}, {Mode: Delayed, Delay: time.Second}} {
		r, s := newRevoker(t, p)
		var keys []string
		for i := range 2*scanBatch + 7 {
			keys = append(keys, fmt.Sprintf("u:%04d", i))
			s.put(keys[i], value(frame.Value, math.MaxInt64))
		}
		s.put("other", value(frame.Value, math.MaxInt64))
		m, err := r.Pattern(t.Context(), "u:*", quote)
		if err != nil || m.Keys != int64(len(keys)) || len(m.Open) != 0 {
			t.Errorf("%d: %d keys, open %d, %v", p.Mode, m.Keys, m.Open, err)
		}
		for _, k := range keys {
			if gone := s.record(k).State == store.Missing; gone != (p.Mode == Immediate) || !gone && s.head(t, k).Limit == math.MaxInt64 {
				t.Fatalf("%d: %s is as it was", p.Mode, k)
			}
		}
		if s.head(t, "other").Limit != math.MaxInt64 {
			t.Errorf("%d: another key was revoked", p.Mode)
		}
		if patterns, told := s.patterns(); !slices.Equal(patterns, []string{"u:*"}) || !slices.Equal(told, keys) || len(s.told) > 8 {
			t.Errorf("%d: %d notices, of %q and %d keys", p.Mode, len(s.told), patterns, len(told))
		}
		settledBy(t, r.Outbox, nil)
	}
}

func TestAPatternThatNothingMatchesIsTold(t *testing.T) {
	r, s := newRevoker(t, Policy{})
	m, err := r.Pattern(t.Context(), "u:*", quote)
	if err != nil || m.Keys != 0 || len(s.told) != 1 || s.told[0].Pattern != "u:*" {
		t.Errorf("%+v, %v, %+v", m, err, s.told)
	}
	if len(s.wide) != 1 || s.wide[0] != string(s.told[0].Append(nil)) {
		t.Errorf("on the control channel: %q", s.wide)
	}
	settledBy(t, r.Outbox, nil)
}

// A scan may find a key twice, and a client that adds a prefix something else.
func TestAKeyThatIsFoundTwiceCountsOnce(t *testing.T) {
	r, s := newRevoker(t, Policy{})
	var m Matched
	if err := r.batch(t.Context(), []string{"n:a", "n:", "n:a", "n"}, nil, &m); err != nil || m.Keys != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, keys := s.patterns(); !slices.Equal(keys, []string{"", "a"}) {
		t.Errorf("%q", keys)
	}
}

// A master that fails keeps no other from being gone through, unless the caller has left.
func TestEveryMasterIsGoneThrough(t *testing.T) {
	r, s := newRevoker(t, Policy{})
	s.put("u:1", value(frame.Value, math.MaxInt64))
	s.ask = func() ([]string, error) { return []string{"a", "b", "c"}, nil }
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int32
	s.scan = func(master string) (bool, error) {
		asked.Add(1)
		return master != "b", fmt.Errorf("%s: %w", master, errLost)
	}
	m, err := r.Pattern(ctx, "u:*", quote)
	if m.Keys != 1 || !errors.Is(err, errLost) || !strings.Contains(err.Error(), "a:") || !strings.Contains(err.Error(), "c:") || asked.Load() != 3 {
		t.Errorf("%+v, %v, %d asked", m, err, asked.Load())
	}
	if patterns, _ := s.patterns(); len(patterns) != 1 {
		t.Error("the pattern was not told")
	}
	asked.Store(0)
	scan := s.scan
	s.scan = func(master string) (bool, error) { cancel(); return scan(master) } // Pattern may return before it does
	if _, err := r.Pattern(ctx, "u:*", quote); err == nil || asked.Load() > 1 || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("%v, %d asked", err, asked.Load())
	}
}

func TestMastersAreAskedForAgain(t *testing.T) {
	first := errors.New("the first")
	for name, c := range map[string]struct {
		err   error
		until int
		asked int
		ok    bool
	}{
		"at once": {nil, 0, 1, true}, "after a while": {errLost, 3, 4, true}, "never": {errLost, 100, mastersAgain, false},
		"refused": {client.ErrOpen, 100, 2, false},
	} {
		r, s := newRevoker(t, Policy{})
		asked := 0
		s.ask = func() ([]string, error) {
			asked++
			switch {
			case asked > c.until:
				return nil, nil
			case asked == 1:
				return nil, first
			}
			return nil, c.err
		}
		_, err := r.Pattern(t.Context(), "u:*", quote)
		if (err == nil) != c.ok || !c.ok && !errors.Is(err, first) || asked != c.asked {
			t.Errorf("%s: %v, asked %d times", name, err, asked)
		}
	}
	r, s := newRevoker(t, Policy{})
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	s.ask = func() ([]string, error) { asked++; cancel(); return nil, errLost }
	if _, err := r.Pattern(ctx, "u:*", quote); err == nil || asked != 1 || len(s.told) != 0 {
		t.Errorf("%v, asked %d times by one who has left", err, asked)
	}
}

// What is told where something failed: keys that were refused are as they were.
func TestAPatternThatFailsInPart(t *testing.T) {
	for name, c := range map[string]struct {
		policy   Policy
		err      error
		failing  []string
		keys     int64
		told     []string
		patterns int
	}{
		"one is refused":    {Policy{}, client.ErrOpen, []string{"u:1"}, 1, []string{"u:2"}, 1},
		"all are refused":   {Policy{}, client.ErrOpen, []string{"u:1", "u:2"}, 0, nil, 0},
		"one is lost":       {Policy{}, errLost, []string{"u:1"}, 1, []string{"u:1", "u:2"}, 1},
		"all are lost":      {Policy{}, errLost, []string{"u:1", "u:2"}, 0, []string{"u:1", "u:2"}, 1},
		"one is lost, lazy": {Policy{Mode: Lazy}, errLost, []string{"u:1"}, 1, []string{"u:1", "u:2"}, 1},
	} {
		r, s := newRevoker(t, c.policy)
		s.put("u:1", value(frame.Value, math.MaxInt64))
		s.put("u:2", value(frame.Value, math.MaxInt64))
		s.lose = func(cmd *store.Command) error {
			if cmd.Op != store.GetHeader && slices.Contains(c.failing, cmd.Key[len(names.Data):]) {
				return c.err
			}
			return nil
		}
		m, err := r.Pattern(t.Context(), "u:*", quote)
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), fmt.Sprintf("%d of 2", len(c.failing))) || m.Keys != c.keys || len(m.Open) != 0 {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if patterns, told := s.patterns(); len(patterns) != c.patterns || !slices.Equal(told, c.told) {
			t.Errorf("%s: told %q and %q", name, patterns, told)
		}
		if len(c.told) == 0 && len(s.told) != 0 {
			t.Errorf("%s: an empty notice", name)
		}
		settledBy(t, r.Outbox, nil)
	}
	r, s := newRevoker(t, Policy{})
	s.put("u:1", value(frame.Value, math.MaxInt64))
	s.late = func() error { return errLost }
	m, err := r.Pattern(t.Context(), "u:*", quote)
	if !errors.Is(err, errLost) || m.Keys != 1 || len(m.Open) != 2 {
		t.Errorf("not told: %+v, %v", m, err)
	}
	settledBy(t, r.Outbox, m.Open)
	m, err = r.Pattern(t.Context(), "v:*", quote)
	if !errors.Is(err, errLost) || m.Keys != 0 || len(m.Open) != 1 {
		t.Errorf("not told, of no key: %+v, %v", m, err)
	}
	settledBy(t, r.Outbox, m.Open)
}

// Others have their turn between the steps, however many keys a scan finds at once.
func TestAPatternGoesInSteps(t *testing.T) {
	r, s := newRevoker(t, Policy{})
	for i := range 2*scanBatch + 1 {
		s.found = append(s.found, fmt.Sprint("n:", i))
	}
	m, err := r.Pattern(t.Context(), "*", quote)
	if err != nil || m.Keys != int64(len(s.found)) {
		t.Errorf("%+v, %v", m, err)
	}
	for _, n := range s.told {
		if len(n.Keys) > scanBatch {
			t.Errorf("%d keys in one step", len(n.Keys))
		}
	}
}

// A key that was found and is gone when it is looked at is told with the others.
func TestAKeyThatIsGoneIsToldWithItsPattern(t *testing.T) {
	r, s := newRevoker(t, Policy{Mode: Lazy})
	s.put("u:1", value(frame.Value, math.MaxInt64))
	s.found = []string{"n:u:1", "n:u:2"}
	m, err := r.Pattern(t.Context(), "u:*", quote)
	if err != nil || m.Keys != 1 || len(s.told) != 2 {
		t.Errorf("%+v, %v, told %+v", m, err, s.told)
	}
	if _, keys := s.patterns(); !slices.Equal(keys, []string{"u:1", "u:2"}) {
		t.Errorf("notified of %q", keys)
	}
}

// An attempt that is made again spares what is of a later time, and what comes in between is
// looked at as well. By whatever policy, the rest goes.
func TestAPatternAgainSparesWhatIsNewer(t *testing.T) {
	r, s := newRevoker(t, Policy{Mode: Lazy})
	fresh := value(frame.Value, 77)
	for k, raw := range map[string][]byte{"u:old": value(frame.Value, 1), "u:new": fresh, "u:between": value(frame.Value, 1), "u:gone": value(frame.Value, 1), "u:replaced": value(frame.Value, 1)} {
		s.put(k, raw)
	}
	between := true
	s.before = func(cmds []store.Command) {
		switch {
		case cmds[0].Op == store.GetHeader && between:
			s.Memory.Do(context.Background(), []store.Command{{Op: store.Delete, Key: "n:u:gone"}})
		case cmds[0].Op == store.CompareAndDelete && between:
			between = false
			s.put("u:between", fresh)
			s.put("u:replaced", value(frame.Value, 2))
		}
	}
	var looked []string
	m, err := r.PatternAgain(t.Context(), "u:*", quote, func(key string, rec store.Record) bool {
		looked = append(looked, key)
		h, err := frame.ReadHead(rec.Raw)
		return err == nil && h.Limit == 77
	})
	if err != nil || m.Keys != 2 || slices.Contains(looked, "n:u:gone") {
		t.Errorf("%+v, %v, looked at %q", m, err, looked)
	}
	for k, there := range map[string]bool{"u:old": false, "u:new": true, "u:between": true, "u:replaced": false} {
		if is := s.record(k).State == store.Found; is != there {
			t.Errorf("%s is there: %v", k, is)
		}
	}
	if patterns, _ := s.patterns(); len(patterns) != 1 {
		t.Error("the pattern was not told")
	}
	settledBy(t, r.Outbox, nil)
}

// An attempt that is made again and comes to nothing tells no pattern: that was told before.
func TestAPatternAgainThatFailsIsNotTold(t *testing.T) {
	for _, op := range []store.Op{store.GetHeader, store.CompareAndDelete} {
		r, s := newRevoker(t, Policy{})
		s.put("u:1", value(frame.Value, 1))
		s.put("u:2", value(frame.Value, 1))
		s.lose = func(c *store.Command) error {
			if c.Op == op && c.Key == "n:u:1" {
				return errLost
			}
			return nil
		}
		m, err := r.PatternAgain(t.Context(), "u:*", quote, func(string, store.Record) bool { return false })
		if !errors.Is(err, errLost) || m.Keys != 1 {
			t.Errorf("%v: %+v, %v", op, m, err)
		}
		if patterns, _ := s.patterns(); len(patterns) != 0 {
			t.Errorf("%v: the pattern was told", op)
		}
	}
}
