package message

import (
	"errors"
	"testing"
	"time"
)

// directInbox returns an inbox whose session began at 0, is direct and has settled, and functions that
// pass it a message at a time, and that time.
func directInbox(t *testing.T) (receive func(at time.Duration, n Message) bool, tick func(at time.Duration) bool, b *Inbox) {
	b = NewInbox()
	b.Subscribed(0)
	if b.Direct(1) {
		t.Fatal("a gap at the beginning")
	}
	receive = func(at time.Duration, n Message) bool {
		n.Sender = max(n.Sender, 7)
		return b.Receive(&n, int64(at))
	}
	return receive, func(at time.Duration) bool { return b.Tick(int64(at)) }, b
}

func write(number uint64) Message { return Message{Number: number, Kind: Invalidated} }
func mark(number uint64) Message  { return Message{Number: number, Kind: Watermark} }

// A sender of a session that is direct is in step at the numbers that it has when it becomes known: what
// it published before is not missed, and what it publishes later is.
func TestASenderJoinsADirectSessionInStep(t *testing.T) {
	for name, first := range map[string][]Message{
		"a message":                {write(7)},
		"a watermark":              {mark(7)},
		"overtaken":                {write(8), write(7), mark(8)},
		"its second came earlier":  {write(1), mark(2), write(3)},
		"in flight at the joining": {{Number: 7, Kind: Invalidated, Base: 4, Quiet: time.Hour}, {Number: 7, Kind: Watermark, Base: 7}},
	} {
		t.Run(name, func(t *testing.T) {
			receive, tick, b := directInbox(t)
			at := 2 * time.Second
			last := uint64(0)
			for _, n := range first {
				if receive(at, n) {
					t.Fatalf("a gap at %+v", n)
				}
				last = max(last, n.Number)
			}
			for range 10 {
				if at += 500 * time.Millisecond; tick(at) {
					t.Fatal("a gap while nothing arrives")
				}
			}
			if receive(at, write(last+1)) || receive(at, mark(last+1)) || tick(at+time.Second) || b.Disproved() {
				t.Fatal("a gap, and nothing is missing")
			}
			at += 2 * time.Second
			if receive(at, mark(last+2)) {
				t.Fatal("a gap at once")
			}
			if !tick(at+time.Second) || !b.Disproved() || b.Disproved() {
				t.Error("a message is lost, and that is not noticed, or not once")
			}
		})
	}
}

// While a number of a sender is open, its watermarks do not show what it published before the session.
func TestAnOpenNumberHidesWhatWasPublishedBefore(t *testing.T) {
	for name, first := range map[string]Message{
		"then a message":   {Number: 7, Kind: Invalidated, Base: 6, Quiet: time.Second},
		"then a watermark": {Number: 7, Kind: Watermark, Base: 7, Quiet: time.Second, Skipped: []uint64{3}},
	} {
		t.Run(name, func(t *testing.T) {
			o := NewOutbox(7)
			var open Sent
			for n := range 6 {
				if _, s := o.Next(Invalidated); n == 2 {
					open = s
				} else {
					s.Resolve(true, nil)
				}
			}
			open.Resolve(true, errors.New("no answer"))
			w, due := o.Watermark(false)
			receive, tick, b := directInbox(t)
			if !due || w.Number != 2 || receive(2*time.Second, w) || tick(4*time.Second) {
				t.Fatalf("a gap at %+v", w)
			}
			o.Skip(3) // published again as number 7
			receive(5*time.Second, first)
			receive(5*time.Second, Message{Number: 7, Kind: Watermark, Base: 7, Skipped: []uint64{3}})
			if tick(7 * time.Second); b.Disproved() {
				t.Fatal("a message was missed, and none was lost")
			}
			if receive(8*time.Second, mark(8)) || !tick(10*time.Second) || !b.Disproved() {
				t.Error("a message is lost, and that is not noticed")
			}
		})
	}
}

// What may have been published before the session is missing, and proves nothing.
func TestWhatMayBeFromBeforeTheSessionProvesNothing(t *testing.T) {
	for name, n := range map[string]Message{
		"nothing is said":                 {Number: 7, Kind: Watermark},
		"quiet last before the session":   {Number: 7, Kind: Watermark, Base: 3, Quiet: time.Minute},
		"quiet last as the session began": {Number: 7, Kind: Watermark, Base: 3, Quiet: 5 * time.Second},
	} {
		receive, tick, b := directInbox(t)
		if receive(2*time.Second, mark(2)) || tick(4*time.Second) || receive(5*time.Second, n) {
			t.Errorf("%s: a gap at once", name)
		}
		if !tick(7*time.Second) || b.Disproved() {
			t.Errorf("%s: nothing is missing, or it was lost", name)
		}
	}
}

