package memory_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var levels = map[string]string{"Debug": "DEBUG", "Info": "INFO", "Warn": "WARN", "Error": "ERROR"}

// logged finds the messages that the cache logs, with their levels.
func logged(t *testing.T) map[string]string {
	t.Helper()
	var files []string
	for _, folder := range []string{"../../report", "../../engine", "../../.."} {
		some, err := filepath.Glob(folder + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, some...)
	}
	found, fset := map[string]string{}, token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch logger := method.X.(type) {
			case *ast.SelectorExpr:
				if logger.Sel.Name != "log" && logger.Sel.Name != "aside" {
					return true
				}
			case *ast.Ident:
				if logger.Name != "log" || filepath.Base(name) != "report.go" {
					return true
				}
			default:
				return true
			}
			at := fset.Position(call.Pos())
			if filepath.Base(name) != "report.go" {
				t.Errorf("%v: a line that is not limited", at)
			}
			level, ok := levels[method.Sel.Name]
			if !ok {
				t.Errorf("%v: a method %s of the logger", at, method.Sel.Name)
				return true
			}
			text, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%v: the message is no constant", at)
				return true
			}
			message, err := strconv.Unquote(text.Value)
			if err != nil {
				t.Fatal(err)
			}
			message, ok = strings.CutPrefix(message, "cache: ")
			if !ok {
				t.Errorf("%v: %q does not say whose it is", at, message)
			}
			found[message] = level
			return true
		})
	}
	return found
}

// Every message is in docs/observability.md with its level, and nothing else is.
func TestTheDocumentationListsWhatIsLogged(t *testing.T) {
	page, err := os.ReadFile("../../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (DEBUG|INFO|WARN|ERROR) \| (.+?) \|`).FindAllStringSubmatch(string(page), -1) {
		listed[row[2]] = row[1]
	}
	found := logged(t)
	if len(found) == 0 {
		t.Fatal("no message was found")
	}
	if !maps.Equal(found, listed) {
		for message, level := range found {
			if listed[message] != level {
				t.Errorf("logged, and not documented: %s %s", level, message)
			}
		}
		for message, level := range listed {
			if found[message] != level {
				t.Errorf("documented, and not logged: %s %s", level, message)
			}
		}
	}
}
