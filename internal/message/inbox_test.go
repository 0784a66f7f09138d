package message

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

const ms = int64(1e6)

// ear is an inbox that hears at a time.
type ear struct {
	*testing.T
	b   *Inbox
	now int64
}

// newEar returns one whose session has settled.
func newEar(t *testing.T) *ear {
	e := &ear{T: t, b: NewInbox(), now: -5000 * ms} // as in a bubble of synctest
	e.b.Subscribed(e.now)
	e.pass(settle)
	e.tick(false)
	return e
}

func (e *ear) pass(d int64) { e.now += d }

func (e *ear) hear(gap bool, numbers ...uint64) {
	e.Helper()
	for _, n := range numbers {
		if got := e.b.Receive(&Message{Sender: 1, Number: n, Kind: Invalidated}, e.now); got != gap {
			e.Errorf("number %d: gap %v", n, got)
		}
	}
}

func (e *ear) tally(gap bool, number uint64, skipped ...uint64) {
	e.Helper()
	if got := e.b.Receive(&Message{Sender: 1, Number: number, Kind: Watermark, Skipped: skipped}, e.now); got != gap {
		e.Errorf("tally %d: gap %v", number, got)
	}
}

func (e *ear) tick(gap bool) {
	e.Helper()
	if got := e.b.Tick(e.now); got != gap {
		e.Errorf("tick: gap %v", got)
	}
}

// later ticks when the grace of all that was claimed is over.
func (e *ear) later(gap bool) {
	e.Helper()
	e.pass(grace)
	e.tick(gap)
}

func TestAllHeardIsNoGap(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1, 3, 2, 2, 1, 5)
	e.tally(false, 3)
	e.later(false)
	e.hear(false, 4)
	e.tally(false, 5)
	e.later(false)
}

func TestANumberThatIsMissingAfterTheGraceIsAGap(t *testing.T) {
	for name, notice := range map[string]func(*ear){
		"seen by Tick":       func(e *ear) { e.tick(true) },
		"seen by a tally":    func(e *ear) { e.tally(true, 3) },
		"seen by a number":   func(e *ear) { e.hear(true, 4) },
		"seen by a late one": func(e *ear) { e.hear(true, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEar(t)
			e.hear(false, 1, 3)
			e.tally(false, 3)
			e.pass(grace - 1)
			e.tick(false)
			e.pass(1)
			notice(e)
			e.tick(false) // once
			e.tally(false, 3)
			e.later(false)
		})
	}
}

func TestANumberThatComesWithinTheGraceIsNoGap(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1)
	e.tally(false, 3)
	e.pass(grace - 1)
	e.hear(false, 3, 2)
	e.later(false)
}

func TestEachClaimHasItsOwnGrace(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1)
	e.tally(false, 2)
	e.pass(grace / 2)
	e.tally(false, 3)
	e.hear(false, 2)
	e.pass(grace - 1)
	e.tick(false)
	e.pass(1)
	e.tick(true)
}

func TestSkippedNumbersNeedNotBeHeard(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1, 4)
	e.tally(false, 5, 2, 3, 5)
	e.later(false)
	e.hear(false, 2) // it may come all the same
	e.tally(false, 6)
	e.later(true)
}

// What was lost after the flush must not pass for flushed.
func TestAGapDoesNotHideWhatIsStillOpen(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1, 3, 9)
	e.tally(false, 3)
	e.later(true)
	e.tally(false, 9)
	e.later(true)
}

func TestOneFlushDoesForAllSenders(t *testing.T) {
	e := newEar(t)
	for s := uint64(1); s <= 3; s++ {
		e.b.Receive(&Message{Sender: s, Number: 1, Kind: Invalidated}, e.now)
		e.b.Receive(&Message{Sender: s, Number: 2, Kind: Watermark}, e.now+int64(s))
	}
	e.pass(grace + 1)
	e.tick(true)
	e.later(false)
}

func TestASenderThatRunsFarAheadIsAGap(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1)
	for n := uint64(3); n < 3+maxAhead; n++ {
		e.hear(false, n)
	}
	e.hear(true, 3+maxAhead)
	if p := e.b.peers[1]; p.mark != 3+maxAhead || len(p.outOfOrder) != 0 {
		t.Errorf("mark %d, %d ahead", p.mark, len(p.outOfOrder))
	}
	e.hear(false, 2, 4+maxAhead)
}

func TestMeetingASender(t *testing.T) {
	for name, c := range map[string]struct {
		first Message
		gap   bool
	}{
		"with its first number":   {Message{Number: 1, Kind: Invalidated}, false},
		"with a later one":        {Message{Number: 2, Kind: Invalidated}, true},
		"with a tally":            {Message{Number: 1, Kind: Watermark}, true},
		"with a tally of nothing": {Message{Number: 0, Kind: Watermark}, false},
		"with a newer kind":       {Message{Number: 1, Kind: 77}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.first.Sender = 1
			e := newEar(t)
			meet := func(wait int64) {
				t.Helper()
				for s := uint64(1); s < 4; s++ {
					c.first.Sender = s
					if e.b.Receive(&c.first, e.now) {
						t.Error("a gap at once")
					}
				}
				e.pass(wait - 1)
				e.tick(false)
				e.pass(1)
				e.tick(c.gap) // one for all
				e.tick(false)
				e.tally(false, c.first.Number)
				e.later(false)
			}
			meet(grace)
			e.b.Subscribed(e.now)
			meet(settle)
		})
	}
}

