package metrics

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// String is a table for human readers, of fixed columns and without a final line break: the
// counters by subject, and below them the latencies of those operations that took place. A
// program reads the fields.
func (s Snapshot) String() string {
	var b strings.Builder
	for _, row := range []struct {
		label string
		cells []cell
	}{
		{"requests", []cell{count("asked", s.Requests()), {"hit rate", fmt.Sprintf("%.1f %%", 100*s.HitRate())}}},
		{"hits", []cell{count("local", s.LocalHits), count("remote", s.RemoteHits), count("stale", s.StaleHits), count("absent", s.AbsentHits), count("outage", s.OutageHits)}},
		{"misses", []cell{count("absent", s.MissAbsent), count("expired", s.MissExpired), count("undecodable", s.MissUndecodable), count("foreign", s.MissForeign), count("incompatible", s.MissIncompatible), count("unavailable", s.MissUnavailable)}},
		{"answered by", []cell{count("shared load", s.Coalesced), count("others' load", s.Awaited), count("stale value", s.StaleCovers), count("default", s.Defaults), count("no load", s.Unloaded)}},
		{"loads", []cell{count("keys", s.Loads), count("refreshes", s.Refreshes), count("errors", s.LoadErrors), count("panics", s.LoadPanics), count("not found", s.NotFound), count("outdated", s.Outdated), count("outage fills", s.OutageFills), count("not kept", s.NotKept), count("batches", s.Batches), count("batched", s.Batched)}},
		{"writes", []cell{count("sets", s.Sets), count("deletes", s.Deletes), count("touched", s.Touched), count("errors", s.WriteErrors)}},
		{"invalidation", []cell{count("sent", s.InvalidationsSent), count("received", s.InvalidationsReceived), count("flushes", s.Flushes)}},
		{"local tier", []cell{count("entries", s.LocalEntries), count("evictions", s.Evictions)}},
		{"redis", []cell{count("errors", s.RemoteErrors), count("refused", s.RemoteRefused), count("fallbacks", s.Fallbacks), count("undecodable", s.Undecodable), {"breaker", s.Breaker.String()}}},
	} {
		for i, c := range row.cells {
			if i%perLine == 0 {
				fmt.Fprintf(&b, "%-12s", row.label)
				row.label = ""
			}
			fmt.Fprintf(&b, "  %-12s %7s", c.label, c.value)
			if i%perLine == perLine-1 || i == len(row.cells)-1 {
				b.WriteByte('\n')
			}
		}
	}
	fmt.Fprintf(&b, "\n%-12s  %12s  %9s  %9s  %9s  %9s", "latency", "calls", "mean", "p50", "p95", "p99")
	for _, h := range s.histograms() {
		if h.value.Count == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%-12s  %12s", strings.ReplaceAll(h.name, "_", " "), compact(h.value.Count))
		for _, d := range []time.Duration{h.value.Mean(), h.value.Quantile(0.50), h.value.Quantile(0.95), h.value.Quantile(0.99)} {
			fmt.Fprintf(&b, "  %s", padded(short(d), 9))
		}
	}
	return b.String()
}

// perLine cells and the label fit into 80 columns.
const perLine = 3

type cell struct{ label, value string }

func count(label string, n uint64) cell { return cell{label, compact(n)} }

// compact writes a number in seven characters at most: three digits of it from a
// million on.
func compact(n uint64) string {
	if n < 1_000_000 {
		return grouped(n)
	}
	v := float64(n)
	for _, unit := range []string{"M", "G", "T", "P"} {
		if v /= 1000; unit == "M" {
			v /= 1000
		}
		if v < 999.5 || unit == "P" {
			digits := 0
			if v < 99.95 {
				digits = 1
			}
			if v < 9.995 {
				digits = 2
			}
			return fmt.Sprintf("%.*f %s", digits, v, unit)
		}
	}
	return ""
}

// grouped writes a number with a comma before each three digits.
func grouped(n uint64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// short writes a duration with three digits and a unit.
func short(d time.Duration) string {
	// Rounded before the unit is chosen: 999.6 µs are a millisecond, not 1000 µs.
	last := time.Duration(1)
	for d/last >= 1000 {
		last *= 10
	}
	d = d.Round(last)
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "µs"}} {
		if d >= u.unit {
			v := float64(d) / float64(u.unit)
			digits := 0
			if v < 100 {
				digits = 1
			}
			if v < 10 {
				digits = 2
			}
			return fmt.Sprintf("%.*f %s", digits, v, u.name)
		}
	}
	return fmt.Sprintf("%d ns", d)
}

// padded counts characters: µ has two bytes.
func padded(s string, width int) string {
	return strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 0)) + s
}
