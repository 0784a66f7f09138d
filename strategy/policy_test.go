package strategy

import (
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

func compile(t *testing.T, list ...Strategy) Policy {
	t.Helper()
	p, err := Compile(list...)
	if err != nil {
		t.Fatalf("Compile(%v): %v", list, err)
	}
	return p
}

func TestDefaults(t *testing.T) {
	want := Policy{
		LocalTTL: time.Minute, TTL: 5 * time.Minute, Jitter: 0.1, RetryAfter: 5 * time.Second,
		HardTimeout: 30 * time.Second, NotFoundTTL: 30 * time.Second,
		BatchSize: 100, BatchDelay: 100 * time.Millisecond, MaxAttempts: 10,
	}
	if got := compile(t); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDefaultsThatFollowTheTTL(t *testing.T) {
	for _, c := range []struct {
		life            Strategy
		local, notFound time.Duration
	}{
		{TTL(time.Hour), time.Minute, 30 * time.Second},
		{TTL(45 * time.Second), 45 * time.Second, 30 * time.Second},
		{TTL(2 * time.Second), 2 * time.Second, 2 * time.Second},
		{TTL(time.Millisecond), time.Millisecond, time.Millisecond},
		{Forever(), time.Minute, 30 * time.Second},
	} {
		p := compile(t, c.life)
		if p.LocalTTL != c.local || p.NotFoundTTL != c.notFound {
			t.Errorf("%v: LocalTTL %v, NotFoundTTL %v, want %v, %v", c.life, p.LocalTTL, p.NotFoundTTL, c.local, c.notFound)
		}
	}
}

func TestEachStrategySetsItsFields(t *testing.T) {
	for _, c := range []struct {
		s    []Strategy
		want func(*Policy)
	}{
		{[]Strategy{LRU(7)}, func(p *Policy) { p.LocalEntries = 7 }},
		{[]Strategy{TinyLFU(7)}, func(p *Policy) { p.LocalEntries, p.LocalTinyLFU = 7, true }},
		{[]Strategy{LRU(7), LocalBytes(9)}, func(p *Policy) { p.LocalEntries, p.LocalBytes = 7, 9 }},
		{[]Strategy{LRU(7), LocalDuringOutage(time.Hour)}, func(p *Policy) { p.LocalEntries, p.LocalDuringOutage = 7, time.Hour }},
		{[]Strategy{LRU(7), LocalTTL(time.Hour)}, func(p *Policy) { p.LocalEntries, p.LocalTTL = 7, time.Hour }},
		{[]Strategy{TTL(time.Hour)}, func(p *Policy) { p.TTL = time.Hour }},
		{[]Strategy{Forever()}, func(p *Policy) { p.TTL = 0 }},
		{[]Strategy{Jitter(0)}, func(p *Policy) { p.Jitter = 0 }},
		{[]Strategy{Sliding(time.Minute)}, func(p *Policy) { p.Sliding = time.Minute }},
		{[]Strategy{RefreshAhead(0.5)}, func(p *Policy) { p.RefreshAhead = 0.5 }},
		{[]Strategy{EarlyExpiration(2)}, func(p *Policy) { p.EarlyExpiration = 2 }},
		{[]Strategy{StaleWhileRevalidate(time.Hour)}, func(p *Policy) { p.StaleWhileRevalidate = time.Hour }},
		{[]Strategy{StaleIfError(time.Hour)}, func(p *Policy) { p.StaleIfError = time.Hour }},
		{[]Strategy{RetryAfter(0)}, func(p *Policy) { p.RetryAfter = 0 }},
		{[]Strategy{StaleIfError(time.Hour), SoftTimeout(1)}, func(p *Policy) { p.StaleIfError, p.SoftTimeout = time.Hour, 1 }},
		{[]Strategy{HardTimeout(time.Hour)}, func(p *Policy) { p.HardTimeout, p.Abandons = time.Hour, true }},
		{[]Strategy{NotFoundTTL(0, io.EOF)}, func(p *Policy) { p.NotFoundTTL, p.NotFoundErrors = 0, []error{io.EOF} }},
		{[]Strategy{ErrorTTL(time.Second)}, func(p *Policy) { p.ErrorTTL = time.Second }},
		{[]Strategy{WriteThrough()}, func(p *Policy) { p.Write = ModeThrough }},
		{[]Strategy{WriteAround()}, func(p *Policy) { p.Write = ModeAround }},
		{[]Strategy{WriteBehind()}, func(p *Policy) { p.Write = ModeBehind }},
		{[]Strategy{WriteBehind(BatchSize(3), BatchDelay(0), MaxAttempts(1))}, func(p *Policy) {
			p.Write, p.BatchSize, p.BatchDelay, p.MaxAttempts = ModeBehind, 3, 0, 1
		}},
	} {
		want := compile(t)
		c.want(&want)
		want.Strategies = c.s
		if got := compile(t, c.s...); !reflect.DeepEqual(got, want) {
			t.Errorf("%v:\ngot  %+v\nwant %+v", c.s, got, want)
		}
	}
}

func TestLastOfAKindHolds(t *testing.T) {
	p := compile(t,
		TTL(time.Second), WriteBehind(BatchSize(1)), StaleIfError(time.Hour), // shared defaults
		Forever(), WriteThrough(), StaleIfError(0)) // one cache's own
	if p.TTL != 0 || p.Write != ModeThrough || p.BatchSize != 100 || p.StaleIfError != 0 {
		t.Errorf("%+v", p)
	}
	if want := []Strategy{Forever(), WriteThrough(), StaleIfError(0)}; !slices.Equal(p.Strategies, want) {
		t.Errorf("Strategies = %v, want %v", p.Strategies, want)
	}
	if p = compile(t, TinyLFU(7), LRU(8)); p.LocalTinyLFU || p.LocalEntries != 8 || len(p.Strategies) != 1 {
		t.Errorf("LRU after TinyLFU: %+v", p)
	}
	if p = compile(t, LRU(8), TinyLFU(7)); !p.LocalTinyLFU || p.LocalEntries != 7 {
		t.Errorf("TinyLFU after LRU: %+v", p)
	}
	if p = compile(t, Forever(), TTL(time.Second)); p.TTL != time.Second {
		t.Errorf("TTL after Forever: %v", p.TTL)
	}
}

// Any list that compiles says the same as its Strategies, in any order, and
// every policy is within its documented bounds.
func TestMergedListStandsForTheWhole(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	compiled := 0
	for range 5000 {
		list := make([]Strategy, rnd.IntN(12))
		for i := range list {
			list[i] = samples[rnd.IntN(len(samples))].make()
		}
		p, err := Compile(list...)
		if err != nil {
			if !reflect.DeepEqual(p, Policy{}) {
				t.Fatalf("Compile(%v): a policy besides an error: %+v", list, p)
			}
			continue
		}
		compiled++
		held := slices.Clone(p.Strategies)
		rnd.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		q := compile(t, held...)
		q.Strategies = p.Strategies
		if !reflect.DeepEqual(p, q) {
			t.Fatalf("Compile(%v) = %+v\nbut of what holds = %+v", list, p, q)
		}
		if p.LocalTTL <= 0 || p.HardTimeout <= 0 || p.BatchSize <= 0 || p.MaxAttempts <= 0 {
			t.Fatalf("Compile(%v): a zero where there is none: %+v", list, p)
		}
	}
	if compiled < 500 {
		t.Errorf("only %d of the lists compiled: the test says little", compiled)
	}
}

func TestWriteModesHaveNames(t *testing.T) {
	for m, want := range map[WriteMode]string{ModeCache: "cache", ModeThrough: "through", ModeAround: "around", ModeBehind: "behind", 99: "unknown"} {
		if got := m.String(); got != want {
			t.Errorf("WriteMode(%d) = %q, want %q", m, got, want)
		}
	}
}