func TestTheFirstNumberMayBeOvertaken(t *testing.T) {
	e := newEar(t)
	e.hear(false, 3)
	e.tally(false, 3)
	e.pass(grace - 1)
	e.hear(false, 1)
	e.pass(1)
	e.tick(true) // for want of 2
	e.hear(false, 2)
	e.later(false)

	e.b.Subscribed(e.now)
	e.hear(false, 2, 1)
	e.pass(settle)
	e.tick(false)
}

func TestAnActiveSenderIsMetWithOneFlush(t *testing.T) {
	e := newEar(t)
	e.b.Subscribed(e.now)
	for n := range uint64(5 * maxAhead) {
		e.hear(false, 100+n)
	}
	e.tally(false, 101)
	e.pass(settle)
	e.tick(true)
	e.hear(false, 100+5*maxAhead)
	e.tally(false, 100+5*maxAhead)
	e.later(false)
}

func TestANewSessionForgetsWhatWasHeard(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1)
	e.tally(false, 3)
	e.b.Subscribed(e.now)
	e.later(false)
	e.hear(false, 9)
	e.b.Subscribed(e.now)
	e.pass(settle)
	e.tick(false)
	e.hear(false, 10)
	e.later(true)
}

func TestASenderThatClosesIsForgotten(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1)
	bye := &Message{Sender: 1, Number: 3, Kind: Watermark, Last: true}
	if e.b.Receive(bye, e.now) {
		t.Error("a gap at once")
	}
	e.hear(false, 3)
	e.later(true) // 2 never came
	if len(e.b.peers) != 0 {
		t.Error("still known")
	}
}

func TestTheLastWordsOfASenderMayOvertakeItsFirst(t *testing.T) {
	e := newEar(t)
	e.hear(false, 1)
	e.b.Receive(&Message{Sender: 1, Number: 1, Kind: Watermark, Last: true}, e.now)
	e.tick(false)
	e.hear(false, 2)
	e.later(false)
	if len(e.b.peers) != 0 {
		t.Error("still known")
	}
}

func TestSilentSendersAreForgottenWhenThereAreMany(t *testing.T) {
	e := newEar(t)
	meet := func(s uint64) { e.b.Receive(&Message{Sender: s, Number: 1, Kind: Invalidated}, e.now) }
	for s := range uint64(maxPeers) {
		meet(1 + s)
	}
	e.pass(silence)
	e.tick(false)
	if n := len(e.b.peers); n != maxPeers {
		t.Fatalf("%d of few are left", n)
	}
	e.hear(false, 2)
	meet(maxPeers + 1)
	e.tick(false)
	if n := len(e.b.peers); n != 2 {
		t.Errorf("%d are left", n)
	}
}

// Senders tell, receivers hear, the way in between overtakes, repeats and loses. Each
// loss is noticed some time after the last tally, and without a loss nothing is.
func TestEveryLossIsNoticed(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { lossy(t, rand.New(rand.NewPCG(seed, 4)), seed%3 == 0) })
	}
}

func lossy(t *testing.T, r *rand.Rand, lossless bool) {
	type message struct {
		n   Message
		due int64
	}
	var (
		now    int64
		way    []message
		lostAt = int64(-1) // when the latest number was lost that must be heard
		gapAt  = int64(-1)
		gaps   int
		b      = NewInbox()
		out    = []*Outbox{NewOutbox(1), NewOutbox(2)}
		failed [2][]uint64
	)
	b.Subscribed(0)
	publish := func(n Message, lose bool) {
		if lose {
			return
		}
		for range 1 + r.IntN(5)/4 { // sometimes twice
			way = append(way, message{n, now + r.Int64N(grace-20*ms)})
		}
	}
	report := func(gap bool) {
		if gap {
			gaps++
			gapAt = now
		}
	}
	for step := range 3000 {
		now += 10 * ms
		for i := 0; i < len(way); {
			if way[i].due > now {
				i++
				continue
			}
			n := way[i].n
			way = append(way[:i], way[i+1:]...)
			report(b.Receive(&n, now))
		}
		if step%20 == 0 {
			report(b.Tick(now))
		}
		s := r.IntN(2)
		o := out[s]
		if step%30 == 0 {
			for _, o := range out {
				if tally, due := o.Watermark(false); due {
					publish(tally, false)
				}
			}
		}
		if step > 2800 || r.IntN(4) > 0 {
			continue // it ends in silence
		}
		n := o.begin()
		lost := !lossless && n > 1 && r.IntN(200) == 0
		told := Message{Sender: o.Sender(), Number: n, Kind: Invalidated}
		fate := r.IntN(10)
		if n == 1 {
			fate = 9 // a sender whose first number fails is not met with it
		}
		switch fate {
		case 0: // it is not known whether it was published
			o.fail(n)
			publish(told, r.IntN(2) == 0)
			failed[s] = append(failed[s], n)
		case 1: // what failed is told again
			publish(told, false)
			o.Done(n)
			o.Skip(failed[s]...)
			failed[s] = nil
		default:
			publish(told, lost)
			o.Done(n)
			if lost {
				lostAt = now
			}
		}
	}
	for _, list := range failed {
		if len(list) > 0 && list[0] > 0 {
			return // the watermarks stop there, and nothing can be said
		}
	}
	if lostAt >= 0 && gapAt < lostAt {
		t.Errorf("a loss at %d ms was not noticed", lostAt/ms)
	}
	if lossless && gaps > 0 {
		t.Errorf("%d gaps, and nothing was lost", gaps)
	}
}
