package archtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestImportsFollowTheTable(t *testing.T) {
	folder, module := findModule(t)
	sources, err := scan(os.DirFS(folder))
	if err != nil {
		t.Fatal(err)
	}
	// Reading nothing would look like keeping every rule.
	if !slices.ContainsFunc(sources, func(s source) bool { return s.file == "internal/archtest/archtest_test.go" }) {
		t.Fatalf("the scan of %s did not find this file; it found %d files", folder, len(sources))
	}
	for _, fault := range check(module, sources, architecture) {
		t.Error(fault)
	}
}

// findModule returns the folder that holds go.mod, and the module's path.
func findModule(t *testing.T) (folder, module string) {
	t.Helper()
	folder, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "module "); ok {
			return folder, strings.TrimSpace(path)
		}
	}
	t.Fatal("go.mod names no module")
	return "", ""
}

// small is a table with a bit of everything, for the tests of the check.
var small = table{
	packages: map[string]rule{
		".":            {module: []string{"codec", "internal/a", "internal/b"}, others: []string{"example.org/db/v9"}},
		"codec":        {},
		"internal/a":   {module: []string{"internal/b"}, others: []string{"example.org/db/v9"}},
		"internal/b":   {},
		"internal/kit": {helper: true},
		"examples/...": {module: []string{".", "codec"}},
	},
	public:     []string{".", "codec"},
	testOthers: []string{"example.org/leak"},
	restricted: map[string]restriction{
		"unsafe":  {reason: "no unsafe"},
		"testing": {reason: "no testing", tests: true},
	},
}

// goodFiles keep every rule of small, each in one of the ways it can be kept.
var goodFiles = map[string]string{
	"go.mod":                       "module m.org/m",
	"m.go":                         `package m; import ("m.org/m/codec"; "m.org/m/internal/a"; _ "m.org/m/internal/b"; "example.org/db/v9"; "net/http")`,
	"m_test.go":                    `package m; import ("testing"; "m.org/m/internal/kit"; "example.org/leak/deep")`,
	"example_test.go":              `package m_test; import ("testing"; "m.org/m"; "m.org/m/codec")`,
	"codec/codec.go":               `package codec; import "fmt"`,
	"codec/codec_test.go":          `package codec_test; import ("m.org/m"; "m.org/m/codec"; "m.org/m/internal/kit")`,
	"internal/a/a.go":              `package a; import ("m.org/m/internal/b"; x "example.org/db/v9/sub")`,
	"internal/b/b.go":              `package b`,
	"internal/b/b_test.go":         `package b_test; import "m.org/m/internal/b"`,
	"internal/kit/kit.go":          `package kit; import "testing"`,
	"examples/one/main.go":         `package main; import ("m.org/m"; "m.org/m/codec")`,
	"examples/one/main_test.go":    `package main; import ("testing"; "m.org/m/internal/kit"; "example.org/leak")`,
	"examples/one/sub/sub.go":      `package sub; import "m.org/m"`,
	"benchmarks/go.mod":            "module m.org/m/benchmarks",
	"benchmarks/deep/x.go":         `package x; import "unsafe"`,
	"internal/b/testdata/x.go":     `package x; import "unsafe"`,
	"internal/b/_old/x.go":         `package x; import "unsafe"`,
	"internal/b/.hidden.go":        `not even Go`,
	"vendor/example.org/db/db.go":  `package db; import "unsafe"`,
	"internal/b/notes/readme.text": `no Go files here`,
}

