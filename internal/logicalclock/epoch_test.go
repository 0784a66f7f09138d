package logicalclock

import (
	"reflect"
	"strings"
	"testing"
)

// There is one way to write an epoch and marks: what is read is what would be written.
func FuzzParseMarks(f *testing.F) {
	m := Marks{Now: 5, Epoch: Epoch{Era: 1<<53 - 1, Tick: 2, Clock: 9, Floor: 4, All: Mark{5, 6, 7, 8}}, Tags: []Mark{{1, 2, 3, 4}, {}}}
	f.Add(string(m.AppendText(nil)))
	f.Add("0\ne1 1 0 0 0 0 0 0 0 0")
	f.Add("01\ne1 1 0 0 0 0 0 0 0 0")
	f.Add("0\ne1 1 0 0 0 0 0 0 0 1\nm1 0 0 0 0")
	f.Add("0\ne1 1 0 3 3 3 3 3 0 0\nm1 3 3 3 0")
	f.Add("0\ne1 1 0 9007199254740991 0 0 0 0 0 0")
	f.Fuzz(func(t *testing.T, s string) {
		tags := max(0, strings.Count(s, "\n")-1)
		m, ok := ParseMarks(s, tags)
		if !ok {
			return
		}
		if got := string(m.AppendText(nil)); got != s {
			t.Errorf("%q is read as %q", s, got)
		}
		if _, ok := ParseMarks(s, tags+1); ok {
			t.Errorf("%q has %d tags and one more", s, tags)
		}
		e := m.Epoch
		if max(e.Floor, e.All.Hard, e.All.Soft, e.All.Next) > e.Clock || max(e.Tick, e.Clock) > Latest(m.Now) {
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
	const now, era = 1000, 99
	old := Epoch{Era: 1, Tick: 500, Clock: 400, Floor: 300, All: Mark{Hard: 350}}
	begun := func(tick, clock int64) Epoch { return Epoch{Era: era, Tick: tick, Clock: clock, Floor: clock} }
	with := func(f func(e *Epoch)) Epoch { e := old; e.Tick = now; f(&e); return e }
	for name, tt := range map[string]struct {
		s     stored
		known Known
		want  Epoch
		tags  bool
	}{
		"nothing":                            {stored{}, Known{}, begun(now, now), false},
		"nothing, but the caller knows more": {stored{}, Known{Era: 1, Tick: 5000, Clock: 7000}, begun(5001, 7001), false},
		"as it was":                          {stored{Epoch: old, ok: true, asked: true}, Known{Era: 1, Tick: 500, Clock: 400}, with(func(*Epoch) {}), false},
		"with tags":                          {stored{Epoch: old, ok: true, asked: true, tags: true, hash: true}, Known{}, with(func(*Epoch) {}), true},
		"a hash that is not a part of it":    {stored{Epoch: old, ok: true, asked: true, hash: true}, Known{}, with(func(*Epoch) {}), false},
		"tags lost":                          {stored{Epoch: old, ok: true, asked: true, tags: true}, Known{}, with(func(e *Epoch) { e.Clock, e.Floor = now, now }), false},
		"tags lost, and the clock is ahead": {stored{Epoch: old, ok: true, asked: true, tags: true}, Known{Era: 1, Clock: 2000},
			with(func(e *Epoch) { e.Clock, e.Floor = 2001, 2001 }), false},
		"a little back": {stored{Epoch: old, ok: true, asked: true}, Known{Era: 1, Tick: 500 + LostFor, Clock: 450},
			with(func(e *Epoch) { e.Tick, e.Clock = 501+LostFor, 450 }), false},
		"far back":                    {stored{Epoch: old, ok: true, asked: true, tags: true, hash: true}, Known{Era: 1, Tick: 501 + LostFor, Clock: 450}, begun(502+LostFor, now), false},
		"back to an older era":        {stored{Epoch: old, ok: true, asked: true}, Known{Era: 2, Tick: 501 + LostFor}, begun(502+LostFor, now), false},
		"tags, but none is asked for": {stored{Epoch: old, ok: true, tags: true}, Known{}, with(func(*Epoch) {}), true},
		"a floor after the clock":     {stored{Epoch: Epoch{Era: 1, Tick: 500, Clock: 400, Floor: 401}, ok: true}, Known{}, begun(now, now), false},
		"a mark after the clock":      {stored{Epoch: Epoch{Era: 1, Tick: 500, Clock: 400, All: Mark{Soft: 401}}, ok: true}, Known{}, begun(now, now), false},
		"a clock of tomorrow":         {stored{Epoch: Epoch{Era: 1, Clock: now + MaxAhead}, ok: true}, Known{}, Epoch{Era: 1, Tick: now, Clock: now + MaxAhead}, false},
		"and later":                   {stored{Epoch: Epoch{Era: 1, Clock: now + MaxAhead + 1}, ok: true}, Known{}, begun(now, now), false},
		"a tick of later than that":   {stored{Epoch: Epoch{Era: 1, Tick: now + MaxAhead + 1}, ok: true}, Known{}, begun(now, now), false},
		"a caller who knows that":     {stored{Epoch: old, ok: true}, Known{Era: 1, Tick: now + MaxAhead + 1, Clock: 450}, with(func(*Epoch) {}), false},
		"or such a clock":             {stored{}, Known{Era: 1, Tick: 500, Clock: now + MaxAhead + 1}, begun(now, now), false},
		"another era, as young":       {stored{Epoch: old, ok: true, asked: true}, Known{Era: 2, Tick: 400, Clock: 9000}, with(func(*Epoch) {}), false},
	} {
		if got, tags := tt.s.resume(tt.known, now, era); got != tt.want || tags != tt.tags {
			t.Errorf("%s: %+v, %v instead of %+v", name, got, tags, tt.want)
		}
	}
}

func TestAMarkAddsToWhatWasSaid(t *testing.T) {
	const at, now = 900, 1000
	due, pending := Mark{Hard: 1, Soft: 2, Next: 3, When: now}, Mark{Hard: 1, Soft: 2, Next: 3, When: now + 1}
	dated := Mark{Hard: 1, Soft: 2, Next: 600, When: 500}
	for _, tt := range []struct {
		before Mark
		n      NewMark
		want   Mark
	}{
		{Mark{}, NewMark{Mode: Hard}, Mark{Hard: at}},
		{Mark{}, NewMark{Mode: Soft}, Mark{Soft: at}},
		{Mark{}, NewMark{Mode: Delayed, Delay: 7}, Mark{Next: at, When: now + 7}},
		{due, NewMark{Mode: Hard}, Mark{Hard: at, Soft: 2}},
		{due, NewMark{Mode: Soft}, Mark{Hard: 3, Soft: at}},
		{due, NewMark{Mode: Delayed, Delay: 7}, Mark{Hard: 3, Soft: 2, Next: at, When: now + 7}},
		{pending, NewMark{Mode: Hard}, Mark{Hard: at, Soft: 2}},
		{pending, NewMark{Mode: Soft}, Mark{Hard: 1, Soft: at, Next: 3, When: now + 1}},
		{pending, NewMark{Mode: Delayed, Delay: 7}, Mark{Hard: 1, Soft: 2, Next: at, When: now + 1}},
		{pending, NewMark{Mode: Delayed}, Mark{Hard: 1, Soft: 2, Next: at, When: now}},
		{Mark{}, NewMark{Before: []int64{800}}, Mark{Next: at, When: 800}},
		{Mark{}, NewMark{Before: []int64{at}}, Mark{Hard: at}},
		{Mark{}, NewMark{Before: []int64{0}}, Mark{Hard: at}},
		{due, NewMark{Before: []int64{800}}, Mark{Hard: 3, Soft: 2, Next: at, When: 800}},
		{pending, NewMark{Before: []int64{800}}, Mark{Hard: 1, Soft: 2, Next: at, When: 800}},
		{Mark{Next: 850, When: now + 1}, NewMark{Before: []int64{800}}, Mark{Next: at, When: 850}},
		{dated, NewMark{Before: []int64{800}}, Mark{Hard: 1, Soft: 2, Next: at, When: 800}},
		{dated, NewMark{Before: []int64{400}}, Mark{Hard: 1, Soft: 2, Next: at, When: 500}},
		{dated, NewMark{Mode: Hard}, Mark{Hard: at, Soft: 2}},
		{dated, NewMark{Mode: Soft}, Mark{Hard: 1, Soft: at, Next: 600, When: 500}},
		{dated, NewMark{Mode: Delayed, Delay: 7}, Mark{Hard: 600, Soft: 2, Next: at, When: now + 7}},
	} {
		if got := tt.before.add(&tt.n, tt.n.before(0), at, now); got != tt.want {
			t.Errorf("%+v and %+v: %+v instead of %+v", tt.before, tt.n, got, tt.want)
		}
	}
}
