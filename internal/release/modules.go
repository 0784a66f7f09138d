package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// unreleased are the folders of modules that are not imported: benchmarks, programs, and tests that
// need more than others. Every other module is released.
var unreleased = []string{
	"benchmarks",
	"docs/book",
	"examples/webapp",
	"internal/release",
	"linearizability",
	"metrics/dashboard/browser",
	"metrics/prometheus/schema",
	"migration",
}

// repository is a work tree with its modules.
type repository struct {
	top     string
	modules []*module // the root first, the others by their folders
}

// module is a module of a repository.
type module struct {
	dir  string // its folder, with slashes; "." is the root
	file *modfile.File
}

func (m *module) path() string { return m.file.Module.Mod.Path }

func (m *module) released() bool { return !slices.Contains(unreleased, m.dir) }

// tag is the name of its tag for a version, as the go command expects it.
func (m *module) tag(version string) string {
	if m.dir == "." {
		return version
	}
	return m.dir + "/" + version
}

// open reads the modules of the work tree at top, those not committed yet included.
func open(top string) (*repository, error) {
	r := &repository{top: top}
	files, err := git(top, "ls-files", "--cached", "--others", "--exclude-standard", "--", "go.mod", "*/go.mod")
	if err != nil {
		return nil, err
	}
	for _, name := range strings.Fields(files) {
		text, err := os.ReadFile(filepath.Join(top, name))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			return nil, err
		}
		f, err := modfile.Parse(name, text, nil)
		if err != nil {
			return nil, err
		}
		if f.Module == nil {
			return nil, fmt.Errorf("%s names no module", name)
		}
		r.modules = append(r.modules, &module{path.Dir(name), f})
	}
	slices.SortFunc(r.modules, func(a, b *module) int { return strings.Compare(a.dir, b.dir) })
	if len(r.modules) == 0 || r.modules[0].dir != "." {
		return nil, fmt.Errorf("%s has no go.mod", top)
	}
	return r, nil
}

// own returns the module of a path, nil if it is another repository's.
func (r *repository) own(path string) *module {
	for _, m := range r.modules {
		if m.path() == path {
			return m
		}
	}
	return nil
}

// tags are the names of all tags of a version.
func (r *repository) tags(version string) []string {
	var all []string
	for _, m := range r.modules {
		if m.released() {
			all = append(all, m.tag(version))
		}
	}
	return all
}

// require makes every module of the tree require the others by the version, and returns how to
// undo that. The modules that are not released have to follow, since a version that one of their
// dependencies requires must not be above their own.
func (r *repository) require(version string) (undo func() error, err error) {
	var changes changes
	for _, m := range r.modules {
		for _, req := range m.file.Require {
			if r.own(req.Mod.Path) != nil {
				if err := m.file.AddRequire(req.Mod.Path, version); err != nil {
					return nil, err
				}
			}
		}
		m.file.Cleanup()
		text, err := m.file.Format()
		if err == nil {
			err = changes.write(filepath.Join(r.top, m.dir, "go.mod"), text)
		}
		if err != nil {
			return nil, withUndo(err, changes.undo)
		}
	}
	return changes.undo, nil
}
