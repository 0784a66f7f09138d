// Command render turns the results of the last run into the tables of
// docs/performance.md and its charts. It is run in the folder of the module:
//
//	go run ./render [-in results.txt] [-docs ../docs]
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	begin = "<!-- generated: go run ./render -->"
	end   = "<!-- end of what is generated -->"
)

func main() {
	in := flag.String("in", "results.txt", "what run has written")
	docs := flag.String("docs", "../docs", "where performance.md is, and the charts go")
	flag.Parse()
	if err := render(*in, *docs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func render(in, docs string) error {
	f, err := os.Open(in)
	if err != nil {
		return err
	}
	defer f.Close()
	res, err := parse(f)
	if err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	page := filepath.Join(docs, "performance.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s lacks the lines %q and %q", page, begin, end)
	}
	out := before + begin + "\n\n" + budget(res) + tables(res) + end + after
	if err := os.WriteFile(page, []byte(out), 0o644); err != nil {
		return err
	}
	for name, chart := range charts(res) {
		if err := os.WriteFile(filepath.Join(docs, name), []byte(chart), 0o644); err != nil {
			return err
		}
	}
	return nil
}
