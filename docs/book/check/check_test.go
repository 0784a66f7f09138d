package check

import (
	"flag"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/delqhi/cache/docs/book/site"
)

// root is the folder of the checkout.
const root = "../../.."

var update = flag.Bool("update", false, "rewrite the programs in the pages, and their output")

// tree are the files of the repository, by their paths with slashes, but for hidden folders and
// those of test data.
var tree = sync.OnceValue(func() []string {
	var all []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch base := path.Base(name); {
		case err != nil:
			return err
		case d.IsDir() && (base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".") && name != "." && base != ".github"):
			return fs.SkipDir
		case d.Type().IsRegular():
			all = append(all, name)
		}
		return nil
	})
	if err != nil {
		panic(err)
	}
	return all
})

// pages are the Markdown files of the repository with their contents.
var pages = sync.OnceValue(func() map[string]site.Contents {
	all := map[string]site.Contents{}
	for _, name := range tree() {
		if path.Ext(name) == ".md" {
			all[name] = site.Read([]byte(read(name)))
		}
	}
	return all
})

// inBook reports whether a file is a page for users: the README, or one in docs.
func inBook(file string) bool { return file == "README.md" || path.Dir(file) == "docs" }

func local(name string) string { return filepath.Join(root, filepath.FromSlash(name)) }

func read(name string) string {
	text, err := os.ReadFile(local(name))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// exists reports whether the tree has the file or folder.
func exists(name string) bool {
	_, err := os.Stat(local(name))
	return err == nil
}

// goFiles are the Go files of a folder, those of tests included.
func goFiles(dir string) []string {
	var all []string
	for _, name := range tree() {
		if path.Dir(name) == path.Clean(dir) && path.Ext(name) == ".go" {
			all = append(all, name)
		}
	}
	return all
}

func sorted(m map[string]site.Contents) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// The checks are of use only if they find what they are to check.
func TestThereIsSomethingToCheck(t *testing.T) {
	blocks, codes, links := 0, 0, 0
	for name, c := range pages() {
		if inBook(name) {
			blocks, codes, links = blocks+len(c.Blocks), codes+len(c.Codes), links+len(c.Links)
		}
	}
	if len(pages()) < 20 || blocks < 50 || codes < 500 || links < 60 {
		t.Errorf("%d files with %d blocks, %d pieces of code and %d links", len(pages()), blocks, codes, links)
	}
}
