package redisurl

import (
	"maps"
	"slices"
	"strings"
)

// suggestion returns the valid parameter that an unknown one is nearly the same as, if there is
// one. It does not name the unknown one.
func suggestion(name string) string {
	simple := simplify(name)
	best, distance := "", 3
	for _, k := range slices.Sorted(maps.Keys(params)) {
		if d := edits(simple, simplify(k), distance); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ": see the list of parameters in the documentation of NewClient"
	}
	return ": did you mean " + best + "?"
}

// simplify drops what differs between ways to write the same name.
func simplify(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(name))
}

// edits returns how many insertions, removals and replacements of bytes make b of
// a (Levenshtein), or at least most if it is not less.
func edits(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
