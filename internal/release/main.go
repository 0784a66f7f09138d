// Command release releases this repository: the root module and the modules in its folders that
// users import, together and under one version.
//
//	go -C internal/release run . v0.2.0            check, rewrite, commit and tag
//	go -C internal/release run . -n v0.2.0         only check
//	go -C internal/release run . -require v0.2.0   only make the modules require that version
//	go -C internal/release run . -proxy DIR v0.2.0 make a GOPROXY of the tags of that version
//
// Nested modules require the root by the version that is released with them, and replace it by
// the folder for work in the tree: those who import them get the former, since the replacements
// of a dependency are ignored. Each has a tag of its own, such as metrics/otel/v0.2.0.
//
// The first form wants a clean work tree and a changelog with something under "Unreleased". It
// gives that the version and the date of today, makes one commit and all tags, and says how to
// push them. If anything fails, everything is as it was.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	only := flags.Bool("n", false, "only check")
	require := flags.Bool("require", false, "only make the modules require the version")
	proxy := flags.String("proxy", "", "make a GOPROXY in this `folder`, of the tags of the version")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("give one version, such as v0.2.0")
	}
	version := flags.Arg(0)
	if err := checkVersion(version); err != nil {
		return err
	}
	top, err := git(".", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	r, err := open(top)
	if err != nil {
		return err
	}
	switch {
	case *proxy != "":
		return r.writeProxy(*proxy, version)
	case *require:
		_, err := r.require(version)
		return err
	}
	if err := r.check(version); err != nil {
		return err
	}
	if *only {
		fmt.Printf("can be released as %s:\n  %s\n", version, strings.Join(r.tags(version), "\n  "))
		return nil
	}
	if err := r.release(version, time.Now()); err != nil {
		return err
	}
	fmt.Printf("released as %s; now\n  git push --atomic origin HEAD %s\n", version, strings.Join(r.tags(version), " "))
	return nil
}
