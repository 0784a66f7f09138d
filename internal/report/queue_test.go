package report

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestAQueueCallsInOrderAndIsDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		q.Drain(time.Second) // of nothing
		var got []int
		for i := range 100 {
			q.Add(func() {
				time.Sleep(time.Millisecond)
				got = append(got, i)
			})
		}
		q.Drain(time.Second)
		if len(got) != 100 || !slices.IsSorted(got) {
			t.Errorf("%v", got)
		}
		free := make(chan struct{})
		q.Add(func() { <-free })
		q.Add(func() { t.Error("what waited was called after the end") })
		began := time.Now()
		q.Drain(time.Second)
		if d := time.Since(began); d != time.Second {
			t.Errorf("it took %v", d)
		}
		close(free)
		synctest.Wait()
		q.Add(func() { got = nil })
		q.Drain(time.Second)
		if got != nil {
			t.Error("a queue that was drained calls nothing")
		}
	})
}

// blocking is a handler that blocks in each line, until it is freed.
type blocking struct {
	slog.Handler
	free  chan struct{}
	lines []string
}

func (h *blocking) Enabled(context.Context, slog.Level) bool {
	<-h.free
	return true
}

func (h *blocking) Handle(_ context.Context, r slog.Record) error {
	h.lines = append(h.lines, r.Message)
	return nil
}

// What sessions report does not wait for the logger, is written in its order, and does not pile up.
func TestReportsOfSessionsDoNotWaitForTheLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &blocking{free: make(chan struct{})}
		r := New("n", slog.New(h))
		began := time.Now()
		r.Connected(false, errors.New("down"))
		r.Connected(true, nil)
		r.Downgraded(errors.New("no"))
		r.Overflowed()
		r.DeliveredLater(3)
		r.OutageTier(true)
		r.OutageTier(false)
		if time.Since(began) != 0 {
			t.Error("the reports waited")
		}
		synctest.Wait() // the first is being written
		for range 10 * linesMost {
			r.Downgraded(errors.New("no"))
		}
		if n := r.Aside.Len(); n != linesMost {
			t.Errorf("%d lines wait", n)
		}
		close(h.free)
		synctest.Wait()
		want := []string{
			"cache: notifications lost, local tier bypassed",
			"cache: notifications restored",
			"cache: keys can't be tracked, or not by this user: Broadcast is used instead, without changes by other programs",
			"cache: too many pending invalidations: all entries will be invalidated instead",
			"cache: pending invalidations delivered",
			"cache: outage: the local tier goes on without Redis",
			"cache: outage over: the local tier is coherent again",
		}
		if len(h.lines) < len(want) || !slices.Equal(h.lines[:len(want)], want) {
			t.Errorf("%q", h.lines)
		}
	})
}
