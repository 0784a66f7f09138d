package servermatrix_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

var (
	servers = flag.String("servers", "", "programs of servers, separated by commas, in the place of redis-server")
	update  = flag.Bool("update", false, "write the rows into docs/servers.md")
)

const guide = "../../docs/servers.md"

func TestMain(m *testing.M) { redistest.Main(m) }

// A row is a line of a table, and the lines below the table that belong to it.
type row struct {
	name  string
	cells string
	notes []string
}

// head is the head of a table of servers, or of front ends, which have no clusters.
func head(clusters bool) string {
	names := []string{"| "}
	for _, c := range checks {
		names = append(names, c.name)
	}
	if clusters {
		names = append(names, "cluster")
	}
	names = append(names, "lacks")
	return strings.Join(names, " | ") + " |\n" + strings.Repeat("|---", len(names)) + "|\n"
}

// measure runs all checks. cluster, if it is not nil, makes a cluster of such servers, or returns nil
// if it can't.
func measure(t *testing.T, name string, s *subject, cluster func() *subject) row {
	caps, err := cache.Probe(t.Context(), s.connect())
	if err != nil {
		t.Fatal(err)
	}
	if name == "" {
		name = caps.Server + " " + caps.Version
	}
	cells := []string{name}
	reasons := map[string][]string{} // the checks of a note
	var order []string
	works := true
	all := checks
	if cluster != nil {
		all = append(slices.Clone(checks), check{"cluster", nil})
	}
	for i, c := range all {
		var o outcome
		if c.run != nil {
			o = s.run(c, fmt.Sprint("p", i, ":"))
		} else if on := cluster(); on != nil {
			o = onCluster(on)
		} else {
			cells = append(cells, "–")
			continue
		}
		switch {
		case !o.works:
			cells = append(cells, "no")
		case len(o.notes) > 0:
			cells = append(cells, "reduced")
		default:
			cells = append(cells, "yes")
		}
		works = works && o.works
		for _, n := range o.notes {
			if reasons[n] == nil {
				order = append(order, n)
			}
			reasons[n] = append(reasons[n], c.name)
		}
	}
	var lacks []string
	for _, m := range caps.Missing() {
		lacks = append(lacks, m.Lacks)
		if m.Fatal && works {
			t.Errorf("%s works, and Probe says: %v", name, m)
		}
	}
	r := row{name: name, cells: "| " + strings.Join(append(cells, cmp.Or(strings.Join(lacks, ", "), "nothing")), " | ") + " |"}
	for _, n := range order {
		r.notes = append(r.notes, fmt.Sprintf("- *%s*, %s: %s", name, strings.Join(reasons[n], ", "), n))
	}
	return r
}

// onCluster runs all checks on a cluster, except for those that change the settings of a server.
func onCluster(s *subject) outcome {
	all := outcome{works: true}
	for i, c := range checks {
		if c.name == "full memory" {
			continue
		}
		o := s.run(c, fmt.Sprint("p", i, ":"))
		all.works = all.works && o.works
		for _, n := range o.notes {
			all.notes = append(all.notes, c.name+": "+n)
		}
	}
	return all
}

// hasClusters reports whether the harness can make a cluster of a server: from version 7.0 on.
func hasClusters(t *testing.T, rdb *redis.Client) bool {
	info, err := rdb.Info(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(info, "redis_version:")
	major, _ := strconv.Atoi(strings.Split(version, ".")[0])
	return major >= 7
}

// rows collects the rows of subtests that run in parallel.
type rows struct {
	mu   sync.Mutex
	list []row
}

func (r *rows) add(one row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, one)
}

