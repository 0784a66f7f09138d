package strategy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/errs"
)

const longest time.Duration = math.MaxInt64

func TestMistakesAloneSayWhatToWrite(t *testing.T) {
	for _, c := range []struct {
		s    Strategy
		want string // in the message
	}{
		{nil, "strategy 1 of the list is nil"},
		{struct{ Strategy }{}, "use the functions of package strategy"},
		{LRU(0), "must be positive"},
		{LRU(-1), "must be positive"},
		{LRU(math.MaxInt32), "write at most strategy.LRU(1073741824)"},
		{TinyLFU(0), "strategy.TinyLFU(0): the number of entries must be positive"},
		{TinyLFU(math.MaxInt32), "write at most strategy.TinyLFU(1073741824)"},
		{LocalBytes(0), "must be positive"},
		{LocalTTL(0), "must be positive"},
		{LocalDuringOutage(0), "must be positive"},
		{LocalDuringOutage(-time.Second), "must be positive"},
		{TTL(0), "write strategy.Forever() for no end"},
		{TTL(-time.Second), "must be positive"},
		{TTL(time.Microsecond), "write strategy.TTL(1ms) or more"},
		{TTL(1500 * time.Microsecond), "write strategy.TTL(1ms) or strategy.TTL(2ms)"},
		{TTL(longest), "milliseconds: write strategy.TTL(2562047h47m16.854s)"},
		{Sliding(0), "must be positive"},
		{Sliding(time.Millisecond + 1), "write strategy.Sliding(1ms) or strategy.Sliding(2ms)"},
		{SoftTimeout(0), "write strategy.StaleWhileRevalidate(d)"},
		{HardTimeout(0), "a load needs an end"},
		{StaleWhileRevalidate(-1), "write strategy.StaleWhileRevalidate(0s) for none"},
		{StaleWhileRevalidate(1), "write strategy.StaleWhileRevalidate(1ms) or more"},
		{StaleIfError(-time.Hour), "write strategy.StaleIfError(0s) for none"},
		{RetryAfter(-1), "write strategy.RetryAfter(0s) for none"},
		{RetryAfter(time.Second + 1), "whole milliseconds"},
		{ErrorTTL(-1), "write strategy.ErrorTTL(0s) for none"},
		{NotFoundTTL(-1), "for none"},
		{NotFoundTTL(time.Nanosecond), "write strategy.NotFoundTTL(1ms) or more"},
		{NotFoundTTL(time.Second, nil), "error 1 is nil"},
		{NotFoundTTL(time.Second, errors.New("gone"), context.Canceled), "error 2 is the end of a context"},
		{NotFoundTTL(time.Second, fmt.Errorf("slow: %w", context.DeadlineExceeded)), "error 1 is the end of a context"},
		{Jitter(-0.1), "from 0 to below 1"},
		{Jitter(1), "from 0 to below 1"},
		{Jitter(math.NaN()), "from 0 to below 1"},
		{RefreshAhead(0), "between 0 and 1"},
		{RefreshAhead(1), "between 0 and 1"},
		{RefreshAhead(math.NaN()), "between 0 and 1"},
		{EarlyExpiration(0), "positive number"},
		{EarlyExpiration(-1), "positive number"},
		{EarlyExpiration(math.NaN()), "positive number"},
		{EarlyExpiration(math.Inf(1)), "positive number"},
		{WriteBehind(WriteBehindOption{}), "make it with BatchSize"},
		{WriteBehind(BatchSize(0)), "write strategy.BatchSize(1)"},
		{WriteBehind(BatchDelay(-1)), "write strategy.BatchDelay(0)"},
		{WriteBehind(MaxAttempts(0)), "write strategy.MaxAttempts(1)"},
		{BatchLoads(1, time.Millisecond), "strategy.BatchLoads(1, 1ms): a call for fewer than two keys is no batch"},
		{BatchLoads(math.MaxInt32, time.Millisecond), "write at most strategy.BatchLoads(1073741824, 1ms)"},
		{Audit(0), "above 0 and at most 1"},
		{Audit(1.1), "above 0 and at most 1"},
		{Audit(math.NaN()), "above 0 and at most 1"},
		{BatchLoads(2, 0), "the wait for more keys must be positive"},
	} {
		// A later strategy of the same kind doesn't hide it; what depends on it
		// isn't reported as well.
		_, err := Compile(c.s, LRU(1), StaleIfError(time.Hour))
		checkMistake(t, []Strategy{c.s}, err, c.want)
	}
}

