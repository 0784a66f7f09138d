package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// release rewrites, commits and tags. The tree must have passed check.
func (r *repository) release(version string, now time.Time) (err error) {
	undo, err := r.require(version)
	if err != nil {
		return err
	}
	var log changes
	defer func() {
		if err != nil {
			err = errors.Join(err, undo(), log.undo())
		}
	}()
	name := filepath.Join(r.top, "CHANGELOG.md")
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	released, err := releaseChangelog(string(text), version, now.Format(time.DateOnly))
	if err != nil {
		return err
	}
	if err := log.write(name, []byte(released)); err != nil {
		return err
	}
	for _, m := range r.modules {
		if m.released() {
			if _, err := command(filepath.Join(r.top, m.dir), "go", "mod", "tidy", "-diff"); err != nil {
				return err
			}
		}
	}
	old, err := git(r.top, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	if _, err := git(r.top, "commit", "--quiet", "--all", "--message", "Release "+version); err != nil {
		return err
	}
	var made []string
	for _, tag := range r.tags(version) {
		if _, err := git(r.top, "tag", "--annotate", "--message", "Release "+tag, tag); err != nil {
			for _, tag := range made {
				_, gone := git(r.top, "tag", "--delete", tag)
				err = errors.Join(err, gone)
			}
			_, back := git(r.top, "reset", "--quiet", "--soft", old)
			if back == nil {
				_, back = git(r.top, "reset", "--quiet")
			}
			return errors.Join(err, back)
		}
		made = append(made, tag)
	}
	return nil
}

// git runs git in a folder, and returns what it prints.
func git(dir string, args ...string) (string, error) { return command(dir, "git", args...) }

func command(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s in %s: %w\n%s%s", strings.Join(cmd.Args, " "), dir, err, out, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}
