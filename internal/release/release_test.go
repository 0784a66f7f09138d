package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The tree itself can be released, but for what belongs to a version: a new module is released
// unless it is listed, and then has to be usable from outside.
func TestTheTreeCanBeReleased(t *testing.T) {
	r := here(t)
	for _, err := range r.checkModules() {
		t.Error(err)
	}
	if tags := r.tags("v0.1.0"); !slices.Contains(tags, "v0.1.0") || !slices.Contains(tags, "metrics/prometheus/v0.1.0") || !slices.Contains(tags, "metrics/otel/v0.1.0") {
		t.Errorf("the tags would be %v", tags)
	}
	for _, name := range []string{"LICENSE", "CHANGELOG.md", "SECURITY.md"} {
		if _, err := os.Stat(filepath.Join(r.top, name)); err != nil {
			t.Error(err)
		}
	}
}

// here is the repository of this program.
func here(t *testing.T) *repository {
	t.Helper()
	needGit(t)
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := git(top, "rev-parse", "--git-dir"); err != nil {
		t.Skipf("the tree is not a repository of git: %v", err)
	}
	r, err := open(top)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func needGit(t *testing.T) {
	t.Helper()
	if _, err := git(".", "version"); err != nil {
		t.Skipf("git: %v", err)
	}
	// Not the settings of the person who runs this; and a clone may belong to another user.
	config := filepath.Join(t.TempDir(), "gitconfig")
	write(t, config, "[user]\n\tname = Test\n\temail = test@example.org\n[safe]\n\tdirectory = *\n[init]\n\tdefaultBranch = main\n")
	t.Setenv("GIT_CONFIG_GLOBAL", config)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := command(dir, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// small is a repository of a root and a module below it, without dependencies.
var small = map[string]string{
	"go.mod":            "module example.org/a\n\ngo 1.26.0\n",
	"a.go":              "package a\n",
	"b/go.mod":          "module example.org/a/b\n\ngo 1.26.0\n\nreplace example.org/a => ../\n\nrequire example.org/a v0.1.0\n",
	"b/b.go":            "package b\n\nimport _ \"example.org/a\"\n",
	"CHANGELOG.md":      "# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n\n## v0.1.0 (2026-01-02)\n\n- The first.\n",
	"benchmarks/go.mod": "module example.org/a/benchmarks\n\ngo 1.26.0\n\nreplace example.org/a => ../\n\nrequire example.org/a v0.1.0\n",
	"benchmarks/x.go":   "package benchmarks\n\nimport _ \"example.org/a\"\n",
}

// smallRepository commits small with changes, "" being no file.
func smallRepository(t *testing.T, changes map[string]string) *repository {
	t.Helper()
	needGit(t)
	t.Setenv("GOFLAGS", "")
	dir := t.TempDir()
	for _, files := range []map[string]string{small, changes} {
		for name, text := range files {
			if write(t, filepath.Join(dir, name), text); text == "" {
				os.Remove(filepath.Join(dir, name))
			}
		}
	}
	must(t, dir, "git", "init", "--quiet")
	must(t, dir, "git", "add", "--all")
	must(t, dir, "git", "commit", "--quiet", "--message", "Begin")
	r, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// onlyBenchmarks makes the list of modules that are not released that of small.
func onlyBenchmarks(t *testing.T) {
	all := unreleased
	unreleased = []string{"benchmarks"}
	t.Cleanup(func() { unreleased = all })
}

func TestAReleaseIsACommitAndATagOfEachModule(t *testing.T) {
	onlyBenchmarks(t)
	r := smallRepository(t, nil)
	if err := r.check("v0.2.0"); err != nil {
		t.Fatal(err)
	}
	if err := r.release("v0.2.0", time.Date(2026, 3, 4, 23, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	if tags := must(t, r.top, "git", "tag"); tags != "b/v0.2.0\nv0.2.0" {
		t.Errorf("tags %q", tags)
	}
	if n := must(t, r.top, "git", "rev-list", "--count", "HEAD"); n != "2" {
		t.Errorf("%s commits", n)
	}
	for _, tag := range []string{"v0.2.0", "b/v0.2.0"} {
		if is := must(t, r.top, "git", "rev-parse", tag+"^{commit}"); is != must(t, r.top, "git", "rev-parse", "HEAD") {
			t.Errorf("%s is at %s", tag, is)
		}
	}
	for _, name := range []string{"b/go.mod", "benchmarks/go.mod"} {
		if text := must(t, r.top, "git", "show", "HEAD:"+name); !strings.Contains(text, "require example.org/a v0.2.0") || !strings.Contains(text, "replace example.org/a => ../") {
			t.Errorf("%s is\n%s", name, text)
		}
	}
	want := "# Changelog\n\n## Unreleased\n\n## v0.2.0 (2026-03-04)\n\n### Added\n\n- A thing.\n\n## v0.1.0 (2026-01-02)\n\n- The first."
	if text := must(t, r.top, "git", "show", "HEAD:CHANGELOG.md"); text != want {
		t.Errorf("the changelog is\n%s", text)
	}
	if state := must(t, r.top, "git", "status", "--porcelain"); state != "" {
		t.Errorf("left over:\n%s", state)
	}
	// Not twice, and nothing earlier.
	for _, version := range []string{"v0.2.0", "v0.1.9"} {
		if err := r.check(version); err == nil {
			t.Errorf("%s can be released after v0.2.0", version)
		}
	}
}

func TestWhatKeepsATreeFromBeingReleased(t *testing.T) {
	onlyBenchmarks(t)
	for name, tt := range map[string]struct {
		changes map[string]string
		after   func(t *testing.T, r *repository)
		want    string
	}{
		"a version that users can't get": {map[string]string{"b/go.mod": strings.ReplaceAll(small["b/go.mod"], "v0.1.0", "v0.0.0-00010101000000-000000000000")}, nil, "-require"},
		"no replacement":                 {map[string]string{"b/go.mod": "module example.org/a/b\n\ngo 1.26.0\n\nrequire example.org/a v0.1.0\n"}, nil, "does not replace example.org/a"},
		"another replacement":            {map[string]string{"b/go.mod": strings.ReplaceAll(small["b/go.mod"], "=> ../", "=> ../../elsewhere")}, nil, "want .."},
		"a replacement of another's":     {map[string]string{"b/go.mod": small["b/go.mod"] + "\nreplace example.com/x => ../x\n"}, nil, "replaces example.com/x"},
		"an exclusion":                   {map[string]string{"b/go.mod": small["b/go.mod"] + "\nexclude example.com/x v1.0.0\n"}, nil, "excludes example.com/x"},
		"another path":                   {map[string]string{"b/go.mod": strings.ReplaceAll(small["b/go.mod"], "example.org/a/b", "example.org/b")}, nil, "not where it is"},
		"what is not released":           {map[string]string{"b/go.mod": small["b/go.mod"] + "\nreplace example.org/a/benchmarks => ../benchmarks\n\nrequire example.org/a/benchmarks v0.1.0\n"}, nil, "not released"},
		"nothing new":                    {map[string]string{"CHANGELOG.md": "# Changelog\n\n## Unreleased\n\n## v0.1.0 (2026-01-02)\n\n- The first.\n"}, nil, "nothing under Unreleased"},
		"no changelog":                   {map[string]string{"CHANGELOG.md": ""}, nil, "CHANGELOG.md"},
		"a section of the version":       {map[string]string{"CHANGELOG.md": small["CHANGELOG.md"] + "\n## v0.2.0 (2026-01-01)\n\n- More.\n"}, nil, "a section v0.2.0 already"},
		"a module that is gone":          {map[string]string{"benchmarks/go.mod": ""}, nil, "no module in benchmarks"},
		"a change that is not committed": {nil, func(t *testing.T, r *repository) { write(t, filepath.Join(r.top, "a.go"), "package a // changed\n") }, "not clean"},
		"a new file":                     {nil, func(t *testing.T, r *repository) { write(t, filepath.Join(r.top, "new.go"), "package a\n") }, "not clean"},
		"a tag of a module":              {nil, func(t *testing.T, r *repository) { must(t, r.top, "git", "tag", "b/v0.2.0") }, "a tag b/v0.2.0 already"},
		"a later version":                {nil, func(t *testing.T, r *repository) { must(t, r.top, "git", "tag", "v0.3.0") }, "not later than v0.3.0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := smallRepository(t, tt.changes)
			if tt.after != nil {
				tt.after(t, r)
			}
			if err := r.check("v0.2.0"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want something with %q", err, tt.want)
			}
		})
	}
}

func TestVersionsThatCantBeReleased(t *testing.T) {
	for _, version := range []string{"", "0.2.0", "v0.2", "v1", "v2.0.0", "v0.2.0+build", "v0.0.0-20260102030405-0123456789ab", "latest"} {
		if err := checkVersion(version); err == nil {
			t.Errorf("%q is a version", version)
		}
	}
	for _, version := range []string{"v0.1.0", "v1.12.3", "v0.2.0-rc.1"} {
		if err := checkVersion(version); err != nil {
			t.Error(err)
		}
	}
}

// If a release fails half-way, everything is as it was.
func TestAReleaseThatFailsLeavesNothing(t *testing.T) {
	onlyBenchmarks(t)
	for name, fail := range map[string]func(t *testing.T, r *repository){
		"a hook refuses the commit": func(t *testing.T, r *repository) {
			hook := filepath.Join(r.top, ".git", "hooks", "pre-commit")
			write(t, hook, "#!/bin/sh\nexit 1\n")
			if err := os.Chmod(hook, 0o755); err != nil {
				t.Fatal(err)
			}
		},
		"a tag can't be made": func(t *testing.T, r *repository) { must(t, r.top, "git", "tag", "b/v0.2.0/x") },
	} {
		t.Run(name, func(t *testing.T) {
			r := smallRepository(t, nil)
			fail(t, r)
			head, tags := must(t, r.top, "git", "rev-parse", "HEAD"), must(t, r.top, "git", "tag")
			if err := r.release("v0.2.0", time.Now()); err == nil {
				t.Fatal("it was released")
			}
			if is := must(t, r.top, "git", "rev-parse", "HEAD"); is != head {
				t.Errorf("there is a commit %s", is)
			}
			if state := must(t, r.top, "git", "status", "--porcelain"); state != "" {
				t.Errorf("left over:\n%s", state)
			}
			if is := must(t, r.top, "git", "tag"); is != tags {
				t.Errorf("tags are\n%s", is)
			}
		})
	}
}

func TestRunWantsAVersion(t *testing.T) {
	for _, args := range [][]string{nil, {"-n"}, {"v0.1.0", "v0.2.0"}, {"v2.0.0"}, {"-such"}} {
		if err := run(args); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
	if _, err := open(t.TempDir()); err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("a folder without anything: %v", err)
	}
}
