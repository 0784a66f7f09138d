package writebehind_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/internal/writebehind"
)

var rounds = flag.Int("behind.rounds", 6, "how often the tests of crashes kill something")

// children are processes that write and consume.
type children struct {
	dir            string // of the server's files
	server, source *redistest.Server
	fails          float64
	attempts       int

	mu    sync.Mutex
	acked map[string]int
	bad   []string
	acks  int

	procs  [3]*exec.Cmd
	stdins [3]io.Closer
	starts int
	output sync.WaitGroup
}

func (c *children) start(t *testing.T, i int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.starts++
	conf := childConfig{
		Redis: c.server.Addr(), Source: c.source.Addr(), Version: c.starts * 1_000_000, Fails: c.fails, Attempts: c.attempts,
	}
	for k := range 8 {
		conf.Keys = append(conf.Keys, fmt.Sprintf("%d-%d", i, k))
	}
	text, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	c.procs[i], c.stdins[i] = cmd, stdin
	c.output.Go(func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			c.heard(s.Text())
		}
	})
}

func (c *children) heard(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var key string
	var v int
	if n, _ := fmt.Sscanf(line, "ack %s %d", &key, &v); n == 2 {
		c.acked[key] = max(c.acked[key], v)
		c.acks++
	} else if strings.HasPrefix(line, "bad") {
		c.bad = append(c.bad, line)
	}
}

// kill ends a process as a crash does. What it has said is heard all the same.
func (c *children) kill(i int) {
	if c.procs[i] != nil {
		_ = c.procs[i].Process.Kill()
		_ = c.stdins[i].Close()
		_ = c.procs[i].Wait()
		c.procs[i] = nil
	}
}

func crash(t *testing.T, fails float64, round func(t *testing.T, c *children)) {
	dir := t.TempDir()
	c := &children{
		dir: dir, server: redistest.Start(t, redistest.AOF(), redistest.Dir(dir)), source: redistest.Start(t),
		fails: fails, attempts: 4, acked: map[string]int{},
	}
	t.Cleanup(func() {
		for i := range c.procs {
			c.kill(i)
		}
		c.output.Wait()
	})
	for i := range c.procs {
		c.start(t, i)
	}
	for range *rounds {
		// The moment is to be any.
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
		round(t, c)
	}
	for i := range c.procs {
		c.kill(i)
	}
	c.output.Wait()
	c.verify(t)
}

// verify has one more process apply what is left, and compares what arrived with what
// was acknowledged.
func (c *children) verify(t *testing.T) {
	source := newRedisSource(c.source.Addr(), 0)
	defer source.rdb.Close()
	q, err := writebehind.New(crashConfig(guarded(t, c.server.Client(t)), source, 1000))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	drained(t, q)
	letters, err := q.DeadLetters(t.Context(), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, replayed := range []bool{false, true} {
		deadNow := dead(letters)
		for key, v := range c.acked {
			latest, err := source.latest(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if max(latest, deadNow[key]) < v {
				t.Errorf("%s: acknowledged is %d, in the source is %d, given up was %d", key, v, latest, deadNow[key])
			}
		}
		if replayed {
			break
		}
		if n, err := q.Replay(t.Context()); n != len(letters) || err != nil {
			t.Errorf("replayed are %d of %d, %v", n, len(letters), err)
		}
		drained(t, q)
		letters = nil
	}
	bad, err := source.rdb.LRange(t.Context(), "bad", 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range append(bad, c.bad...) {
		t.Error(b)
	}
	applied, err := source.rdb.Get(t.Context(), "applied").Int()
	if err != nil || c.acks == 0 || len(c.acked) != 24 {
		t.Errorf("%d writes of %d keys, %d applied, %v", c.acks, len(c.acked), applied, err)
	}
	t.Logf("%d writes acknowledged, %d applied", c.acks, applied)
}

// drained waits until nothing is on its way.
func drained(t *testing.T, q *writebehind.Queue) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		st, err := q.Stats(t.Context())
		if err == nil && st.Depth == 0 {
			return
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("%+v, %v", st, err)
		}
	}
}

func TestNothingIsLostWhenProcessesAreKilled(t *testing.T) {
	for name, fails := range map[string]float64{"source well": 0, "source failing": 0.4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crash(t, fails, func(t *testing.T, c *children) {
				i := rand.IntN(len(c.procs))
				c.kill(i)
				c.start(t, i)
			})
		})
	}
}

func TestNothingIsLostWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	crash(t, 0.2, func(t *testing.T, c *children) {
		c.server.Kill()
		repair(t, c.dir)
		if rand.IntN(2) == 0 {
			i := rand.IntN(len(c.procs))
			c.kill(i)
			defer c.start(t, i)
		}
		if err := c.server.Restart(); err != nil {
			t.Fatal(err)
		}
	})
}
