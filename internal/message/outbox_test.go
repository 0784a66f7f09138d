package message

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// begin returns a new number.
func (o *Outbox) begin() uint64 {
	n, _ := o.Next(0)
	return n.Number
}

// begin begins numbers 1 to n.
func begin(o *Outbox, n int) {
	for range n {
		o.begin()
	}
}

var errLost = errors.New("the connection is gone")

// tallied returns the number of the watermark that is due; 0: none is.
func tallied(o *Outbox) uint64 {
	n, due := o.Watermark(false)
	if !due {
		return 0
	}
	return n.Number
}

func TestATallyCountsWhatIsOut(t *testing.T) {
	o := NewOutbox(7)
	if _, due := o.Watermark(false); due {
		t.Fatal("nothing was told, and a tally is due")
	}
	begin(o, 4)
	if n := tallied(o); n != 0 {
		t.Fatalf("all are in flight: %d", n)
	}
	o.Done(2)
	o.Done(3)
	if n := tallied(o); n != 0 {
		t.Fatalf("1 is in flight: %d", n)
	}
	o.Done(1)
	if n := tallied(o); n != 3 {
		t.Errorf("%d, want 3", n)
	}
	o.fail(4)
	begin(o, 1)
	o.Done(5)
	if n := tallied(o); n != 3 {
		t.Errorf("%d, but 4 has failed", n)
	}
	o.Skip(4)
	n, due := o.Watermark(false)
	if !due || n.Sender != 7 || n.Number != 5 || !slices.Equal(n.Skipped, []uint64{4}) || n.Last {
		t.Errorf("%+v", n)
	}
}

func TestThreeTalliesAndThenSilence(t *testing.T) {
	o := NewOutbox(7)
	say := func(times int) {
		t.Helper()
		for i := range times + 3 {
			if _, due := o.Watermark(false); due != (i < times) {
				t.Fatalf("tally %d: due %v", i, due)
			}
		}
	}
	o.Done(o.begin())
	say(3)
	n := o.begin()
	o.fail(n)
	say(0)
	o.Done(o.begin())
	say(0)
	o.Skip(n)
	say(3)
	o.Again()
	say(3)
}

func TestASkippedNumberIsListedThreeTimes(t *testing.T) {
	o := NewOutbox(7)
	begin(o, 3)
	for _, n := range []uint64{1, 2, 3} {
		o.fail(n)
	}
	o.Skip(2) // but 1 is open
	if n := tallied(o); n != 0 {
		t.Fatalf("tally of %d", n)
	}
	o.Skip(1)
	for range 3 {
		if n, _ := o.Watermark(false); n.Number != 2 || !slices.Equal(n.Skipped, []uint64{2, 1}) {
			t.Fatalf("%+v", n)
		}
	}
	o.Skip(3)
	if n, _ := o.Watermark(false); n.Number != 3 || !slices.Equal(n.Skipped, []uint64{3}) {
		t.Fatalf("%+v", n)
	}
}

func TestWhichEchoesAreSkipped(t *testing.T) {
	o := NewOutbox(7)
	begin(o, 6)
	o.Done(2)
	o.fail(3)
	o.fail(4)
	o.Skip(4)
	o.fail(5)
	o.Done(5) // acknowledged after all, when the local entry was dropped
	o.Skip(6) // without a Failed
	for n, want := range map[uint64]bool{0: false, 1: true, 2: true, 3: false, 4: false, 5: false, 6: false, 7: false} {
		if o.IsOwnEcho(n) != want {
			t.Errorf("%d: %v", n, !want)
		}
	}
}

func TestAClosingTallyCountsWhatIsOpen(t *testing.T) {
	o := NewOutbox(7)
	if _, due := o.Watermark(true); due {
		t.Error("one that has told nothing says goodbye")
	}
	begin(o, 3)
	o.Done(1)
	o.fail(2)
	if n, due := o.Watermark(true); !due || n.Number != 3 || n.Skipped != nil || !n.Last {
		t.Errorf("%+v %v", n, due)
	}
}

// The last watermark says that something was lost, also if nothing new is to be said otherwise.
func TestAClosingWatermarkSaysWhatIsLost(t *testing.T) {
	for range 2 {
		o := NewOutbox(7)
		n := o.begin()
		o.Done(n)
		for range repeat {
			if n, due := o.Watermark(false); !due || n.Unresolved {
				t.Errorf("%+v %v", n, due)
			}
		}
		o.Lose()
		if n, due := o.Watermark(false); due {
			t.Errorf("%+v", n)
		}
		if n, due := o.Watermark(true); !due || n.Number != 1 || !n.Last || !n.Unresolved {
			t.Errorf("%+v %v", n, due)
		}
	}
}

