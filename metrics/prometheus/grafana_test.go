package prometheus

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

// dashboard is what this test needs to know of Grafana's format.
type dashboard struct {
	Title         string
	UID           string
	SchemaVersion int
	Annotations   struct{ List []any }
	Panels        []panel
	Templating    struct{ List []variable }
}

type variable struct {
	Name, Type, Definition string
	Query                  any
	Current                *struct{ Text, Value any }
}

type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ H, W, X, Y int }
	FieldConfig struct {
		Defaults struct{ Unit string }
	}
	Targets []struct {
		RefID, Expr, LegendFormat string
		Datasource                struct{ UID string }
	}
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile("grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	if dec.More() {
		t.Fatal("something follows the dashboard")
	}
	return d
}

// exposed are the names in a scrape, with their labels.
func exposed(t *testing.T) map[string][]string {
	t.Helper()
	c, err := NewCollector(&fixed{"users", numbered()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddRelays(relay{numberedOutbox()}); err != nil {
		t.Fatal(err)
	}
	families, err := registered(t, c, usedRecorder(t, "")).Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, f := range families {
		labels := []string{"instance", "job"} // Prometheus adds them
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		if f.GetType() != dto.MetricType_HISTOGRAM {
			all[f.GetName()] = labels
			continue
		}
		all[f.GetName()+"_count"], all[f.GetName()+"_sum"] = labels, labels
		all[f.GetName()+"_bucket"] = append(labels, "le")
	}
	return all
}

var (
	metricExpr  = regexp.MustCompile(`\b(cache_\w+)(\{[^}]*\})?`)
	matcherExpr = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	byExpr      = regexp.MustCompile(`\b(?:by|ignoring|on)\s*\(([^)]*)\)`)
	legendExpr  = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)
)

// checkExpr checks the names in an expression, and returns those of metrics.
func checkExpr(t *testing.T, where, expr, legend string, all map[string][]string) (names []string) {
	t.Helper()
	var grouped []string
	for _, by := range byExpr.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(by[1], ",") {
			grouped = append(grouped, strings.TrimSpace(l))
		}
	}
	for _, l := range legendExpr.FindAllStringSubmatch(legend, -1) {
		if !slices.Contains(grouped, l[1]) {
			t.Errorf("%s: the legend has %s, which the sum drops", where, l[1])
		}
	}
	found := metricExpr.FindAllStringSubmatch(byExpr.ReplaceAllString(expr, ""), -1)
	if len(found) == 0 {
		t.Errorf("%s: no metric in %s", where, expr)
	}
	for _, m := range found {
		names = append(names, m[1])
		labels, ok := all[m[1]]
		if !ok {
			t.Errorf("%s: there is no metric %s", where, m[1])
			continue
		}
		used := slices.Clone(grouped)
		for _, l := range matcherExpr.FindAllStringSubmatch(m[2], -1) {
			used = append(used, l[1])
		}
		for _, l := range used {
			if !slices.Contains(labels, l) {
				t.Errorf("%s: %s has no label %q", where, m[1], l)
			}
		}
		if !strings.Contains(m[2], `cache=~"$cache"`) {
			t.Errorf("%s: %s is not of the caches that were chosen", where, m[1])
		}
	}
	if strings.Count(expr, "(") != strings.Count(expr, ")") {
		t.Errorf("%s: parentheses of %s", where, expr)
	}
	return names
}

func TestTheDashboardKnowsItsMetrics(t *testing.T) {
	d, all := readDashboard(t), exposed(t)
	if d.Title == "" || d.UID == "" || len(d.Panels) == 0 {
		t.Fatalf("a dashboard %q with %d panels", d.Title, len(d.Panels))
	}
	used, ids, taken := map[string]bool{}, map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] {
			t.Errorf("panel %q: the id %d is not its own", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 || p.GridPos.H == 0 {
			t.Errorf("panel %q: does not fit: %+v", p.Title, p.GridPos)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("panel %q overlaps %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: unit %q, %d expressions", p.ID, p.Title, p.FieldConfig.Defaults.Unit, len(p.Targets))
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || target.RefID == "" {
				t.Errorf("panel %q: data source %q, id %q", p.Title, target.Datasource.UID, target.RefID)
			}
			names := checkExpr(t, p.Title, target.Expr, target.LegendFormat, all)
			for _, name := range names {
				used[name] = true
			}
			// What lasts is in seconds, and so is the axis.
			lasts := strings.Contains(target.Expr, "_seconds") && !strings.Contains(names[0], "_seconds_count")
			if lasts != (p.FieldConfig.Defaults.Unit == "s") {
				t.Errorf("panel %q: the unit %q of %s", p.Title, p.FieldConfig.Defaults.Unit, target.Expr)
			}
		}
	}
	checkVariables(t, d)
	for _, v := range d.Templating.List {
		for _, m := range metricExpr.FindAllStringSubmatch(v.Definition, -1) {
			if _, ok := all[m[1]]; !ok {
				t.Errorf("variable %s: there is no metric %s", v.Name, m[1])
			}
		}
	}
	for name := range all {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_count"), "_sum"), "_bucket")
		if !used[name] && !used[base+"_count"] && !used[base+"_bucket"] && !used[base+"_sum"] {
			t.Errorf("nothing shows %s", name)
		}
	}
}

var variableExpr = regexp.MustCompile(`\$\{?(\w+)\}?`)

// checkVariables checks what Grafana's schema asks of the variables of a dashboard, that each one
// that is used is declared before, and that none is declared in vain.
func checkVariables(t *testing.T, d dashboard) {
	t.Helper()
	if d.SchemaVersion == 0 || d.Annotations.List == nil || len(d.UID) < 8 || len(d.UID) > 40 {
		t.Errorf("version %d of the schema, annotations %v, uid %q", d.SchemaVersion, d.Annotations.List, d.UID)
	}
	used := map[string]bool{}
	declared := []string{"__rate_interval", "__interval", "__range"}
	use := func(where, text string) {
		for _, m := range variableExpr.FindAllStringSubmatch(text, -1) {
			if used[m[1]] = true; !slices.Contains(declared, m[1]) {
				t.Errorf("%s: $%s is not declared", where, m[1])
			}
		}
	}
	for _, v := range d.Templating.List {
		query, ok := v.Query.(string)
		if !ok || v.Type != "datasource" && v.Type != "query" || v.Current == nil || v.Current.Text == nil || v.Current.Value == nil {
			t.Errorf("variable %s of the kind %q: query %v, current %v", v.Name, v.Type, v.Query, v.Current)
		}
		if v.Type == "query" && query != v.Definition {
			t.Errorf("variable %s: the query %q is defined as %q", v.Name, query, v.Definition)
		}
		use("variable "+v.Name, query)
		declared = append(declared, v.Name)
	}
	kinds := []string{"gauge", "heatmap", "row", "stat", "state-timeline", "table", "timeseries"}
	for _, p := range d.Panels {
		if !slices.Contains(kinds, p.Type) {
			t.Errorf("panel %q is a %q", p.Title, p.Type)
		}
		ids := map[string]bool{}
		for _, target := range p.Targets {
			use(p.Title, target.Expr)
			use(p.Title, target.Datasource.UID)
			if ids[target.RefID] {
				t.Errorf("panel %q has two queries %s", p.Title, target.RefID)
			}
			ids[target.RefID] = true
		}
	}
	for _, v := range d.Templating.List {
		if !used[v.Name] {
			t.Errorf("variable %s is not used", v.Name)
		}
	}
}
