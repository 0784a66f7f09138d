package logicalclock

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// world is one Redis that remembers every tombstone ever made, one Table, and all that is
// on its way between them, which arrives in any order.
type world struct {
	*testing.T
	r   *rand.Rand
	tab *Table

	now     int64 // the local clock, ns; Redis's is redisAhead µs ahead
	epoch   uint64
	clock   int64
	floor   int64
	made    []madeMark
	stamps  []stamp // that entries may have
	flights []*flight
	notices []*news
	hearing bool
	lag     int64 // the longest that a message took
}

type madeMark struct {
	epoch uint64
	clock int64
	tags  []string
	mode  Mode
	when  int64 // Delayed: Redis's clock
	past  int64 // Hard: what began later stays; 0: nothing does
	acked bool  // this process made it, and has learned the answer
}

type stamp struct {
	epoch uint64
	time  int64
	began int64 // 0: not known
}

// beginning returns when a value began that is stored now. Only what is later than what
// matters: times are about those of the logical clock here.
func (w *world) beginning() int64 {
	if w.r.IntN(4) == 0 {
		return 0
	}
	return w.clock + 2 - w.r.Int64N(6)
}

// flight is a question. It is carried out when answer is set.
type flight struct {
	asked  Token
	at     int64
	tags   []string
	answer *Reading
	made   int // 1 + the index of the own tombstone that it acknowledges
}

type news struct {
	at   int64
	tags []string
	text *Reading
}

const redisAhead = 1_000_000_000

func (w *world) redis() int64 { return redisAhead + w.now/1000 }

func (w *world) someTags() []string {
	var tags []string
	for _, tag := range []string{"a", "b", "c", "d"} {
		if w.r.IntN(3) == 0 {
			tags = append(tags, tag)
		}
	}
	return tags
}

// hits reports whether m concerns an entry.
func (m *madeMark) hits(s stamp, tags []string) bool {
	return m.epoch == s.epoch && s.time < m.clock && (m.past == 0 || s.began <= m.past) && (m.mode != Delayed || s.began <= m.clock) &&
		(len(m.tags) == 0 || slices.ContainsFunc(tags, func(t string) bool { return slices.Contains(m.tags, t) }))
}

// verdict is what m says of an entry that it hits, some time after it was made.
func (m *madeMark) verdict(redis int64) Validity {
	switch {
	case m.mode == Soft:
		return Stale
	case m.mode == Hard || m.when <= redis:
		return Invalid
	}
	return Valid
}

// say is what Redis answers about a tag, or about all entries.
func (w *world) say(tag string) (m Tombstone) {
	var late Tombstone
	for i := range w.made {
		k := &w.made[i]
		if k.epoch != w.epoch || !(tag == "" && len(k.tags) == 0 || slices.Contains(k.tags, tag)) {
			continue
		}
		switch v := k.verdict(w.redis()); {
		case k.past > 0:
			late.Next, late.When = max(late.Next, k.clock), max(late.When, k.past)
			continue
		case v == Invalid:
			m.Hard = max(m.Hard, k.clock)
		case v == Stale:
			m.Soft = max(m.Soft, k.clock)
		case v == Valid:
			if m.Next == 0 {
				m.When = k.when
			}
			m.Next, m.When = max(m.Next, k.clock), min(m.When, k.when)
		}
	}
	if m.Next <= m.Hard {
		m.Next, m.When = 0, 0
	}
	switch {
	case late.Next <= m.Hard:
	case late.Next > m.Next:
		m.Next, m.When = late.Next, max(late.When, m.Next)
	default:
		m.Hard = late.Next
	}
	return m
}

func (w *world) answer(tags []string) *Reading {
	m := &Reading{Now: w.redis()}
	m.Epoch = Epoch{ID: w.epoch, Tick: w.redis(), Clock: w.clock, LowWatermark: w.floor, All: w.say("")}
	for _, tag := range tags {
		m.Tags = append(m.Tags, w.say(tag))
	}
	return m
}

func (w *world) mark() (tags []string) {
	tags = w.someTags()
	w.clock += 1 + w.r.Int64N(2)
	mode := Mode(w.r.IntN(3))
	m := madeMark{epoch: w.epoch, clock: w.clock, tags: tags, mode: mode, when: w.redis() + w.r.Int64N(20_000)}
	if mode == Hard && w.r.IntN(2) == 0 {
		m.past = max(1, w.clock-1-w.r.Int64N(5))
	}
	w.made = append(w.made, m)
	if w.hearing {
		w.notices = append(w.notices, &news{w.now, tags, w.answer(tags)})
	}
	return tags
}

func (w *world) ask(tags []string) *flight {
	f := &flight{asked: w.tab.ReadVersion(), at: w.now, tags: tags}
	w.flights = append(w.flights, f)
	return f
}

func (w *world) carryOut(f *flight) {
	if f.answer == nil {
		f.answer = w.answer(f.tags)
	}
}

