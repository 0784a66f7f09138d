package main

import (
	"fmt"
	"math"
	"strings"
)

// line is one of the budget.
type line struct {
	what, limit string
	bench       string
	unit        string
	peers       []string // the best of them counts; none: the limit is absolute
	most        float64  // that this library takes, in times of what the peer takes, or absolute
	throughput  bool     // limit and result read as throughput
}

var quick = []string{"golang-lru", "otter", "theine", "sturdyc"}

var lines = []line{
	{what: "local hit, 1 caller", limit: "≤ 1.0× the fastest of golang-lru, otter, theine, sturdyc", bench: "LocalHit/size=64/keys=zipf/callers=1/cpu=2", unit: "ns/op", peers: quick, most: 1},
	{what: "local hit, `-cpu 2`", limit: "≤ 1.0× the fastest of those", bench: "Scaling/cpu=2", unit: "ns/op", peers: quick, most: 1},
	{what: "local hit, allocations", limit: "0", bench: "LocalHit/size=64/keys=zipf/callers=1/cpu=2", unit: "allocs/op"},
	{what: "remote hit, 1 caller", limit: "≤ 1.1× go-redis Get", bench: "RemoteHit/size=64/keys=zipf/callers=1/cpu=2", unit: "ns/op", peers: []string{"go-redis"}, most: 1.1},
	{what: "remote hit, 64 callers", limit: "≥ 3× its throughput", bench: "RemoteHit/size=64/keys=zipf/callers=64/cpu=2", unit: "ns/op", peers: []string{"go-redis"}, most: 1. / 3, throughput: true},
	{what: "remote hit, 256 callers", limit: "≥ 6× its throughput", bench: "RemoteHit/size=64/keys=zipf/callers=256/cpu=2", unit: "ns/op", peers: []string{"go-redis"}, most: 1. / 6, throughput: true},
	{what: "remote hit, 64 callers", limit: "ahead of rueidis", bench: "RemoteHit/size=64/keys=zipf/callers=64/cpu=2", unit: "ns/op", peers: []string{"rueidis"}, most: 1, throughput: true},
	{what: "remote hit, 256 callers", limit: "ahead of rueidis", bench: "RemoteHit/size=64/keys=zipf/callers=256/cpu=2", unit: "ns/op", peers: []string{"rueidis"}, most: 1, throughput: true},
	{what: "100 keys by GetMany", limit: "≤ 1.15× one MGET", bench: "GetMany/size=1024/callers=1/cpu=2", unit: "ns/op", peers: []string{"go-redis-mget"}, most: 1.15},
	{what: "miss + load + fill", limit: "≤ 1.5× GET and SET by hand", bench: "Miss/size=1024/callers=1/cpu=2", unit: "ns/op", peers: []string{"go-redis"}, most: 1.5},
	{what: "set", limit: "≤ 1.2× SET and PUBLISH in a pipeline", bench: "Set/size=1024/callers=1/cpu=2", unit: "ns/op", peers: []string{"go-redis-publish"}, most: 1.2},
	{what: "others see a write, median", limit: "≤ 0.5 ms", bench: "Invalidation/cpu=2", unit: "p50-ns", most: 0.5e6},
	{what: "others see a write, 99 of 100", limit: "≤ 5 ms", bench: "Invalidation/cpu=2", unit: "p99-ns", most: 5e6},
	{what: "memory of a local entry, beyond key and value", limit: "≤ 90 B", bench: "Memory/cpu=2", unit: "B/entry", most: 90},
}

// ours is how this library is called in a benchmark.
func ours(bench string) string {
	for _, inProcess := range []string{"Memory/", "HitRatio/", "InProcess"} {
		if strings.HasPrefix(bench, inProcess) {
			return "cache-localonly"
		}
	}
	return "cache"
}

