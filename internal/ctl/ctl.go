// Package ctl is the command line for operators of running caches: what cmd/cachectl runs.
//
// Each command is a function that returns a [command]: its help, its flags and what it does. A
// command collects an answer, a struct with the names of its JSON form, and one function writes
// that for people; so both forms say the same.
//
// Commands that only look change nothing in Redis: they use GET and HGET where a cache runs a
// script that also renews lifetimes. What changes something goes through package invalidate and
// the write-behind queue, as if a process of the fleet had done it.
//
// Whatever comes from Redis may be any bytes: see [quote], [printable] and [text].
package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/delqhi/cache/internal/redisurl"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // Redis did not answer or refused, or the answer is bad news: doctor found a fault
	exitUsage  = 2 // the command line is wrong: nothing was done
)

// Program is what a run has of its process.
type Program struct {
	Args     []string // without the name of the program
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Terminal bool // Stdout is a terminal
	Answers  bool // Stdin is a terminal, at which questions are answered
	Getenv   func(string) string

	// Connect makes a client of a URL; nil: [redisurl.Parse]. Run closes it.
	Connect func(url string) (redis.UniversalClient, error)
}

// A command is one command of the command line.
type command struct {
	name     string
	args     string // "NAME KEY"
	short    string // what it does, in a line
	long     string // the same at length
	examples []example
	sub      []*command // then it has no run
	hidden   bool

	min, max int  // number of arguments; max < 0: any
	names    bool // the first argument is the name of a cache
	offline  bool // it needs no Redis

	flags func(*flag.FlagSet)
	run   func(context.Context, *call) error
}

type example struct{ line, says string }

// commands returns all commands. Each call has variables of its own for their flags.
func commands() []*command {
	return []*command{
		listCommand(), inspectCommand(), invalidateCommand(), tagsCommand(), clearCommand(),
		watchCommand(), leasesCommand(), statsCommand(), deadLettersCommand(), doctorCommand(), completionCommand(), completeCommand(),
	}
}

// global are the flags that every command has.
type global struct {
	url, prefix string
	allPrefixes bool // prefix was not given
	json        bool
}

func (p *Program) globals() *global {
	g := &global{url: p.Getenv("CACHECTL_REDIS"), prefix: p.Getenv("CACHECTL_PREFIX"), json: !p.Terminal}
	if g.url == "" {
		g.url = "redis://localhost:6379"
	}
	g.allPrefixes = g.prefix == ""
	return g
}

func (g *global) define(fs *flag.FlagSet) {
	fs.Func("redis", "`URL` of Redis, as for cache.NewClient: redis://, rediss://, unix://, redis+sentinel://,\nseveral hosts or cluster=true for a cluster. The default is $CACHECTL_REDIS,\nelse redis://localhost:6379. A password is better kept in the variable", func(s string) error {
		g.url = s
		return nil
	})
	fs.Func("prefix", "the `PREFIX` that the caches were given by cache.WithPrefix; the default is $CACHECTL_PREFIX", func(s string) error {
		g.prefix, g.allPrefixes = s, false
		return nil
	})
	fs.BoolVar(&g.json, "json", g.json, "print JSON; the default where the output is no terminal. -json=false prints text there too")
}

// call is one run of a command.
type call struct {
	*global
	*session
	p    *Program
	args []string
	out  io.Writer
}

// usageError is an error of the command line.
type usageError struct {
	text string
	of   string // the command, "" for none
}

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{text: fmt.Sprintf(format, args...)} }

// errFound is the error of a command that has printed bad news.
var errFound = errors.New("found")

// Run runs a command line and returns the exit code.
func Run(ctx context.Context, p *Program) int {
	err := p.dispatch(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFound):
		return exitFailed
	case errors.As(err, &usage):
		help := strings.TrimRight("cachectl "+usage.of, " ") + " -h"
		fmt.Fprintf(p.Stderr, "cachectl: %s\nTry: %s\n", printable(usage.text), help)
		return exitUsage
	}
	fmt.Fprintf(p.Stderr, "cachectl: %s\n", printable(err.Error()))
	return exitFailed
}

