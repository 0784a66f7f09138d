package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A fresh module outside the tree gets the root and every nested module from a proxy, and a
// program that uses them is built and runs. What is released is the work tree as it is, in a
// repository of its own.
func TestAProgramGetsEveryModule(t *testing.T) {
	if os.Getenv("CACHE_TEST_LONG") != "1" {
		t.Skip("builds a program with all modules: set CACHE_TEST_LONG=1")
	}
	// A version of a module never changes: this one is used once.
	version := "v0.999.0-trial." + time.Now().UTC().Format("20060102150405")
	r := copied(t, here(t))
	if err := r.check(version); err != nil {
		t.Fatal(err)
	}
	if err := r.release(version, time.Now()); err != nil {
		t.Fatal(err)
	}
	proxy := t.TempDir()
	if err := r.writeProxy(proxy, version); err != nil {
		t.Fatal(err)
	}

	t.Setenv("GOPROXY", "file://"+filepath.ToSlash(proxy)+","+must(t, ".", "go", "env", "GOPROXY"))
	t.Setenv("GOSUMDB", "off") // it does not know these, and has been asked about the others
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOPRIVATE", "")
	t.Setenv("GONOPROXY", "")
	t.Cleanup(func() { forget(t, r, version) })

	dir := t.TempDir()
	must(t, dir, "go", "mod", "init", "example.org/shop")
	var packages []string
	for _, m := range r.modules {
		if !m.released() {
			continue
		}
		must(t, dir, "go", "get", m.path()+"@"+version)
		for pkg := range strings.SplitSeq(must(t, filepath.Join(r.top, m.dir), "go", "list", "-f", "{{if ne .Name \"main\"}}{{.ImportPath}}{{end}}", "./..."), "\n") {
			if pkg != "" && !strings.Contains(pkg+"/", "/internal/") {
				packages = append(packages, pkg)
			}
		}
	}
	for _, want := range []string{"", "/codec", "/metrics/prometheus", "/metrics/otel/histogram"} {
		if !slices.Contains(packages, r.modules[0].path()+want) {
			t.Errorf("no package %s among %v", want, packages)
		}
	}
	imports := ""
	for _, pkg := range packages {
		if pkg != r.modules[0].path() {
			imports += fmt.Sprintf("\t_ %q\n", pkg)
		}
	}
	write(t, filepath.Join(dir, "main.go"), strings.Replace(program, "\t// and the others\n", imports, 1))
	if out := must(t, dir, "go", "run", "."); out != "Ada" {
		t.Errorf("the program says %q", out)
	}
	listed := must(t, dir, "go", "list", "-m", "all")
	for _, m := range r.modules {
		if is := slices.Contains(strings.Split(listed, "\n"), m.path()+" "+version); is != m.released() {
			t.Errorf("%s is a dependency of the program: %t", m.path(), is)
		}
	}
	// A request without a version gets this one.
	if is := must(t, dir, "go", "list", "-m", "-f", "{{.Version}}", r.modules[0].path()+"@latest"); is != version {
		t.Errorf("the latest version is %s", is)
	}
}

// forget removes a version from the cache of modules. It was there, and not in a folder of the
// test, so that the packages of others need not be compiled anew.
func forget(t *testing.T, r *repository, version string) {
	cache := must(t, ".", "go", "env", "GOMODCACHE")
	for _, m := range r.modules {
		path := filepath.FromSlash(m.path())
		folder := filepath.Join(cache, path+"@"+version)
		_ = filepath.WalkDir(folder, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			return os.Chmod(name, 0o755) // its folders are read-only
		})
		files, err := filepath.Glob(filepath.Join(cache, "cache", "download", path, "@v", version+".*"))
		if err != nil {
			t.Error(err)
		}
		for _, name := range append(files, folder) {
			if err := os.RemoveAll(name); err != nil {
				t.Error(err)
			}
		}
	}
}

const program = `package main

import (
	"context"
	"fmt"

	"github.com/delqhi/cache"
	// and the others
)

func main() {
	users, err := cache.New[int, string](nil, "users", cache.LocalOnly())
	if err != nil {
		panic(err)
	}
	defer users.Close()
	name, err := users.GetOrLoad(context.Background(), 42, func(context.Context, int) (string, error) { return "Ada", nil })
	if err != nil {
		panic(err)
	}
	fmt.Println(name)
}
`

// copied commits the files of a work tree in a repository of its own, with something to release.
func copied(t *testing.T, from *repository) *repository {
	t.Helper()
	dir := t.TempDir()
	for name := range strings.SplitSeq(must(t, from.top, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
		text, err := os.ReadFile(filepath.Join(from.top, name))
		if name == "" || os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	changelog := filepath.Join(dir, "CHANGELOG.md")
	text, err := os.ReadFile(changelog)
	if err != nil {
		t.Fatal(err)
	}
	write(t, changelog, strings.Replace(string(text), unreleasedHeading, unreleasedHeading+"\n- A trial.\n", 1))
	must(t, dir, "git", "init", "--quiet")
	must(t, dir, "git", "add", "--all")
	must(t, dir, "git", "commit", "--quiet", "--message", "A trial")
	r, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
