package redisstore

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// node is a Redis node of which only the clock is there.
type node struct {
	c     clock
	skew  time.Duration // against the bubble's clock
	trip  time.Duration // there and back
	err   error
	asked int
}

func (n *node) measure(ctx context.Context) (int64, error) {
	n.asked++
	time.Sleep(n.trip / 2)
	t := time.Now().Add(n.skew).UnixMicro()
	time.Sleep(n.trip - n.trip/2)
	return t, n.err
}

func (n *node) now(t *testing.T) time.Duration {
	t.Helper()
	now, err := n.c.now(t.Context(), n.measure, func(f func(context.Context)) { go f(t.Context()) })
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(now-time.Now().UnixMicro()) * time.Microsecond
}

func (n *node) expect(t *testing.T, skew time.Duration, asked int) {
	t.Helper()
	if got := n.now(t); got != skew || n.asked != asked {
		t.Errorf("ahead by %v after %d measurements, instead of %v after %d", got, n.asked, skew, asked)
	}
}

func TestTheClockIsMeasuredOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{skew: time.Hour, trip: 2 * time.Millisecond}
		n.expect(t, time.Hour, 1)
		time.Sleep(clockAge - time.Microsecond)
		n.expect(t, time.Hour, 1)

		n.skew = -time.Hour // another machine took its place
		time.Sleep(time.Microsecond)
		if got := n.now(t); got != time.Hour { // answers at once; the measurement has begun, or will
			t.Errorf("ahead by %v, instead of the old offset", got)
		}
		time.Sleep(n.trip)
		synctest.Wait()
		n.expect(t, -time.Hour, 2)
		time.Sleep(clockAge - time.Microsecond)
		n.expect(t, -time.Hour, 2)
	})
}

func TestOneRenewalAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{trip: 100 * time.Millisecond}
		n.now(t)
		time.Sleep(clockAge)
		for range 100 {
			n.now(t)
		}
		synctest.Wait()
		if n.asked != 2 {
			t.Errorf("asked %d times", n.asked)
		}
		time.Sleep(n.trip)
		synctest.Wait()
		n.expect(t, 0, 2)
	})
}

func TestARenewalThatFailsKeepsTheOldOffsetAndPauses(t *testing.T) {
	for name, fail := range map[string]func(*node){
		"an error":      func(n *node) { n.err = errors.New("boom") },
		"a late answer": func(n *node) { n.trip = 2 * clockPatience },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &node{skew: time.Hour}
				n.expect(t, time.Hour, 1)
				time.Sleep(clockAge)
				fail(n)
				n.skew = -time.Hour
				n.now(t)
				time.Sleep(n.trip)
				synctest.Wait()
				for range 100 { // they leave a node alone that can't answer
					n.expect(t, time.Hour, 2)
					synctest.Wait()
				}
				n.err, n.trip = nil, 0
				time.Sleep(clockRetry)
				n.now(t)
				synctest.Wait()
				n.expect(t, -time.Hour, 3)
			})
		})
	}
}

func TestAClockThatCannotBeMeasuredIsAnError(t *testing.T) {
	n := &node{err: errors.New("boom")}
	for i := range 2 {
		if _, err := n.c.now(t.Context(), n.measure, nil); err != n.err || n.asked != i+1 {
			t.Errorf("%v, asked %d times", err, n.asked)
		}
	}
}

// The caller has given up: an estimate that may be wrong by half of that time
// is not kept for those who come next.
func TestAMeasurementThatCameTooLateIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{trip: 10 * time.Second}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.c.now(ctx, n.measure, nil); err != context.DeadlineExceeded {
			t.Error(err)
		}
		n.trip = 0
		n.expect(t, 0, 2)
	})
}

// The error of an estimate is at most half a round trip, however the two ways
// share it.
func TestTheEstimateIsTheMiddleOfTheRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock
		now, err := c.now(t.Context(), func(context.Context) (int64, error) {
			at := time.Now().UnixMicro() // the whole trip is still to come
			time.Sleep(100 * time.Millisecond)
			return at, nil
		}, nil)
		if behind := time.Now().UnixMicro() - now; err != nil || behind != 50_000 {
			t.Errorf("behind by %d µs; %v", behind, err)
		}
	})
}

// What an estimate may be wrong by is known, also of one that was made before the clock was
// measured again, and whichever of two first measurements it is of.
func TestItIsKnownHowWrongAnEstimateMayBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{trip: 99 * time.Microsecond}
		expect := func(want int64) {
			t.Helper()
			if got := n.c.wrong(); got != want {
				t.Errorf("%d µs, want %d", got, want)
			}
		}
		expect(0)
		n.now(t)
		expect(50)
		again := func() {
			t.Helper()
			time.Sleep(clockAge)
			n.now(t)
			time.Sleep(2 * clockPatience)
			synctest.Wait()
		}
		n.trip = 400 * time.Millisecond
		again()
		expect(200_000)
		n.trip = 0
		again()
		expect(200_000)
		n.err = errors.New("boom")
		again()
		expect(200_000)
		n.err = nil
		again()
		expect(0)

		var c clock
		trips := []time.Duration{time.Second, time.Millisecond}
		var all sync.WaitGroup
		for _, trip := range trips {
			all.Go(func() {
				asked := time.Now()
				now, err := c.now(t.Context(), func(context.Context) (int64, error) {
					time.Sleep(trip)
					return asked.UnixMicro(), nil
				}, nil)
				if off := time.Now().UnixMicro() - now; err != nil || off > c.wrong() {
					t.Errorf("wrong by %d µs, and it was said to be %d at most; %v", off, c.wrong(), err)
				}
			})
		}
		all.Wait()
	})
}