// deliver gives an answer to the table. One that acknowledges a tombstone is asked for
// again if it is refused.
func (w *world) deliver(f *flight) (ok bool) {
	w.flights = slices.DeleteFunc(w.flights, func(g *flight) bool { return g == f })
	ok = w.tab.LearnTombstones(f.tags, f.answer, f.asked, f.at)
	if f.made > 0 {
		if ok {
			w.made[f.made-1].acked = true
		} else {
			w.ask(f.tags).made = f.made
		}
	}
	return ok
}

func (w *world) step() {
	switch n := w.r.IntN(100); {
	case n < 20:
		w.now += 1000 * w.r.Int64N(3000)
	case n < 30:
		w.mark()
	case n < 36:
		f := w.ask(nil)
		f.tags = w.mark()
		f.made = len(w.made)
		w.carryOut(f)
	case n < 44:
		w.ask(w.someTags())
	case n < 54 && len(w.flights) > 0:
		w.carryOut(w.flights[w.r.IntN(len(w.flights))])
	case n < 64 && len(w.flights) > 0:
		f := w.flights[w.r.IntN(len(w.flights))]
		w.carryOut(f)
		w.deliver(f)
	case n < 84 && len(w.notices) > 0:
		i := w.r.IntN(len(w.notices))
		if w.r.IntN(2) == 0 {
			i = 0 // they mostly come in order
		}
		k := w.notices[i]
		w.notices = slices.Delete(w.notices, i, i+1)
		w.lag = max(w.lag, w.now-k.at)
		w.tab.ApplyPeer(k.tags, k.text, w.now)
	case n < 85:
		w.tab.Forget()
		w.hearing, w.notices = false, nil
	case n < 87:
		w.tab.Subscribed()
		w.hearing, w.notices = true, nil
	case n < 88:
		w.epoch++
		w.clock += 1000
		w.floor = w.clock
	case n < 91:
		w.stamps = append(w.stamps, stamp{w.epoch, w.clock, w.beginning()})
	case n < 94:
		if e, s, ok := w.tab.Version(); ok {
			w.stamps = append(w.stamps, stamp{e, s, w.beginning()})
		}
	case n < 97:
		w.checkFresh()
	}
	w.check()
}

// check judges an entry by what the table happens to know.
func (w *world) check() {
	if len(w.stamps) == 0 {
		return
	}
	s, tags := w.stamps[w.r.IntN(len(w.stamps))], w.someTags()
	v, until := w.tab.Validate(s.epoch, s.time, s.began, tags, w.now)
	if v == Unknown || v == Invalid {
		return
	}
	heardAll := w.hearing && len(w.notices) == 0
	for i := range w.made {
		m := &w.made[i]
		if !m.hits(s, tags) {
			continue
		}
		if m.acked && v < m.verdict(w.redis()) {
			w.Fatalf("an entry %+v %q has verdict %d after the own mark %+v", s, tags, v, *m)
		}
		if m.acked && m.mode == Delayed && until > (m.when-redisAhead)*1000 {
			w.Fatalf("an entry %+v %q goes at %d in spite of the own mark %+v", s, tags, until, *m)
		}
		if heardAll && v < m.verdict(w.redis()-w.lag/1000-1) {
			w.Fatalf("an entry %+v %q has verdict %d after the mark %+v, and all was heard", s, tags, v, *m)
		}
	}
}

// checkFresh asks for exactly what it takes to judge an entry, and judges it.
func (w *world) checkFresh() {
	if len(w.stamps) == 0 {
		return
	}
	s, tags := w.stamps[w.r.IntN(len(w.stamps))], w.someTags()
	f := w.ask(tags)
	w.carryOut(f)
	if !w.deliver(f) {
		w.Fatal("an answer to what was asked now is refused")
	}
	v, _ := w.tab.Validate(s.epoch, s.time, s.began, tags, w.now)
	by, _ := ValidateBy(f.answer, s.epoch, s.time, s.began, f.at, w.now)
	ref, newer, delayed := Valid, false, false
	late, pending := 0, 0
	for i := range w.made {
		if m := w.made[i]; m.past > 0 || m.mode == Delayed {
			if m.past > 0 {
				late++
			} else {
				pending++
			}
			// With what it may have come together with it hits more than itself.
			if m.past = 0; late+min(pending, late) > 1 && m.hits(stamp{s.epoch, s.time, 0}, tags) {
				delayed, newer = true, true
			}
		}
		if m := &w.made[i]; m.hits(s, tags) {
			newer = true
			delayed = delayed || m.mode == Delayed
			ref = max(ref, m.verdict(w.redis()))
		}
	}
	if s.epoch != w.epoch || len(tags) > 0 && s.time < w.floor {
		ref, newer = Invalid, true
	}
	switch {
	// Delayed tombstones that come together strike together, with the first.
	case by < ref, v < by, !delayed && (by != ref || v != by), !newer && v != Valid:
		w.Fatalf("an entry %+v %q: the table says %d, the answer %d, and all the marks %d", s, tags, v, by, ref)
	}
}

func TestTheTableAgainstAllMarksEverMade(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := &world{T: t, r: rand.New(rand.NewPCG(seed, 1)), tab: NewTable(), epoch: 1, clock: 10}
			w.hearing = seed%2 == 0
			if w.hearing {
				w.tab.Subscribed()
			}
			for range 1500 {
				w.step()
			}
		})
	}
}
