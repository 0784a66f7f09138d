package ctl

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/invalidate"
)

// invalidated is the answer of the commands that invalidate.
type invalidated struct {
	Cache   text   `json:"cache"`
	Keys    int64  `json:"keys"` // given, or matched by the pattern
	Tags    []text `json:"tags,omitempty"`
	Pattern text   `json:"pattern,omitempty"`
	Cleared bool   `json:"cleared,omitempty"`
	Policy  string `json:"policy"`
	DryRun  bool   `json:"dry_run,omitempty"`
}

// policyFlags are the flags of how to invalidate.
type policyFlags struct {
	delay time.Duration
	lazy  bool
	force bool
}

func (f *policyFlags) define(fs *flag.FlagSet) {
	fs.DurationVar(&f.delay, "delay", 0, "let the entries live for this `TIME` (invalidate.Delayed), such as 30s")
	fs.BoolVar(&f.lazy, "lazy", false, "make the entries stale instead of removing them (invalidate.Lazy)")
	fs.BoolVar(&f.force, "force", false, "also if no cache of this name is known")
}

func (f *policyFlags) policy() (invalidate.Policy, error) {
	switch {
	case f.delay != 0 && f.lazy:
		return invalidate.Policy{}, usagef("-delay and -lazy exclude each other")
	case f.lazy:
		return invalidate.Lazy(), nil
	case f.delay != 0:
		p := invalidate.Delayed(f.delay)
		if err := p.Validate(); err != nil {
			return p, usagef("-delay %v: it must be in whole milliseconds, at least one and at most 100 years", f.delay)
		}
		return p, nil
	}
	return invalidate.Immediate(), nil
}

// invalidator makes the client of a command that invalidates in a cache.
func (c *call) invalidator(ctx context.Context, f *policyFlags) (*invalidate.Client, invalidate.Policy, error) {
	p, err := f.policy()
	if err != nil {
		return nil, p, err
	}
	if err := c.mustExist(ctx, c.args[0], f.force); err != nil {
		return nil, p, err
	}
	cl, err := invalidate.NewClient(c.rdb, c.args[0], invalidate.Prefix(c.keyPrefix), invalidate.WithPolicy(p))
	return cl, p, err
}

func invalidateCommand() *command {
	var f policyFlags
	var pattern string
	var dry, quoted bool
	return &command{
		name: "invalidate", args: "NAME KEY...", short: "invalidate keys, or all that match a pattern, in every process", min: 1, max: -1, names: true,
		long: `Invalidates keys of a cache in Redis and in every process, as if a process of the fleet
had called Invalidate: the next read loads them. A load that is in flight does not bring an old value back. The source is
never touched. A KEY of "-" stands for keys on standard input, one a line.

With -pattern, all keys that match a Redis glob are invalidated; the pattern is about the key without prefix and name.
That scans all keys of Redis: for what belongs together use tags.`,
		examples: []example{
			{"invalidate users 42 43", "two keys"},
			{"invalidate users -pattern 'acme:*' -dry-run", "how many would it be?"},
			{"invalidate users - < ids.txt", "the keys in a file"},
			{"invalidate users -lazy 42", "serve it as a stale value until it is loaded anew"},
		},
		flags: func(fs *flag.FlagSet) {
			fs.StringVar(&pattern, "pattern", "", "invalidate the keys that match this Redis `GLOB`")
			fs.BoolVar(&dry, "dry-run", false, "only say what would be invalidated")
			quotedFlag(fs, &quoted)
			f.define(fs)
		},
		run: func(ctx context.Context, c *call) error {
			if err := c.unquote(quoted, 1); err != nil {
				return err
			}
			name, list := c.args[0], c.args[1:]
			if (pattern == "") == (len(list) == 0) {
				return usagef("give keys, or a -pattern")
			}
			cl, policy, err := c.invalidator(ctx, &f)
			if err != nil {
				return err
			}
			defer cl.Close()
			out := invalidated{Cache: text(name), Pattern: text(pattern), Policy: policy.String(), DryRun: dry}
			switch {
			case pattern != "" && dry:
				out.Keys, err = c.countMatches(ctx, name, pattern)
			case pattern != "":
				out.Keys, err = cl.InvalidatePattern(ctx, pattern)
			default:
				err = c.eachKey(list, quoted, func(some []string) error {
					out.Keys += int64(len(some))
					if dry {
						return nil
					}
					return cl.Invalidate(ctx, some...)
				})
			}
			if err != nil {
				return invalidationFailed(err)
			}
			return c.answer(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s %s of %s, %s\n", orElse(dry, "would invalidate", "invalidated"), number(out.Keys, "key", "keys"), quote(name), how(policy))
			})
		},
	}
}

