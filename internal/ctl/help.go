package ctl

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

const about = `cachectl looks at caches of github.com/delqhi/cache in a running Redis, and
invalidates in them.

Usage: cachectl [FLAGS] COMMAND [ARGUMENTS AND FLAGS]
`

const moreAbout = `
A cache is found by the name that cache.New was given, and by the prefix of
cache.WithPrefix, if it has one. A key is written as the cache writes it after
prefix and name: a string or number as it is, the fields of a struct joined by
':' (see Cache.RedisKey).

Values are shown only with -values. Names, keys and values that a terminal might
not show as they are, or might obey, are quoted as in Go.

Exit codes: 0, done; 1, Redis did not answer or refused, or doctor found a
fault; 2, the command line is wrong, and nothing was done.
`

func writeOverview(w io.Writer, all []*command, fs *flag.FlagSet) {
	fmt.Fprint(w, about, "\nCommands:\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range all {
		if !c.hidden {
			fmt.Fprintf(t, "  %s\t%s\n", c.name, c.short)
		}
	}
	t.Flush()
	fmt.Fprint(w, "\nFlags, before or after the command:\n")
	writeFlags(w, fs)
	fmt.Fprint(w, moreAbout, "\nStart with: cachectl list, cachectl doctor. Every command explains itself: cachectl COMMAND -h\n")
}

// writeHelp writes the help of a command; fs is nil if it has subcommands.
func writeHelp(w io.Writer, path string, c *command, fs *flag.FlagSet) {
	if len(c.sub) > 0 {
		fmt.Fprintf(w, "Usage: cachectl %s COMMAND\n\n%s\n\nCommands:\n", path, wrap(c.long))
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, s := range c.sub {
			fmt.Fprintf(t, "  %s\t%s\n", strings.TrimSpace(s.name+" "+s.args), s.short)
		}
		t.Flush()
		fmt.Fprintf(w, "\nMore: cachectl %s COMMAND -h\n", path)
		return
	}
	fmt.Fprintf(w, "Usage: %s\n\n%s\n", strings.TrimRight("cachectl "+path+" [FLAGS] "+c.args, " "), wrap(c.long))
	if len(c.examples) > 0 {
		fmt.Fprint(w, "\nExamples:\n")
		for _, e := range c.examples {
			fmt.Fprintf(w, "  cachectl %s\n        %s\n", e.line, e.says)
		}
	}
	fmt.Fprint(w, "\nFlags:\n")
	writeFlags(w, fs)
}

func writeFlags(w io.Writer, fs *flag.FlagSet) {
	fs.VisitAll(func(f *flag.Flag) {
		arg, usage := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "  %s\n", strings.TrimRight("-"+f.Name+" "+arg, " "))
		if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "0s" && f.Name != "json" {
			usage += " (default " + d + ")"
		}
		fmt.Fprintf(w, "        %s\n", strings.ReplaceAll(usage, "\n", "\n        "))
	})
}

// wrap breaks the paragraphs of a text, which are separated by empty lines, into lines of at
// most 80 characters.
func wrap(s string) string {
	var out []string
	for p := range strings.SplitSeq(s, "\n\n") {
		line := ""
		var lines []string
		for word := range strings.FieldsSeq(p) {
			if line != "" && len(line)+1+len(word) > 80 {
				lines, line = append(lines, line), ""
			}
			if line != "" {
				line += " "
			}
			line += word
		}
		out = append(out, strings.Join(append(lines, line), "\n"))
	}
	return strings.Join(out, "\n\n")
}
