package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

// Tests of several processes start the test binary again, with this variable set. Such
// a worker has one cache, does what it is told on its standard input, a JSON line each,
// and answers on its standard output. Tasks run side by side.
const workerEnv = "CACHE_TEST_WORKER"

// workerConfig is what the variable says.
type workerConfig struct {
	URL       string
	Prefix    string
	Transport string // a key of transports
}

// transports are the ways to hear that tests go through, each with what goes with it.
var transports = map[string][]cache.Option{
	"broadcast":     {cache.WithTransport(invalidate.Broadcast()), twoLong},
	"keys":          {cache.WithTransport(invalidate.TrackingKeys()), twoLong},
	"tracking":      {cache.WithTransport(invalidate.Tracking()), twoLong},
	"no local tier": {cache.WithTransport(invalidate.NoTransport()), oneLong},
}

// Lives are long, so that no entry ends by itself, which would hide that it was not
// dropped.
var (
	oneLong = cache.WithStrategy(strategy.TTL(time.Hour), strategy.Jitter(0))
	twoLong = cache.WithOptions(oneLong, cache.WithStrategy(strategy.LRU(1000), strategy.LocalTTL(time.Hour)))
)

// task is what a worker is to do.
type task struct {
	ID      int
	Do      string
	Key     string        `json:",omitempty"`
	Callers int           `json:",omitempty"` // read
	Error   string        `json:",omitempty"` // release: what the load returns
	For     time.Duration `json:",omitempty"` // hammer
	Me, All int           `json:",omitempty"` // hammer: which of how many workers this is
}

// status is what became of a task. Times are those of the machine's clock.
type status struct {
	ID       int
	Values   map[string]int `json:",omitempty"` // read: how many callers got which value
	Errors   map[string]int `json:",omitempty"` // read: … which error
	Loads    []int64        `json:",omitempty"` // state: when loads of the key began
	Blocked  int            `json:",omitempty"` // state: callers that wait for a load, or run it
	Acquired int            `json:",omitempty"` // state: how often a lease was asked for, and Redis has answered
	Log      *hammerLog     `json:",omitempty"` // hammer
	Failed   string         `json:",omitempty"` // the task itself
}

type worker struct {
	rdb   redis.UniversalClient
	cache *cache.Cache[string, string]

	mu       sync.Mutex
	gates    map[string]chan error // of the loads of a key
	loads    map[string][]int64
	acquired map[string]int
}

// work is the whole life of a worker. It returns its exit code.
func work(text string) int {
	if err := func() error {
		var config workerConfig
		if err := json.Unmarshal([]byte(text), &config); err != nil {
			return err
		}
		rdb, err := cache.NewClient(config.URL)
		if err != nil {
			return err
		}
		w := &worker{gates: map[string]chan error{}, loads: map[string][]int64{}, acquired: map[string]int{}}
		rdb = w.counting(rdb)
		defer rdb.Close()
		w.rdb = rdb
		opts := slices.Concat([]cache.Option{cache.WithPrefix(config.Prefix), cache.WithTimeout(10 * time.Second), discard}, transports[config.Transport])
		if w.cache, err = cache.NewFrom(rdb, "n", cache.Source[string, string]{Load: w.load, Tags: w.tags}, opts...); err != nil {
			return err
		}
		defer w.cache.Close()
		return w.serve()
	}(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	return 0
}

// serve does what it is told until its input ends.
func (w *worker) serve() error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	var out sync.Mutex
	answers := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var t task
		if err := json.Unmarshal(in.Bytes(), &t); err != nil {
			return err
		}
		tasks.Go(func() {
			o := w.do(context.Background(), &t)
			o.ID = t.ID
			out.Lock()
			defer out.Unlock()
			if err := answers.Encode(o); err != nil {
				os.Exit(1) // nothing listens any more
			}
		})
	}
	return nil
}

