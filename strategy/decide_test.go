package strategy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestLifetimeStaysInItsBounds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		ttl := time.Duration(1+rnd.Int64N(int64(math.Pow(10, float64(1+rnd.IntN(12)))))) * time.Millisecond
		p := Policy{TTL: ttl, Jitter: rnd.Float64()}
		got := p.Lifetime(rnd.Float64())
		least := float64(ttl) * (1 - p.Jitter)
		if got > ttl || got < time.Millisecond || got%time.Millisecond != 0 || float64(got) < least*(1-1e-12) {
			t.Fatalf("a TTL of %v with jitter %v became %v", ttl, p.Jitter, got)
		}
	}
}

func TestLifetimeEdges(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		ttl    time.Duration
		jitter float64
		rnd    float64
		want   time.Duration
	}{
		{0, 0.5, 0.9, 0}, // without end
		{100 * ms, 0, 0.999, 100 * ms},
		{100 * ms, 0.1, 0, 100 * ms},
		{100 * ms, 0.1, math.Nextafter(1, 0), 90 * ms},
		{ms, 0.99, 0.99, ms},
		{2 * ms, 0.9999, math.Nextafter(1, 0), ms},
		{9 * ms, 0.1, math.Nextafter(1, 0), 9 * ms}, // a tenth of it is no millisecond
		{30 * 24 * time.Hour, 0.5, math.Nextafter(1, 0), 15 * 24 * time.Hour},
		// What no source of random numbers gives.
		{100 * ms, 0.1, 1, 90 * ms},
		{100 * ms, 0.1, math.Inf(1), 90 * ms},
		{100 * ms, 0.1, -1, 100 * ms},
		{100 * ms, 0.1, math.NaN(), 100 * ms},
	} {
		p := Policy{TTL: c.ttl, Jitter: c.jitter}
		if got := p.Lifetime(c.rnd); got != c.want {
			t.Errorf("TTL %v, jitter %v, rnd %v: %v, want %v", c.ttl, c.jitter, c.rnd, got, c.want)
		}
	}
	p := Policy{Jitter: 0.5}
	for d, want := range map[time.Duration]time.Duration{-1: -1, 1: 1, ms / 2: ms / 2, 3*ms + 1: 2*ms + 1} {
		if got := p.Spread(d, math.Nextafter(1, 0)); got != want {
			t.Errorf("Spread(%v) = %v, want %v", d, got, want)
		}
	}
}

func TestJitterSpreadsEvenlyOverItsWholeInterval(t *testing.T) {
	const cuts, each = 201, 500 // 0 … 200 ms
	p := Policy{TTL: time.Second, Jitter: 0.2}
	rnd := rand.New(rand.NewPCG(5, 6))
	var seen [cuts]float64
	for range cuts * each {
		seen[(p.TTL-p.Lifetime(rnd.Float64()))/time.Millisecond]++
	}
	chi := 0.0
	for _, n := range seen {
		chi += (n - each) * (n - each) / each
	}
	// Chi-square with 200 degrees of freedom: mean 200, standard deviation 20.
	if chi > 200+4*20 {
		t.Errorf("chi-square is %.0f: not even: %v", chi, seen)
	}
}

func TestRefreshAheadBeginsAtItsFraction(t *testing.T) {
	p := Policy{RefreshAhead: 0.75}
	for _, c := range []struct {
		age, fresh time.Duration
		want       bool
	}{
		{0, 100, false}, {74, 100, false}, {75, 100, true}, {100, 100, true}, {500, 100, true},
		{-5, 100, false},
		{longest, 0, false}, // without end
		{longest, -1, false},
	} {
		if got := p.ShouldRefresh(c.age, c.fresh, time.Hour, 0.999); got != c.want {
			t.Errorf("age %d of %d: %v, want %v", c.age, c.fresh, got, c.want)
		}
	}
	off := Policy{}
	if off.ShouldRefresh(99, 100, time.Hour, 0.999999) {
		t.Error("refreshed with both strategies off")
	}
}

func TestEarlyExpirationEdges(t *testing.T) {
	p := Policy{EarlyExpiration: 1}
	for _, c := range []struct {
		age, cost time.Duration
		rnd       float64
		want      bool
	}{
		{0, time.Second, 0, false}, // U = 1: not early at all
		{time.Minute, time.Second, 0, true},
		{59 * time.Second, 0, math.Nextafter(1, 0), false}, // cost not known
		{59 * time.Second, -1, math.Nextafter(1, 0), false},
		{59 * time.Second, time.Second, 0.5, false}, // ln 2 of a second early
		{59500 * time.Millisecond, time.Second, 0.5, true},
		{0, 1, math.Nextafter(1, 0), false}, // the earliest that a load of 1 ns can be
		{0, longest, 0.5, true},
		{59 * time.Second, time.Second, math.NaN(), false},
	} {
		if got := p.ShouldRefresh(c.age, time.Minute, c.cost, c.rnd); got != c.want {
			t.Errorf("age %v, cost %v, rnd %v: %v, want %v", c.age, c.cost, c.rnd, got, c.want)
		}
	}
	both := Policy{EarlyExpiration: 1, RefreshAhead: 0.5}
	if !both.ShouldRefresh(50, 100, 0, 0) || !both.ShouldRefresh(1, 100, 1000, 0.9) {
		t.Error("either strategy is enough")
	}
}

