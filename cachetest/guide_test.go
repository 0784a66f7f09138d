package cachetest_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The programs of the guide, docs/testing.md, are a module of their own, outside of this one: it
// imports the library as users do, and its tests pass.
func TestTheGuide(t *testing.T) {
	switch {
	case testing.Short():
		t.Skip("it builds a module, which -short leaves out")
	case race:
		t.Skip("the module that it builds is not built with the race detector")
	}
	page, err := os.ReadFile("../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := programs(string(page))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files["go.mod"], files["go.sum"] = outside(t)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-v", "./...")
	cmd.Dir = dir
	// Nothing is downloaded: this module's tests have needed all of it.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "GOPROXY=off", "GOTOOLCHAIN=local")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tests := strings.Count(files["users_test.go"], "\nfunc Test")
	if passed := strings.Count(string(out), "\n--- PASS: "); passed != tests || tests < 5 {
		t.Errorf("%d of %d tests pass:\n%s", passed, tests, out)
	}
	if bad, err := exec.CommandContext(t.Context(), "gofmt", "-l", dir).Output(); err == nil && len(bad) > 0 {
		t.Errorf("gofmt would change:\n%s", bad)
	}
}

var (
	block    = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
	fileName = regexp.MustCompile(`^// (\S+\.go)\n`)
)

// programs returns the Go files of a page by name. A block that begins with the name of a file
// begins that file; others continue it.
func programs(page string) (map[string]string, error) {
	files := map[string]string{}
	name := ""
	for _, found := range block.FindAllStringSubmatch(page, -1) {
		text := found[1]
		if m := fileName.FindStringSubmatch(text); m != nil {
			name, text = m[1], text[len(m[0]):]
		} else {
			text = "\n" + text
		}
		if name == "" {
			return nil, errors.New("the first program does not begin with the name of its file")
		}
		files[name] += text
	}
	return files, nil
}

// outside returns the go.mod and go.sum of a module that uses this one.
func outside(t *testing.T) (mod, sum string) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const module = "module github.com/delqhi/cache\n"
	mod, ok := strings.CutPrefix(read("go.mod"), module)
	if !ok {
		t.Fatalf("go.mod does not begin with %q", module)
	}
	return fmt.Sprintf("module example.com/shop\n%s\nrequire github.com/delqhi/cache v0.0.0\n\nreplace github.com/delqhi/cache => %s\n", mod, strconv.Quote(root)), read("go.sum")
}