func TestMemoryOfFailuresIsBounded(t *testing.T) {
	o := NewOutbox(7)
	first := o.begin()
	o.Done(first)
	for range 3 * maxFailed {
		o.fail(o.begin())
	}
	last := o.begin()
	o.Done(last)
	if n := len(o.failed); n > maxFailed {
		t.Fatalf("%d failed numbers", n)
	}
	if o.IsOwnEcho(first) {
		t.Error("an echo is skipped below numbers that are forgotten")
	}
	if !o.IsOwnEcho(last) || o.IsOwnEcho(last-1) {
		t.Error("the latest are forgotten")
	}
	for n := first + 1; n < last; n++ {
		if o.IsOwnEcho(n) {
			t.Fatalf("the echo of %d, which has failed, is skipped", n)
		}
		o.Skip(n)
	}
	n, due := o.Watermark(false)
	if !due || n.Number != last || len(n.Skipped) != maxSkipped || n.Skipped[0] != last-maxSkipped {
		t.Errorf("tally: %d, %d skipped", n.Number, len(n.Skipped))
	}
}

// Its failure is too old to be remembered; receivers that have not heard it flush.
func TestAnOldNumberThatFailsLateIsGivenUp(t *testing.T) {
	o := NewOutbox(7)
	old := o.begin()
	for range maxFailed + 1 {
		n := o.begin()
		o.fail(n)
		o.Skip(n)
	}
	if n := tallied(o); n != old-1 {
		t.Errorf("tally of %d, and %d is in flight", n, old)
	}
	o.fail(old)
	if n := tallied(o); n != maxFailed+2 {
		t.Errorf("tally of %d", n)
	}
	if o.IsOwnEcho(old) {
		t.Error("its echo is skipped")
	}
}

func TestSendersAreRandomAndNotZero(t *testing.T) {
	a, b := NewSender(), NewSender()
	if a == 0 || b == 0 || a == b {
		t.Error(a, b)
	}
	if s := NewOutbox(a).Sender(); s != a {
		t.Errorf("%d, want %d", s, a)
	}
}

// The model remembers what became of each number.
func TestTheOutboxAgainstAModel(t *testing.T) {
	const (
		inFlight = iota
		done
		failed
		givenUp
		late // done after it had failed
	)
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		o, model := NewOutbox(7), []int{done} // by number
		for range 500 {
			n := uint64(r.IntN(len(model)))
			if r.IntN(2) == 0 {
				n = uint64(max(len(model)-1-r.IntN(8), 0))
			}
			switch r.IntN(7) {
			case 0, 1:
				model = append(model, inFlight)
				if got := o.begin(); got != uint64(len(model)-1) {
					t.Fatalf("number %d", got)
				}
			case 2, 3:
				if open := (Sent{o, n}).Resolve(true, nil); open != nil {
					t.Fatalf("seed %d: open %d", seed, open)
				}
				switch model[n] {
				case inFlight:
					model[n] = done
				case failed:
					model[n] = late
				}
			case 4:
				if open := (Sent{o, n}).Resolve(r.IntN(2) == 0, errLost); len(open) != 1 || open[0] != n {
					t.Fatalf("seed %d: open %d", seed, open)
				}
				if model[n] == inFlight {
					model[n] = failed
				}
			case 5:
				if open := (Sent{o, n}).Resolve(false, nil); open != nil {
					t.Fatalf("seed %d: open %d", seed, open)
				}
				if model[n] == inFlight || model[n] == failed {
					model[n] = givenUp
				}
			case 6:
				if model[n] != inFlight {
					break
				}
				each := Sent{o, n}.ResolveEach(2, false)
				if first := uint64(len(model)); !slices.Equal(each, []Sent{{o, first}, {o, first + 1}}) {
					t.Fatalf("seed %d: %v after %d", seed, each, first-1)
				}
				model[n] = givenUp
				model = append(model, failed, failed)
			}
			n = uint64(r.IntN(len(model) + 1))
			if want := n > 0 && int(n) < len(model) && model[n] <= done; o.IsOwnEcho(n) != want {
				t.Fatalf("seed %d: Own(%d) = %v", seed, n, !want)
			}
			out := uint64(0)
			for int(out)+1 < len(model) && model[out+1] != inFlight && model[out+1] != failed {
				out++
			}
			tally, due := o.Watermark(false)
			if !due {
				continue
			}
			if tally.Number != out {
				t.Fatalf("seed %d: tally of %d, want %d", seed, tally.Number, out)
			}
			for _, k := range tally.Skipped {
				if k > out || model[k] != givenUp {
					t.Fatalf("seed %d: tally of %d skips %d", seed, out, k)
				}
			}
		}
	}
}
