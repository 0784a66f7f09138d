package dbtest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// process is a server that this binary has started.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
}

// start starts a server as the user of its directory.
func start(cmd *exec.Cmd) (*process, error) {
	asOther(cmd)
	p := &process{cmd: cmd, exited: make(chan struct{})}
	begun := make(chan error, 1)
	go func() {
		// Linux sends the signal of a parent's death when the thread ends that forked the child:
		// this goroutine keeps its thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		begun <- err
		if err == nil {
			_ = cmd.Wait()
			close(p.exited)
		}
	}()
	return p, <-begun
}

func (p *process) end(sig os.Signal) {
	_ = p.cmd.Process.Signal(sig) // an error means that it has ended
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// runAs runs a command to its end, as the user of dir.
func runAs(cmd *exec.Cmd, dir string) error {
	asOther(cmd)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd.Path, err, out)
	}
	return nil
}
