package ctl_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/delqhi/cache/internal/ctl"
	"github.com/delqhi/cache/internal/redistest"
)

// asProgram is the environment variable that makes the test binary cachectl, for shells to call.
const asProgram = "CACHECTL_TEST_AS_PROGRAM"

func beProgram() {
	os.Exit(ctl.Run(context.Background(), &ctl.Program{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
	}))
}

func TestCompletion(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		u := userOf(t, b)
		set(t, people(t, b, "users"), "ann")
		set(t, people(t, b, "usage"), "ann")
		set(t, people(t, b, "orders"), "ann")
		set(t, people(t, b, "$(reboot)"), "ann")
		for _, c := range []struct{ line, want string }{
			{"", "list inspect invalidate tags clear watch leases stats deadletters doctor completion"},
			{"in", "inspect invalidate"},
			{"tags ", "list invalidate"},
			{"deadletters re", "replay"},
			{"tags list us", "usage users"},
			{"inspect ", "orders usage users"},
			{"inspect users ", ""},
			{"inspect -values us", "usage users"},
			{"inspect -type x us", "usage users"},
			{"inspect -type ", ""},
			{"invalidate users -d", "-delay -dry-run"},
			{"invalidate users --pat", "--pattern"},
			{"-json li", "list"},
			{"-prefix " + b.Prefix + " stats o", "orders"},
			{"-prefix nosuch: stats o", ""},
			{"nosuch ", ""},
			{"completion ", "bash fish zsh"},
		} {
			words := strings.Split(c.line, " ")
			var got []string
			for line := range strings.Lines(u.ok(append([]string{"complete", "--"}, words...)...)) {
				word, _, _ := strings.Cut(line, "\t")
				got = append(got, word)
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("completing %q gives %q, want %q", c.line, s, c.want)
			}
		}
	})
	u := &user{t: t}
	u.fails(2, "there is no completion for tcsh", "completion", "tcsh")
	// A Redis that is not there makes no noise.
	if out := u.ok("complete", "--", "-redis", "redis://127.0.0.1:1", "stats", ""); out != "" {
		t.Errorf("without Redis: %q", out)
	}
}

// TestCompletionInShells has the shells complete, with this binary as cachectl.
func TestCompletionInShells(t *testing.T) {
	server := redistest.Start(t)
	set(t, mustPeople(t, server), "ann")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nexec env %s=1 '%s' \"$@\"\n", asProgram, self)
	if err := os.WriteFile(filepath.Join(dir, "cachectl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{ // what is typed, and the completions
		"cachectl sta":       "stats",
		"cachectl tags in":   "invalidate",
		"cachectl inspect u": "users",
		"cachectl -redis " + server.URL() + " -json stats use": "users",
		"cachectl clear users -y":                              "-yes",
	}
	for shell, program := range map[string]func(line string) []string{
		"bash": func(line string) []string {
			return []string{"--norc", "-c", `source <(cachectl completion bash)
				COMP_LINE=$1 COMP_POINT=${#1}
				_cachectl
				printf '%s\n' "${COMPREPLY[@]}"`, "bash", line}
		},
		"zsh": func(line string) []string {
			return []string{"-f", "-c", `compdef() { :; }
				_describe() { shift 2; local w; for w in "${(@P)1}"; do print -r -- "${w%%:*}"; done; }
				source <(cachectl completion zsh)
				words=("${(@s: :)1}")
				CURRENT=$#words
				_cachectl`, "zsh", line}
		},
		"fish": func(line string) []string {
			return []string{"--no-config", "-c", `cachectl completion fish | source
				complete -C $argv[1]`, line}
		},
	} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				if os.Getenv("CACHE_TEST_REQUIRE_SHELLS") != "" {
					t.Fatalf("there is no %s, and CACHE_TEST_REQUIRE_SHELLS is set", shell)
				}
				t.Skipf("there is no %s: install it to run this test", shell)
			}
			for line, want := range lines {
				cmd := exec.Command(shell, program(line)...)
				cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "CACHECTL_REDIS="+server.URL(), "HOME="+dir)
				var out, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &errs
				if err := cmd.Run(); err != nil {
					t.Fatalf("%s: %v\n%s%s", shell, err, &out, &errs)
				}
				got, _, _ := strings.Cut(strings.TrimSpace(out.String()), "\t")
				if got != want || errs.Len() > 0 {
					t.Errorf("%s completes %q to %q, want %q\n%s", shell, line, &out, want, &errs)
				}
			}
		})
	}
}