func TestContradictionsSayWhatToWrite(t *testing.T) {
	list := func(s ...Strategy) []Strategy { return s }
	for _, c := range []struct {
		list []Strategy
		want string
	}{
		{list(LocalBytes(1)), "add strategy.LRU(n) or strategy.TinyLFU(n)"},
		{list(Audit(1)), "add strategy.LRU(n) or strategy.TinyLFU(n)"},
		{list(LocalTTL(1)), "add strategy.LRU(n) or strategy.TinyLFU(n)"},
		{list(LocalDuringOutage(1)), "add strategy.LRU(n) or strategy.TinyLFU(n)"},
		{list(Sliding(time.Minute), Forever()), "strategy.Sliding(1m0s): contradicts strategy.Forever()"},
		{list(Sliding(5 * time.Minute)), "since the default strategy.TTL(5m0s) ends every entry sooner"},
		{list(Sliding(time.Hour), TTL(time.Minute)), "since strategy.TTL(1m0s) ends every entry sooner"},
		{list(RefreshAhead(0.8), Forever()), "contradicts strategy.Forever()"},
		{list(EarlyExpiration(1), Forever()), "contradicts strategy.Forever()"},
		{list(SoftTimeout(time.Second)), "add strategy.StaleIfError(d)"},
		{list(SoftTimeout(time.Second), StaleWhileRevalidate(time.Hour)), "add strategy.StaleIfError(d)"},
		{list(StaleIfError(time.Hour), SoftTimeout(30*time.Second)), "below the default strategy.HardTimeout(30s)"},
		{list(StaleIfError(time.Hour), SoftTimeout(2*time.Second), HardTimeout(time.Second)), "below strategy.HardTimeout(1s)"},
		{list(RetryAfter(time.Second)), "or write strategy.ErrorTTL(1s)"},
		{list(TTL(longest.Truncate(time.Millisecond)), StaleIfError(time.Millisecond)), "write at most strategy.StaleIfError(0s)"},
		{list(BatchLoads(9, 30*time.Second)), "waits until strategy.HardTimeout(30s) has ended the loads"},
		{list(BatchLoads(9, time.Second), SoftTimeout(time.Second), StaleIfError(time.Minute)), "waits until strategy.SoftTimeout(1s) has answered"},
		{list(StaleWhileRevalidate(longest.Truncate(time.Millisecond))), "write at most strategy.StaleWhileRevalidate("},
	} {
		_, err := Compile(c.list...)
		checkMistake(t, c.list, err, c.want)
	}
}

// checkMistake checks that err is exactly one mistake.
func checkMistake(t *testing.T, list []Strategy, err error, want string) {
	t.Helper()
	if err == nil {
		t.Errorf("Compile(%v): no error, want %q", list, want)
		return
	}
	if !errors.Is(err, errs.ErrInvalidOption) {
		t.Errorf("Compile(%v): %v does not wrap ErrInvalidOption", list, err)
	}
	if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("Compile(%v):\n%v\nwant one mistake with %q", list, err, want)
	}
}

func TestCombinationsThatGoTogether(t *testing.T) {
	list := func(s ...Strategy) []Strategy { return s }
	for _, l := range [][]Strategy{
		list(LRU(1<<30), LocalBytes(1<<40), LocalTTL(time.Hour), TTL(time.Minute)), // LocalTTL above the TTL
		list(TinyLFU(1<<30), LocalBytes(1), LocalTTL(time.Second)),
		list(TTL(time.Millisecond), Jitter(0.999)),
		list(TTL(longest.Truncate(time.Millisecond))),
		list(Forever(), Jitter(0.5), StaleIfError(longest.Truncate(time.Millisecond))), // an invalidated entry can be stale
		list(Sliding(time.Minute), RefreshAhead(0.8), EarlyExpiration(1), StaleWhileRevalidate(time.Hour)),
		list(SoftTimeout(time.Nanosecond), HardTimeout(2), StaleIfError(time.Millisecond)),
		list(NotFoundTTL(time.Hour), TTL(time.Second)),
		list(RetryAfter(0), ErrorTTL(time.Hour)),
		list(BatchLoads(2, 1), SoftTimeout(2), HardTimeout(3), StaleIfError(time.Hour), WriteBehind()),
	} {
		if _, err := Compile(l...); err != nil {
			t.Errorf("Compile(%v): %v", l, err)
		}
	}
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	_, err := Compile(nil, TTL(0), LRU(0), Jitter(2), WriteBehind(BatchSize(0), BatchDelay(-1), MaxAttempts(0)),
		SoftTimeout(time.Second), StaleIfError(-1), // SoftTimeout isn't to blame for the window
		RefreshAhead(0.5), LocalBytes(0), RetryAfter(time.Hour+1))
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if want := 10; len(lines) != want {
		t.Errorf("%d mistakes, want %d:\n%v", len(lines), want, err)
	}
	for _, l := range lines {
		if !strings.HasPrefix(l, "cache: invalid option: strategy") {
			t.Errorf("mistake %q does not say where", l)
		}
	}
	_, err = Compile(LocalBytes(1), SoftTimeout(time.Hour), Sliding(time.Hour))
	if n := strings.Count(err.Error(), "\n") + 1; n != 4 {
		t.Errorf("%d contradictions, want 4:\n%v", n, err)
	}
}
