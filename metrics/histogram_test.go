package metrics

import (
	"encoding/json"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBucketsCoverAllDurationsWithoutGap(t *testing.T) {
	var end time.Duration
	for i := range Buckets {
		low, high := BucketBounds(i)
		if low != end || high <= low {
			t.Fatalf("bucket %d is [%d, %d), after one that ends at %d", i, low, high, end)
		}
		for _, d := range []time.Duration{low, low + (high-low)/2, high - 1} {
			if got := BucketOf(d); got != i {
				t.Fatalf("BucketOf(%d) = %d, want %d [%d, %d)", d, got, i, low, high)
			}
		}
		if i > 0 && i < Buckets-1 && float64(high-low) > 0.125*float64(low) {
			t.Fatalf("bucket %d [%d, %d) is wider than an eighth of its beginning", i, low, high)
		}
		end = high
	}
	if end != math.MaxInt64 {
		t.Errorf("the buckets end at %d", end)
	}
	if BucketOf(-1) != 0 || BucketOf(math.MinInt64) != 0 || BucketOf(math.MaxInt64) != Buckets-1 {
		t.Error("a duration without a bucket")
	}
	for _, i := range []int{-1, Buckets, math.MinInt} {
		if low, high := BucketBounds(i); low != 0 || high != 0 {
			t.Errorf("BucketBounds(%d) = %d, %d", i, low, high)
		}
	}
	if low, _ := BucketBounds(Buckets - 1); low < time.Minute {
		t.Errorf("the last bucket begins at %v: a minute is not measured", low)
	}
}

// random draws durations of all sizes: their logarithms are uniform.
func random(rnd *rand.Rand, low, high time.Duration) time.Duration {
	l, h := math.Log(float64(low)), math.Log(float64(high))
	return min(max(time.Duration(math.Exp(l+rnd.Float64()*(h-l))), low), high)
}

func TestQuantilesAreWithinTheirErrorBound(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		var h Histogram
		all := make([]time.Duration, 1+rnd.IntN(500))
		low := random(rnd, 16, time.Second)
		var sum time.Duration
		for i := range all {
			all[i] = random(rnd, low, 60*time.Second)
			sum += all[i]
			h.Record(all[i], 1)
		}
		slices.Sort(all)
		for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1, rnd.Float64()} {
			exact := all[max(int(math.Ceil(q*float64(len(all)))), 1)-1]
			if got := h.Quantile(q); math.Abs(float64(got-exact)) > 0.0625*float64(exact)+1 {
				t.Fatalf("quantile %v of %d durations is %v, off by more than a sixteenth of %v", q, len(all), got, exact)
			}
		}
		if h.Count != uint64(len(all)) || h.Sum != sum || h.Mean() != sum/time.Duration(len(all)) {
			t.Fatalf("count %d, sum %v, mean %v of %d durations of %v", h.Count, h.Sum, h.Mean(), len(all), sum)
		}
	}
}

func TestQuantileEdges(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Mean() != 0 {
		t.Error("an empty histogram has a median or a mean")
	}
	h.Record(time.Millisecond, 3)
	ms := h.Quantile(0.5)
	for q, want := range map[float64]time.Duration{-1: ms, 0: ms, 1: ms, 2: ms, math.Inf(1): ms, math.Inf(-1): ms} {
		if got := h.Quantile(q); got != want {
			t.Errorf("Quantile(%v) = %v, want %v", q, got, want)
		}
	}
	if got := h.Quantile(math.NaN()); got != 0 {
		t.Errorf("Quantile(NaN) = %v", got)
	}
	var ends Histogram
	ends.Record(-time.Hour, 1)
	if ends.Quantile(1) > 16 || ends.Sum != 0 {
		t.Errorf("a negative duration: quantile %v, sum %v", ends.Quantile(1), ends.Sum)
	}
	ends.Record(time.Hour, 1)
	if got, want := ends.Quantile(1), time.Duration(1)<<36; got != want || ends.Sum != time.Hour {
		t.Errorf("an hour: quantile %v, want %v; sum %v", got, want, ends.Sum)
	}
}

func TestRecordIsWeighted(t *testing.T) {
	var one, many Histogram
	many.Record(50*time.Nanosecond, 64)
	for range 64 {
		one.Record(50*time.Nanosecond, 1)
	}
	if one != many {
		t.Error("64 times one is not one of weight 64")
	}
	many.Record(time.Second, 0)
	if one != many {
		t.Error("weight 0 left a trace")
	}
}

func TestHistogramSubIsWhatCameLater(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		var all, later Histogram
		for range rnd.IntN(100) {
			all.Record(random(rnd, 1, time.Hour), rnd.Uint64N(5))
		}
		before := all
		for range rnd.IntN(100) {
			d, n := random(rnd, 1, time.Hour), rnd.Uint64N(5)
			all.Record(d, n)
			later.Record(d, n)
		}
		if got := all.Sub(before); got != later {
			t.Fatalf("Sub has %d of %v, want %d of %v", got.Count, got.Sum, later.Count, later.Sum)
		}
		if all.Sub(Histogram{}) != all || all.Sub(all) != (Histogram{}) {
			t.Fatal("Sub of nothing or of itself")
		}
	}
	var old, reset Histogram
	old.Record(time.Second, 2)
	reset.Record(time.Second, 1)
	reset.Record(time.Minute, 9)
	if reset.Sub(old) != reset {
		t.Error("a reset in between is not seen")
	}
}

func TestHistogramIsSmall(t *testing.T) {
	if Buckets*8 > 2<<10+64 {
		t.Errorf("%d buckets", Buckets)
	}
}

func TestHistogramIsWrittenAsASummary(t *testing.T) {
	var h Histogram
	h.Record(1<<20, 4)
	got, err := json.Marshal(h)
	if want := `{"count":4,"sum_ns":4194304,"mean_ns":1048576,"p50_ns":1114112,"p95_ns":1114112,"p99_ns":1114112}`; err != nil || string(got) != want {
		t.Errorf("JSON is %s, %v\nwant %s", got, err, want)
	}
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("", "get", h)
	if want := "get.count=4 get.mean=1.048576ms get.p50=1.114112ms"; !strings.Contains(b.String(), want) {
		t.Errorf("logged as %s, want %s", b.String(), want)
	}
}
