package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/delqhi/cache"
)

// Package summarizes the documentation of one package of the standard library. It is the value
// that the tour caches.
type Package struct {
	ImportPath string   // as in an import declaration: "net/http"
	Name       string   // as in the package clause: "http"
	Synopsis   string   // the first sentence of the package comment
	Files      int      // source files that were parsed
	Consts     int      // exported constants
	Vars       int      // exported variables
	Funcs      int      // exported functions, constructors included
	Types      int      // exported types
	Methods    int      // exported methods of those types
	Symbols    []string // the first few exported functions and types, sorted by kind and name
}

// symbolsKept bounds Package.Symbols.
const symbolsKept = 8

// stdlib reads the documentation of the standard library out of the sources
// of a Go installation. Reading one package costs some milliseconds of real
// work, which makes it a source worth caching.
//
// It is safe for concurrent use.
type stdlib struct {
	src string // the folder that import paths are relative to
}

// openStdlib finds the Go installation. The error names what to install when there is none, or
// when it came without its sources.
func openStdlib(ctx context.Context) (*stdlib, error) {
	root := build.Default.GOROOT
	if root == "" {
		// A program built with -trimpath does not contain the path of its Go installation.
		out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
		if err != nil {
			return nil, fmt.Errorf("the tour reads the standard library's sources, but there is no Go installation to be found: set GOROOT (go env GOROOT: %w)", err)
		}
		root = strings.TrimSpace(string(out))
	}
	return openStdlibAt(root)
}

// openStdlibAt uses the Go installation in the folder root.
func openStdlibAt(root string) (*stdlib, error) {
	src := filepath.Join(root, "src")
	if _, err := os.Stat(filepath.Join(src, "fmt", "print.go")); err != nil {
		return nil, fmt.Errorf("the tour reads the standard library's sources, but %s holds none: "+
			"install them (on Debian: golang-src) or set GOROOT (%w)", src, err)
	}
	return &stdlib{src: src}, nil
}

// Load reads the documentation of one package. A path that names no package
// gives an error that matches [cache.ErrNotFound].
func (s *stdlib) Load(ctx context.Context, importPath string) (Package, error) {
	// A path that isn't clean and relative ("../secret", "/etc") names no package.
	below, err := filepath.Localize(importPath)
	if err != nil || below == "." {
		return Package{}, notFound(importPath)
	}
	dir := filepath.Join(s.src, below)
	listed, err := build.Default.ImportDir(dir, 0) // obeys build constraints
	var noGo *build.NoGoError
	switch {
	case errors.As(err, &noGo), errors.Is(err, fs.ErrNotExist), isMissing(dir):
		return Package{}, notFound(importPath)
	case err != nil:
		return Package{}, fmt.Errorf("list %s: %w", importPath, err)
	}

	fset := token.NewFileSet()
	files := make([]*ast.File, 0, len(listed.GoFiles))
	for _, name := range listed.GoFiles {
		// Parsing is the long part, and a big package has many files: cancellation is checked
		// between two of them.
		if err := ctx.Err(); err != nil {
			return Package{}, err
		}
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return Package{}, fmt.Errorf("parse %s: %w", importPath, err)
		}
		files = append(files, file)
	}
	if err := ctx.Err(); err != nil {
		return Package{}, err
	}
	docs, err := doc.NewFromFiles(fset, files, importPath)
	if err != nil {
		return Package{}, fmt.Errorf("document %s: %w", importPath, err)
	}
	return summarize(docs, len(files)), nil
}

// LoadMany reads several packages, as many at once as there are processors.
// Paths that name no package are left out of the map. The first error of any
// other kind ends the work and is returned.
func (s *stdlib) LoadMany(ctx context.Context, importPaths []string) (map[string]Package, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	todo := make(chan string)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		found = make(map[string]Package, len(importPaths)) // guarded by mu
	)
	for range min(runtime.GOMAXPROCS(0), len(importPaths)) {
		wg.Go(func() {
			for path := range todo {
				pkg, err := s.Load(ctx, path)
				switch {
				case errors.Is(err, cache.ErrNotFound):
				case err != nil:
					cancel(err) // the first cause stays
				default:
					mu.Lock()
					found[path] = pkg
					mu.Unlock()
				}
			}
		})
	}
	for _, path := range importPaths {
		todo <- path // a worker that has failed goes on receiving: this never blocks for good
	}
	close(todo)
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return found, nil
}

// notFound is the error for a path that names no package.
func notFound(importPath string) error {
	return fmt.Errorf("standard library has no package %q: %w", importPath, cache.ErrNotFound)
}

// isMissing reports whether dir is no folder. go/build reports a missing folder
// by text alone.
func isMissing(dir string) bool {
	info, err := os.Stat(dir)
	return err != nil && errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir()
}

// summarize counts what a package exports. go/doc files constructors,
// constants and variables under the type that they belong to, where there is
// one; here they count together with the others.
func summarize(docs *doc.Package, files int) Package {
	pkg := Package{
		ImportPath: docs.ImportPath,
		Name:       docs.Name,
		Synopsis:   docs.Synopsis(docs.Doc),
		Files:      files,
		Consts:     countNames(docs.Consts),
		Vars:       countNames(docs.Vars),
		Funcs:      len(docs.Funcs),
		Types:      len(docs.Types),
	}
	var symbols []string
	for _, f := range docs.Funcs {
		symbols = append(symbols, f.Name)
	}
	for _, t := range docs.Types {
		pkg.Consts += countNames(t.Consts)
		pkg.Vars += countNames(t.Vars)
		pkg.Funcs += len(t.Funcs)
		pkg.Methods += len(t.Methods)
		symbols = append(symbols, t.Name)
	}
	pkg.Symbols = symbols[:min(len(symbols), symbolsKept)]
	return pkg
}

// countNames counts the exported names in groups of constants or variables.
func countNames(groups []*doc.Value) int {
	n := 0
	for _, group := range groups {
		for _, name := range group.Names {
			if token.IsExported(name) {
				n++
			}
		}
	}
	return n
}
