// Command fleet measures what a fleet of processes costs Redis, and prints it as a table. It is
// run in the folder of the module:
//
//	go run ./fleet [-short] [-only regexp] [-out fleet.txt] [-from fleet.txt]
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	short := flag.Bool("short", false, "fleets of 1 and 20 processes only")
	only := flag.String("only", ".", "a regular expression, as for go test -bench: the fleets to measure, such as on=server/transport=broadcast")
	out := flag.String("out", "fleet.txt", "where the results go")
	from := flag.String("from", "", "measures nothing, and prints the results of an earlier run")
	flag.Parse()
	if err := run(*short, *only, *out, *from); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(short bool, only, out, from string) error {
	if from == "" {
		from = out
		if err := measure(short, only, out); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	fmt.Print(table(string(text)))
	return nil
}

func measure(short bool, only, out string) error {
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	defer file.Close()
	args := []string{"test", "-run", "^$", "-bench", "^BenchmarkFleet$/" + only, "-benchtime", "300x", "-timeout", "0", "."}
	if !short {
		args = append(args, "-full")
	}
	cmd := exec.Command("go", args...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(file, os.Stderr), os.Stderr
	return cmd.Run()
}

// columns are the metrics of the operations.
var columns = []struct{ head, op, unit string }{
	{"idle: commands/s", "idle", "commands/s"},
	{"connections", "idle", "connections"},
	{"Set: µs", "set", "redis-µs/op"},
	{"bytes out", "set", "out-B/op"},
	{"bus messages", "set", "bus/op"},
	{"miss: µs", "miss", "redis-µs/op"},
	{"bytes out", "miss", "out-B/op"},
	{"awaited miss: µs", "awaited-miss", "redis-µs/op"},
}

// table returns the results of go test -bench as a table in Markdown, a row for each fleet.
func table(results string) string {
	var b strings.Builder
	b.WriteString("| on | transport | caches | processes |")
	for _, c := range columns {
		b.WriteString(" " + c.head + " |")
	}
	b.WriteString("\n|" + strings.Repeat("---|", 4+len(columns)) + "\n")
	var order []string
	rows := map[string]map[string]string{} // by fleet: metrics by operation and unit
	for line := range strings.Lines(results) {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.HasPrefix(words[0], "BenchmarkFleet/") {
			continue
		}
		name, op, ok := strings.Cut(strings.TrimPrefix(words[0], "BenchmarkFleet/"), "/op=")
		if !ok {
			continue
		}
		if i := strings.LastIndexByte(op, '-'); i > 0 && strings.Trim(op[i+1:], "0123456789") == "" {
			op = op[:i] // the number of processors
		}
		if rows[name] == nil {
			rows[name] = map[string]string{}
			order = append(order, name)
		}
		for pair := range slices.Chunk(words[2:], 2) {
			if len(pair) == 2 {
				rows[name][op+" "+pair[1]] = pair[0]
			}
		}
	}
	for _, name := range order {
		b.WriteString("|")
		for part := range strings.SplitSeq(name, "/") {
			_, val, _ := strings.Cut(part, "=")
			b.WriteString(" " + val + " |")
		}
		for _, c := range columns {
			val := rows[name][c.op+" "+c.unit]
			if val == "" {
				val = "–"
			}
			b.WriteString(" " + val + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}
