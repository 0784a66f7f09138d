package benchmarks

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/dgraph-io/ristretto/v2/sim"
)

// BenchmarkMemory reports what an entry takes beyond its key and value, averaged over
// numbers of entries from one power of two to the next, since Go's maps double.
func BenchmarkMemory(b *testing.B) {
	for _, lib := range evicting {
		b.Run(param("lib", lib.name), func(b *testing.B) {
			sum, sizes := 0.0, 4
			low := 1 << 15
			if small {
				low = 64
			}
			for i := range sizes {
				n := low + i*low/sizes
				keys, val := makeKeys(n), makeValue(8)
				before := heap()
				m := lib.open(b, 4*n)
				m.put(b, keys, val)
				sum += float64(heap()-before)/float64(n) - 16 - 24 // a string's and a slice's header
				runtime.KeepAlive(keys)
				runtime.KeepAlive(m)
			}
			for b.Loop() {
			}
			b.ReportMetric(sum/float64(sizes), "B/entry")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// workload is a sequence of keys that are read, and stored where they are missed.
type workload struct {
	name     string
	capacity int
	keys     []uint64
}

// BenchmarkHitRatio reports how many reads hit where not everything has room.
// glimpse is the trace of the LIRS paper that ristretto ships.
func BenchmarkHitRatio(b *testing.B) {
	for _, w := range workloads(b) {
		for _, lib := range evicting {
			b.Run(param("load", w.name)+"/"+param("entries", w.capacity)+"/"+param("lib", lib.name), func(b *testing.B) {
				names := make(map[uint64]string)
				for _, k := range w.keys {
					if names[k] == "" {
						names[k] = strconv.FormatUint(k, 10)
					}
				}
				val := makeValue(8)
				ratio := 0.0
				for b.Loop() {
					m := lib.open(b, w.capacity)
					hits := 0
					for _, k := range w.keys {
						if m.get(names[k]) {
							hits++
							continue
						}
						m.set(names[k], val)
						if m.wait != nil {
							m.wait()
						}
					}
					ratio = float64(hits) / float64(len(w.keys))
				}
				b.ReportMetric(100*ratio, "hit-%")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func workloads(b *testing.B) []workload {
	n := 400_000
	if small {
		n = 2000
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	zipf := rand.NewZipf(rnd, 1.05, 1, 99_999)
	skewed := make([]uint64, n)
	for i := range skewed {
		skewed[i] = zipf.Uint64()
	}
	// Every now and then everything is read once.
	scanned := make([]uint64, 0, n)
	for len(scanned) < n {
		for range 20_000 {
			scanned = append(scanned, zipf.Uint64())
		}
		for i := range uint64(5000) {
			scanned = append(scanned, 1_000_000+uint64(len(scanned))+i)
		}
	}
	list := []workload{{"zipf", 1000, skewed}, {"zipf", 10_000, skewed}, {"zipf-scans", 5000, scanned}}
	glimpse, err := readTrace(shipped(b))
	must(b, err)
	for _, capacity := range []int{500, 1000, 2000} {
		list = append(list, workload{"glimpse", capacity, glimpse})
	}
	for _, path := range given(b) {
		keys, err := readTrace(path)
		must(b, err)
		distinct := map[uint64]struct{}{}
		for _, k := range keys {
			distinct[k] = struct{}{}
		}
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		for _, part := range []int{200, 20, 5} {
			list = append(list, workload{name, max(len(distinct)/part, 1), keys})
		}
	}
	return list
}

// given are the paths of the traces that -trace names.
func given(b *testing.B) []string {
	if *trace == "" {
		return nil
	}
	info, err := os.Stat(*trace)
	must(b, err)
	if !info.IsDir() {
		return []string{*trace}
	}
	files, err := os.ReadDir(*trace)
	must(b, err)
	var paths []string
	for _, f := range files {
		switch filepath.Ext(strings.TrimSuffix(f.Name(), ".gz")) {
		case ".txt", ".lirs", ".trc", ".trace", ".arc", ".lis":
			paths = append(paths, filepath.Join(*trace, f.Name()))
		}
	}
	if len(paths) == 0 {
		must(b, fmt.Errorf("%s has no trace", *trace))
	}
	return paths
}

// shipped is the path of a trace in a module that is there anyway.
func shipped(b *testing.B) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/dgraph-io/ristretto/v2").Output()
	must(b, err)
	return filepath.Join(strings.TrimSpace(string(out)), "sim", "gli.lirs.gz")
}

// readTrace reads a trace: in ARC's format a line is a first block and a number of blocks, in
// others one key, any text. An asterisk, with which LIRS's begin a part, is none.
func readTrace(path string) ([]uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	name := path
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
		name = strings.TrimSuffix(name, ".gz")
	}
	var keys []uint64
	if ext := filepath.Ext(name); ext != ".arc" && ext != ".lis" {
		numbers := map[string]uint64{}
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			if line == "" || line == "*" {
				continue
			}
			n, ok := numbers[line]
			if !ok {
				n = uint64(len(numbers))
				numbers[line] = n
			}
			keys = append(keys, n)
		}
		if err := lines.Err(); err != nil {
			return nil, err
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("%s is empty", path)
		}
		return keys, nil
	}
	for next := sim.NewReader(sim.ParseARC, bufio.NewReader(r)); ; {
		k, err := next()
		switch {
		case errors.Is(err, sim.ErrDone):
			if len(keys) == 0 {
				return nil, fmt.Errorf("%s is empty", path)
			}
			return keys, nil
		case err != nil:
			return nil, err
		}
		keys = append(keys, k)
	}
}
