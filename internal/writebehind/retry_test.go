package writebehind_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/internal/writebehind"
)

var errNo = errors.New("no")

// refusing refuses the values that are listed.
func refusing(values ...string) func(writebehind.Entry) error {
	return func(e writebehind.Entry) error {
		if slices.Contains(values, string(e.Value)) {
			return errNo
		}
		return nil
	}
}

func TestAWriteThatFailsIsTriedAgainLaterAndLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.refuses = refusing("1")
		q := process(t, storetest.NewMemory(), s, func(c *writebehind.Config) { c.MaxAttempts = 5 })
		k := keysOf(0, 1)[0]
		enqueue(t, q, set(k, 1))
		time.Sleep(time.Minute)
		// The pauses are half of 100, 300, 900 and 2700 ms: there is no jitter here.
		diff(t, s.log(), []string{"100ms: [" + k + "=1]", "150ms: [" + k + "=1]", "300ms: [" + k + "=1]", "750ms: [" + k + "=1]", "2.1s: [" + k + "=1]"})
		letters, err := q.DeadLetters(t.Context(), 10)
		if err != nil || len(letters) != 1 {
			t.Fatalf("%+v, %v", letters, err)
		}
		l := letters[0]
		if l.Key != k || l.Attempts != 5 || l.Error != "no" || string(l.Value) != "1" || l.At.Sub(s.start) != 2100*time.Millisecond {
			t.Errorf("%+v", l)
		}
		if newest, err := q.Newest(t.Context(), []string{k}); len(newest) > 0 || err != nil {
			t.Errorf("it is still on its way: %+v, %v", newest, err)
		}
		if st, err := q.Stats(t.Context()); err != nil || st != (writebehind.Stats{Dead: 1}) {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

func TestJitterSpreadsRetriesOverHalfOfThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.refuses = refusing("1")
		q := process(t, storetest.NewMemory(), s, func(c *writebehind.Config) { c.MaxAttempts, c.Rand = 3, func() float64 { return 0.5 } })
		k := keysOf(0, 1)[0]
		enqueue(t, q, set(k, 1))
		time.Sleep(time.Minute)
		diff(t, s.log(), []string{"100ms: [" + k + "=1]", "175ms: [" + k + "=1]", "400ms: [" + k + "=1]"})
	})
}

func TestTheLongestPauseIsAMinute(t *testing.T) {
	for attempts, want := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 300 * time.Millisecond, 6: 24300 * time.Millisecond, 7: time.Minute, 1 << 30: time.Minute} {
		if low, high := writebehind.Backoff(attempts, 0), writebehind.Backoff(attempts, 0.999999999); low != want/2 || high < want*99/100 || high > want {
			t.Errorf("%d: %v to %v", attempts, low, high)
		}
	}
}

// A later write of a key takes the place of one that fails, at once and with all
// attempts before it. Others do not wait for either.
func TestALaterWriteTakesThePlaceOfOneThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.refuses = refusing("1", "2")
		q := process(t, storetest.NewMemory(), s, func(c *writebehind.Config) { c.MaxAttempts, c.BatchDelay = 4, 0 })
		ks := keysOf(0, 2)
		enqueue(t, q, set(ks[0], 1))
		time.Sleep(500 * time.Millisecond)
		diff(t, s.log(), []string{"0s: [" + ks[0] + "=1]", "50ms: [" + ks[0] + "=1]", "200ms: [" + ks[0] + "=1]"})
		enqueue(t, q, set(ks[0], 2), set(ks[1], 7))
		time.Sleep(100 * time.Millisecond)
		diff(t, s.log(), []string{"500ms: [" + ks[0] + "=2 " + ks[1] + "=7]", "550ms: [" + ks[0] + "=2]"})
		enqueue(t, q, set(ks[0], 3))
		time.Sleep(time.Minute)
		diff(t, s.log(), []string{"600ms: [" + ks[0] + "=3]"})
		if st, err := q.Stats(t.Context()); err != nil || st != (writebehind.Stats{}) {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// It does so also while the failing attempt is under way.
func TestAWriteDuringAnAttemptIsAppliedAfterIt(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			s.before = func(context.Context, []writebehind.Entry) { time.Sleep(time.Second) }
			if fails {
				s.refuses = refusing("1")
			}
			q := process(t, storetest.NewMemory(), s, func(c *writebehind.Config) { c.BatchDelay = 0 })
			k := keysOf(0, 1)[0]
			enqueue(t, q, set(k, 1))
			time.Sleep(500 * time.Millisecond)
			enqueue(t, q, set(k, 2))
			enqueue(t, q, set(k, 3))
			if newest, err := q.Newest(t.Context(), []string{k}); err != nil || string(newest[k].Value) != "3" {
				t.Errorf("%+v, %v", newest, err)
			}
			time.Sleep(time.Minute)
			diff(t, s.log(), []string{"1s: [" + k + "=1]", "2s: [" + k + "=3]"})
		})
	}
}

