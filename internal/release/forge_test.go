package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// Dependabot finds no modules by itself.
func TestDependabotKnowsEveryModule(t *testing.T) {
	type update struct {
		Ecosystem   string `yaml:"package-ecosystem"`
		Directories []string
		Ignore      []struct {
			Name string `yaml:"dependency-name"`
		}
	}
	var config struct {
		Version int
		Updates []update
	}
	readYAML(t, ".github/dependabot.yml", &config)
	var want []string
	r := here(t)
	for _, m := range r.modules {
		want = append(want, "/"+strings.TrimPrefix(m.dir, "."))
	}
	i := slices.IndexFunc(config.Updates, func(u update) bool { return u.Ecosystem == "gomod" })
	if config.Version != 2 || i < 0 {
		t.Fatalf("version %d, %d kinds of updates", config.Version, len(config.Updates))
	}
	got := config.Updates[i].Directories
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("dependabot looks at %v, and the modules are %v", got, want)
	}
	if ignored := config.Updates[i].Ignore; len(ignored) != 2 || ignored[0].Name != r.modules[0].path() || ignored[1].Name != r.modules[0].path()+"/*" {
		t.Errorf("dependabot ignores %v", ignored)
	}
}

func TestTheWorkflowRunsWhatAPersonRuns(t *testing.T) {
	var workflow struct {
		Jobs map[string]struct {
			RunsOn   string `yaml:"runs-on"`
			Strategy struct {
				Matrix map[string][]string
			}
			Steps []struct {
				Uses, Run string
				With      map[string]string
			}
		}
	}
	readYAML(t, ".github/workflows/ci.yml", &workflow)
	var commands []string
	for name, job := range workflow.Jobs {
		if job.RunsOn == "" || len(job.Steps) == 0 {
			t.Errorf("job %s: on %q, %d steps", name, job.RunsOn, len(job.Steps))
		}
		for _, s := range job.Steps {
			if (s.Uses == "") == (s.Run == "") {
				t.Errorf("job %s: a step uses %q and runs %q", name, s.Uses, s.Run)
			}
			commands = append(commands, s.Run)
		}
	}
	if !slices.Contains(commands, "bash .ci/run") || !strings.Contains(strings.Join(commands, "\n"), "govulncheck@v") {
		t.Errorf("the workflow runs %q", commands)
	}
	if got := workflow.Jobs["run"].Strategy.Matrix["go"]; !slices.Equal(got, []string{"stable", "oldstable"}) {
		t.Errorf("it runs with Go %v", got)
	}
}

// The forms have what the forge asks of them: it does not show a form with a mistake.
func TestTheIssueFormsAreComplete(t *testing.T) {
	names, err := filepath.Glob("../../.github/ISSUE_TEMPLATE/*.yml")
	if err != nil || len(names) < 2 {
		t.Fatalf("%v, %v", names, err)
	}
	kinds := []string{"checkboxes", "dropdown", "input", "markdown", "textarea"}
	for _, path := range names {
		name := filepath.Base(path)
		if name == "config.yml" {
			continue
		}
		var form struct {
			Name, Description string
			Labels            []string
			Body              []struct {
				Type, ID    string
				Attributes  map[string]string
				Validations map[string]bool
			}
		}
		readYAML(t, ".github/ISSUE_TEMPLATE/"+name, &form)
		if form.Name == "" || form.Description == "" || len(form.Body) == 0 {
			t.Errorf("%s: %q, %q, %d fields", name, form.Name, form.Description, len(form.Body))
		}
		ids, required := map[string]bool{}, false
		for _, field := range form.Body {
			if !slices.Contains(kinds, field.Type) || field.Attributes["label"] == "" || field.ID == "" || ids[field.ID] {
				t.Errorf("%s: the field %q of the kind %q with the label %q", name, field.ID, field.Type, field.Attributes["label"])
			}
			ids[field.ID] = true
			required = required || field.Validations["required"]
		}
		if !required {
			t.Errorf("%s can be sent empty", name)
		}
	}
}
