package ctl

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/delqhi/cache"
)

// status is the result of a check.
type status string

const (
	good    status = "ok"
	note    status = "note"    // worth knowing
	warning status = "warning" // something does not work, or is at risk
	fault   status = "fault"   // caches don't work, or lose what they have acknowledged
	unknown status = "unknown" // it could not be checked
)

// finding is the result of a check: what it is, what it means, and what to do.
type finding struct {
	Check  string `json:"check"`
	Status status `json:"status"`
	Found  string `json:"found"`
	Means  string `json:"means,omitempty"`
	Do     string `json:"do,omitempty"`
}

// report is the answer of doctor.
type report struct {
	Healthy bool `json:"healthy"` // no fault
	// Capabilities is what the server can do, by the names of cache.Capabilities: "yes", "no", "not
	// permitted" or "unknown". It is empty if that was not tried.
	Capabilities map[string]string `json:"capabilities,omitempty"`
	Findings     []finding         `json:"findings"`
}

func (r *report) add(check string, s status, found, means, do string) {
	r.Findings = append(r.Findings, finding{check, s, found, means, do})
}

func (r *report) write(w io.Writer) {
	counts := map[status]int64{}
	var rows [][]string
	for _, f := range r.Findings {
		counts[f.Status]++
		mark := string(f.Status)
		if f.Status == fault {
			mark = "FAULT"
		}
		rows = append(rows, []string{mark, f.Check, printable(f.Found)})
		for _, more := range [][2]string{{"means", f.Means}, {"do", f.Do}} {
			if more[1] != "" {
				rows = append(rows, []string{"", "", "  " + more[0] + ": " + printable(more[1])})
			}
		}
	}
	columns(w, rows...)
	fmt.Fprintf(w, "\n%s, %s, %d not checked\n", number(counts[fault], "fault", "faults"), number(counts[warning], "warning", "warnings"), counts[unknown])
}

// examination is one run of doctor.
type examination struct {
	*call
	report
	caches []found
	facts  []facts
	caps   *cache.Capabilities // nil: not tried
	queues bool                // a cache has a write-behind queue
}

func doctorCommand() *command {
	var user string
	var noTrial bool
	return &command{
		name: "doctor", args: "[NAME]", short: "check the server, its settings and the permissions: what is wrong, and what to do", max: 1, names: true,
		long: `Checks what a cache needs of Redis: the server and its version, the permissions of the
user, the eviction policy, notifications and tracking, the clock, persistence for strategy.WriteBehind, the state of a
cluster, and the caches themselves. Each finding says what it means and what to do. With a NAME it looks at that cache,
otherwise at all that it finds. The exit code is 1 if there is a fault.

Permissions are checked with ACL DRYRUN: for the user of the URL, or for that of the programs with -user. Where the user
may not use ACL DRYRUN, the commands are tried, on keys and a channel of doctor's own, whose names end in
cachectl-doctor: they are removed again, and end by themselves after ten seconds. What the server can do is tried
likewise, on keys that begin with cache-probe:.`,
		examples: []example{
			{"doctor", "everything"},
			{"doctor users -user app", "may the user app do what the cache users needs?"},
			{"doctor -json | jq '.findings[] | select(.status == \"fault\")'", "for a script"},
		},
		flags: func(fs *flag.FlagSet) {
			fs.StringVar(&user, "user", "", "check the permissions of this `USER`, with ACL DRYRUN")
			fs.BoolVar(&noTrial, "no-trial", false, "try no commands: neither what the server can do, nor permissions where ACL DRYRUN can't be used")
		},
		run: func(ctx context.Context, c *call) error {
			e := &examination{call: c}
			if err := e.run(ctx, user, !noTrial); err != nil {
				return err
			}
			e.Healthy = !slices.ContainsFunc(e.Findings, func(f finding) bool { return f.Status == fault })
			if err := c.answer(&e.report, func(w io.Writer) { e.write(w) }); err != nil {
				return err
			}
			if !e.Healthy {
				return errFound
			}
			return nil
		},
	}
}

func (e *examination) run(ctx context.Context, user string, trial bool) error {
	// What fails here fails everywhere: an address, a password.
	if err := e.rdb.Ping(ctx).Err(); err != nil && !strings.HasPrefix(err.Error(), "NOPERM") {
		return fmt.Errorf("no answer from Redis: %w", err)
	}
	var err error
	if e.facts, err = e.gather(ctx); err != nil {
		return err
	}
	if trial {
		if err := e.probe(ctx); err != nil {
			return err
		}
	}
	e.checkServer()
	e.checkCapabilities()
	searched, err := e.findThem(ctx)
	if err != nil {
		return err
	}
	e.queues = slices.ContainsFunc(e.caches, func(f found) bool { return f.Queue != nil })
	if err := e.checkPermissions(ctx, user, trial, searched); err != nil {
		return err
	}
	e.checkMemory()
	e.checkConnections()
	if err := e.checkNotifications(ctx); err != nil {
		return err
	}
	if err := e.checkTracking(ctx); err != nil {
		return err
	}
	e.checkClock()
	e.checkPersistence()
	if err := e.checkCluster(ctx); err != nil {
		return err
	}
	return e.checkCaches(ctx)
}

// findThem finds the caches to check; ok is false if they could not be looked for.
func (e *examination) findThem(ctx context.Context) (ok bool, err error) {
	if len(e.args) == 1 {
		f := found{Name: text(e.args[0]), Prefix: text(e.keyPrefix)}
		if err := e.lookAt(ctx, &f); err != nil {
			if answered(err) {
				e.caches = []found{f}
				return true, nil // the permissions say why
			}
			return false, err
		}
		e.caches = []found{f}
		return true, nil
	}
	if e.caches, err = e.findCaches(ctx, e.allPrefixes); err != nil && !answered(err) {
		return false, err
	}
	return err == nil, nil
}
