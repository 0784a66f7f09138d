package check

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// programs are the names that a command line begins with.
var programs = []string{"bash", "cachectl", "cd", "curl", "export", "git", "go", "gofmt", "node", "promtool", "python3", "redis-cli"}

// placeholders stand in commands for what the reader has.
var placeholders = []string{"./package", "^FuzzName$"}

// Every command line of the pages can be run as it is written: what it names is there, packages,
// flags, tests, files, variables and commands of cachectl.
func TestCommandsCanBeRun(t *testing.T) {
	found := 0
	for _, file := range sorted(pages()) {
		if file == "CHANGELOG.md" {
			continue // it tells of what once was
		}
		folders := []string{"."} // and those that the blocks of the page go to
		for _, b := range pages()[file].Blocks {
			for _, c := range commandLines(b.Language, b.Text) {
				found++
				if !slices.Contains(folders, c.dir) {
					folders = append(folders, c.dir)
				}
				if err := c.check(t); err != nil {
					t.Errorf("%s, from line %d: %s: %v", file, b.Line, c.text, err)
				}
			}
		}
		for _, code := range pages()[file].Codes {
			name, rest, _ := strings.Cut(code, " ")
			if !slices.Contains(programs, name) || strings.Trim(rest, ". …") == "" {
				continue
			}
			found++
			var wrong error
			if !slices.ContainsFunc(folders, func(dir string) bool {
				err := command{code, dir}.check(t)
				wrong = cmp.Or(wrong, err)
				return err == nil
			}) {
				t.Errorf("%s: %s: %v", file, code, wrong)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d commands", found)
	}
}

// command is a line, and the folder that it is run in.
type command struct{ text, dir string }

// commandLines are the commands of a block: its lines if it is of a shell, those with a prompt if
// it shows a console, and those that begin with a known program if it does not say.
func commandLines(language, text string) []command {
	var all []command
	dir := "."
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch language {
		case "console":
			var ok bool
			if line, ok = strings.CutPrefix(line, "$ "); !ok {
				continue
			}
		case "":
			if name, _, _ := strings.Cut(line, " "); !slices.Contains(programs, name) {
				continue
			}
		case "sh", "bash":
		default:
			return nil
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if into, ok := strings.CutPrefix(line, "cd "); ok {
			all = append(all, command{line, dir})
			dir = path.Join(dir, into)
			continue
		}
		all = append(all, command{line, dir})
	}
	return all
}

var assignment = regexp.MustCompile(`^([A-Z][A-Z0-9_]*)=(.*)$`)

func (c command) check(t *testing.T) error {
	words, err := split(c.text)
	if err != nil {
		return err
	}
	for len(words) > 0 {
		m := assignment.FindStringSubmatch(words[0])
		if m == nil {
			break
		}
		if err := variable(m[1]); err != nil {
			return err
		}
		words = words[1:]
	}
	if len(words) == 0 {
		return nil
	}
	args := words[1:]
	switch words[0] {
	case "go":
		return c.goCommand(args)
	case "cachectl":
		return cachectl(t, args)
	case "export":
		for _, a := range args {
			m := assignment.FindStringSubmatch(a)
			if m == nil {
				return fmt.Errorf("%s is no assignment", a)
			}
			if err := variable(m[1]); err != nil {
				return err
			}
		}
		return nil
	case "cd":
		return c.there(args)
	case "bash", "python3", "node":
		return c.there(args[:min(1, len(args))])
	case "curl", "git", "gofmt", "promtool", "redis-cli":
		return nil
	}
	return fmt.Errorf("%s is not known to this test: teach it what to check", words[0])
}

// there checks that the files of a command exist.
func (c command) there(files []string) error {
	if len(files) == 0 {
		return errors.New("it names no file")
	}
	for _, f := range files {
		if !exists(path.Join(c.dir, f)) {
			return fmt.Errorf("there is no %s", f)
		}
	}
	return nil
}

// variable checks that something in the repository reads the environment's variable, or that it
// is one of Go.
func variable(name string) error {
	if strings.HasPrefix(name, "GO") || name == "CGO_ENABLED" {
		return nil
	}
	for _, file := range tree() {
		switch ext := path.Ext(file); {
		case strings.HasPrefix(file, "docs/book/check/"):
		case ext == ".go" && strings.Contains(read(file), name):
			return nil
		case (ext == ".py" || ext == ".js" || ext == ".mjs") && strings.Contains(read(file), name):
			return nil
		}
	}
	// Programs join it of two parts: a prefix of theirs, and the name of a flag.
	if prefix, rest, ok := strings.Cut(name, "_"); ok {
		for _, file := range tree() {
			if path.Ext(file) == ".go" && strings.Contains(read(file), `"`+prefix+`_"`) && strings.Contains(strings.ToUpper(read(file)), rest) {
				return nil
			}
		}
	}
	return fmt.Errorf("nothing reads the variable %s", name)
}

// goCommand checks a command of go.
func (c command) goCommand(args []string) error {
	if len(args) == 0 {
		return errors.New("go does what?")
	}
	dir := c.dir
	if args[0] == "-C" && len(args) > 2 {
		dir, args = path.Join(dir, args[1]), args[2:]
	}
	name, args := args[0], args[1:]
	if len(args) > 1 && args[0] == "-C" {
		dir, args = path.Join(dir, args[1]), args[2:]
	}
	if !exists(dir) {
		return fmt.Errorf("there is no folder %s", dir)
	}
	switch name {
	case "run":
		return goRun(dir, args)
	case "test":
		return goTest(dir, args)
	case "get":
		return goGet(args, false)
	case "install":
		return goGet(args, true)
	case "vet", "build", "fix", "generate", "list", "mod", "tool", "version":
		return nil
	}
	return fmt.Errorf("go has no command %s that this test knows", name)
}

// goRun checks that the package is a program, and has the flags.
func goRun(dir string, args []string) error {
	if len(args) == 0 {
		return errors.New("it runs nothing")
	}
	pkg := args[0]
	if strings.Contains(pkg, "@") {
		return nil // of another repository
	}
	if !strings.HasPrefix(pkg, ".") {
		return fmt.Errorf("%s is no folder", pkg)
	}
	at := path.Join(dir, pkg)
	if !isMain(at) {
		return fmt.Errorf("%s is no program", at)
	}
	return hasFlags(at, args[1:], func(file string) bool { return !strings.HasSuffix(file, "_test.go") })
}

func isMain(dir string) bool {
	for _, file := range goFiles(dir) {
		if strings.HasPrefix(read(file), "package main\n") || strings.Contains(read(file), "\npackage main\n") {
			return true
		}
	}
	return false
}

// hasFlags checks that some file of a folder defines each of the flags among the arguments.
func hasFlags(dir string, args []string, of func(file string) bool) error {
	for _, a := range args {
		if !strings.HasPrefix(a, "-") || a == "-" {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimLeft(a, "-"), "=")
		defined := regexp.MustCompile(`\.(?:\w+)?\((?:&?[\w.]+,\s*)?"` + regexp.QuoteMeta(name) + `",`)
		if !slices.ContainsFunc(goFiles(dir), func(file string) bool { return of(file) && defined.MatchString(read(file)) }) {
			return fmt.Errorf("%s has no flag -%s", dir, name)
		}
	}
	return nil
}

// testFlags are those of go test, with whether a value follows.
var testFlags = map[string]bool{
	"-bench": true, "-benchmem": false, "-benchtime": true, "-count": true, "-cpu": true, "-fuzz": true, "-fuzztime": true,
	"-parallel": true, "-race": false, "-run": true, "-short": false, "-tags": true, "-timeout": true, "-v": false,
}

// kinds are what the patterns of go test choose from.
var kinds = map[string]*regexp.Regexp{
	"-run":   regexp.MustCompile(`(?m)^func ((?:Test|Example|Fuzz)\w*)\(`),
	"-bench": regexp.MustCompile(`(?m)^func (Benchmark\w+)\(`),
	"-fuzz":  regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`),
}

// goTest checks that the packages are there, that the patterns match something in them, and that
// flags which go test does not have are those of the tests.
func goTest(dir string, args []string) error {
	patterns := map[string]string{}
	var dirs, own []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		name, value, assigned := strings.Cut(a, "=")
		takes, known := testFlags[name]
		switch {
		case a == "-args":
			own = append(own, args[i+1:]...)
			i = len(args)
		case known:
			if takes && !assigned {
				if i++; i == len(args) {
					return fmt.Errorf("%s has no value", name)
				}
				value = args[i]
			}
			if kinds[name] != nil {
				patterns[name] = value
			}
		case strings.HasPrefix(a, "-"):
			own = append(own, a)
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") && !strings.HasPrefix(args[i+1], ".") {
				i++ // its value
			}
		case slices.Contains(placeholders, a):
			return nil
		default:
			dirs = append(dirs, a)
		}
	}
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	var files []string
	for _, d := range dirs {
		below, all := strings.CutSuffix(d, "/...")
		below = path.Join(dir, below)
		n := len(files)
		for _, file := range tree() {
			if strings.HasSuffix(file, "_test.go") && (path.Dir(file) == below || all && (below == "." || strings.HasPrefix(file, below+"/"))) {
				files = append(files, file)
			}
		}
		if len(files) == n {
			return fmt.Errorf("%s has no tests", d)
		}
	}
	for kind, pattern := range patterns {
		if pattern == "^$" {
			continue
		}
		first, _, _ := strings.Cut(pattern, "/")
		exp, err := regexp.Compile(first)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(files, func(file string) bool {
			return slices.ContainsFunc(kinds[kind].FindAllStringSubmatch(read(file), -1), func(m []string) bool { return exp.MatchString(m[1]) })
		}) {
			return fmt.Errorf("%s %s matches nothing", kind, pattern)
		}
	}
	for _, flag := range own {
		if !slices.ContainsFunc(files, func(file string) bool {
			return hasFlags(path.Dir(file), []string{flag}, func(string) bool { return true }) == nil
		}) && strings.HasPrefix(flag, "-") {
			return fmt.Errorf("no test has the flag %s", flag)
		}
	}
	return nil
}

// goGet checks that what is named is a package, or a program, if it is of this repository.
func goGet(args []string, program bool) error {
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		name, _, _ := strings.Cut(a, "@")
		rest, ok := strings.CutPrefix(name, module)
		if !ok {
			continue
		}
		dir := path.Join(".", rest)
		if len(goFiles(dir)) == 0 && !exists(path.Join(dir, "go.mod")) {
			return fmt.Errorf("there is no package %s", name)
		}
		if program && !isMain(dir) {
			return fmt.Errorf("%s is no program", name)
		}
	}
	return nil
}

// ctl is the command line, built once.
var ctl = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "cachectl")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "cachectl")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, "./cmd/cachectl")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return binary, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if binary, err := ctl(); err == nil {
		os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

var flagName = regexp.MustCompile(`^-[a-z][a-z-]*`)

// cachectl asks the program for the help on the command, and looks for the flags in it. The
// outputs that docs/cachectl.md shows are checked by the tests of the program.
func cachectl(t *testing.T, args []string) error {
	binary, err := ctl()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, a := range args {
		if strings.HasPrefix(a, "-") || len(words) == 2 {
			break
		}
		words = append(words, a)
	}
	if len(words) == 0 || words[0] == "COMMAND" {
		return nil
	}
	// The second word may be a part of the command, or its argument.
	help, err := exec.Command(binary, append(words[:1:1], "-h")...).CombinedOutput()
	if len(words) == 2 {
		if more, moreErr := exec.Command(binary, words[0], words[1], "-h").CombinedOutput(); moreErr == nil {
			help, err = append(help, more...), nil
		}
	}
	if err != nil {
		return fmt.Errorf("cachectl %s -h: %w\n%s", words[0], err, help)
	}
	for _, a := range args {
		if name := flagName.FindString(a); name != "" && !regexp.MustCompile(`(?m)(^|\s|\[)`+name+`\b`).Match(help) {
			return fmt.Errorf("%s is not in the help:\n%s", name, help)
		}
	}
	return nil
}

// split divides a line into words as a shell does, without what follows it: a comment, another
// command, a redirection.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	open, quote := false, rune(0)
	end := func() {
		if open {
			words = append(words, word.String())
		}
		word.Reset()
		open = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ' || r == '\t':
			end()
		case !open && r == '#', strings.ContainsRune("<>|&;", r):
			end()
			return words, nil
		default:
			open = true
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, errors.New("a quotation mark is open")
	}
	end()
	return words, nil
}

// A test that can't fail would be none.
func TestWrongCommandsAreFound(t *testing.T) {
	for text, want := range map[string]string{
		"go run ./examples/tuor":                          "no program",
		"go run ./internal/glob":                          "no program",
		"go run ./examples/tour -rdeis x":                 "no flag -rdeis",
		"go -C internal/nothing run .":                    "no folder",
		"go test -run TestNothingOfTheKind ./internal/…":  "has no tests",
		"go test -run TestNothingOfTheKind ./...":         "matches nothing",
		"go test -bench Nothing ./internal/e2e":           "matches nothing",
		"go test ./internal/ctl -run Guide -updaet":       "no test has the flag",
		"go tset ./...":                                   "no command tset",
		"go get github.com/delqhi/cache/outbocks":         "no package",
		"go install github.com/delqhi/cache/codec@latest": "no program",
		"cachectl inspekt users 42":                       "cachectl inspekt",
		"cachectl inspect users 42 -valeus":               "not in the help",
		"CACHE_TEST_LOGN=1 go test ./...":                 "nothing reads",
		"export CACHECTL_RDEIS=x":                         "nothing reads",
		"bash .ci/rnu":                                    "there is no .ci/rnu",
		"rm -rf build":                                    "not known",
		"go test -run 'Test ./...":                        "quotation mark",
	} {
		if err := (command{text, "."}).check(t); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
