//go:build unix

package main

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"
)

var atExpr = regexp.MustCompile(`pages at (http://\S+)`)

// What the pages tell readers to do: go run ./docs/serve, ended by an interrupt from the terminal.
func TestTheCommandServesTheBook(t *testing.T) {
	cmd := exec.Command("go", "run", "./docs/serve", "-addr", "localhost:0")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the terminal interrupts a whole group
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	group := -cmd.Process.Pid
	give := time.AfterFunc(5*time.Minute, func() { _ = syscall.Kill(group, syscall.SIGKILL) })
	defer give.Stop()
	address := ""
	for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
		if m := atExpr.FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
		}
	}
	if address == "" || !answers(t, address+"/", nil) {
		t.Errorf("it does not serve at %q", address)
	}
	if err := syscall.Kill(group, syscall.SIGINT); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // go run reports the interrupt
	for deadline := time.Now().Add(time.Minute); syscall.Kill(group, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(group, syscall.SIGKILL)
			t.Fatal("it goes on after the interrupt")
		}
	}
}