func clientOf(t *testing.T, addr string) redis.UniversalClient {
	t.Helper()
	rdb, err := cache.NewClient("redis://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func subjectOf(t *testing.T, addr string, s *redistest.Server) *subject {
	return &subject{t: t, connect: func() redis.UniversalClient { return clientOf(t, addr) }, direct: s.Client(t)}
}

// What works on the redis-server of the machine, or on the servers of -servers, is what the guide
// says.
func TestMatrixOfServers(t *testing.T) {
	var found rows
	t.Run("servers", func(t *testing.T) {
		programs := strings.Split(*servers, ",")
		for _, program := range programs {
			t.Run(program, func(t *testing.T) {
				t.Parallel()
				var opts []redistest.Option
				if program != "" {
					opts = append(opts, redistest.Binary(program))
				}
				s := redistest.Start(t, opts...)
				found.add(measure(t, "", subjectOf(t, s.Addr(), s), func() *subject {
					if !hasClusters(t, s.Client(t)) {
						return nil
					}
					c := redistest.StartCluster(t, 3, opts...)
					return &subject{t: t, connect: func() redis.UniversalClient { return c.Client(t) }, direct: c.Client(t)}
				}))
			})
		}
	})
	compare(t, "servers", found.list, false)
}

// frontEnds are servers and proxies that lack something.
var frontEnds = []struct {
	name string
	r    redistest.Restriction
}{
	{"`SET` and scripts as Redis 6.2 has them", redistest.Restricted(redistest.OldSet, redistest.OldScripts)},
	{"keys of one slot in a command (`CROSSSLOT`)", redistest.OneSlot},
	{"RESP2 only", redistest.OnlyRESP2},
	{"no pub/sub", redistest.NoPubSub},
	{"no pub/sub: it closes the connection", func(args []string) string {
		if redistest.NoPubSub(args) != "" {
			return redistest.Hangup
		}
		return ""
	}},
	{"no `INFO`", redistest.NoInfo},
	{"no `CLIENT TRACKING`", redistest.NoTracking},
	{"no scripts", redistest.NoScripts},
}

// What works through front ends that lack something is what the guide says.
func TestMatrixOfFrontEnds(t *testing.T) {
	var found rows
	t.Run("fronts", func(t *testing.T) {
		for _, f := range frontEnds {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				s := redistest.Start(t)
				front := redistest.NewFront(t, s.Addr(), f.r)
				found.add(measure(t, f.name, subjectOf(t, front.Addr(), s), nil))
			})
		}
		for name, masters := range map[string]int{"a cluster of one node, through a client for one server": 1, "a cluster of three nodes, through a client for one server": 3} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := redistest.StartCluster(t, masters).Nodes[0]
				found.add(measure(t, name, subjectOf(t, s.Addr(), s), nil))
			})
		}
	})
	compare(t, "fronts", found.list, true)
}

// compare holds rows against the part of the guide. What is not among them stays as it is.
func compare(t *testing.T, part string, found []row, all bool) {
	t.Helper()
	if t.Failed() || len(found) == 0 {
		return // skipped, or it says why
	}
	doc, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+part+" -->\n", "<!-- end of "+part+" -->\n"
	before, rest, ok := strings.Cut(string(doc), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no part %s", guide, part)
	}
	known := parse(old)
	for _, r := range found {
		t.Logf("%s\n%s", r.cells, strings.Join(r.notes, "\n"))
		i := slices.IndexFunc(known, func(k row) bool { return k.name == r.name })
		switch {
		case *update && i < 0:
			known = append(known, r)
		case *update:
			known[i] = r
		case i < 0 && !all:
			t.Logf("%s has no row for %s: run the test with -args -update", guide, r.name)
		case i < 0 || known[i].cells != r.cells || !slices.Equal(known[i].notes, r.notes):
			t.Errorf("%s says something else of %s: run the test with -args -update", guide, r.name)
		}
	}
	if !*update {
		return
	}
	if part == "servers" {
		slices.SortFunc(known, func(a, b row) int { return byVersion(a.name, b.name) })
	} else {
		known = slices.DeleteFunc(known, func(r row) bool {
			return !slices.ContainsFunc(found, func(f row) bool { return f.name == r.name })
		})
		slices.SortStableFunc(known, func(a, b row) int { return cmp.Compare(place(a.name), place(b.name)) })
	}
	if err := os.WriteFile(guide, []byte(before+begin+head(!all)+format(known)+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// place is where a front end stands in the table.
func place(name string) string {
	for i, f := range frontEnds {
		if f.name == name {
			return fmt.Sprintf("%02d", i)
		}
	}
	return name // a cluster
}

func format(list []row) string {
	var b strings.Builder
	for _, r := range list {
		b.WriteString(r.cells + "\n")
	}
	b.WriteString("\n")
	for _, r := range list {
		for _, n := range r.notes {
			b.WriteString(n + "\n")
		}
	}
	return b.String()
}

func parse(text string) (list []row) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if cells := strings.Split(line, " | "); len(cells) > 1 && strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| |") && !strings.HasPrefix(line, "|  ") {
			list = append(list, row{name: strings.TrimPrefix(cells[0], "| "), cells: line})
		}
		for i := range list {
			if strings.HasPrefix(line, "- *"+list[i].name+"*, ") {
				list[i].notes = append(list[i].notes, line)
			}
		}
	}
	return list
}

