package schema

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// The types are made by Grafana from its schema: of a dashboard, of each kind of panel with its
// options, and of a query of Prometheus.
func init() {
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(statetimeline.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
}

// check reads a dashboard as strictly as the schema: no field that it does not have, none of
// another type, none missing that it requires, no value that it does not allow.
func check(text []byte) (d dashboard.Dashboard, err error) {
	if err := found(new(dashboard.Dashboard).UnmarshalJSONStrict(text)); err != nil {
		return d, err
	}
	// The strict reader keeps no panels.
	if err := json.Unmarshal(text, &d); err != nil {
		return d, err
	}
	return d, found(d.Validate())
}

// found is nil for an empty list of errors, which is not nil as an error.
func found(err error) error {
	if list := (cog.BuildErrors{}); errors.As(err, &list) && len(list) == 0 {
		return nil
	}
	return err
}

func readDashboard(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheDashboardKeepsTheSchema(t *testing.T) {
	d, err := check(readDashboard(t))
	if err != nil {
		t.Fatal(err)
	}
	panels, queries := 0, 0
	for _, p := range d.Panels {
		if p.Panel == nil {
			continue // a row
		}
		panels++
		for _, target := range p.Panel.Targets {
			if q, ok := target.(*prometheus.Dataquery); ok && q.Expr != "" {
				queries++
			} else {
				t.Errorf("panel %s: a query of the type %T", *p.Panel.Title, target)
			}
		}
	}
	if panels < 20 || queries < panels {
		t.Errorf("%d panels with %d queries", panels, queries)
	}
}

// The schema is one that finds mistakes, also in the options of panels and in queries.
func TestMistakesAreFound(t *testing.T) {
	text := string(readDashboard(t))
	for _, change := range [][2]string{
		{`"schemaVersion":`, `"schemaVerison":`},
		{`"graphTooltip": 1`, `"graphTooltip": "shared"`},
		{`"gridPos":`, `"gridpos":`},
		{`"reduceOptions":`, `"reduceOption":`},
		{`"colorMode": "value"`, `"colorMode": 7`},
		{`"legendFormat":`, `"legendformt":`},
		{`"editorMode": "code"`, `"editorMode": {}`},
		{`"editable": true`, `"editable": "yes"`},
	} {
		wrong := strings.Replace(text, change[0], change[1], 1)
		if wrong == text {
			t.Errorf("the dashboard has no %s", change[0])
			continue
		}
		if !json.Valid([]byte(wrong)) {
			t.Fatalf("%s is no JSON", change[1])
		}
		if _, err := check([]byte(wrong)); err == nil {
			t.Errorf("with %s the dashboard is valid", change[1])
		}
	}
}
