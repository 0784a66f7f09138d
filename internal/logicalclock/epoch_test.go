package logicalclock

import (
	"reflect"
	"strings"
	"testing"
)

// There is one way to write an epoch and marks: what is read is what would be written.
func FuzzParseMarks(f *testing.F) {
	m := Reading{Now: 5, Epoch: Epoch{ID: 1<<53 - 1, Tick: 2, Clock: 9, LowWatermark: 4, All: Tombstone{5, 6, 7, 8}}, Tags: []Tombstone{{1, 2, 3, 4}, {}}}
	f.Add(string(m.AppendText(nil)))
	f.Add("0\ne1 1 0 0 0 0 0 0 0 0")
	f.Add("01\ne1 1 0 0 0 0 0 0 0 0")
	f.Add("0\ne1 1 0 0 0 0 0 0 0 1\nm1 0 0 0 0")
	f.Add("0\ne1 1 0 3 3 3 3 3 0 0\nm1 3 3 3 0")
	f.Add("0\ne1 1 0 9007199254740991 0 0 0 0 0 0")
	f.Fuzz(func(t *testing.T, s string) {
		tags := max(0, strings.Count(s, "\n")-1)
		m, ok := ParseReading(s, tags)
		if !ok {
			return
		}
		if got := string(m.AppendText(nil)); got != s {
			t.Errorf("%q is read as %q", s, got)
		}
		if _, ok := ParseReading(s, tags+1); ok {
			t.Errorf("%q has %d tags and one more", s, tags)
		}
		e := m.Epoch
		if max(e.LowWatermark, e.All.Hard, e.All.Soft, e.All.Next) > e.Clock || max(e.Tick, e.Clock) > Latest(m.Now) {
			t.Errorf("%q is believed", s)
		}
		for _, k := range m.Tags {
			if max(k.Hard, k.Soft, k.Next) > e.Clock {
				t.Errorf("%q is believed", s)
			}
		}
		line := strings.Split(s, "\n")[1]
		if e, ok := ParseEpoch([]byte(line)); !ok || !reflect.DeepEqual(e, m.Epoch) {
			t.Errorf("%q is the epoch %+v", line, e)
		}
	})
}

// What a call goes on with, case by case.
func TestAnEpochGoesOnOrBeginsAnew(t *testing.T) {
	const now, epoch = 1000, 99
	old := Epoch{ID: 1, Tick: 500, Clock: 400, LowWatermark: 300, All: Tombstone{Hard: 350}}
	begun := func(tick, clock int64) Epoch { return Epoch{ID: epoch, Tick: tick, Clock: clock, LowWatermark: clock} }
	with := func(f func(e *Epoch)) Epoch { e := old; e.Tick = now; f(&e); return e }
	for name, tt := range map[string]struct {
		s     stored
		known Known
		want  Epoch
		tags  bool
	}{
		"nothing":                            {stored{}, Known{}, begun(now, now), false},
		"nothing, but the caller knows more": {stored{}, Known{Epoch: 1, Tick: 5000, Clock: 7000}, begun(5001, 7001), false},
		"as it was":                          {stored{Epoch: old, ok: true, asked: true}, Known{Epoch: 1, Tick: 500, Clock: 400}, with(func(*Epoch) {}), false},
		"with tags":                          {stored{Epoch: old, ok: true, asked: true, tags: true, hash: true}, Known{}, with(func(*Epoch) {}), true},
		"a hash that is not a part of it":    {stored{Epoch: old, ok: true, asked: true, hash: true}, Known{}, with(func(*Epoch) {}), false},
		"tags lost":                          {stored{Epoch: old, ok: true, asked: true, tags: true}, Known{}, with(func(e *Epoch) { e.Clock, e.LowWatermark = now, now }), false},
		"tags lost, and the clock is ahead": {stored{Epoch: old, ok: true, asked: true, tags: true}, Known{Epoch: 1, Clock: 2000},
			with(func(e *Epoch) { e.Clock, e.LowWatermark = 2001, 2001 }), false},
		"a little back": {stored{Epoch: old, ok: true, asked: true}, Known{Epoch: 1, Tick: 500 + LostFor, Clock: 450},
			with(func(e *Epoch) { e.Tick, e.Clock = 501+LostFor, 450 }), false},
		"far back":                    {stored{Epoch: old, ok: true, asked: true, tags: true, hash: true}, Known{Epoch: 1, Tick: 501 + LostFor, Clock: 450}, begun(502+LostFor, now), false},
		"back to an older epoch":      {stored{Epoch: old, ok: true, asked: true}, Known{Epoch: 2, Tick: 501 + LostFor}, begun(502+LostFor, now), false},
		"tags, but none is asked for": {stored{Epoch: old, ok: true, tags: true}, Known{}, with(func(*Epoch) {}), true},
		"a floor after the clock":     {stored{Epoch: Epoch{ID: 1, Tick: 500, Clock: 400, LowWatermark: 401}, ok: true}, Known{}, begun(now, now), false},
		"a mark after the clock":      {stored{Epoch: Epoch{ID: 1, Tick: 500, Clock: 400, All: Tombstone{Soft: 401}}, ok: true}, Known{}, begun(now, now), false},
		"a clock of tomorrow":         {stored{Epoch: Epoch{ID: 1, Clock: now + MaxAhead}, ok: true}, Known{}, Epoch{ID: 1, Tick: now, Clock: now + MaxAhead}, false},
		"and later":                   {stored{Epoch: Epoch{ID: 1, Clock: now + MaxAhead + 1}, ok: true}, Known{}, begun(now, now), false},
		"a tick of later than that":   {stored{Epoch: Epoch{ID: 1, Tick: now + MaxAhead + 1}, ok: true}, Known{}, begun(now, now), false},
		"a caller who knows that":     {stored{Epoch: old, ok: true}, Known{Epoch: 1, Tick: now + MaxAhead + 1, Clock: 450}, with(func(*Epoch) {}), false},
		"or such a clock":             {stored{}, Known{Epoch: 1, Tick: 500, Clock: now + MaxAhead + 1}, begun(now, now), false},
		"another epoch, as young":     {stored{Epoch: old, ok: true, asked: true}, Known{Epoch: 2, Tick: 400, Clock: 9000}, with(func(*Epoch) {}), false},
	} {
		if got, tags := tt.s.resume(tt.known, now, epoch); got != tt.want || tags != tt.tags {
			t.Errorf("%s: %+v, %v instead of %+v", name, got, tags, tt.want)
		}
	}
}