// budget is the table of what was to be reached.
func budget(r *results) string {
	var b strings.Builder
	b.WriteString("### The budget\n\n| path | budget | measured | | processor time |\n|---|---|---|---|---|\n")
	for _, l := range lines {
		measured, met, cpu := "not measured", "", "–"
		if v, than, ok := l.measure(r); ok {
			met = "met"
			if v > l.most*1.0000001 {
				met = "**missed**"
			}
			switch {
			case len(l.peers) == 0:
				measured = human(v, l.unit)
			case l.throughput:
				measured = fmt.Sprintf("%.1f× %s", 1/v, than)
			default:
				measured = fmt.Sprintf("%.2f× %s", v, than)
			}
			if x, ok := r.ratio(l.bench, ours(l.bench), than, "cpu-ns/op"); ok {
				cpu = fmt.Sprintf("%.2f×", x)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", l.what, l.limit, measured, met, cpu)
	}
	b.WriteString("\n")
	return b.String()
}

func (l *line) measure(r *results) (v float64, than string, ok bool) {
	lib := ours(l.bench)
	if len(l.peers) == 0 {
		v, ok = r.median(l.bench, lib, l.unit)
		return v, "", ok
	}
	for _, peer := range l.peers {
		// The fastest peer is the one that this library looks worst beside.
		if x, is := r.ratio(l.bench, lib, peer, l.unit); is && (!ok || x > v) {
			v, than, ok = x, peer, true
		}
	}
	return v, than, ok
}

// sections are the tables that follow: one for each benchmark.
var sections = []struct{ bench, title, unit, note string }{
	{"LocalHit", "Local hit", "ns/op", ""},
	{"Scaling", "Local hit, by processors", "ns/op", "The machine has 2; more only shows what waiting costs."},
	{"InProcessSet", "Without Redis: set", "ns/op", ""},
	{"InProcessLoad", "Without Redis: miss, load and fill", "ns/op", "The load takes no time. Each runs it in the caller's goroutine, which this library does for callers whose contexts can't end, where no `HardTimeout` is given. Others it gives a goroutine of its own, so that they can leave when their contexts or the hard timeout end."},
	{"InProcessGetMany", "Without Redis: 100 keys at once", "ns/op", ""},
	{"RemoteHit", "Remote hit", "ns/op", ""},
	{"Decoded", "A struct, decoded", "ns/op", "go-redis-cache keeps bytes in its local tier."},
	{"GetMany", "100 keys at once", "ns/op", ""},
	{"Set", "Set", "ns/op", ""},
	{"SetMany", "Set of 100 keys at once", "ns/op", ""},
	{"Miss", "Miss, load and fill", "ns/op", ""},
	{"Stampede", "Stampede: time", "ns/op", "The load takes 2 ms."},
	{"Stampede", "Stampede: loads", "loads/op", ""},
	{"Invalidation", "A write is seen elsewhere, median", "p50-ns", ""},
	{"Invalidation", "A write is seen elsewhere, 99 of 100", "p99-ns", ""},
	{"LargeBesideSmall", "Small reads beside large ones, median", "p50-ns", "Values of 8 MiB are read over the same link of 125 MB/s."},
	{"LargeBesideSmall", "Small reads beside large ones, 99 of 100", "p99-ns", ""},
	{"LargeBesideSmall", "Small reads beside large ones: failed", "failed-%", ""},
	{"LargeBesideSmall", "Large reads: failed", "failed-large-%", ""},
	{"Memory", "Memory of an entry, beyond key and value", "B/entry", ""},
	{"HitRatio", "Hit ratio", "hit-%", "More is better."},
	{"LocalHit", "Local hit: allocations", "allocs/op", ""},
	{"RemoteHit", "Remote hit: allocations", "allocs/op", ""},
	{"RemoteHit", "Remote hit: processor time of the client", "cpu-ns/op", ""},
}

func tables(r *results) string {
	var b strings.Builder
	for _, s := range sections {
		var libs []string
		var rows []string
		seen := map[string]bool{}
		for _, name := range r.order {
			if !strings.HasPrefix(name, s.bench+"/") {
				continue
			}
			rows = append(rows, name)
			for _, lib := range r.libs[name] {
				if _, ok := r.median(name, lib, s.unit); ok && !seen[lib] && lib != ours(name) {
					seen[lib] = true
					libs = append(libs, lib)
				}
			}
		}
		if len(rows) == 0 {
			continue
		}
		us := ours(rows[0])
		fmt.Fprintf(&b, "### %s\n\n", s.title)
		if s.note != "" {
			b.WriteString(s.note + "\n\n")
		}
		fmt.Fprintf(&b, "| | %s | %s |\n|---|%s\n", us, strings.Join(libs, " | "), strings.Repeat("---|", len(libs)+1))
		for _, name := range rows {
			mine, ok := r.median(name, us, s.unit)
			if !ok {
				continue
			}
			fmt.Fprintf(&b, "| %s | %s |", label(name), human(mine, s.unit))
			for _, lib := range libs {
				fmt.Fprintf(&b, " %s |", cell(r, name, us, lib, s.unit))
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// cell compares a library with this one. What is better than this one is bold.
func cell(r *results, name, us, lib, unit string) string {
	v, ok := r.median(name, lib, unit)
	if !ok {
		return "–"
	}
	switch unit {
	case "hit-%", "allocs/op", "loads/op", "B/entry", "failed-%", "failed-large-%":
		mine, _ := r.median(name, us, unit)
		text := human(v, unit)
		if unit == "hit-%" && v > mine || unit != "hit-%" && v < mine {
			return "**" + text + "**"
		}
		return text
	}
	x, ok := r.ratio(name, lib, us, unit)
	if !ok {
		return "–"
	}
	text := fmt.Sprintf("%.2f×", x)
	if x >= 10 {
		text = fmt.Sprintf("%.0f×", x)
	}
	if x < 1 {
		text = "**" + text + "**"
	}
	return text
}

// label is what tells a row from the others of its table.
func label(name string) string {
	parts := strings.Split(name, "/")[1:]
	if len(parts) > 1 {
		parts = parts[:len(parts)-1] // the processors are the same for all
	}
	return strings.ReplaceAll(strings.Join(parts, ", "), "=", " ")
}

func human(v float64, unit string) string {
	switch unit {
	case "hit-%", "failed-%", "failed-large-%":
		return fmt.Sprintf("%.1f %%", v)
	case "B/entry":
		return fmt.Sprintf("%.0f B", v)
	case "allocs/op", "loads/op":
		return fmt.Sprintf("%.0f", max(math.Ceil(v-0.01), 0)) // no -0
	}
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f ms", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.1f µs", v/1e3)
	}
	return fmt.Sprintf("%.0f ns", v)
}
