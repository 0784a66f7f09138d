package message

import (
	"testing"
	"testing/synctest"
	"time"
)

// What a sender told before a session began can't be missing in it: its first notice, or
// tally, shows that nothing was under way since, however many senders there are.
func TestASenderThatWasQuietSinceBeforeTheSessionCostsNoFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		since := func() int64 { return int64(time.Since(start)) }
		o := NewOutbox(1)
		for range 3 {
			o.Done(o.begin())
		}
		time.Sleep(time.Second)
		b := NewInbox()
		b.Subscribed(since())
		for _, first := range []Kind{Invalidated, Pattern, TagsInvalidated, Watermark} {
			time.Sleep(time.Hour)
			b.Subscribed(since())
			time.Sleep(30 * time.Minute)
			var n Message
			due := true
			if o.Watermark(false); first != Watermark {
				n, _ = o.Next(first)
				o.Done(n.Number)
			} else {
				o.Again()
				n, due = o.Watermark(false)
			}
			if !due || b.Receive(&n, since()) {
				t.Errorf("kind %d: a gap at the first notice %+v", first, n)
			}
			time.Sleep(time.Minute)
			if b.Tick(since()) {
				t.Errorf("kind %d: a gap later", first)
			}
		}
	})
}

// Messages of a burst overtake each other; one of them is enough, whichever comes first.
func TestABurstOfASenderThatWasQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		since := func() int64 { return int64(time.Since(start)) }
		o, b := NewOutbox(1), NewInbox()
		o.Done(o.begin())
		time.Sleep(time.Second)
		b.Subscribed(since())
		time.Sleep(900 * time.Millisecond)
		var burst []Message
		for range 4 {
			n, _ := o.Next(Invalidated)
			burst = append(burst, n)
			time.Sleep(time.Millisecond)
		}
		for _, i := range []int{2, 3, 1} {
			if b.Receive(&burst[i], since()) {
				t.Errorf("a gap at number %d", burst[i].Number)
			}
		}
		time.Sleep(10 * time.Second)
		if b.Tick(since()) {
			t.Error("a gap, though nothing says that the first one is out")
		}
		// The first of the burst is missing: that is seen as ever.
		for _, n := range burst {
			o.Done(n.Number)
		}
		n, _ := o.Watermark(false)
		gap := b.Receive(&n, since())
		time.Sleep(time.Second)
		if !gap && !b.Tick(since()) {
			t.Error("a lost notice is not missed")
		}
	})
}

// What was told within the session, or may have been, is missing unless it is heard.
func TestASenderThatTellsWithinTheSessionIsMissed(t *testing.T) {
	for name, told := range map[string]time.Duration{"just after it began": time.Millisecond, "long after it began": time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			since := func() int64 { return int64(time.Since(start)) }
			o, b := NewOutbox(1), NewInbox()
			o.Done(o.begin())
			time.Sleep(time.Minute)
			b.Subscribed(since())
			time.Sleep(told)
			o.Done(o.begin()) // and nothing of it arrives
			time.Sleep(10 * time.Second)
			n, _ := o.Next(Invalidated)
			gap := b.Receive(&n, since())
			time.Sleep(time.Duration(grace))
			if gap = b.Tick(since()) || gap; !gap {
				t.Errorf("%s: it is not missed: %+v", name, n)
			}
			if time.Sleep(time.Hour); b.Tick(since()) {
				t.Errorf("%s: it is missed twice", name)
			}
		})
	}
}

// While a number is under way nothing is said of it.
func TestTheBaseIsBelowWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := NewOutbox(1)
		if n, _ := o.Next(Invalidated); n.Base != 0 || n.Quiet != 0 {
			t.Errorf("the first: %+v", n)
		}
		time.Sleep(time.Minute)
		if n, _ := o.Next(Invalidated); n.Base != 0 {
			t.Errorf("beside the first: %+v", n)
		}
		o.Done(1)
		time.Sleep(time.Minute)
		o.fail(2)
		time.Sleep(time.Minute)
		n, _ := o.Next(Invalidated)
		if n.Number != 3 || n.Base != 2 || n.Quiet != time.Minute {
			t.Errorf("after both: %+v", n)
		}
		time.Sleep(time.Minute)
		if n, _ := o.Next(Invalidated); n.Base != 2 || n.Quiet != 2*time.Minute {
			t.Errorf("beside that: %+v", n)
		}
	})
}
