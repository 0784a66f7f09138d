package check

import (
	"go/format"
	"path"
	"regexp"
	"strings"
	"testing"
)

// extracted are pages whose blocks of Go are the files of a module that a test makes and runs.
var extracted = map[string]string{
	"docs/testing.md": "cachetest/guide_test.go",
}

var ignored = regexp.MustCompile(`(?m)^//go:build ignore\b`)

// Every block of Go is a Go file of this repository, or some lines of one, without their
// indentation: it compiles, because CI compiles all of them.
func TestEverySnippetIsCompiled(t *testing.T) {
	var sources [][]string
	for _, name := range tree() {
		if text := ""; path.Ext(name) == ".go" {
			if text = read(name); !ignored.MatchString(text) {
				sources = append(sources, strings.Split(text, "\n"))
			}
		}
	}
	found := 0
	for _, file := range sorted(pages()) {
		if test := extracted[file]; test != "" {
			if !strings.Contains(read(test), file) {
				t.Errorf("%s does not know %s", test, file)
			}
			continue
		}
		for _, b := range pages()[file].Blocks {
			if b.Language != "go" {
				continue
			}
			found++
			if _, err := format.Source([]byte(b.Text)); err != nil {
				t.Errorf("%s:%d: %v", file, b.Line, err)
			}
			if !compiled(strings.Split(strings.TrimRight(b.Text, "\n"), "\n"), sources) {
				t.Errorf("%s:%d: no Go file of the repository has these lines:\n%s", file, b.Line, b.Text)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d snippets", found)
	}
}

// compiled reports whether one of the sources has the lines, all of them indented alike.
func compiled(lines []string, sources [][]string) bool {
	for _, source := range sources {
		for i := range source {
			if indent, ok := strings.CutSuffix(source[i], lines[0]); ok && strings.Trim(indent, "\t") == "" && has(source[i:], lines, indent) {
				return true
			}
		}
	}
	return false
}

func has(source, lines []string, indent string) bool {
	if len(source) < len(lines) {
		return false
	}
	for i, l := range lines {
		if l != "" {
			l = indent + l
		}
		if source[i] != l {
			return false
		}
	}
	return true
}

func TestASnippetIsFoundAtAnyIndentation(t *testing.T) {
	source := [][]string{{"func f() {", "\tif x {", "\t\ta()", "", "\t\tb()", "\t}", "}"}}
	for text, want := range map[string]bool{
		"a()":                       true,
		"a()\n\nb()":                true,
		"if x {\n\ta()\n\n\tb()\n}": true,
		"a()\nb()":                  false,
		"if x {\na()":               false,
		"()":                        false,
		"b()\n\t}\n}\nc()":          false,
	} {
		if got := compiled(strings.Split(text, "\n"), source); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}
