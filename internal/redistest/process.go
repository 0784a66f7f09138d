package redistest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// process is a child of the test binary.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended

	mu     sync.Mutex // guards frozen and orders the signals
	frozen bool
}

// run starts a process that prints into log.
func run(log *tail, dir, name string, args ...string) (*process, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.WaitDelay = time.Second // a forked child that writes a snapshot may hold the output open
	dieWithParent(cmd)
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux sends the signal of a parent's death when the *thread* ends that
		// the child was forked from. The goroutine therefore keeps its thread for
		// as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed or stopped: that is what tests do
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("redistest: start %s: %w", name, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// end sends a signal that ends the process and waits until it has ended.
func (p *process) end(sig os.Signal) {
	p.mu.Lock()
	_ = p.cmd.Process.Signal(sig) // an error means that it has ended already
	if p.frozen {
		// Only SIGKILL reaches a process that is frozen.
		_ = p.cmd.Process.Signal(thaw)
		p.frozen = false
	}
	p.mu.Unlock()
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// freeze returns when no thread of the process runs any more. The signal itself
// is delivered some time after it was sent: a command that is sent at once could
// still be answered.
func (p *process) freeze() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.cmd.Process.Signal(freeze); err != nil {
		return err
	}
	p.frozen = true
	for deadline := time.Now().Add(patience); p.running() && !stopped(p.pid()); {
		if time.Now().After(deadline) {
			return fmt.Errorf("redistest: process %d goes on after %v", p.pid(), freeze)
		}
		runtime.Gosched()
	}
	return nil
}

func (p *process) thaw() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = false
	return p.cmd.Process.Signal(thaw)
}

func (p *process) isFrozen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frozen
}

const (
	kill = syscall.SIGKILL
	stop = syscall.SIGTERM
)

// tail keeps the end of what a process prints.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const (
	tailLen   = 64 << 10
	tailLines = 40
)

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if excess := len(t.text) - tailLen; excess > 0 {
		t.text = append(t.text[:0], t.text[excess:]...)
	}
	return len(p), nil
}

// String returns the last lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-tailLines):], []byte("\n")))
}