// One write that the source can't take makes its whole batch fail, each time: the
// others are found out by smaller and smaller batches.
func TestOneBadWriteDoesNotTakeItsBatchAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		q := process(t, storetest.NewMemory(), s, func(c *writebehind.Config) {
			apply := c.Apply
			c.Apply = func(ctx context.Context, batch []writebehind.Entry) []error {
				if slices.ContainsFunc(batch, func(e writebehind.Entry) bool { return string(e.Value) == "bad" }) {
					return slices.Repeat([]error{errNo}, len(batch))
				}
				return apply(ctx, batch)
			}
		})
		ks := keysOf(0, 50)
		for i, k := range ks {
			if i == 17 {
				enqueue(t, q, set(k, "bad"))
			} else {
				enqueue(t, q, set(k, i))
			}
		}
		time.Sleep(10 * time.Minute)
		letters, err := q.DeadLetters(t.Context(), 10)
		if err != nil || len(letters) != 1 || letters[0].Key != ks[17] || len(s.all()) != 49 {
			t.Errorf("dead are %+v, %v; the source has %d", letters, err, len(s.all()))
		}
	})
}

func TestDeadLettersAreReplayedAndDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		s.refuses = func(e writebehind.Entry) error {
			return fmt.Errorf("%w: %s\xff", writebehind.ErrPermanent, strings.Repeat("long ", 1000))
		}
		q := process(t, storetest.NewMemory(), s)
		var ks []string
		for p := range writebehind.Partitions {
			ks = append(ks, keysOf(p, 1)...)
			enqueue(t, q, set(ks[p], p))
			time.Sleep(time.Second)
		}
		if n := len(s.log()); n != len(ks) {
			t.Errorf("%d attempts", n)
		}
		letters, err := q.DeadLetters(t.Context(), 100)
		if err != nil || len(letters) != len(ks) {
			t.Fatalf("%d, %v", len(letters), err)
		}
		for i, l := range letters {
			if l.Key != ks[i] || l.Attempts != 1 || len(l.Error) > 1010 || !strings.HasPrefix(l.Error, writebehind.ErrPermanent.Error()) {
				t.Errorf("%d: %+v", i, l)
			}
		}
		if few, err := q.DeadLetters(t.Context(), 3); err != nil || len(few) != 3 || few[2].ID != letters[2].ID {
			t.Errorf("%+v, %v", few, err)
		}
		if none, err := q.DeadLetters(t.Context(), 0); err != nil || len(none) != 0 {
			t.Errorf("%+v, %v", none, err)
		}
		s.refuse(nil)
		// A later write makes the dead letter meaningless.
		enqueue(t, q, set(ks[2], "later"))
		for _, tt := range []struct {
			do   func(context.Context, ...string) (int, error)
			ids  []string
			want int
		}{
			{q.Replay, []string{letters[0].ID, letters[2].ID}, 1}, {q.Replay, []string{letters[0].ID}, 0},
			{q.Discard, []string{letters[1].ID, letters[0].ID}, 1}, {q.Replay, nil, 5}, {q.Replay, nil, 0}, {q.Discard, nil, 0},
		} {
			if n, err := tt.do(t.Context(), tt.ids...); n != tt.want || err != nil {
				t.Errorf("%q: %d, %v", tt.ids, n, err)
			}
		}
		time.Sleep(time.Second)
		has := s.all()
		if _, ok := has[ks[1]]; ok || len(has) != 7 || has[ks[0]] != "0" || has[ks[2]] != "later" {
			t.Errorf("the source has %v", has)
		}
		for _, id := range []string{"", "1", "8/1-1", "-1/1-1", "x/1-1", "1/1", "1/x-1", "1/1-x", "1/(1-1"} {
			if n, err := q.Replay(t.Context(), letters[3].ID, id); n != 0 || err == nil {
				t.Errorf("%q: %d, %v", id, n, err)
			}
		}
	})
}