// What a sender published during the session, and before its first message that was received, is
// missed. That is not certain, and disproves nothing.
func TestAMessageMayShowThatEarlierOnesWereLost(t *testing.T) {
	for name, c := range map[string]struct {
		n   Message
		gap bool
	}{
		"a watermark of it alone": {Message{Number: 1, Kind: Watermark, Base: 1, Quiet: time.Second}, true},
		"the next message":        {Message{Number: 2, Kind: Invalidated, Base: 1, Quiet: time.Second}, true},
		"before the session":      {Message{Number: 2, Kind: Invalidated, Base: 1, Quiet: 11 * time.Second}, false},
		"as the session began":    {Message{Number: 2, Kind: Invalidated, Base: 1, Quiet: 9 * time.Second}, false},
		"skipped":                 {Message{Number: 1, Kind: Watermark, Base: 1, Quiet: time.Second, Skipped: []uint64{1}}, false},
		"nothing is said":         {Message{Number: 2, Kind: Invalidated}, false},
	} {
		receive, _, b := directInbox(t)
		if receive(10*time.Second, c.n) != c.gap || b.Disproved() {
			t.Errorf("%s: not %v", name, c.gap)
		}
	}
}

// A sender that closes, and is forgotten, costs nothing if it goes on nevertheless.
func TestASenderThatIsForgottenIsNotOneThatWasMissed(t *testing.T) {
	receive, tick, _ := directInbox(t)
	receive(10*time.Second, write(1))
	receive(11*time.Second, Message{Number: 1, Kind: Watermark, Last: true})
	if tick(12 * time.Second) {
		t.Fatal("a gap")
	}
	if receive(13*time.Second, Message{Number: 2, Kind: Invalidated, Base: 1, Quiet: 2 * time.Second}) {
		t.Error("a gap at a sender that was forgotten")
	}
}

// What a sender gives up it says itself: that is a gap for all, and disproves nothing.
func TestWhatASenderGivesUpIsNotLost(t *testing.T) {
	receive, tick, b := directInbox(t)
	receive(2*time.Second, write(1))
	if tick(3 * time.Second) {
		t.Fatal("a gap")
	}
	if !receive(4*time.Second, Message{Number: 3, Kind: Watermark, Unresolved: true}) {
		t.Error("no gap")
	}
	if receive(4*time.Second, write(4)) || receive(4*time.Second, mark(4)) || tick(6*time.Second) || b.Disproved() {
		t.Error("a gap after it")
	}
}

// A number that is missing too far behind may be open at its sender: a flush, and no proof.
func TestAMessageThatIsOpenForLongIsNotLost(t *testing.T) {
	receive, tick, b := directInbox(t)
	receive(2*time.Second, write(1))
	tick(3 * time.Second)
	gaps := 0
	for n := uint64(3); n < maxAhead+10; n++ {
		if receive(4*time.Second, write(n)) {
			gaps++
		}
	}
	if gaps != 1 || tick(6*time.Second) || b.Disproved() {
		t.Errorf("%d gaps", gaps)
	}
}

// A gap from before a session was known to be direct is one.
func TestAGapFromBeforeASessionIsDirect(t *testing.T) {
	b := NewInbox()
	b.Subscribed(0)
	first, claim := Message{Sender: 7, Number: 1, Kind: Invalidated}, Message{Sender: 7, Number: 2, Kind: Watermark}
	if b.Receive(&first, 1) || b.Receive(&claim, 2) {
		t.Fatal("a gap at once")
	}
	if !b.Direct(3) || b.Tick(int64(time.Minute)) || b.Disproved() {
		t.Error("not a gap, or not once, or a proof")
	}
}

// What counts as published without having been is said once, with the first watermark beyond it, and
// again if that could not be published.
func TestAWatermarkSaysWhatWasGivenUp(t *testing.T) {
	o := NewOutbox(7)
	begin(o, 3)
	o.Done(1)
	o.fail(2)
	o.GiveUp(2) // 3 is in flight
	said := func(number uint64, want bool) Message {
		t.Helper()
		n, due := o.Watermark(false)
		if !due || n.Number != number || n.Unresolved != want || n.Last {
			t.Errorf("%+v, due %v", n, due)
		}
		return n
	}
	n := said(2, true)
	said(2, false)
	o.Unpublished(&n)
	said(2, true)
	o.Done(3)
	said(3, false)
	o.GiveUp(o.begin(), o.begin())
	said(5, true)
	said(5, false)
}

// Numbers that are forgotten while they are open are given up, and those that are not are not.
func TestAnOpenNumberThatIsForgottenIsGivenUp(t *testing.T) {
	for _, skipped := range []bool{false, true} {
		o := NewOutbox(7)
		for range maxFailed + 1 {
			n := o.begin()
			o.fail(n)
			if skipped {
				o.Skip(n)
				o.Watermark(false)
			}
		}
		if n, due := o.Watermark(false); !due || n.Unresolved == skipped {
			t.Errorf("skipped: %v: %+v", skipped, n)
		}
	}
}