var number = regexp.MustCompile(`\d+`)

// byVersion orders "Redis 7.2.6" after "Redis 7.0.15", and the kinds of servers by name, Redis
// first.
func byVersion(a, b string) int {
	kind := func(s string) string {
		k, _, _ := strings.Cut(s, " ")
		return strings.Replace(k, "Redis", "", 1)
	}
	if c := cmp.Compare(kind(a), kind(b)); c != 0 {
		return c
	}
	na, nb := number.FindAllString(a, -1), number.FindAllString(b, -1)
	for i := range min(len(na), len(nb)) {
		x, _ := strconv.Atoi(na[i])
		y, _ := strconv.Atoi(nb[i])
		if c := cmp.Compare(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(na), len(nb))
}

// The guide's rows survive that others are written.
func TestRowsAreReadAsTheyAreWritten(t *testing.T) {
	list := []row{
		{"Redis 6.2.16", "| Redis 6.2.16 | yes | reduced | nothing |", []string{"- *Redis 6.2.16*, loads: a", "- *Redis 6.2.16*, writes: b"}},
		{"Redis 7.0.15", "| Redis 7.0.15 | yes | yes | nothing |", nil},
	}
	got := parse(head(true) + format(list))
	if fmt.Sprint(got) != fmt.Sprint(list) {
		t.Errorf("got %v\nwant %v", got, list)
	}
	names := []string{"Valkey 9.0", "Redis 8", "KeyDB 6.3.4", "Redis 7.0.15", "Redis 7.0.9", "Redis 6.2"}
	slices.SortFunc(names, byVersion)
	if got := strings.Join(names, ", "); got != "Redis 6.2, Redis 7.0.9, Redis 7.0.15, Redis 8, KeyDB 6.3.4, Valkey 9.0" {
		t.Error(got)
	}
}

// The first use of a server that can't be used says what is needed, and so does Probe.
func TestOneClearErrorNamesWhatIsNeeded(t *testing.T) {
	t.Parallel()
	front := redistest.NewFront(t, redistest.Start(t).Addr(), redistest.NoScripts)
	rdb := clientOf(t, front.Addr())
	c, err := cache.New[string, string](rdb, "orders")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	caps, err := cache.Probe(t.Context(), rdb)
	if err != nil {
		t.Fatal(err)
	}
	if err := caps.Err(); err == nil || !strings.Contains(err.Error(), "EVAL and EVALSHA") {
		t.Errorf("Probe: %v", err)
	}
	for what, err := range map[string]error{
		"Set":     c.Set(t.Context(), "k", "v"),
		"SetMany": c.SetMany(t.Context(), map[string]string{"k": "v", "l": "w"}),
		"Delete":  c.Delete(t.Context(), "k"),
		"Clear":   c.Clear(context.WithoutCancel(t.Context())),
	} {
		if !errors.Is(err, cache.ErrUnavailable) || !strings.Contains(err.Error(), "runs no scripts (EVAL, EVALSHA)") || !strings.Contains(err.Error(), "docs/servers.md") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