// checkFiles checks goodFiles, changed by changes, against small.
func checkFiles(t *testing.T, changes map[string]string) []string {
	t.Helper()
	fsys := fstest.MapFS{}
	for _, files := range []map[string]string{goodFiles, changes} {
		for name, text := range files {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	sources, err := scan(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return check("m.org/m", sources, small)
}

func TestCheckAcceptsAModuleThatKeepsTheRules(t *testing.T) {
	if faults := checkFiles(t, nil); len(faults) > 0 {
		t.Errorf("faults found where there are none:\n%s", strings.Join(faults, "\n"))
	}
}

func TestCheckFindsEveryKindOfFault(t *testing.T) {
	tests := []struct {
		name, file, text string
		want             []string // what each fault contains, in order
	}{
		{"a sibling", "codec/x.go", `package codec; import "m.org/m/internal/b"`,
			[]string{"codec/x.go must not import m.org/m/internal/b: the table lets codec import nothing of this module"}},
		{"against the direction", "internal/b/x.go", `package b; import "m.org/m/internal/a"`,
			[]string{"internal/b/x.go must not import m.org/m/internal/a"}},
		{"another than the allowed", "internal/a/x.go", `package a; import "m.org/m/codec"`,
			[]string{"the table lets internal/a import only internal/b of this module"}},
		{"the root from a package", "internal/a/x.go", `package a; import "m.org/m"`,
			[]string{"only examples, adapters, benchmarks and external test packages may import the root"}},
		{"the root from an internal test", "codec/x_test.go", `package codec; import "m.org/m"`,
			[]string{"codec/x_test.go must not import m.org/m: only examples"}},
		{"another internal package from an external test", "codec/x_test.go", `package codec_test; import "m.org/m/internal/b"`,
			[]string{"codec/x_test.go must not import m.org/m/internal/b"}},
		{"an internal package from an example", "examples/one/x.go", `package main; import "m.org/m/internal/b"`,
			[]string{"the table lets examples/one import only ., codec of this module"}},
		{"a test helper from code", "internal/a/x.go", `package a; import "m.org/m/internal/kit"`,
			[]string{"it is for tests only"}},
		{"a third-party module of another package", "internal/b/x.go", `package b; import "example.org/db/v9"`,
			[]string{"the table lets only ., internal/a import it"}},
		{"a third-party module for tests from code", "m2.go", `package m; import "example.org/leak"`,
			[]string{"the table lets only tests import it"}},
		{"a new third-party module", "m2.go", `package m; import "example.org/new"`,
			[]string{"m2.go must not import example.org/new: the table lets nothing import it: a new dependency needs a reason"}},
		{"a third-party module of a similar name", "m2.go", `package m; import "example.org/db/v90"`,
			[]string{"example.org/db/v90"}},
		{"unsafe", "m2.go", `package m; import "unsafe"`, []string{"no unsafe"}},
		{"unsafe in a test", "m2_test.go", `package m; import "unsafe"`, []string{"no unsafe"}},
		{"testing in code", "m2.go", `package m; import "testing"`, []string{"no testing"}},
		{"a file for another platform", "codec/x_windows.go", "//go:build windows\n\npackage codec\n\nimport \"m.org/m\"\n",
			[]string{"codec/x_windows.go must not import m.org/m"}},
		{"an unknown package, once", "internal/new/x.go", `package new; import "unsafe"`,
			[]string{"package internal/new is not in the table: add it to"}},
		{"two faults in one file", "codec/x.go", `package codec; import ("m.org/m"; "unsafe")`,
			[]string{"codec/x.go must not import m.org/m:", "codec/x.go must not import unsafe:"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := checkFiles(t, map[string]string{tt.file: tt.text})
			ok := slices.EqualFunc(got, tt.want, strings.Contains)
			if !ok {
				t.Errorf("faults:\n\t%s\nwant, in this order:\n\t%s", strings.Join(got, "\n\t"), strings.Join(tt.want, "\n\t"))
			}
		})
	}
}

func TestCheckFindsALineWithoutItsPackage(t *testing.T) {
	sources := []source{{file: "m.go", pkg: "."}}
	got := check("m.org/m", sources, table{packages: map[string]rule{".": {}, "gone": {}, "examples/...": {}}})
	want := []string{"package examples/... is in the table but not in the module", "package gone is in the table but not in the module"}
	if !slices.EqualFunc(got, want, strings.Contains) {
		t.Errorf("faults = %q, want %q", got, want)
	}
}

func TestScanReportsAFileThatIsNotGo(t *testing.T) {
	_, err := scan(fstest.MapFS{"x.go": {Data: []byte("packag x")}})
	if err == nil || !strings.Contains(err.Error(), "x.go") {
		t.Errorf("scan = %v, want the syntax error with the file's name", err)
	}
}

func TestTheTableItselfPointsOneWay(t *testing.T) {
	// The go command refuses cycles among real packages; the table must not
	// allow one in the first place.
	const (
		unseen = iota
		open
		done
	)
	state := map[string]int{}
	var visit func(pkg string, trail []string)
	visit = func(pkg string, trail []string) {
		trail = append(trail, pkg)
		switch state[pkg] {
		case open:
			t.Errorf("the table allows a cycle: %s", strings.Join(trail, " → "))
			return
		case done:
			return
		}
		state[pkg] = open
		for _, next := range architecture.packages[pkg].module {
			if _, _, ok := architecture.rule(next); !ok {
				t.Errorf("the table lets %s import %s, which has no line in it", pkg, next)
			}
			visit(next, trail)
		}
		state[pkg] = done
	}
	for pkg := range architecture.packages {
		visit(pkg, nil)
	}
}
