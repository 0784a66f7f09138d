// Command run measures everything, in rounds that are interleaved, and prints a table of
// ratios by benchstat. It is run in the folder of the module:
//
//	go run ./run [-full] [-rounds 8] [-most 10m] [-time 60ms] [-only regexp] [-out results.txt]
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"time"
)

const benchstat = "golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da"

// group is what is run with the same flags.
type group struct {
	pattern string
	args    []string
	once    bool // its results do not depend on time
}

var groups = []group{
	{pattern: "^Benchmark(LocalHit|RemoteHit|Set|Miss|GetMany|SetMany|Stampede)$"},
	{pattern: "^Benchmark(InProcessSet|InProcessLoad|InProcessGetMany|Decoded)$"},
	{pattern: "^BenchmarkLargeBesideSmall$", args: []string{"-benchtime", "3000x"}},
	{pattern: "^BenchmarkScaling$", args: []string{"-cpu", "1,2,4,8"}},
	{pattern: "^BenchmarkInvalidation$", args: []string{"-benchtime", "200x"}},
	{pattern: "^Benchmark(Memory|HitRatio)$", args: []string{"-benchtime", "1x"}, once: true},
}

func main() {
	full := flag.Bool("full", false, "every size, number of callers and distribution of keys: more than an hour")
	rounds := flag.Int("rounds", 8, "how often everything is measured")
	most := flag.Duration("most", time.Hour, "begins no round after this time")
	benchtime := flag.Duration("time", 60*time.Millisecond, "how long each measurement takes, about")
	only := flag.String("only", "", "a regular expression: the groups whose pattern it matches")
	out := flag.String("out", "results.txt", "where the results go")
	trace := flag.String("trace", "", "a trace for HitRatio, or a folder of them")
	flag.Parse()
	if err := run(*full, *rounds, *most, *benchtime, *only, *out, *trace); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(full bool, rounds int, most, benchtime time.Duration, only, out, trace string) error {
	pick, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin := dir + "/bench"
	if err := command(os.Stdout, "go", "test", "-c", "-o", bin, ".").Run(); err != nil {
		return fmt.Errorf("building: %w", err)
	}
	results, err := os.Create(out)
	if err != nil {
		return err
	}
	defer results.Close()
	began := time.Now()
	for round := range rounds {
		if time.Since(began) > most {
			break
		}
		for _, g := range groups {
			if !pick.MatchString(g.pattern) || g.once && round > 0 {
				continue
			}
			args := append([]string{"-test.run", "^$", "-test.bench", g.pattern, "-test.benchmem", "-test.timeout", "0", "-test.benchtime", benchtime.String()}, testFlags(g.args)...)
			if full {
				args = append(args, "-full")
			}
			if trace != "" {
				args = append(args, "-trace", trace)
			}
			if err := command(results, bin, args...).Run(); err != nil {
				return fmt.Errorf("%s: %w (see %s)", g.pattern, err, out)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d, %v\n", round+1, rounds, time.Since(began).Round(time.Second))
	}
	if err := results.Close(); err != nil {
		return err
	}
	return command(os.Stdout, "go", "run", benchstat, "-col", "/lib", "-row", ".fullname", out).Run()
}

func testFlags(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		if a[0] == '-' {
			a = "-test." + a[1:]
		}
		out[i] = a
	}
	return out
}

func command(out io.Writer, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	return cmd
}
