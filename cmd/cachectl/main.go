// Command cachectl looks at the caches of a running fleet in Redis, explains what they hold, and
// invalidates in them:
//
//	go run github.com/delqhi/cache/cmd/cachectl@latest -redis redis://localhost:6379 list
//
// cachectl -h lists the commands; docs/cachectl.md is the guide.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/delqhi/cache/internal/ctl"
	"github.com/redis/go-redis/v9/logging"
)

func main() {
	logging.Disable() // connections that fail: the command says what has failed
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := ctl.Run(ctx, &ctl.Program{
		Args:  os.Args[1:],
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Terminal: isTerminal(os.Stdout), Answers: isTerminal(os.Stdin),
		Getenv: os.Getenv,
	})
	stop()
	os.Exit(code)
}

// isTerminal reports whether f is a terminal: a character device other than the null device.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
