package prometheus

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
	"go.yaml.in/yaml/v2"
)

// alert is a rule of alerts.yml.
type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func readAlerts(t *testing.T) []alert {
	t.Helper()
	text, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 {
		t.Fatalf("%d groups", len(file.Groups))
	}
	return file.Groups[0].Rules
}

// collected are the metrics of a Collector, with their labels. The rules use no others, so that
// they work without a Recorder.
func collected() map[string][]string {
	all := map[string][]string{}
	for _, m := range slices.Concat(metrictable.Of(new(metrics.Snapshot)), metrictable.OfOutbox(new(metrics.Outbox))) {
		labels := []string{"cache", "instance", "job"} // Prometheus adds the last two
		for _, l := range m.Labels {
			labels = append(labels, l[strings.LastIndexByte(l, '.')+1:])
		}
		if m.Kind != metrictable.Histogram {
			all[m.Prometheus] = labels
			continue
		}
		all[m.Prometheus+"_count"], all[m.Prometheus+"_sum"] = labels, labels
		all[m.Prometheus+"_bucket"] = append(labels, "le")
	}
	return all
}

var (
	groupedExpr = regexp.MustCompile(`\bby\s*\(([^)]*)\)`)
	labelExpr   = regexp.MustCompile(`\$labels\.(\w+)`)
	namedExpr   = regexp.MustCompile(`\bcache_\w+`)
)

// Every metric and label of a rule exists, its text has no label that its expression drops, and
// there is an alert for each condition that needs an operator.
func TestTheAlertsKnowTheirMetrics(t *testing.T) {
	all, seen := collected(), map[string]bool{}
	for _, a := range readAlerts(t) {
		if seen[a.Alert] {
			t.Errorf("two alerts %s", a.Alert)
		}
		seen[a.Alert] = true
		found := metricExpr.FindAllStringSubmatch(groupedExpr.ReplaceAllString(a.Expr, ""), -1)
		if len(found) == 0 {
			t.Errorf("%s: no metric in %s", a.Alert, a.Expr)
		}
		var kept []string // labels that are left in the result
		for i, by := range groupedExpr.FindAllStringSubmatch(a.Expr, -1) {
			var labels []string
			for l := range strings.SplitSeq(by[1], ",") {
				labels = append(labels, strings.TrimSpace(l))
			}
			if i > 0 && !slices.Equal(labels, kept) {
				t.Errorf("%s: sums by %v and by %v can't be compared", a.Alert, kept, labels)
			}
			kept = labels
		}
		for _, m := range found {
			labels, ok := all[m[1]]
			if !ok {
				t.Errorf("%s: there is no metric %s", a.Alert, m[1])
			}
			for _, l := range matcherExpr.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(labels, l[1]) {
					t.Errorf("%s: %s has no label %q", a.Alert, m[1], l[1])
				}
			}
			if kept == nil {
				kept = labels
			}
		}
		for _, part := range []string{"summary", "description"} {
			text := a.Annotations[part]
			if text == "" {
				t.Errorf("%s has no %s", a.Alert, part)
			}
			for _, l := range labelExpr.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(kept, l[1]) {
					t.Errorf("%s: the %s has the label %s, which the expression drops", a.Alert, part, l[1])
				}
			}
			for _, name := range namedExpr.FindAllString(text, -1) {
				if all[name] == nil {
					t.Errorf("%s: the %s names %s, which there is not", a.Alert, part, name)
				}
			}
		}
		if s := a.Labels["severity"]; s != "warning" && s != "critical" {
			t.Errorf("%s has the severity %q", a.Alert, s)
		}
	}
	for _, name := range []string{
		"CacheStalenessBeyondBound", "CacheAuditFoundStale", "CacheNotificationsLost", "CacheCircuitOpen", "CacheHitRateCollapsed", "CacheDeadLetters", "CacheWriteBehindLag",
		"CacheOutboxLag", "CacheOutboxNotApplied", "CacheOutboxDeadLetters",
	} {
		if !seen[name] {
			t.Errorf("there is no alert %s", name)
		}
	}
}

// The documentation lists the alerts. It is in the tree, not in the module.
func TestTheAlertsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/observability.md")
	if os.IsNotExist(err) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	listed := regexp.MustCompile("(?m)^\\| `(Cache\\w+)` \\|").FindAllStringSubmatch(string(text), -1)
	var got, want []string
	for _, m := range listed {
		got = append(got, m[1])
	}
	for _, a := range readAlerts(t) {
		want = append(want, a.Alert)
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed are %v, and there are %v", got, want)
	}
}

// Prometheus's own tool takes the rules, and each alert fires when it should and not before.
func TestTheAlertsFire(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CACHE_TEST_REQUIRE_PROMTOOL") == "1" {
			t.Fatalf("CACHE_TEST_REQUIRE_PROMTOOL is set: %v", err)
		}
		t.Skip("promtool, of Prometheus, is not in the path")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	tested, err := os.ReadFile("alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range readAlerts(t) {
		if !strings.Contains(string(tested), `"`+a.Alert+`"`) {
			t.Errorf("no test of %s", a.Alert)
		}
	}
}