func (p *Program) dispatch(ctx context.Context) error {
	g := p.globals()
	all := commands()
	fs := newFlags("cachectl")
	g.define(fs)
	rest, help, err := parse(fs, p.Args, false)
	if err != nil {
		return err
	}
	if help || len(rest) == 0 {
		writeOverview(p.Stdout, all, fs)
		if !help {
			return &usageError{text: "a command is missing"}
		}
		return nil
	}
	path := ""
	var cmd *command
	list := all
	for {
		if len(rest) > 0 && rest[0] == "help" && path == "" {
			rest = append(rest[1:], "-h")
			if len(rest) == 1 {
				writeOverview(p.Stdout, all, fs)
				return nil
			}
		}
		i := -1
		if len(rest) > 0 {
			i = slices.IndexFunc(list, func(c *command) bool { return c.name == rest[0] })
		}
		if i < 0 && cmd != nil && slices.ContainsFunc(rest, isHelp) {
			writeHelp(p.Stdout, path, cmd, nil)
			return nil
		}
		if i < 0 {
			var names []string
			for _, c := range list {
				if !c.hidden {
					names = append(names, c.name)
				}
			}
			what := "a command is missing"
			if len(rest) > 0 {
				what = fmt.Sprintf("there is no command %s", quote(strings.TrimSpace(path+" "+rest[0])))
			}
			return &usageError{fmt.Sprintf("%s: there are %s", what, strings.Join(names, ", ")), path}
		}
		cmd, rest = list[i], rest[1:]
		path = strings.TrimSpace(path + " " + cmd.name)
		if len(cmd.sub) == 0 {
			break
		}
		list = cmd.sub
	}
	err = p.runCommand(ctx, g, path, cmd, rest)
	var usage *usageError
	if errors.As(err, &usage) && usage.of == "" {
		usage.of = path
	}
	return err
}

func (p *Program) runCommand(ctx context.Context, g *global, path string, cmd *command, words []string) (err error) {
	fs := newFlags(path)
	g.define(fs)
	if cmd.flags != nil {
		cmd.flags(fs)
	}
	args, help, err := parse(fs, words, !cmd.hidden)
	if help {
		writeHelp(p.Stdout, path, cmd, fs)
		return nil
	}
	if err != nil {
		return err
	}
	if len(args) < cmd.min || cmd.max >= 0 && len(args) > cmd.max {
		return usagef("%s takes %s, and got %d arguments", path, orNone(cmd.args), len(args))
	}
	if strings.Contains(g.prefix, "{}") {
		return usagef("a prefix can't contain {}")
	}
	if cmd.names && len(args) > 0 {
		if err := checkName(args[0]); err != nil {
			return err
		}
	}
	c := &call{global: g, p: p, args: args, out: p.Stdout}
	if cmd.offline {
		return cmd.run(ctx, c)
	}
	c.session, err = p.connect(g)
	if err != nil {
		return err
	}
	defer c.session.close()
	err = cmd.run(ctx, c)
	var usage *usageError
	if err != nil && !errors.As(err, &usage) && !errors.Is(err, errFound) {
		if m := c.st.Misfit(err); m != store.Fits {
			return fmt.Errorf("%w: %s: %s", err, m.Problem(), m.Remedy())
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	return err
}

func orNone(args string) string {
	if args == "" {
		return "no arguments"
	}
	return args
}

func (p *Program) connect(g *global) (*session, error) {
	connect := p.Connect
	if connect == nil {
		connect = redisurl.Parse
	}
	rdb, err := connect(g.url)
	if err != nil {
		return nil, &usageError{text: err.Error()}
	}
	return newSession(rdb, g.prefix)
}
