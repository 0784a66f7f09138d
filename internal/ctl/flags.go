package ctl

import (
	"errors"
	"flag"
	"io"
)

func newFlags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	return fs
}

func isHelp(word string) bool { return word == "-h" || word == "-help" || word == "--help" }

// parse parses flags and returns the other words. With mixed, flags may stand anywhere up to
// "--": an operator who has typed a command adds a flag at its end. Without it, parsing ends at
// the first other word.
func parse(fs *flag.FlagSet, words []string, mixed bool) (rest []string, help bool, err error) {
	for len(words) > 0 {
		err := fs.Parse(words)
		if errors.Is(err, flag.ErrHelp) {
			return nil, true, nil
		}
		if err != nil {
			return nil, false, &usageError{text: err.Error()}
		}
		left := fs.Args()
		ended := len(left) < len(words) && words[len(words)-len(left)-1] == "--"
		if !mixed || ended || len(left) == 0 {
			return append(rest, left...), false, nil
		}
		// A word that is no flag, "-" included: flags may follow it.
		rest, words = append(rest, left[0]), left[1:]
	}
	return rest, false, nil
}
