package e2e_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

var hammerFor = flag.Duration("hammer", 2*time.Second, "how long processes write and read against each other")

// child is a worker as its parent sees it.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser

	mu      sync.Mutex // guards what follows, and writing to in
	last    int
	waiting map[int]chan status
	ended   error
}

// startProcess starts a worker, which has its first connections when this returns. It
// ends with the test.
func startProcess(t *testing.T, config workerConfig) (*child, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	p := &child{t: t, cmd: exec.Command(os.Args[0]), waiting: map[int]chan status{}}
	p.cmd.Env = append(os.Environ(), workerEnv+"="+string(text))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.listen(out)
	}()
	t.Cleanup(func() {
		_ = p.in.Close()
		late := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
		<-read
		if err := p.cmd.Wait(); err != nil && p.cmd.ProcessState.Exited() {
			t.Errorf("a worker ended badly: %v", err)
		}
		if !late.Stop() {
			t.Error("a worker did not end")
		}
	})
	_, err = p.do(task{Do: "ready"})
	return p, err
}

func (p *child) listen(out io.Reader) {
	for answers := json.NewDecoder(bufio.NewReader(out)); ; {
		var o status
		err := answers.Decode(&o)
		p.mu.Lock()
		if err != nil {
			p.ended = err
			for _, c := range p.waiting {
				close(c)
			}
			p.waiting = nil
			p.mu.Unlock()
			return
		}
		p.waiting[o.ID] <- o
		delete(p.waiting, o.ID)
		p.mu.Unlock()
	}
}

var errEnded = errors.New("the process has ended")

// start has the worker do something. The channel gives the outcome, or is closed if the
// process ends before.
func (p *child) start(t task) <-chan status {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := make(chan status, 1)
	if p.ended != nil {
		close(c)
		return c
	}
	p.last++
	t.ID = p.last
	p.waiting[t.ID] = c
	text, _ := json.Marshal(t)
	_, _ = p.in.Write(append(text, '\n')) // a process that ends shows at its output
	return c
}

func (p *child) do(t task) (status, error) {
	o, ok := <-p.start(t)
	if !ok {
		return o, errEnded
	}
	if o.Failed != "" {
		return o, errors.New(o.Failed)
	}
	return o, nil
}

func (p *child) mustDo(t task) status {
	p.t.Helper()
	o, err := p.do(t)
	if err != nil {
		p.t.Fatalf("%s: %v", t.Do, err)
	}
	return o
}

// kill ends the process as a crash does.
func (p *child) kill() {
	_ = p.cmd.Process.Kill()
	_, _ = p.do(task{Do: "ready"}) // has no answer any more when this returns
}

