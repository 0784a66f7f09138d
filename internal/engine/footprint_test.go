package engine

import (
	"strings"
	"testing"
)

func TestFootprintsAreAboutRight(t *testing.T) {
	type node struct {
		Name string
		Next *node
		Tags []string
		Rest map[string]int
	}
	long := strings.Repeat("x", 10_000)
	for name, c := range map[string]struct {
		v           any
		least, most int64
	}{
		"nil":     {nil, 0, 0},
		"int":     {7, 8, 8},
		"string":  {long, 10_000, 10_100},
		"bytes":   {[]byte(long), 10_000, 12_000},
		"strings": {[]string{long, long, long}, 30_000, 31_000},
		"many":    {make([]string, 1000), 16_000, 17_000},
		"map":     {map[string]int{"a": 1, "b": 2}, 40, 200},
		"struct":  {node{Name: long, Next: &node{Name: long}, Tags: []string{long}}, 30_000, 31_000},
	} {
		if n := footprint(c.v); n < c.least || n > c.most {
			t.Errorf("%s: %d, want %d to %d", name, n, c.least, c.most)
		}
	}
	ring := &node{Name: long}
	ring.Next = ring
	if n := footprint(ring); n < 10_000 || n > 100_000 {
		t.Errorf("a ring: %d", n)
	}
}
