package message

import (
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

func (e *ear) from(sender uint64, gap bool, n Message) {
	e.Helper()
	n.Sender = sender
	if got := e.b.Receive(&n, e.now); got != gap {
		e.Errorf("%+v of sender %d: gap %v", n, sender, got)
	}
}

// Before the first session nothing is known of what was published when.
func TestABaseCountsForNothingBeforeTheFirstSession(t *testing.T) {
	b := NewInbox()
	if b.Receive(&Message{Sender: 1, Number: 5, Kind: Invalidated, Base: 4, Quiet: time.Hour}, 0) {
		t.Error("a gap at once")
	}
	if !b.Tick(grace) {
		t.Error("the numbers before are not missing")
	}
}

// A base counts from exactly the beginning of the session, but for what clocks may differ by.
func TestABaseIsFromBeforeTheSessionOrNot(t *testing.T) {
	for since, gap := range map[int64]bool{998 * ms: false, 999 * ms: false, 999*ms + 1: true, 1000 * ms: true} {
		b := NewInbox()
		b.Subscribed(0)
		b.Receive(&Message{Sender: 1, Number: 5, Kind: Invalidated, Base: 4, Quiet: time.Second}, since)
		if got := b.Tick(settle); got != gap {
			t.Errorf("%v after the beginning: gap %v", time.Duration(since), got)
		}
	}
}

// What was heard beyond a base stays heard.
func TestABaseTakesNothingBack(t *testing.T) {
	e := newEar(t)
	for n := range uint64(maxAhead + 1) {
		e.hear(false, 100+n)
	}
	e.from(1, false, Message{Number: 100 + maxAhead + 1, Kind: Invalidated, Base: 99, Quiet: time.Hour})
	e.tally(false, 100+maxAhead+1)
	e.later(false)
}

// A sender that has said its last word is not forgotten before what it told in the session
// was found to be missing.
func TestASenderThatWasNotMetIsNotForgotten(t *testing.T) {
	e := newEar(t)
	e.b.Subscribed(e.now)
	e.hear(false, 5)
	e.from(1, false, Message{Number: 5, Kind: Watermark, Last: true})
	e.later(false)
	if len(e.b.peers) != 1 {
		t.Fatal("it is forgotten, and 1 to 4 may have been lost")
	}
	e.pass(settle - grace)
	e.tick(true)
}

func TestALastWordIsNotTakenBackByAnOlderTally(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1)
	e.from(1, false, Message{Number: 1, Kind: Watermark, Last: true})
	e.tally(false, 1)
	e.later(false)
	if len(e.b.peers) != 0 {
		t.Error("it is remembered")
	}
}

// One flush is for all that was claimed by then.
func TestAFlushIsForAllThatWasClaimed(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1)
	e.tally(false, 2)
	e.pass(grace / 2)
	e.tally(false, 5)
	e.pass(grace / 2)
	e.tick(true)
	e.later(false)
}

// What a sender has not claimed by then may be under way, and be lost after the flush.
func TestAFlushIsNotForWhatIsUnderWay(t *testing.T) {
	e := newEar(t)
	e.b.Subscribed(e.now)
	e.from(2, false, Message{Number: 5, Kind: Invalidated}) // 1 to 4 are not out yet
	e.hear(false, 1)
	e.tally(false, 2)
	e.pass(grace)
	e.tick(true) // for want of the other's 2
	e.pass(settle)
	e.tick(true)
}

// What was heard beyond what a flush is for stays heard.
func TestAFlushForgetsNothingThatWasHeard(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1, 5)
	e.tally(false, 2)
	e.pass(grace)
	e.tick(true)
	e.hear(false, 3, 4)
	e.tally(false, 5)
	e.later(false)
}

// Numbers that come again are not remembered a second time.
func TestRepeatedNumbersTakeNoRoom(t *testing.T) {
	e := newEar(t)
	for n := range uint64(maxAhead + 2) {
		e.hear(false, n+1, n+1)
	}
	for n := range uint64(maxAhead + 2) {
		e.hear(false, n+1)
	}
	if n := len(e.b.peers[1].outOfOrder); n != 0 {
		t.Errorf("%d are kept", n)
	}
}

// A sender that runs too far ahead when its time to be met is over shows the gap at once.
func TestTheGapOfASenderFarAheadIsSeenAtOnce(t *testing.T) {
	e := newEar(t)
	e.b.Subscribed(e.now)
	for n := range uint64(maxAhead) {
		e.hear(false, 100+n)
	}
	e.pass(settle)
	e.hear(true, 100+maxAhead)
	e.tally(false, 100+maxAhead)
	e.later(false)
}

// Of the claims after the first, the greatest is kept, and the time when it was first made.
func TestTheGreatestClaimCounts(t *testing.T) {
	for name, c := range map[string]struct {
		again uint64
		wait  int64
	}{"an older tally that was overtaken": {5, 0}, "the same once more": {9, grace / 2}, "the first once more": {3, grace / 2}} {
		e := newEar(t)
		e.hear(false, 1, 2)
		e.tally(false, 3)
		e.tally(false, 9)
		e.pass(c.wait)
		e.tally(false, c.again)
		e.hear(false, 3, 4, 5)
		e.pass(grace - c.wait)
		if !e.b.Tick(e.now) {
			t.Errorf("%s: 6 to 9 are not missing", name)
		}
		e.later(false)
	}
}

