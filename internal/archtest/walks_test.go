package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// CONTRIBUTING.md tells how reads, writes and messages go through the code, by the names of
// functions. Each of them must be declared where the text says.
func TestTheWalksNameWhatIsThere(t *testing.T) {
	folder, _ := findModule(t)
	text, err := os.ReadFile(filepath.Join(folder, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, walks, ok := strings.Cut(string(text), "## Five walks\n")
	walks, _, ends := strings.Cut(walks, "## Adding something\n")
	if !ok || !ends {
		t.Fatal("CONTRIBUTING.md has no walks")
	}
	root := declared(t, folder)
	maps.Copy(root, declared(t, filepath.Join(folder, "internal", "engine")))
	known := map[string]map[string]bool{}
	named := 0
	for _, quoted := range regexp.MustCompile("`[^`]+`").FindAllString(walks, -1) {
		name := strings.Trim(quoted, "`")
		if strings.HasSuffix(name, ".go") || strings.HasPrefix(name, "internal/") {
			if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
				t.Errorf("%s: %v", quoted, err)
			}
			continue
		}
		parts := strings.Split(name, ".")
		names := root
		if dir := filepath.Join(folder, "internal", parts[0]); isFolder(dir) {
			if names = known[dir]; names == nil {
				names = declared(t, dir)
				known[dir] = names
			}
			parts = parts[1:]
		} else if parts[0] == "Config" || parts[0] == "Events" || parts[0] == "wait" || strings.Contains(coherenceSteps, " "+name+" ") {
			names = declared(t, filepath.Join(folder, "internal", "coherence"))
		}
		for _, part := range parts {
			if named++; !names[part] {
				t.Errorf("%s: %s is not declared there", quoted, part)
			}
		}
	}
	if named < 60 {
		t.Errorf("only %d names were found", named)
	}
}

// coherenceSteps are those of the last walk that are named without their package.
const coherenceSteps = " missed drop dropMatching applyPeerTombstones "

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// declared returns the names of functions, methods, types, fields and variables that the
// files of a folder declare, but for tests.
func declared(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				names[n.Name.Name] = true
			case *ast.TypeSpec:
				names[n.Name.Name] = true
			case *ast.Field:
				for _, id := range n.Names {
					names[id.Name] = true
				}
			case *ast.ValueSpec:
				for _, id := range n.Names {
					names[id.Name] = true
				}
			}
			return true
		})
	}
	return names
}
