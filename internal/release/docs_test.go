package main

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// Every public package reads well on pkg.go.dev: the package and all that it exports have
// comments that begin as they should, no name repeats that of its package, and each example
// has checked output and belongs to something whose examples are shown there.
func TestPublicPackagesAreDocumented(t *testing.T) {
	r := here(t)
	found := 0
	for _, m := range r.modules {
		if !m.released() {
			continue
		}
		list := must(t, filepath.Join(r.top, m.dir), "go", "list", "-f", "{{if ne .Name \"main\"}}{{.ImportPath}} {{.Dir}}{{end}}", "./...")
		for line := range strings.Lines(list) {
			path, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
			if dir == "" || strings.Contains(path+"/", "/internal/") {
				continue
			}
			found++
			checkDocs(t, path, dir)
		}
	}
	if found < 10 {
		t.Errorf("only %d packages", found)
	}
}

func checkDocs(t *testing.T, path, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files, tests []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") {
			tests = append(tests, f)
		} else {
			files = append(files, f)
		}
	}
	d, err := doc.NewFromFiles(fset, files, path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.Doc, "Package "+d.Name+" ") {
		t.Errorf("%s: the comment of the package begins %.40q", path, d.Doc)
	}
	shown := map[string]bool{"": true} // what examples may be of
	check := func(of, text string) {
		shown[of] = true
		name := of[strings.LastIndexByte(of, '_')+1:]
		first, _, _ := strings.Cut(strings.TrimSpace(text), " ")
		switch {
		case text == "" && name == "String":
		case first != name && first != "A" && first != "An" && first != "The":
			t.Errorf("%s: the comment of %s begins %.40q", path, of, text)
		case strings.HasPrefix(name, strings.ToUpper(d.Name[:1])+d.Name[1:]) && len(name) > len(d.Name) && name == of &&
			strings.ToUpper(name[len(d.Name):][:1]) == name[len(d.Name):][:1]:
			t.Errorf("%s: %s.%s repeats the name of its package", path, d.Name, of)
		}
	}
	for _, f := range d.Funcs {
		check(f.Name, f.Doc)
	}
	for _, typ := range d.Types {
		check(typ.Name, typ.Doc)
		for _, f := range typ.Funcs {
			check(f.Name, f.Doc)
		}
		for _, f := range typ.Methods {
			check(typ.Name+"_"+f.Name, f.Doc)
		}
	}
	for _, e := range doc.Examples(tests...) {
		if e.Output == "" && !e.EmptyOutput {
			t.Errorf("%s: the output of Example%s is not checked", path, e.Name)
		}
		of := e.Name // with a suffix that begins in lower case
		if i := strings.LastIndexByte(of, '_'); i >= 0 && !shown[of] && of[i+1] >= 'a' && of[i+1] <= 'z' {
			of = of[:i]
		}
		if !shown[of] {
			t.Errorf("%s: Example%s is of nothing whose examples are shown", path, e.Name)
		}
	}
}
