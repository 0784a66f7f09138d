package writebehind_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/storetest"
	"github.com/delqhi/cache/internal/writebehind"
)

// keyShapes are the ways in which programs name things. In most of them neighbors
// differ in a few digits only.
var keyShapes = map[string]func(i int) string{
	"number":        func(i int) string { return fmt.Sprint(i) },
	"negative":      func(i int) string { return fmt.Sprint(-i) },
	"offset":        func(i int) string { return fmt.Sprint(1_234_560_000 + i) },
	"steps of 8":    func(i int) string { return fmt.Sprint(8 * i) },
	"steps of 1000": func(i int) string { return fmt.Sprint(1000 * i) },
	"snowflake":     func(i int) string { return fmt.Sprint(int64(i) << 22) },
	"padded":        func(i int) string { return fmt.Sprintf("%08d", i) },
	"hex":           func(i int) string { return fmt.Sprintf("%08x", i) },
	"letter":        func(i int) string { return fmt.Sprint("k", i) },
	"prefix":        func(i int) string { return fmt.Sprint("user:", i) },
	"long prefix":   func(i int) string { return fmt.Sprint("tenants/acme/eu-west-1/accounts/", i, "/profile") },
	"suffix":        func(i int) string { return fmt.Sprint(i, "@example.com") },
	"date": func(i int) string {
		return fmt.Sprintf("2026-%02d-%02dT%02d:00", i/672%12+1, i/24%28+1, i%24) + fmt.Sprint(i/8064)
	},
	"counting UUID":     func(i int) string { return fmt.Sprintf("550e8400-e29b-41d4-a716-%012d", i) },
	"time-ordered UUID": func(i int) string { return fmt.Sprintf("%08x-%04x-7000-8000-%012x", i>>16, i&0xffff, i) },
	"random UUID":       func(i int) string { s := sha256.Sum256([]byte(fmt.Sprint(i))); return fmt.Sprintf("%x", s[:16]) },
	"struct":            func(i int) string { return fmt.Sprintf("acme|%d|%d", i%100, i/100) },
	"bytes":             func(i int) string { return string([]byte{byte(i), byte(i >> 8), byte(i >> 16), 0}) },
	"repeated":          func(i int) string { return strings.Repeat("a", i%97) + strings.Repeat("b", i/97) },
}

// unevenness is Pearson's χ² of how keys fall into the partitions, with 7 degrees of
// freedom: above 40 once in a million times if they fall at random.
func unevenness(n int, key func(i int) string) float64 {
	var in [writebehind.Partitions]int
	for i := range n {
		in[writebehind.Partition(key(i))]++
	}
	mean, sum := float64(n)/writebehind.Partitions, 0.0
	for _, m := range in {
		sum += (float64(m) - mean) * (float64(m) - mean) / mean
	}
	return sum
}

func TestKeysOfAnyShapeSpreadOverAllPartitions(t *testing.T) {
	for shape, key := range keyShapes {
		for _, n := range []int{100, 1000, 20_000} {
			if x := unevenness(n, key); x > 40 {
				t.Errorf("%d keys such as %q (%s): χ² = %.0f", n, key(n/2), shape, x)
			}
		}
	}
	// Keys of any length that differ in one place only, whichever that is.
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		text := make([]byte, 1+rnd.IntN(64))
		for i := range text {
			text[i] = byte(rnd.Uint32())
		}
		at := rnd.IntN(len(text))
		if x := unevenness(256, func(i int) string { text[at] = byte(i); return string(text) }); x > 60 {
			t.Errorf("keys of %d bytes that differ in byte %d: χ² = %.0f", len(text), at, x)
		}
	}
}

// MaxBacklog holds for all partitions together: the fullest of them may not end it.
func TestTheWholeBacklogFits(t *testing.T) {
	redistest.Thorough(t)
	for _, shape := range []string{"number", "counting UUID"} {
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			q := process(t, storetest.NewMemory(), s, func(c *writebehind.Config) { c.BatchSize, c.BatchDelay = 1000, 1<<40 })
			writes := make([]writebehind.Write, writebehind.MaxBacklog)
			for i := range writes {
				writes[i] = writebehind.Write{Key: keyShapes[shape](i), Delete: true}
			}
			refused := 0
			for _, err := range q.Enqueue(t.Context(), writes) {
				if err != nil {
					refused++
				}
			}
			if refused > 0 {
				t.Errorf("%d of %d writes of %ss are refused", refused, len(writes), shape)
			}
		})
	}
}
