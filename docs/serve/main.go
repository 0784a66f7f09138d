// Command serve shows the documentation in a browser: go run ./docs/serve
//
// The program that does it is in docs/book, a module of its own, so that its Markdown library does
// not become a dependency of everybody. This one starts it, and passes its arguments on.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
	}
	os.Exit(code)
}

// run starts the program and returns its exit code.
func run(args []string) (int, error) {
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/delqhi/cache")
	list.Stderr = os.Stderr
	root, err := list.Output()
	if err != nil {
		return 1, fmt.Errorf("where is the checkout? %w", err)
	}
	cmd := exec.Command("go", append([]string{"run", "."}, args...)...)
	cmd.Dir = filepath.Join(strings.TrimSpace(string(root)), "docs", "book")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A workspace, if there is one, does not have the module.
	cmd.Env = append(os.Environ(), "GOWORK=off")
	// An interrupt from the terminal reaches both: this program waits for the other one.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
