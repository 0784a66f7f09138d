package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/delqhi/cache"
)

func newStdlib(t *testing.T) *stdlib {
	t.Helper()
	s, err := openStdlib(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLoadCountsWhatAPackageExports(t *testing.T) {
	s := newStdlib(t)
	tests := []struct {
		path, name string
		atLeast    Package
		symbol     string
	}{
		{"errors", "errors", Package{Files: 2, Vars: 1, Funcs: 5}, "As"},
		{"net/http", "http", Package{Files: 20, Consts: 60, Vars: 20, Funcs: 40, Types: 25, Methods: 80}, "CanonicalHeaderKey"},
		{"time", "time", Package{Files: 5, Consts: 30, Vars: 2, Funcs: 10, Types: 8, Methods: 50}, "After"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			got, err := s.Load(t.Context(), tt.path)
			if err != nil {
				t.Fatal(err)
			}
			if got.ImportPath != tt.path || got.Name != tt.name {
				t.Errorf("loaded %q, package %q; want %q, %q", got.ImportPath, got.Name, tt.path, tt.name)
			}
			if !strings.HasPrefix(got.Synopsis, "Package "+tt.name+" ") {
				t.Errorf("synopsis = %q", got.Synopsis)
			}
			for _, c := range []struct {
				what      string
				got, want int
			}{
				{"files", got.Files, tt.atLeast.Files},
				{"constants", got.Consts, tt.atLeast.Consts},
				{"variables", got.Vars, tt.atLeast.Vars},
				{"functions", got.Funcs, tt.atLeast.Funcs},
				{"types", got.Types, tt.atLeast.Types},
				{"methods", got.Methods, tt.atLeast.Methods},
			} {
				if c.got < c.want {
					t.Errorf("%d %s, want at least %d", c.got, c.what, c.want)
				}
			}
			if len(got.Symbols) == 0 || len(got.Symbols) > symbolsKept || got.Symbols[0] != tt.symbol {
				t.Errorf("symbols = %q, want at most %d, the first %q", got.Symbols, symbolsKept, tt.symbol)
			}
		})
	}
}

func TestLoadOfAnUnknownPackageIsNotFound(t *testing.T) {
	s := newStdlib(t)
	for _, path := range []string{
		"no/such/package",
		"net/http/no",
		"fmt/print.go",  // a file
		"cmd/go/script", // a folder without Go files, or none
		"testdata",
		"", ".", "..", "../src/fmt", "/etc", "fmt/", "a//b",
	} {
		if pkg, err := s.Load(t.Context(), path); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Load(%q) = %+v, %v; want an error that matches ErrNotFound", path, pkg, err)
		}
	}
}

func TestLoadObeysItsContext(t *testing.T) {
	s := newStdlib(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Load(ctx, "fmt"); !errors.Is(err, context.Canceled) {
		t.Errorf("Load = %v, want context.Canceled", err)
	}
	if _, err := s.LoadMany(ctx, []string{"fmt", "os"}); !errors.Is(err, context.Canceled) {
		t.Errorf("LoadMany = %v, want context.Canceled", err)
	}
}

func TestLoadManyLeavesOutUnknownPackages(t *testing.T) {
	s := newStdlib(t)
	got, err := s.LoadMany(t.Context(), []string{"fmt", "no/such/package", "sort", "fmt"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got["fmt"].Name != "fmt" || got["sort"].Name != "sort" {
		t.Errorf("LoadMany = %+v, want fmt and sort", got)
	}
	if got, err := s.LoadMany(t.Context(), nil); err != nil || got == nil || len(got) != 0 {
		t.Errorf("LoadMany(nil) = %v, %v; want an empty map", got, err)
	}
}

func TestLoadManyReportsWhatIsNotAbsence(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(root, "src", filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("fmt/print.go", "// Package fmt prints.\npackage fmt\n\nfunc Print() {}\n")
	write("bad/bad.go", "package bad\n\nfunc {\n")
	s, err := openStdlibAt(root)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.LoadMany(t.Context(), []string{"fmt"}); err != nil || got["fmt"].Funcs != 1 {
		t.Fatalf("LoadMany = %+v, %v", got, err)
	}
	got, err := s.LoadMany(t.Context(), []string{"fmt", "bad", "bad", "bad", "bad", "bad", "bad"})
	if err == nil || errors.Is(err, cache.ErrNotFound) || !strings.Contains(err.Error(), "bad") {
		t.Errorf("LoadMany = %v, %v; want the syntax error", got, err)
	}
}

func TestAnInstallationWithoutSourcesSaysWhatToDo(t *testing.T) {
	_, err := openStdlibAt(t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "holds none") || !strings.Contains(err.Error(), "GOROOT") {
		t.Errorf("openStdlibAt(an empty folder) = %v", err)
	}
}