func (w *worker) do(ctx context.Context, t *task) (o status) {
	switch t.Do {
	case "ready": // it hears, if it can
		if _, err := w.cache.Peek(ctx, "nothing"); !errors.Is(err, cache.ErrMiss) || errors.Is(err, cache.ErrUnavailable) {
			o.Failed = fmt.Sprint(err)
		}
	case "read":
		w.read(ctx, t, &o)
	case "state":
		o.Blocked = blockedIn("internal/flight.(*Group[...]).DoSingle(")
		w.mu.Lock()
		o.Loads, o.Acquired = slices.Clone(w.loads[t.Key]), w.acquired[t.Key]
		w.mu.Unlock()
	case "release":
		var err error
		if t.Error != "" {
			err = errors.New(t.Error)
		}
		w.gate(t.Key) <- err
	case "hammer":
		o.Log = w.hammer(ctx, t)
	default:
		o.Failed = "there is no task " + t.Do
	}
	return o
}

// read has so many callers read at once.
func (w *worker) read(ctx context.Context, t *task, o *status) {
	o.Values, o.Errors = map[string]int{}, map[string]int{}
	var mu sync.Mutex
	var callers sync.WaitGroup
	for range max(t.Callers, 1) {
		callers.Go(func() {
			v, err := w.cache.Get(ctx, t.Key)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				o.Errors[err.Error()]++
			} else {
				o.Values[v]++
			}
		})
	}
	callers.Wait()
}

// gate is what the loads of a key wait for. It holds one answer.
func (w *worker) gate(key string) chan error {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.gates[key]
	if g == nil {
		g = make(chan error, 1)
		w.gates[key] = g
	}
	return g
}

// load is the source of the worker's cache: for keys that begin with "gate", a value
// of this process's own when it is told to, else what a key of Redis says.
func (w *worker) load(ctx context.Context, key string) (string, error) {
	if !strings.HasPrefix(key, "gate") {
		return w.source(ctx, key)
	}
	w.mu.Lock()
	w.loads[key] = append(w.loads[key], time.Now().UnixNano())
	w.mu.Unlock()
	select {
	case err := <-w.gate(key):
		return fmt.Sprint("loaded by ", os.Getpid()), err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// counting returns a client like rdb, which is closed, that counts the answers to the commands that ask
// for a lease. It looks at the connections: some of those of a cache have no hooks.
func (w *worker) counting(rdb redis.UniversalClient) redis.UniversalClient {
	defer rdb.Close()
	through := func(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &countingConn{Conn: conn, w: w}, nil
		}
	}
	if c, ok := rdb.(*redis.ClusterClient); ok {
		o := *c.Options()
		o.Dialer = through(new(net.Dialer).DialContext)
		return redis.NewClusterClient(&o)
	}
	o := *rdb.(*redis.Client).Options()
	o.Dialer = through(o.Dialer)
	return redis.NewClient(&o)
}

type countingConn struct {
	net.Conn
	w *worker

	mu     sync.Mutex
	leases []string // keys of those that were asked for, and not answered
}

var leaseRequest = regexp.MustCompile(`\r\nset\r\n\$\d+\r\n(?:[^\r]*:)?([^\r:]+)\r\n\$\d+\r\n(?s:.*?)\r\nnx\r\n`)

func (c *countingConn) Write(b []byte) (int, error) {
	for _, m := range leaseRequest.FindAllSubmatch(b, -1) {
		c.mu.Lock()
		c.leases = append(c.leases, string(m[1]))
		c.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 {
		c.w.mu.Lock()
		for _, key := range c.leases {
			c.w.acquired[key]++
		}
		c.w.mu.Unlock()
		c.leases = nil
	}
	return n, err
}

// blockedIn counts the goroutines that wait in a function, given by its name below the module.
func blockedIn(name string) (n int) {
	buf := make([]byte, 1<<20)
	for {
		if k := runtime.Stack(buf, true); k < len(buf) {
			buf = buf[:k]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	for _, g := range bytes.Split(buf, []byte("\n\n")) {
		head, frames, _ := bytes.Cut(g, []byte("\n"))
		if !bytes.Contains(head, []byte("[runn")) && bytes.Contains(frames, []byte("github.com/delqhi/cache/"+name)) {
			n++
		}
	}
	return n
}