// The gap of a sender that is not met is for all of it that was heard, and claimed.
func TestASenderIsMetWithAllThatWasHeard(t *testing.T) {
	e := newEar(t)
	e.b.Subscribed(e.now)
	for n := range uint64(30) {
		e.hear(false, 100+2*n)
	}
	e.pass(settle)
	e.tick(true)
	e.tally(false, 100+2*29)
	e.later(false)
}

// A number that is given up long after it has failed was not under way until then.
func TestGivingUpIsNoFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := NewOutbox(1)
		o.fail(o.begin())
		time.Sleep(time.Minute)
		o.Skip(1)
		time.Sleep(time.Minute)
		o.Done(1) // acknowledged after all
		if n, _ := o.Next(Invalidated); n.Base != 1 || n.Quiet != 2*time.Minute {
			t.Errorf("%+v", n)
		}
	})
}

// A tally that is made while numbers are under way says nothing of them, nor do the messages
// after it.
func TestATallyMovesNoBaseOverWhatIsUnderWay(t *testing.T) {
	o := NewOutbox(1)
	o.Done(o.begin())
	o.begin()
	if n, due := o.Watermark(false); !due || n.Number != 1 || n.Base > 1 {
		t.Errorf("%+v", n)
	}
	if n, _ := o.Next(Invalidated); n.Base > 1 {
		t.Errorf("2 is under way: %+v", n)
	}
}

// The base of a watermark is not beyond its number, which something open holds back.
func TestTheBaseOfATallyIsNotBeyondItsNumber(t *testing.T) {
	o := NewOutbox(1)
	o.Done(o.begin())
	o.fail(o.begin())
	n, due := o.Watermark(false)
	if !due || n.Number != 1 || n.Base > 1 {
		t.Errorf("%+v", n)
	}
	if got, err := Parse(string(n.Append(nil))); err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAgainIsForWhatWasSaid(t *testing.T) {
	o := NewOutbox(1)
	if o.Again(); tallied(o) != 0 {
		t.Error("nothing was told")
	}
	if _, due := o.Watermark(false); due {
		t.Error("a tally of nothing is due")
	}
	n := o.begin()
	o.fail(n)
	o.Skip(n)
	tallied(o)
	tallied(o)
	o.Again()
	for i := range repeat {
		if n, _ := o.Watermark(false); len(n.Skipped) != 1 {
			t.Errorf("tally %d after it: %+v", i+1, n)
		}
	}
}

// Each part of a message is read strictly.
func TestTheHeadOfANoticeIsReadStrictly(t *testing.T) {
	const sender, one = "\x00\x00\x00\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x01"
	head := magic + "\x01\x01" + sender + one
	for name, text := range map[string]string{
		"sender 0":                        magic + "\x01\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00" + one + "\x01\x00",
		"nothing behind the number":       head,
		"a base of too many bytes":        head + "\x81\x00\x00",
		"a quiet of too many bytes":       head + "\x01\x81\x00",
		"a length of eleven bytes":        head + "\x01\x00" + "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
		"a tag that is cut off":           magic + "\x01\x04" + sender + one + "\x01\x00" + "\x01\x02a",
		"the second of two tags cut off":  magic + "\x01\x04" + sender + one + "\x01\x00" + "\x02\x01a\x02b",
		"a quiet longer than it can be":   string(binary.AppendUvarint([]byte(head+"\x01"), maxQuiet+1)),
		"a skipped number of many zeroes": magic + "\x01\x05" + sender + one + "\x01\x00" + "\x00\x80\x00",
	} {
		if n, err := Parse(text); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
	n := Message{Sender: 1, Number: 1, Kind: Invalidated, Quiet: maxQuiet * time.Millisecond}
	if got, err := Parse(string(n.Append(nil))); err != nil || got.Quiet != n.Quiet {
		t.Errorf("the longest quiet: %+v, %v", got, err)
	}
}

func TestParseAllocatesNoMoreThanItsResult(t *testing.T) {
	many := Message{Sender: 1, Number: 1 << 20, Kind: Watermark}
	for i := range uint64(300) {
		many.Skipped = append(many.Skipped, 1+i*i)
	}
	all := map[string]Message{"many skipped numbers": many}
	for name, n := range samples {
		all[name] = n
	}
	for name, n := range all {
		text := string(n.Append(nil)) + n.Text
		if got := testing.AllocsPerRun(100, func() { Parse(text) }); got > 1 {
			t.Errorf("%s: %v allocations", name, got)
		}
		if p, _ := Parse(text); cap(p.Skipped) != len(n.Skipped) || p.Skipped != nil && n.Skipped == nil {
			t.Errorf("%s: room for %d skipped numbers, want %d", name, cap(p.Skipped), len(n.Skipped))
		}
	}
}
