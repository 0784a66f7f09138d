package metrics

import (
	"encoding/json"
	"log/slog"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// gauges are the fields that do not only grow.
var gauges = map[string]bool{"LocalEntries": true, "LocalBytes": true, "Breaker": true, "Listener": true, "Backlog": true, "BacklogAge": true, "DeadLetters": true}

// filled returns a snapshot whose counters are random, and histograms not empty.
func filled(rnd *rand.Rand) Snapshot {
	var s Snapshot
	for _, c := range s.counters() {
		*c.value = rnd.Uint64N(1000)
	}
	for _, h := range s.histograms() {
		h.value.Record(time.Duration(rnd.Int64N(int64(time.Second))), 1+rnd.Uint64N(10))
	}
	s.LocalEntries, s.Backlog, s.DeadLetters = rnd.Uint64N(1000), rnd.Uint64N(1000), rnd.Uint64N(1000)
	s.BacklogAge, s.LocalBytes = time.Duration(rnd.Int64N(1000)), rnd.Uint64N(1000)
	s.Breaker, s.Listener = State(rnd.IntN(3)), Up+State(rnd.IntN(2))
	return s
}

func TestEveryFieldIsACounterAHistogramOrAGauge(t *testing.T) {
	s := filled(rand.New(rand.NewPCG(1, 3)))
	for _, c := range s.counters() {
		*c.value = 1 << 40
	}
	known := make(map[uintptr]bool)
	for _, c := range s.counters() {
		known[reflect.ValueOf(c.value).Pointer()] = true
	}
	for _, h := range s.histograms() {
		known[reflect.ValueOf(h.value).Pointer()] = true
	}
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if known[v.Field(i).Addr().Pointer()] == gauges[name] {
			t.Errorf("field %s: counter or histogram %v, gauge %v", name, !gauges[name], gauges[name])
		}
	}
	if want := v.NumField() - len(gauges); len(known) != want {
		t.Errorf("%d counters and histograms for %d fields", len(known), want)
	}
}

func TestRequestsAreHitsAndMisses(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	for range 1000 {
		s := filled(rnd)
		misses := s.MissAbsent + s.MissExpired + s.MissUndecodable + s.MissForeign + s.MissIncompatible + s.MissUnavailable
		if s.Misses() != misses || s.Hits() != s.LocalHits+s.RemoteHits || s.Requests() != s.Hits()+s.Misses() {
			t.Fatalf("%d hits, %d misses, %d requests", s.Hits(), s.Misses(), s.Requests())
		}
		rate := s.HitRate()
		if rate < 0 || rate > 1 || math.Abs(rate*float64(s.Requests())-float64(s.Hits())) > 1e-6 {
			t.Fatalf("hit rate %v of %d requests and %d hits", rate, s.Requests(), s.Hits())
		}
	}
	if rate := (Snapshot{}).HitRate(); rate != 0 {
		t.Errorf("hit rate of nothing is %v", rate)
	}
	if rate := (Snapshot{MissForeign: 1}).HitRate(); rate != 0 {
		t.Errorf("hit rate of a miss is %v", rate)
	}
	if rate := (Snapshot{LocalHits: 3, RemoteHits: 3, MissAbsent: 2}).HitRate(); rate != 0.75 {
		t.Errorf("hit rate is %v, want 0.75", rate)
	}
}

func TestSubIsWhatHappenedInBetween(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	for range 100 {
		before, between := filled(rnd), filled(rnd)
		after := between
		for i, c := range after.counters() {
			*c.value += *before.counters()[i].value
		}
		for i, h := range after.histograms() {
			b := *before.histograms()[i].value
			for j, n := range b.Counts {
				h.value.Counts[j] += n
			}
			h.value.Count += b.Count
			h.value.Sum += b.Sum
		}
		if got := after.Sub(before); got != between { // with after's gauges, which are between's
			t.Fatalf("got\n%v\nwant\n%v", got, between)
		}
	}
}

