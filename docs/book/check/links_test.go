package check

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/delqhi/cache/docs/book/site"
)

const module = "github.com/delqhi/cache"

// Every link within the repository leads to a file, and every anchor to a heading; every page of
// docs is in the index.
func TestLinksLeadSomewhere(t *testing.T) {
	book, err := site.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]bool{}
	for _, p := range book.Pages {
		in[p.File] = true
	}
	for _, name := range sorted(pages()) {
		if in[name] {
			continue
		}
		if path.Dir(name) == "docs" {
			t.Errorf("%s is not in %s", name, site.Index)
		}
		if err := book.Check(name); err != nil {
			t.Error(err)
		}
	}
	for _, broken := range book.Broken {
		t.Error(broken)
	}
}

// Links out of the repository are not followed, as tests reach nothing. They have the right form,
// and those to the reference name what there is.
func TestLinksToElsewhereAreWellFormed(t *testing.T) {
	reference := 0
	for _, name := range sorted(pages()) {
		for _, link := range pages()[name].Links {
			u, err := url.Parse(link)
			if err != nil {
				t.Errorf("%s: %s: %v", name, link, err)
				continue
			}
			if u.Scheme == "" && u.Host == "" {
				continue // within the repository
			}
			if u.Scheme != "https" && u.Hostname() != "localhost" || !strings.Contains(u.Host, ".") && u.Hostname() != "localhost" || strings.ContainsAny(link, " \t") {
				t.Errorf("%s: %s is no https link", name, link)
			}
			if rest, ok := strings.CutPrefix(u.Path, "/"+module); u.Host == "pkg.go.dev" && ok {
				reference++
				dir := strings.TrimPrefix(rest, "/")
				if dir == "" {
					dir = "."
				}
				if !documented(t, dir, u.Fragment) {
					t.Errorf("%s: %s is not in the reference", name, link)
				}
			}
		}
	}
	if reference < 4 {
		t.Errorf("only %d links to the reference", reference)
	}
}

// documented reports whether the package in dir has the anchor: a heading of its comment, or
// something exported.
func documented(t *testing.T, dir, anchor string) bool {
	t.Helper()
	names, headings := exported(t, dir)
	if names == nil {
		return false
	}
	if heading, ok := strings.CutPrefix(anchor, "hdr-"); ok {
		return headings[heading]
	}
	return anchor == "" || names[anchor]
}

// exported returns what a package exports, methods and fields with their types, and the headings
// of its comment as anchors. It returns nil for a folder without a package.
func exported(t *testing.T, dir string) (names, headings map[string]bool) {
	t.Helper()
	for _, file := range goFiles(dir) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		if names == nil {
			names, headings = map[string]bool{}, map[string]bool{}
		}
		f, err := parser.ParseFile(token.NewFileSet(), local(file), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(f.Doc.Text()) {
			if heading, ok := strings.CutPrefix(strings.TrimSpace(line), "# "); ok {
				headings[strings.ReplaceAll(heading, " ", "_")] = true
			}
		}
		for _, d := range f.Decls {
			addNames(names, d)
		}
	}
	return names, headings
}

func addNames(names map[string]bool, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			names[d.Name.Name] = true
		} else {
			names[receiver(d.Recv.List[0].Type)+"."+d.Name.Name] = true
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.ValueSpec:
				for _, n := range s.Names {
					names[n.Name] = true
				}
			case *ast.TypeSpec:
				names[s.Name.Name] = true
				var members *ast.FieldList
				switch typ := s.Type.(type) {
				case *ast.StructType:
					members = typ.Fields
				case *ast.InterfaceType:
					members = typ.Methods
				default:
					continue
				}
				for _, field := range members.List {
					for _, n := range field.Names {
						names[s.Name.Name+"."+n.Name] = true
					}
				}
			}
		}
	}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
