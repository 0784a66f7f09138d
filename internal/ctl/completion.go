package ctl

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// The scripts of all shells call the hidden command complete with the words so far, the last of
// which may be empty or begun, and take what it prints, a line each: a word, a tab, and what it
// is. So there is one completion, and it knows the names of caches.

var shells = map[string]string{
	"bash": `# cachectl completion for bash. Load it by: source <(cachectl completion bash)
_cachectl() {
	local words line=${COMP_LINE:0:COMP_POINT}
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=("")
	local IFS=$'\n'
	COMPREPLY=($("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null | cut -f 1))
}
complete -o nosort -F _cachectl cachectl
`,
	"zsh": `#compdef cachectl
# cachectl completion for zsh. Load it by: source <(cachectl completion zsh)
_cachectl() {
	local -a lines
	lines=("${(@f)$(${words[1]} complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
	lines=("${(@)lines:#}")
	local -a described
	local line
	for line in "${(@)lines}"; do
		described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	_describe -V cachectl described
}
if [ "$funcstack[1]" = "_cachectl" ]; then
	_cachectl
else
	compdef _cachectl cachectl
fi
`,
	"fish": `# cachectl completion for fish. Load it by: cachectl completion fish | source
function __cachectl_complete
	set -l words (commandline -opc) (commandline -ct)
	$words[1] complete -- $words[2..-1] 2>/dev/null
end
complete -c cachectl -f -k -a '(__cachectl_complete)'
`,
}

func completionCommand() *command {
	return &command{
		name: "completion", args: "SHELL", short: "print the completion for bash, zsh or fish", min: 1, max: 1, offline: true,
		long: `Prints a script for a shell, which completes commands, flags and the names of caches. For the
names it asks the Redis of $CACHECTL_REDIS, or of -redis if that stands before the word, for a second at most.`,
		examples: []example{
			{"completion bash > /etc/bash_completion.d/cachectl", "for all users of bash"},
			{`completion zsh > "${fpath[1]}/_cachectl"`, "for zsh"},
			{"completion fish > ~/.config/fish/completions/cachectl.fish", "for fish"},
		},
		run: func(_ context.Context, c *call) error {
			script, ok := shells[c.args[0]]
			if !ok {
				return usagef("there is no completion for %s: there are bash, zsh and fish", quote(c.args[0]))
			}
			_, err := io.WriteString(c.out, script)
			return err
		},
	}
}

func completeCommand() *command {
	return &command{
		name: "complete", hidden: true, offline: true, max: -1,
		run: func(ctx context.Context, c *call) error {
			words := c.args
			if len(words) == 0 {
				words = []string{""}
			}
			for _, w := range c.p.complete(ctx, words) {
				fmt.Fprintf(c.out, "%s\t%s\n", w.word, w.says)
			}
			return nil
		},
	}
}

type completion struct{ word, says string }

// completeTime bounds how long a completion asks Redis.
const completeTime = time.Second

// complete returns what the last word may become.
func (p *Program) complete(ctx context.Context, words []string) []completion {
	g := p.globals()
	before, last := words[:len(words)-1], words[len(words)-1]
	fs := newFlags("")
	g.define(fs)
	var cmd *command
	list := commands()
	args, value := 0, false // arguments of cmd, and whether the next word is the value of a flag
	for i := 0; i < len(before); i++ {
		w := before[i]
		switch {
		case w == "--":
		case strings.HasPrefix(w, "-") && w != "-":
			name, v, has := strings.Cut(strings.TrimLeft(w, "-"), "=")
			f := fs.Lookup(name)
			if f == nil || isBool(f) {
				continue
			}
			if !has && i+1 < len(before) {
				i++
				v = before[i]
			} else if !has {
				value = true
				continue
			}
			_ = f.Value.Set(v)
		case cmd == nil || len(cmd.sub) > 0:
			i := slices.IndexFunc(list, func(c *command) bool { return c.name == w })
			if i < 0 {
				return nil
			}
			if cmd = list[i]; cmd.flags != nil {
				cmd.flags(fs)
			}
			list = cmd.sub
		default:
			args++
		}
	}
	switch {
	case value:
		return nil // the shell's own, or nothing
	case strings.HasPrefix(last, "-"):
		return completeFlags(fs, last)
	case cmd == nil || len(cmd.sub) > 0:
		return completeCommands(list, last)
	case cmd.name == "completion" && args == 0:
		return begins([]completion{{"bash", ""}, {"fish", ""}, {"zsh", ""}}, last)
	case cmd.names && args == 0, cmd.name == "inspect" && args == 0:
		return p.completeNames(ctx, g, last)
	}
	return nil
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

func begins(list []completion, with string) []completion {
	return slices.DeleteFunc(list, func(c completion) bool { return !strings.HasPrefix(c.word, with) })
}

func completeCommands(list []*command, last string) []completion {
	var out []completion
	for _, c := range list {
		if !c.hidden {
			out = append(out, completion{c.name, c.short})
		}
	}
	return begins(out, last)
}

func completeFlags(fs *flag.FlagSet, last string) []completion {
	var out []completion
	dashes := orElse(strings.HasPrefix(last, "--"), "--", "-")
	fs.VisitAll(func(f *flag.Flag) {
		_, usage := flag.UnquoteUsage(f)
		usage, _, _ = strings.Cut(usage, "\n")
		out = append(out, completion{dashes + f.Name, usage})
	})
	return begins(out, last)
}

// completeNames completes the name of a cache. Names that a shell would have to quote are left
// out.
func (p *Program) completeNames(ctx context.Context, g *global, last string) []completion {
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	s, err := p.connect(g)
	if err != nil {
		return nil
	}
	defer s.close()
	list, err := s.findCaches(ctx, false)
	if err != nil {
		return nil
	}
	var out []completion
	for _, f := range list {
		if name := string(f.Name); quote(name) == name && !strings.ContainsAny(name, "'`$&|;<>()*?[]{}~#!") {
			out = append(out, completion{name, "a cache"})
		}
	}
	return begins(out, last)
}