// At a distance g from the end a read refreshes with the probability
// exp(-g/(cost*beta)).
func TestEarlyExpirationFollowsItsDistribution(t *testing.T) {
	const n = 100_000
	rnd := rand.New(rand.NewPCG(7, 8))
	for _, beta := range []float64{0.5, 1, 3} {
		p := Policy{EarlyExpiration: beta}
		for _, gap := range []time.Duration{10, 50, 100, 300} {
			hits := 0
			for range n {
				if p.ShouldRefresh(1000-gap, 1000, 100, rnd.Float64()) {
					hits++
				}
			}
			want := math.Exp(-float64(gap) / (100 * beta))
			sigma := math.Sqrt(want * (1 - want) / n)
			if got := float64(hits) / n; math.Abs(got-want) > 4*sigma {
				t.Errorf("beta %v, %d from the end: %.4f of the reads refresh, want %.4f", beta, gap, got, want)
			}
		}
	}
}

// Reads come at an even rate; the first that refreshes starts a load of length
// cost, and until it ends others may start one too. With the hazard
// rate*exp(-g/(cost*beta)), what has accumulated at the first is exponential with
// mean 1, and grows by the factor exp(1/beta) while the load runs: so many loads
// are expected, whatever the rate.
func TestEarlyExpirationLoadsDoNotGrowWithTheRequestRate(t *testing.T) {
	const cost, fresh, rounds = 1000, 20_000, 2000
	rnd := rand.New(rand.NewPCG(9, 10))
	for _, beta := range []float64{1, 2} {
		p := Policy{EarlyExpiration: beta}
		want := math.Exp(1 / beta)
		for _, every := range []time.Duration{cost / 20, cost / 100} {
			loads := 0
			for range rounds {
				end := time.Duration(fresh)
				for now := time.Duration(0); now < end; now += every {
					if p.ShouldRefresh(now, fresh, cost, rnd.Float64()) {
						loads++
						end = min(end, now+cost)
					}
				}
			}
			if got := float64(loads) / rounds; math.Abs(got-want) > 0.1*want {
				t.Errorf("beta %v, a read every %d: %.2f loads per life, want %.2f", beta, every, got, want)
			}
		}
	}
}

func TestStaleWindows(t *testing.T) {
	for _, c := range []struct {
		revalidate, onError time.Duration
		past                time.Duration
		always, failed      bool
	}{
		{0, 0, 0, false, false},
		{10, 0, 0, true, true},
		{10, 0, 9, true, true},
		{10, 0, 10, false, false},
		{0, 10, 0, false, true},
		{0, 10, 9, false, true},
		{0, 10, 10, false, false},
		{10, 20, 15, false, true},
		{20, 10, 15, true, true},
		{10, 20, 20, false, false},
		{10, 20, -5, true, true},
		{10, 20, longest, false, false},
	} {
		p := Policy{StaleWhileRevalidate: c.revalidate, StaleIfError: c.onError}
		if got := p.AllowsStale(c.past, false); got != c.always {
			t.Errorf("windows %d/%d, %d past, not failed: %v", c.revalidate, c.onError, c.past, got)
		}
		if got := p.AllowsStale(c.past, true); got != c.failed {
			t.Errorf("windows %d/%d, %d past, failed: %v", c.revalidate, c.onError, c.past, got)
		}
		if got := p.StaleFor(); got != max(c.revalidate, c.onError) {
			t.Errorf("StaleFor of %d/%d = %d", c.revalidate, c.onError, got)
		}
		if c.past >= p.StaleFor() && (p.AllowsStale(c.past, true) || p.AllowsStale(c.past, false)) {
			t.Errorf("windows %d/%d: stale %d past, when Redis has dropped it", c.revalidate, c.onError, c.past)
		}
	}
}

func TestAbsenceMatchesTheList(t *testing.T) {
	p := compile(t, NotFoundTTL(time.Second, fs.ErrNotExist, io.EOF))
	for _, c := range []struct {
		err  error
		want []error
	}{
		{nil, nil},
		{errors.New("down"), nil},
		{io.EOF, []error{io.EOF}},
		{fmt.Errorf("row: %w", io.EOF), []error{io.EOF}},
		{errors.Join(io.EOF, &fs.PathError{Err: fs.ErrNotExist}), []error{fs.ErrNotExist, io.EOF}},
	} {
		if got := p.Absence(c.err); !slices.Equal(got, c.want) {
			t.Errorf("Absence(%v) = %v, want %v", c.err, got, c.want)
		}
	}
	off := compile(t)
	if got := off.Absence(io.EOF); got != nil {
		t.Errorf("Absence without a list = %v", got)
	}
}

func TestDecisionsOnTheHitPathDoNotAllocate(t *testing.T) {
	p := Policy{TTL: time.Hour, Jitter: 0.1, RefreshAhead: 0.9, EarlyExpiration: 1, StaleIfError: time.Hour}
	yes := false
	if n := testing.AllocsPerRun(100, func() {
		yes = p.ShouldRefresh(time.Second, time.Hour, time.Second, 0.5) || p.AllowsStale(time.Second, true) || p.Lifetime(0.5) == 0
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	_ = yes
}
