package check

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/docs/book/site"
)

// elsewhere are pages whose programs are run by tests of their own.
var elsewhere = map[string]string{
	"docs/testing.md":   "cachetest/guide_test.go", // its programs are a module
	"docs/migration.md": "migration/migration_test.go",
	"docs/format.md":    "internal/interop/clients_test.go", // readers in other languages
	"docs/cachectl.md":  "internal/ctl/guide_test.go",       // the outputs of the command line
}

// without are pages that have no program.
var without = map[string]string{
	site.Index:        "the index",
	"docs/scaling.md": "its program is a benchmark of minutes",
}

// Each page has a program that runs: a folder of its name in examples/book, which the page shows
// together with its output, or an example. With -update the pages get what they should have.
func TestEachPageHasAProgramThatRuns(t *testing.T) {
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", bin+string(filepath.Separator), "./examples/book/...")
	build.Dir = root
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	used := map[string]bool{}
	for _, file := range sorted(pages()) {
		if path.Dir(file) != "docs" || without[file] != "" {
			continue
		}
		name := strings.TrimSuffix(path.Base(file), ".md")
		source := "examples/book/" + name + "/main.go"
		switch {
		case exists(source):
			used[name] = true
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				checkProgram(t, file, read(source), filepath.Join(bin, name))
			})
		case elsewhere[file] != "":
			if !strings.Contains(read(elsewhere[file]), file) {
				t.Errorf("%s does not know %s", elsewhere[file], file)
			}
		case !hasExample(file):
			t.Errorf("%s has no program: there is no %s, and no example in the page. If a test of its own runs its programs, name it in elsewhere", file, source)
		}
	}
	programs, err := os.ReadDir(local("examples/book"))
	if err != nil || len(programs) < 10 {
		t.Errorf("%d programs, %v", len(programs), err)
	}
	for _, p := range programs {
		if p.IsDir() && !used[p.Name()] && exists("examples/book/"+p.Name()+"/main.go") {
			t.Errorf("examples/book/%s belongs to no page", p.Name())
		}
	}
}

// hasExample reports whether a page shows an example with its output. That it is one of the
// repository, TestEverySnippetIsCompiled knows; go test runs it.
func hasExample(file string) bool {
	for _, b := range pages()[file].Blocks {
		if b.Language == "go" && strings.Contains(b.Text, "func Example") && strings.Contains(b.Text, "// Output:") {
			return true
		}
	}
	return false
}

var writing sync.Mutex

// checkProgram runs a program, and compares the page with its source and its output.
func checkProgram(t *testing.T, file, source, binary string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	page := read(file)
	want := "```go\n" + source + "```\n\n```text\n" + out.String() + "```\n"
	first, _, _ := strings.Cut(source, "\n")
	from := strings.Index(page, "```go\n"+first+"\n")
	if from < 0 {
		t.Fatalf("the page has no block of Go that begins with %s", first)
	}
	if strings.HasPrefix(page[from:], want) {
		return
	}
	if !*update {
		t.Fatalf("the page differs from the program or its output; go test ./check -run Program -update rewrites it. The program prints\n%s", &out)
	}
	end := from
	for range 2 { // the program, the output
		open := strings.Index(page[end:], "```")
		shut := strings.Index(page[end+open+3:], "\n```\n")
		if open < 0 || shut < 0 {
			t.Fatal("no block of text follows the program")
		}
		end += open + 3 + shut + 5
	}
	writing.Lock()
	defer writing.Unlock()
	if err := os.WriteFile(local(file), []byte(page[:from]+want+page[end:]), 0o644); err != nil {
		t.Fatal(err)
	}
}
