package invalidation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/frame"
	"github.com/delqhi/cache/internal/store"
)

func TestImmediateRemovesAndTells(t *testing.T) {
	for name, c := range map[string]struct {
		nodes bool
		keys  int
		calls int
	}{"one key": {false, 1, 1}, "many keys": {false, 150, 3}, "many keys of several nodes": {true, 150, 150}} {
		r, s := newRevoker(t, Policy{})
		s.nodes = c.nodes
		var keys []string
		for i := range c.keys {
			keys = append(keys, fmt.Sprintf("%03d", i))
			s.put(keys[i], value(frame.Value, math.MaxInt64))
		}
		s.put("other", value(frame.Value, math.MaxInt64))
		for i, o := range r.Keys(t.Context(), keys) {
			if !o.Found || o.Err != nil || o.At == 0 || o.Open != nil || o.Token != "" {
				t.Errorf("%s: %s: %+v", name, keys[i], o)
			}
			if s.record(keys[i]).State != store.Missing {
				t.Errorf("%s: %s is there", name, keys[i])
			}
		}
		if s.record("other").State != store.Found {
			t.Errorf("%s: another key is gone", name)
		}
		if got := s.dropped(t); !slices.Equal(got, keys) || len(s.told) != c.calls {
			t.Errorf("%s: %d notices of %q", name, len(s.told), got)
		}
		settledBy(t, r.Outbox, nil)
	}
	r, s := newRevoker(t, Policy{})
	if out := r.Keys(t.Context(), nil); len(out) != 0 || len(s.told) != 0 {
		t.Error("no key, and something was done")
	}
}

// Whatever Redis does not acknowledge is open, each key by a number of its own.
func TestWhatIsNotAcknowledgedIsOpen(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		keys   []string
	}{
		"one key": {Policy{}, []string{"a"}}, "several": {Policy{}, []string{"a", "b", "c"}},
		"lazy": {Policy{Mode: Lazy}, []string{"a", "b"}}, "delayed": {Policy{Mode: Delayed, Delay: time.Second}, []string{"a", "b"}},
		"lazy, of missing keys": {Policy{Mode: Lazy}, []string{"missing 1", "missing 2"}},
	} {
		r, s := newRevoker(t, c.policy)
		for _, k := range []string{"a", "b", "c"} {
			s.put(k, value(frame.Value, math.MaxInt64))
		}
		s.lose = func(c *store.Command) error {
			if c.Op == store.GetHeader {
				return nil
			}
			return errLost
		}
		s.late = func() error { return errLost }
		var open []uint64
		for i, o := range r.Keys(t.Context(), c.keys) {
			if !errors.Is(o.Err, errLost) || len(o.Open) != 1 || slices.Contains(open, o.Open[0]) {
				t.Errorf("%s: %s: %+v", name, c.keys[i], o)
			}
			open = append(open, o.Open...)
		}
		if got := s.dropped(t); !slices.Equal(got, c.keys) {
			t.Errorf("%s: notified of %q", name, got)
		}
		settledBy(t, r.Outbox, open)
	}
}

// Nothing was sent where it is not known what there is, or what time it is.
func TestWhatCanNotBeLookedAtIsNotTold(t *testing.T) {
	for name, lose := range map[string]func(s *scripted){
		"no head":  func(s *scripted) { s.lose = func(*store.Command) error { return errLost } },
		"no clock": func(s *scripted) { s.now = func(string) error { return errLost } },
	} {
		r, s := newRevoker(t, Policy{Mode: Delayed, Delay: time.Second})
		s.put("a", value(frame.Value, math.MaxInt64))
		before := s.record("a")
		lose(s)
		o := r.Keys(t.Context(), []string{"a"})[0]
		if !errors.Is(o.Err, errLost) || o.Open != nil || o.Found || len(s.told) != 0 || !bytes.Equal(s.record("a").Raw, before.Raw) {
			t.Errorf("%s: %+v, %v", name, o, s.told)
		}
		if (o.At == 0) != (name == "no clock") {
			t.Errorf("%s: at %d", name, o.At)
		}
		settledBy(t, r.Outbox, nil)
	}
}

// A record that stays is another one, with less of a life; all else is removed.
func TestWhatStaysIsAnotherRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UnixMicro()
		second := time.Second.Microseconds()
		for name, c := range map[string]struct {
			policy      Policy
			limit, want int64
			life        time.Duration
		}{
			"lazy":                    {Policy{Mode: Lazy}, math.MaxInt64, 0, time.Hour},
			"lazy, not fresh before":  {Policy{Mode: Lazy}, -5, -5, time.Hour},
			"delayed":                 {Policy{Mode: Delayed, Delay: time.Second}, math.MaxInt64, now + second, time.Second},
			"delayed, ends before":    {Policy{Mode: Delayed, Delay: time.Second}, now + 5, now + 5, time.Second},
			"delayed, lives for less": {Policy{Mode: Delayed, Delay: 2 * time.Hour}, math.MaxInt64, now + 7200*second, time.Hour},
		} {
			for _, kind := range []frame.Kind{frame.Value, frame.Absence} {
				r, s := newRevoker(t, c.policy)
				raw := value(kind, c.limit)
				s.put("k", raw)
				o := r.Keys(t.Context(), []string{"k"})[0]
				h := s.head(t, "k")
				if !o.Found || o.Err != nil || o.At != now || o.Open != nil || h.Limit != c.want || h.Kind != kind {
					t.Errorf("%s: %+v, limit %d, kind %d", name, o, h.Limit, h.Kind)
				}
				got := s.record("k").Raw
				if !bytes.Equal(got[store.SealLen:], raw[store.SealLen:]) || string(frame.Token(got)) != o.Token || o.Token == string(frame.Token(raw)) {
					t.Errorf("%s: %x after %x, token %x", name, got, raw, o.Token)
				}
				if left := s.TTL("n:k"); left != c.life {
					t.Errorf("%s: it lives for %v", name, left)
				}
				if told := s.dropped(t); !slices.Equal(told, []string{"k"}) {
					t.Errorf("%s: notified of %q", name, told)
				}
				settledBy(t, r.Outbox, nil)
				r.Store.Close()
			}
		}
	})
}