func TestAMarkAddsToWhatWasSaid(t *testing.T) {
	const at, now = 900, 1000
	due, pending := Tombstone{Hard: 1, Soft: 2, Next: 3, When: now}, Tombstone{Hard: 1, Soft: 2, Next: 3, When: now + 1}
	dated := Tombstone{Hard: 1, Soft: 2, Next: 600, When: 500}
	for _, tt := range []struct {
		before Tombstone
		n      NewTombstone
		want   Tombstone
	}{
		{Tombstone{}, NewTombstone{Mode: Hard}, Tombstone{Hard: at}},
		{Tombstone{}, NewTombstone{Mode: Soft}, Tombstone{Soft: at}},
		{Tombstone{}, NewTombstone{Mode: Delayed, Delay: 7}, Tombstone{Next: at, When: now + 7}},
		{due, NewTombstone{Mode: Hard}, Tombstone{Hard: at, Soft: 2}},
		{due, NewTombstone{Mode: Soft}, Tombstone{Hard: 3, Soft: at}},
		{due, NewTombstone{Mode: Delayed, Delay: 7}, Tombstone{Hard: 3, Soft: 2, Next: at, When: now + 7}},
		{pending, NewTombstone{Mode: Hard}, Tombstone{Hard: at, Soft: 2}},
		{pending, NewTombstone{Mode: Soft}, Tombstone{Hard: 1, Soft: at, Next: 3, When: now + 1}},
		{pending, NewTombstone{Mode: Delayed, Delay: 7}, Tombstone{Hard: 1, Soft: 2, Next: at, When: now + 1}},
		{pending, NewTombstone{Mode: Delayed}, Tombstone{Hard: 1, Soft: 2, Next: at, When: now}},
		{Tombstone{}, NewTombstone{Before: []int64{800}}, Tombstone{Next: at, When: 800}},
		{Tombstone{}, NewTombstone{Before: []int64{at}}, Tombstone{Hard: at}},
		{Tombstone{}, NewTombstone{Before: []int64{0}}, Tombstone{Hard: at}},
		{due, NewTombstone{Before: []int64{800}}, Tombstone{Hard: 3, Soft: 2, Next: at, When: 800}},
		{pending, NewTombstone{Before: []int64{800}}, Tombstone{Hard: 1, Soft: 2, Next: at, When: 800}},
		{Tombstone{Next: 850, When: now + 1}, NewTombstone{Before: []int64{800}}, Tombstone{Next: at, When: 850}},
		{dated, NewTombstone{Before: []int64{800}}, Tombstone{Hard: 1, Soft: 2, Next: at, When: 800}},
		{dated, NewTombstone{Before: []int64{400}}, Tombstone{Hard: 1, Soft: 2, Next: at, When: 500}},
		{dated, NewTombstone{Mode: Hard}, Tombstone{Hard: at, Soft: 2}},
		{dated, NewTombstone{Mode: Soft}, Tombstone{Hard: 1, Soft: at, Next: 600, When: 500}},
		{dated, NewTombstone{Mode: Delayed, Delay: 7}, Tombstone{Hard: 600, Soft: 2, Next: at, When: now + 7}},
	} {
		if got := tt.before.add(&tt.n, tt.n.before(0), at, now); got != tt.want {
			t.Errorf("%+v and %+v: %+v instead of %+v", tt.before, tt.n, got, tt.want)
		}
	}
}
