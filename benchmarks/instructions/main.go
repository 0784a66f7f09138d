// Command instructions counts how many instructions of the processor a local hit takes
// with each library. Unlike time, that does not depend on what else the machine is doing.
// It needs valgrind, and is run in the folder of the module:
//
//	go run ./instructions
//
// It counts twice, with few hits and with many, and divides the difference: what it takes
// to fill the cache is in both.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
)

var libraries = []string{"map", "cache-localonly", "golang-lru", "golang-lru-expirable", "otter", "theine", "ristretto", "sturdyc", "ttlcache"}

const (
	few  = 10_000
	many = 210_000
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "instructions")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := dir + "/bench"
	build := exec.Command("go", "test", "-c", "-o", bin, ".")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building: %w", err)
	}
	for _, lib := range libraries {
		var counts [2]float64
		for i, n := range []int{few, many} {
			if counts[i], err = count(bin, lib, n); err != nil {
				return fmt.Errorf("%s: %w", lib, err)
			}
		}
		fmt.Printf("%-22s %6.0f\n", lib, (counts[1]-counts[0])/(many-few))
	}
	return nil
}

var collected = regexp.MustCompile(`Collected : (\d+)`)

// count returns the instructions of n hits, and of all that comes before them.
func count(bin, lib string, n int) (float64, error) {
	cmd := exec.Command("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", bin,
		"-test.run", "^$", "-test.bench", "^BenchmarkInProcess$/^lib="+lib+"$", "-test.benchtime", strconv.Itoa(n)+"x")
	// One processor, nothing that happens at its own time, and no RDTSCP, which valgrind
	// does not know.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1,cpu.rdtscp=off")
	out, err := cmd.CombinedOutput()
	found := collected.FindSubmatch(out)
	if err != nil || found == nil {
		return 0, fmt.Errorf("valgrind has counted nothing: %v\n%s", err, out[:min(len(out), 4000)])
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