func TestWhatCanNotStayIsRemoved(t *testing.T) {
	failure, err := frame.AppendFailure(nil, "n:k", frame.Header{ID: frame.NewID(), Limit: math.MaxInt64}, frame.Failed{})
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"a lease": frame.AppendLease(nil, frame.NewID()), "an intent": frame.AppendIntent(nil, frame.NewID()),
		"a value cut off": value(frame.Value, math.MaxInt64)[:store.HeadLen-1], "a failure": failure, "foreign bytes": []byte("OK"), "another type": nil,
	} {
		for _, p := range []Policy{{Mode: Lazy}, {Mode: Delayed, Delay: time.Second}} {
			r, s := newRevoker(t, p)
			if s.put("k", raw); raw == nil {
				s.PutOther("n:k")
			}
			o := r.Keys(t.Context(), []string{"k"})[0]
			if !o.Found || o.Err != nil || o.Token != "" || s.record("k").State != store.Missing {
				t.Errorf("%s: %+v", name, o)
			}
			settledBy(t, r.Outbox, nil)
		}
	}
}

func TestKeysThatRedisDoesNotHaveAreToldInCommon(t *testing.T) {
	r, s := newRevoker(t, Policy{Mode: Lazy})
	var keys []string
	for i := range 2*KeysPerMessage + 1 {
		keys = append(keys, fmt.Sprintf("%03d", i))
	}
	for i, o := range r.Keys(t.Context(), keys) {
		if o.Found || o.Err != nil || o.Open != nil {
			t.Errorf("%s: %+v", keys[i], o)
		}
	}
	if got := s.dropped(t); !slices.Equal(got, keys) || len(s.told) != 3 {
		t.Errorf("%d notices of %q", len(s.told), got)
	}
	settledBy(t, r.Outbox, nil)
}

// A record that was stored in between is invalidated as well: its load may have begun before.
// the message of the attempt that came to nothing need not be heard.
func TestARecordThatTakesAnothersPlaceIsRevoked(t *testing.T) {
	r, s := newRevoker(t, Policy{Mode: Lazy})
	s.put("a", value(frame.Value, math.MaxInt64))
	s.put("b", value(frame.Value, math.MaxInt64))
	other := 2
	s.before = func(cmds []store.Command) {
		if cmds[0].Op == store.PatchHeader && other > 0 {
			other--
			s.put("a", value(frame.Value, math.MaxInt64))
		}
	}
	for i, o := range r.Keys(t.Context(), []string{"a", "b"}) {
		enc := []string{"a", "b"}[i]
		if h := s.head(t, enc); !o.Found || o.Err != nil || h.Limit != 0 || o.Token != string(frame.Token(s.record(enc).Raw)) {
			t.Errorf("%s: %+v, limit %d", enc, o, h.Limit)
		}
	}
	if tally, _ := r.Outbox.Watermark(false); len(tally.Skipped) != 2 {
		t.Errorf("%d attempts were given up, want 2", len(tally.Skipped))
	}
	settledBy(t, r.Outbox, nil)
	if n := len(s.do); n != 6 {
		t.Errorf("%d calls, want three looks and three changes", n)
	}
}

func TestASectionIsSigned(t *testing.T) {
	r, s := newRevoker(t, Policy{Mode: Lazy})
	before := value(frame.Value, math.MaxInt64)
	s.put("k", before)
	id := frame.NewID()
	r.Sign = func(key string, seen, section []byte) []byte {
		h, err := frame.ReadHead(seen)
		if key != "n:k" || err != nil || !bytes.HasPrefix(before, seen[:store.TokenLen]) || len(section) != store.SealLen {
			t.Errorf("%q, %+v, %d bytes", key, h, len(section))
		}
		return frame.AppendSeal(nil, frame.Value, id, -7)
	}
	o := r.Keys(context.Background(), []string{"k"})[0]
	if h := s.head(t, "k"); h.ID != id || h.Limit != -7 || o.Token != string(frame.Token(s.record("k").Raw)) {
		t.Errorf("%+v, %+v", h, o)
	}
}

func TestALongDelayEndsAtTheLastTime(t *testing.T) {
	for _, c := range [][3]int64{{1, 2, 3}, {math.MaxInt64 - 5, 5, math.MaxInt64}, {math.MaxInt64 - 5, 6, math.MaxInt64}, {5, math.MaxInt64, math.MaxInt64}} {
		if got := add(c[0], c[1]); got != c[2] {
			t.Errorf("%d + %d = %d", c[0], c[1], got)
		}
	}
}
