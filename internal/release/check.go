package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	gomodule "golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// checkVersion refuses what can't be the version of a module without a version in its path.
func checkVersion(version string) error {
	switch {
	case !semver.IsValid(version) || semver.Canonical(version) != version:
		return fmt.Errorf("%q is no version such as v0.2.0", version)
	case semver.Compare(semver.Major(version), "v1") > 0:
		return fmt.Errorf("%s: the paths of the modules would have to end in /%s", version, semver.Major(version))
	case gomodule.IsPseudoVersion(version):
		return fmt.Errorf("%s is a version that the go command gives to commits", version)
	}
	return nil
}

// check reports everything that keeps the tree from being released as version, all at once.
func (r *repository) check(version string) error {
	errs := append(r.checkModules(), r.checkTags(version))
	if state, err := git(r.top, "status", "--porcelain"); err != nil || state != "" {
		errs = append(errs, err, fmt.Errorf("the work tree is not clean:\n%s", state))
	}
	changelog, err := os.ReadFile(filepath.Join(r.top, "CHANGELOG.md"))
	if err == nil {
		_, err = releaseChangelog(string(changelog), version, "")
	}
	return errors.Join(append(errs, err)...)
}

// checkTags looks whether the version is later than all, and has no tag yet.
func (r *repository) checkTags(version string) error {
	list, err := git(r.top, "tag", "--list")
	if err != nil {
		return err
	}
	var errs []error
	tags := strings.Fields(list)
	for _, tag := range r.tags(version) {
		if slices.Contains(tags, tag) {
			errs = append(errs, fmt.Errorf("there is a tag %s already", tag))
		}
	}
	for _, tag := range tags {
		if semver.IsValid(tag) && semver.Compare(tag, version) > 0 {
			errs = append(errs, fmt.Errorf("%s is not later than %s", version, tag))
		}
	}
	return errors.Join(errs...)
}

// checkModules looks at what a user of the modules would meet.
func (r *repository) checkModules() (errs []error) {
	root := r.modules[0]
	fault := func(m *module, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", filepath.ToSlash(filepath.Join(m.dir, "go.mod")), fmt.Sprintf(format, args...)))
	}
	required := "" // of the root, by the first module
	for _, m := range r.modules {
		if m != root && m.path() != root.path()+"/"+m.dir {
			fault(m, "the module is %s, which is not where it is", m.path())
		}
		if !m.released() {
			continue
		}
		for _, p := range m.file.Replace {
			target := r.own(p.Old.Path)
			if target == nil {
				fault(m, "replaces %s, for which there is no other way for a user of the module", p.Old.Path)
			} else if dir, err := filepath.Rel(m.dir, target.dir); err != nil || filepath.ToSlash(dir) != filepath.ToSlash(filepath.Clean(p.New.Path)) {
				fault(m, "replaces %s by %s, want %s", p.Old.Path, p.New.Path, filepath.ToSlash(dir))
			}
		}
		for _, x := range m.file.Exclude {
			fault(m, "excludes %s, which has no effect for a user of the module", x.Mod)
		}
		for _, req := range m.file.Require {
			target := r.own(req.Mod.Path)
			if target == nil {
				continue
			}
			if !target.released() {
				fault(m, "requires %s, which is not released", req.Mod.Path)
			}
			if gomodule.IsPseudoVersion(req.Mod.Version) || gomodule.IsZeroPseudoVersion(req.Mod.Version) {
				fault(m, "requires %s, which a user of the module can't get: go -C internal/release run . -require VERSION", req.Mod)
			} else if required == "" {
				required = req.Mod.Version
			} else if required != req.Mod.Version {
				fault(m, "requires %s, and others %s", req.Mod, required)
			}
			if !slices.ContainsFunc(m.file.Replace, func(p *modfile.Replace) bool { return p.Old.Path == req.Mod.Path }) {
				fault(m, "does not replace %s: in the tree it would be tested with another one", req.Mod.Path)
			}
		}
	}
	for _, dir := range unreleased {
		if !slices.ContainsFunc(r.modules, func(m *module) bool { return m.dir == dir }) {
			errs = append(errs, fmt.Errorf("there is no module in %s, which is said not to be released", dir))
		}
	}
	return errs
}