// how says what a policy does.
func how(p invalidate.Policy) string {
	switch p.Mode() {
	case invalidate.ModeDelayed:
		return "in effect in " + span(p.Delay())
	case invalidate.ModeLazy:
		return "as stale values until they are loaded"
	}
	return "at once"
}

// invalidationFailed removes what an operator knows: which package the error is from.
func invalidationFailed(err error) error {
	if errors.Is(err, errs.ErrUnavailable) {
		return fmt.Errorf("not all of it was acknowledged; it is safe to try again: %w", err)
	}
	return err
}

// countMatches counts the keys of a cache that match a pattern.
func (c *call) countMatches(ctx context.Context, name, pattern string) (int64, error) {
	names := c.names(name)
	seen := map[string]struct{}{}
	err := c.scan(ctx, keys.QuotePattern(names.Data)+pattern, func(batch []string) error {
		for _, k := range batch {
			seen[k] = struct{}{}
		}
		return nil
	})
	return int64(len(seen)), err
}

// keysAtOnce is how many keys of standard input are invalidated together.
const keysAtOnce = 1000

// eachKey calls f with keys that were given as arguments, or on standard input.
func (c *call) eachKey(list []string, quoted bool, f func([]string) error) error {
	if !slices.Contains(list, "-") {
		return f(list)
	}
	if len(list) != 1 {
		return usagef("- stands for all keys: give no others")
	}
	lines := bufio.NewScanner(c.p.Stdin)
	lines.Buffer(nil, 1<<20)
	var some []string
	for lines.Scan() {
		key := strings.TrimSuffix(lines.Text(), "\r")
		if key == "" {
			continue
		}
		if quoted {
			var err error
			if key, err = unquoted(key); err != nil {
				return err
			}
		}
		if some = append(some, key); len(some) == keysAtOnce {
			if err := f(some); err != nil {
				return err
			}
			some = nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	if len(some) == 0 {
		return nil
	}
	return f(some)
}

func clearCommand() *command {
	var f policyFlags
	var yes bool
	return &command{
		name: "clear", args: "NAME", short: "invalidate all entries of a cache, in every process", min: 1, max: 1, names: true,
		long: `Invalidates all entries of a cache, and of no other, in Redis and in every process, in
one round trip, whatever their number. Every key is then loaded anew when it is next read: think of the source. The
records stay in Redis until they end or are replaced. On a terminal it asks first; elsewhere -yes is needed.`,
		examples: []example{
			{"clear users", "after a question"},
			{"clear users -lazy -yes", "go on serving the entries as stale values where the strategy allows that"},
		},
		flags: func(fs *flag.FlagSet) {
			fs.BoolVar(&yes, "yes", false, "do not ask")
			f.define(fs)
		},
		run: func(ctx context.Context, c *call) error {
			name := c.args[0]
			cl, policy, err := c.invalidator(ctx, &f)
			if err != nil {
				return err
			}
			defer cl.Close()
			if err := c.confirm(yes, fmt.Sprintf("Invalidate all entries of %s%s?", quote(name), c.underPrefix())); err != nil {
				return err
			}
			if err := cl.Clear(ctx); err != nil {
				return invalidationFailed(err)
			}
			return c.answer(invalidated{Cache: text(name), Cleared: true, Policy: policy.String()}, func(w io.Writer) {
				fmt.Fprintf(w, "invalidated all entries of %s, %s\n", quote(name), how(policy))
			})
		},
	}
}

// confirm asks, unless yes.
func (c *call) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !c.p.Answers {
		return usagef("this is asked about on a terminal; here it needs -yes")
	}
	fmt.Fprintf(c.p.Stderr, "%s [y/N] ", question)
	line, _ := bufio.NewReader(c.p.Stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done")
}
