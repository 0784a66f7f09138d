// Command draw makes the pictures of docs/diagrams: an SVG of each text. Run it in the folder of
// this module, after a text was changed: go run ./draw
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/delqhi/cache/docs/book/sequence"
)

func main() {
	dir := flag.String("dir", "../diagrams", "the folder of the diagrams")
	flag.Parse()
	if err := draw(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "draw:", err)
		os.Exit(1)
	}
}

// draw writes those pictures that differ from what is there.
func draw(dir string) error {
	pictures, err := all(dir)
	if err != nil {
		return err
	}
	for path, svg := range pictures {
		if old, err := os.ReadFile(path); err == nil && string(old) == svg {
			continue
		}
		if err := os.WriteFile(path, []byte(svg), 0o644); err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}

// all returns the pictures of a folder's texts, by the paths of their files.
func all(dir string) (map[string]string, error) {
	texts, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%s has no diagrams", dir)
	}
	pictures := map[string]string{}
	for _, path := range texts {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		d, err := sequence.Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		pictures[strings.TrimSuffix(path, ".txt")+".svg"] = d.SVG()
	}
	return pictures, nil
}