func TestSubSeesAReset(t *testing.T) {
	old := Snapshot{LocalHits: 10, Sets: 10}
	old.Get.Record(time.Second, 10)
	now := Snapshot{LocalHits: 4, Sets: 12, LocalEntries: 7, Breaker: Open}
	now.Get.Record(time.Second, 4)
	got := now.Sub(old)
	want := now
	want.Sets = 2
	if got != want {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}

func TestTableIsReadableAtAGlance(t *testing.T) {
	s := Snapshot{
		LocalHits: 1_234_567, RemoteHits: 8_901, StaleHits: 12, AbsentHits: 345,
		MissAbsent: 6_789, MissExpired: 100, MissUndecodable: 1, MissUnavailable: 20,
		Coalesced: 5_000, Unloaded: 10, Loads: 1_905, Refreshes: 5, LoadErrors: 2, NotFound: 30,
		Sets: 40, Deletes: 5, LocalEntries: 10_000, Evictions: 999, RemoteErrors: 20, Fallbacks: 20, Undecodable: 1, Breaker: HalfOpen,
	}
	s.Get.Record(50*time.Nanosecond, 1_000_000)
	s.Get.Record(1500*time.Microsecond, 30_000)
	s.GetMany.Record(123*time.Microsecond, 7)
	s.Load.Record(12*time.Second, 1_905)
	const want = `
requests      asked         1.25 M  hit rate      99.4 %
hits          local         1.23 M  remote         8,901  stale             12
              absent           345  outage             0
misses        absent         6,789  expired          100  undecodable        1
              foreign            0  incompatible       0  unavailable       20
answered by   shared load    5,000  others' load       0  stale value        0
              default            0  no load           10
loads         keys           1,905  refreshes          5  errors             2
              panics             0  not found         30  outdated           0
              outage fills       0  not kept           0  batches            0
              batched            0
writes        sets              40  deletes            5  touched            0
              errors             0
invalidation  sent               0  received           0  flushes            0
local tier    entries       10,000  evictions        999
redis         errors            20  refused            0  fallbacks         20
              undecodable        1  breaker      half-open

latency              calls       mean        p50        p95        p99
get                 1.03 M    43.7 µs      50 ns      50 ns    1.51 ms
get many                 7     123 µs     127 µs     127 µs     127 µs
load                 1,905     12.0 s     12.3 s     12.3 s     12.3 s`
	if got := "\n" + s.String(); got != want {
		t.Errorf("got%s\n\nwant%s", got, want)
	}
}

func TestTableKeepsItsColumnsForLargeNumbers(t *testing.T) {
	var small, large Snapshot
	for _, c := range large.counters() {
		*c.value = 99_999_999
	}
	small.Get.Record(1, 1)
	large.Get.Record(1500*time.Microsecond, 999_999_999)
	before := strings.Split(small.String(), "\n")
	for i, line := range strings.Split(large.String(), "\n") {
		n := utf8.RuneCountInString(line)
		if n != utf8.RuneCountInString(before[i]) || n > 80 || strings.TrimRight(line, " ") != line {
			t.Errorf("a line of %d characters, of other columns or with blanks at its end:\n%s\n%s", n, before[i], line)
		}
	}
	for n, want := range map[uint64]string{
		0: "0", 999_999: "999,999", 1_000_000: "1.00 M", 9_994_999: "9.99 M", 9_995_000: "10.0 M", 99_949_999: "99.9 M", 123_456_789: "123 M",
		999_499_999: "999 M", 999_500_000: "1.00 G", 1 << 40: "1.10 T", 1<<64 - 1: "18447 P",
	} {
		if got := compact(n); got != want || len(got) > 7 {
			t.Errorf("compact(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0 ns", 999: "999 ns", 1000: "1.00 µs", 9994: "9.99 µs", 9996: "10.0 µs", 99_960: "100 µs",
		999_600: "1.00 ms", 999_400: "999 µs", time.Second: "1.00 s", time.Hour: "3600 s", 999_960_000: "1.00 s",
		12_345_678_901: "12.3 s", 1234: "1.23 µs", 1235: "1.24 µs",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestSnapshotIsLoggedWithoutItsZeros(t *testing.T) {
	s := Snapshot{LocalHits: 3, MissAbsent: 1, LocalEntries: 2}
	s.Get.Record(time.Second, 4)
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("", "cache", s)
	for _, want := range []string{"cache.requests=4 cache.hit_rate=0.75 cache.local_entries=2 cache.breaker=closed cache.local_hits=3 cache.miss_absent=1 cache.get.count=4"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("logged as\n%s\nwant\n%s", b.String(), want)
		}
	}
	if strings.Contains(b.String(), "remote") {
		t.Errorf("zeros in %s", b.String())
	}
}

func TestSnapshotInJSONIsForPeople(t *testing.T) {
	got, err := json.Marshal(Snapshot{LocalHits: 3, Breaker: Open})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"LocalHits":3`, `"Breaker":"open"`, `"Get":{"count":0`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		got  string
		want string
	}{
		{None.String(), "none"}, {Local.String(), "local"}, {Remote.String(), "remote"}, {Source.String(), "source"}, {Tier(99).String(), "unknown"},
		{Breaker.String(), "breaker"}, {Listener.String(), "listener"}, {Part(99).String(), "unknown"},
		{Closed.String(), "closed"}, {HalfOpen.String(), "half-open"}, {Open.String(), "open"}, {Up.String(), "up"}, {Down.String(), "down"},
		{Succeeded.String(), "succeeded"}, {Failed.String(), "failed"}, {TimedOut.String(), "timed-out"}, {Canceled.String(), "canceled"},
		{Panicked.String(), "panicked"}, {Refused.String(), "refused"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
