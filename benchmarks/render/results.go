package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// results are samples by benchmark without its library, by library and by unit, in the
// order in which they were measured: those with one index are of one round.
type results struct {
	order []string // of benchmarks
	libs  map[string][]string
	data  map[string]map[string][]float64 // benchmark → library + " " + unit → samples
}

// parse reads what go test -bench prints.
func parse(r io.Reader) (*results, error) {
	res := &results{libs: map[string][]string{}, data: map[string]map[string][]float64{}}
	for lines := bufio.NewScanner(r); ; {
		if !lines.Scan() {
			return res, lines.Err()
		}
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name, lib, ok := split(strings.TrimPrefix(fields[0], "Benchmark"))
		if !ok {
			continue
		}
		m := res.data[name]
		if m == nil {
			m = map[string][]float64{}
			res.data[name] = m
			res.order = append(res.order, name)
		}
		if !slices.Contains(res.libs[name], lib) {
			res.libs[name] = append(res.libs[name], lib)
		}
		for i := 2; i+1 < len(fields); i += 2 {
			v, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", lines.Text(), err)
			}
			key := lib + " " + fields[i+1]
			m[key] = append(m[key], v)
		}
	}
}

// split takes the library out of a name: "RemoteHit/size=64/lib=cache-2" is
// "RemoteHit/size=64/cpu=2" of cache.
func split(full string) (name, lib string, ok bool) {
	cpu := "1"
	if i := strings.LastIndexByte(full, '-'); i >= 0 {
		if _, err := strconv.Atoi(full[i+1:]); err == nil {
			full, cpu = full[:i], full[i+1:]
		}
	}
	for _, part := range strings.Split(full, "/") {
		if l, is := strings.CutPrefix(part, "lib="); is {
			lib, ok = l, true
			continue
		}
		name += part + "/"
	}
	return name + "cpu=" + cpu, lib, ok
}

// samples returns those of a library, nil if there are none.
func (r *results) samples(name, lib, unit string) []float64 { return r.data[name][lib+" "+unit] }

func (r *results) median(name, lib, unit string) (float64, bool) {
	return median(r.samples(name, lib, unit))
}

// ratio is the median, over all rounds, of how many times a takes what b takes.
func (r *results) ratio(name, a, b, unit string) (float64, bool) {
	x, y := r.samples(name, a, unit), r.samples(name, b, unit)
	var all []float64
	for i := range min(len(x), len(y)) {
		if y[i] > 0 {
			all = append(all, x[i]/y[i])
		}
	}
	return median(all)
}

func median(vals []float64) (float64, bool) {
	if len(vals) == 0 {
		return 0, false
	}
	s := slices.Sorted(slices.Values(vals))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2, true
	}
	return s[len(s)/2], true
}
