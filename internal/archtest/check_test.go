package archtest

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A source is what the check knows of one Go file.
type source struct {
	file     string   // path below the module's folder
	pkg      string   // folder of the file; "." is the root
	test     bool     // a _test.go file
	external bool     // of a package x_test
	imports  []string // import paths
}

// scan reads the imports of every Go file of the module in fsys. It leaves out
// what the go command leaves out: testdata, vendor, names that begin with "_"
// or ".", and nested modules. Build constraints are not obeyed: a file for
// another platform has to keep the rules too.
func scan(fsys fs.FS) ([]source, error) {
	var sources []source
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		hidden := name != "." && (strings.HasPrefix(base, "_") || strings.HasPrefix(base, "."))
		if d.IsDir() {
			if hidden || base == "testdata" || base == "vendor" {
				return fs.SkipDir
			}
			_, err := fs.Stat(fsys, path.Join(name, "go.mod"))
			switch {
			case name == ".", errors.Is(err, fs.ErrNotExist):
				return nil
			case err != nil:
				return err
			}
			return fs.SkipDir // a nested module
		}
		if hidden || path.Ext(base) != ".go" {
			return nil
		}
		src, err := readSource(fsys, name)
		if err != nil {
			return err
		}
		sources = append(sources, src)
		return nil
	})
	return sources, err
}

// readSource reads the imports of one file.
func readSource(fsys fs.FS, name string) (source, error) {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return source{}, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
	if err != nil {
		return source{}, err
	}
	src := source{file: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go")}
	src.external = src.test && strings.HasSuffix(file.Name.Name, "_test")
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, fmt.Errorf("%s: %w", name, err)
		}
		src.imports = append(src.imports, imported)
	}
	return src, nil
}

// check compares the files of the module with the table. Each fault is one
// line that says what to do about it. The result is sorted.
func check(module string, sources []source, t table) []string {
	var faults []string
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }

	unused := maps.Clone(t.packages)
	unknown := map[string]bool{}
	for _, src := range sources {
		key, r, ok := t.rule(src.pkg)
		if !ok {
			if !unknown[src.pkg] {
				add("package %s is not in the table: add it to internal/archtest/rules_test.go with what it may import", src.pkg)
			}
			unknown[src.pkg] = true
			continue
		}
		delete(unused, key)
		for _, imported := range src.imports {
			if why := t.refuses(module, src, r, imported); why != "" {
				add("%s must not import %s: %s", src.file, imported, why)
			}
		}
	}
	for name := range unused {
		add("package %s is in the table but not in the module: remove it from internal/archtest/rules_test.go", name)
	}
	slices.Sort(faults)
	return faults
}

// rule finds the rule for a package, and the key that it stands under: the
// package's own, else that of the nearest folder above it with "/...".
func (t table) rule(pkg string) (key string, r rule, ok bool) {
	if r, ok := t.packages[pkg]; ok {
		return pkg, r, true
	}
	for dir := path.Dir(pkg); dir != "."; dir = path.Dir(dir) {
		if r, ok := t.packages[dir+"/..."]; ok {
			return dir + "/...", r, true
		}
	}
	return "", rule{}, false
}

// refuses says why src, of a package with rule r, must not import a path. It
// returns "" when it may.
func (t table) refuses(module string, src source, r rule, imported string) string {
	if below, ok := within(module, imported); ok {
		return t.refusesModule(src, r, below)
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		limit, limited := t.restricted[imported]
		if limited && (!limit.tests || !src.test && !r.helper) {
			return limit.reason
		}
		return ""
	}
	allowed := slices.Clone(r.others)
	if src.test {
		allowed = append(allowed, t.testOthers...)
	}
	for _, other := range allowed {
		if _, ok := within(other, imported); ok {
			return ""
		}
	}
	return "the table lets " + t.owners(imported)
}

// refusesModule is refuses for a package of the same module, given by its path
// below it.
func (t table) refusesModule(src source, r rule, pkg string) string {
	if slices.Contains(r.module, pkg) {
		return ""
	}
	_, target, _ := t.rule(pkg)
	switch {
	case src.test && (target.helper || slices.Contains(r.tests, pkg)):
		return ""
	case src.external && (pkg == src.pkg || slices.Contains(t.public, pkg)):
		return ""
	case target.helper:
		return "it is for tests only"
	case pkg == ".":
		return "only examples, adapters, benchmarks and external test packages may import the root"
	case len(r.module) == 0:
		return fmt.Sprintf("the table lets %s import nothing of this module", src.pkg)
	default:
		return fmt.Sprintf("the table lets %s import only %s of this module", src.pkg, strings.Join(r.module, ", "))
	}
}

// owners ends the sentence "the table lets …" for a third-party package.
func (t table) owners(imported string) string {
	var owners []string
	for name, r := range t.packages {
		for _, other := range r.others {
			if _, ok := within(other, imported); ok {
				owners = append(owners, name)
			}
		}
	}
	for _, other := range t.testOthers {
		if _, ok := within(other, imported); ok {
			owners = append(owners, "tests")
		}
	}
	if len(owners) == 0 {
		return "nothing import it: a new dependency needs a reason, and its line in internal/archtest/rules_test.go"
	}
	slices.Sort(owners)
	return "only " + strings.Join(owners, ", ") + " import it"
}

// within says whether an import path is that of root or of a package below it,
// and what is left of it then; "." for root itself.
func within(root, imported string) (below string, ok bool) {
	if imported == root {
		return ".", true
	}
	return strings.CutPrefix(imported, root+"/")
}