// fleet starts n processes side by side.
func fleet(t *testing.T, n int, config workerConfig) []*child {
	t.Helper()
	ps, errs := make([]*child, n), make([]error, n)
	var all sync.WaitGroup
	for i := range ps {
		all.Go(func() { ps[i], errs[i] = startProcess(t, config) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return ps
}

// onServers runs f on a server and on a cluster of three masters, for each transport.
// The kinds run side by side, each on servers of its own. The race detector, which makes processes
// slow and sees each by itself, sees in one kind what it would see in the other.
func onServers(t *testing.T, f func(t *testing.T, config workerConfig, rdb redis.UniversalClient)) {
	redistest.Require(t)
	kinds := []string{"server", "cluster"}
	if redistest.UnderRace {
		kinds = kinds[1:]
	}
	sideBySide(t, kinds, func(t *testing.T, kind string) {
		var url string
		var rdb redis.UniversalClient
		if kind == "server" {
			s := redistest.Start(t)
			url, rdb = s.URL(), s.Client(t)
		} else {
			c := redistest.StartCluster(t, 3)
			url, rdb = c.URL(), c.Client(t)
		}
		for transport := range transports {
			t.Run(transport, func(t *testing.T) {
				f(t, workerConfig{URL: url, Prefix: transport[:1] + ":", Transport: transport}, rdb)
			})
		}
	})
}

// crowd has each process read a key by so many callers, and waits until all of them
// wait for one load, which is under way.
func crowd(t *testing.T, ps []*child, key string, callers int) (reads []<-chan status, loading int) {
	t.Helper()
	for _, p := range ps {
		reads = append(reads, p.start(task{Do: "read", Key: key, Callers: callers}))
	}
	loading = -1
	awaits(t, "everybody to wait for the load", func() error {
		for i, p := range ps {
			o := p.mustDo(task{Do: "state", Key: key})
			if len(o.Loads) > 0 {
				loading = i
			}
			if o.Blocked != callers || o.Acquired == 0 {
				return fmt.Errorf("in process %d, %d of %d callers wait, and a lease was asked for %d times", i, o.Blocked, callers, o.Acquired)
			}
		}
		if loading < 0 {
			return errors.New("no process loads")
		}
		return nil
	})
	return reads, loading
}

func loadsOf(ps []*child, key string) (n int) {
	for _, p := range ps {
		n += len(p.mustDo(task{Do: "state", Key: key}).Loads)
	}
	return n
}

// P4: one load for all processes, whose answer all get, be it a value or a failure.
func TestManyProcessesLoadOnce(t *testing.T) {
	onServers(t, func(t *testing.T, config workerConfig, _ redis.UniversalClient) {
		const callers = 50
		ps := fleet(t, 8, config)

		reads, loading := crowd(t, ps, "gate", callers)
		ps[loading].mustDo(task{Do: "release", Key: "gate"})
		want := fmt.Sprint("loaded by ", ps[loading].cmd.Process.Pid)
		for i, r := range reads {
			if o := <-r; o.Values[want] != callers {
				t.Errorf("process %d read %v, %v, and not %q", i, o.Values, o.Errors, want)
			}
		}
		if n := loadsOf(ps, "gate"); n != 1 {
			t.Errorf("%d loads of the value", n)
		}

		const reason = "the source is on holiday"
		reads, loading = crowd(t, ps, "gate2", callers)
		ps[loading].mustDo(task{Do: "release", Key: "gate2", Error: reason})
		for i, r := range reads {
			o := <-r
			for text, n := range o.Errors {
				if i == loading && text != reason || !strings.Contains(text, reason) || n != callers {
					t.Errorf("process %d (%d loads): %d callers got %q", i, loading, n, text)
				}
			}
			if len(o.Errors) != 1 || len(o.Values) != 0 {
				t.Errorf("process %d read %v, %v, and not the failure", i, o.Values, o.Errors)
			}
		}
		if n := loadsOf(ps, "gate2"); n != 1 {
			t.Errorf("%d loads that fail", n)
		}
	})
}

// A process that is killed while it loads holds no other up for longer than its lease.
func TestALoadingProcessIsKilled(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, config workerConfig, rdb redis.UniversalClient) {
		const callers = 10
		ps := fleet(t, 3, config)
		reads, loading := crowd(t, ps, "gate", callers)
		ps[loading].kill()
		killed := time.Now()
		left, err := rdb.PTTL(t.Context(), config.Prefix+"n:gate").Result()
		if err != nil || left > time.Second {
			t.Fatalf("the lease lives for %v, %v", left, err)
		}

		rest := append(ps[:loading:loading], ps[loading+1:]...)
		var began int64
		awaits(t, "the next load", func() error {
			for _, p := range rest {
				for _, at := range p.mustDo(task{Do: "state", Key: "gate"}).Loads {
					began = cmp.Or(began, at)
					return nil
				}
			}
			return errors.New("no process loads")
		})
		after := time.Unix(0, began).Sub(killed)
		if after > 5*time.Second {
			t.Errorf("the next load began %v after the kill", after)
		}
		// Redis counts lives by whole milliseconds.
		if left > 0 && after < left-2*time.Millisecond {
			t.Errorf("the next load began %v after the kill, when the lease had lived for %v more", after, left)
		}
		for _, p := range rest {
			p.mustDo(task{Do: "release", Key: "gate"})
		}
		for i, r := range reads {
			o, ok := <-r
			switch {
			case i == loading && ok:
				t.Errorf("the killed process answered %v", o)
			case i != loading && (len(o.Values) != 1 || len(o.Errors) != 0):
				t.Errorf("process %d read %v, %v", i, o.Values, o.Errors)
			}
		}
		if n := loadsOf(rest, "gate"); n != 1 {
			t.Errorf("%d loads after the kill", n)
		}
	})
}

// P1 and P2, while processes write and read against each other; and when they have
// stopped, all of them come to see the last of everything.
func TestProcessesAgree(t *testing.T) {
	onServers(t, func(t *testing.T, config workerConfig, rdb redis.UniversalClient) {
		ps := fleet(t, 4, config)
		var runs []<-chan status
		for i, p := range ps {
			runs = append(runs, p.start(task{Do: "hammer", For: *hammerFor, Me: i, All: len(ps)}))
		}
		var logs []*hammerLog
		reads := 0
		for i, r := range runs {
			o, ok := <-r
			if !ok || o.Log == nil {
				t.Fatalf("process %d: %v, %v", i, o.Failed, errEnded)
			}
			for _, w := range o.Log.Wrong {
				t.Errorf("process %d: %s", i, w)
			}
			logs = append(logs, o.Log)
			reads += o.Log.Reads
		}
		acked := checkBound(t, logs)
		writes := 0
		for k, numbers := range acked {
			last := int64(0)
			for n := range numbers {
				last = max(last, n)
			}
			writes += len(numbers)
			if k[0] != 'u' {
				// What was counted, but not acknowledged, was not.
				if n, err := rdb.Get(context.Background(), "source:"+config.Prefix+"n:"+k).Int64(); last != n && !errors.Is(err, redis.Nil) {
					t.Errorf("%s: the source says %d, %v, and the last acknowledged write %d", k, n, err, last)
				}
			}
			for i, p := range ps {
				awaits(t, fmt.Sprintf("process %d to see %d under %s", i, last, k), func() error {
					if o := p.mustDo(task{Do: "read", Key: k}); o.Values[strconv.FormatInt(last, 10)] != 1 {
						return fmt.Errorf("it sees %v, %v", o.Values, o.Errors)
					}
					return nil
				})
			}
		}
		t.Logf("%d writes, %d reads", writes, reads)
	})
}

// checkBound checks that no read returned what had been replaced for longer than the
// bound when it began, by whichever process. It returns all acknowledgements.
func checkBound(t *testing.T, logs []*hammerLog) map[string]map[int64]int64 {
	t.Helper()
	acked := map[string]map[int64]int64{}
	for _, l := range logs {
		for k, numbers := range l.Acked {
			if acked[k] == nil {
				acked[k] = map[int64]int64{}
			}
			for n, at := range numbers {
				acked[k][n] = at
			}
		}
	}
	for i, l := range logs {
		for k, numbers := range l.Read {
			for n, at := range numbers {
				for newer, acked := range acked[k] {
					if age := time.Duration(at - acked); newer > n && age > staleness {
						t.Errorf("process %d read %s = %d, %v after %d was acknowledged", i, k, n, age, newer)
					}
				}
			}
		}
	}
	return acked
}
