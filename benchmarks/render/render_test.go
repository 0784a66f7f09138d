package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `goos: linux
BenchmarkRemoteHit/size=64/keys=zipf/callers=64/lib=cache-2    100  2000 ns/op  500 cpu-ns/op  8 B/op  4 allocs/op
BenchmarkRemoteHit/size=64/keys=zipf/callers=64/lib=go-redis-2 100  8000 ns/op  1000 cpu-ns/op  8 B/op  7 allocs/op
BenchmarkRemoteHit/size=64/keys=zipf/callers=64/lib=rueidis-2  100  1000 ns/op  8 B/op  2 allocs/op
BenchmarkRemoteHit/size=64/keys=zipf/callers=64/lib=cache-2    100  4000 ns/op  8 B/op  4 allocs/op
BenchmarkRemoteHit/size=64/keys=zipf/callers=64/lib=go-redis-2 100 16000 ns/op  8 B/op  7 allocs/op
BenchmarkRemoteHit/size=64/keys=zipf/callers=64/lib=rueidis-2  100  2000 ns/op  8 B/op  2 allocs/op
BenchmarkMemory/lib=cache-localonly-2 1 151.5 B/entry
PASS
`

func TestRatiosAreThoseOfOneRound(t *testing.T) {
	r, err := parse(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	out := budget(r) + tables(r)
	for _, want := range []string{
		"| remote hit, 64 callers | ≥ 3× its throughput | 4.0× go-redis | met | 0.50× |",
		"| remote hit, 64 callers | ahead of rueidis | 0.5× rueidis | **missed** | – |",
		"| ≤ 90 B | 152 B | **missed** | – |",
		"| size 64, keys zipf, callers 64 | 3.0 µs | 4.00× | **0.50×** |", // where we lose is bold
		"not measured",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
}

func TestRenderReplacesWhatIsBetweenTheMarks(t *testing.T) {
	dir := t.TempDir()
	in, page := filepath.Join(dir, "results.txt"), filepath.Join(dir, "performance.md")
	for name, text := range map[string]string{in: sample, page: "above\n" + begin + "\nold\n" + end + "\nbelow\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := render(in, dir); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(page)
	if s := string(text); !strings.HasPrefix(s, "above\n") || !strings.HasSuffix(s, "\nbelow\n") || strings.Contains(s, "\nold\n") {
		t.Errorf("%s", s)
	}
	chart, err := os.Open(filepath.Join(dir, "remote-hit.svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer chart.Close()
	for d := xml.NewDecoder(chart); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
