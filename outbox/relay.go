package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/delqhi/cache"
)

// Relay reads the outbox and invalidates. Any number of processes run one: for each cache one of
// them is at work, by a lease in the database, and another takes over when it ends or the lease
// expires. Set the fields before [Relay.Run]; they are not to be changed afterwards, and the
// Relay not to be copied. The other methods are safe for concurrent use.
type Relay struct {
	// DB is the database, an *sql.DB. It stays open. Connections are used for single statements.
	DB Queryer

	// Outbox is the table.
	Outbox *Outbox

	// Targets are the caches. Rows of other caches are left to other relays. Of several targets of
	// one name, such as caches of several regions, each must acknowledge.
	Targets []Target

	// Poll is how often the table is looked at while nothing wakes the relay. The default is 250
	// milliseconds, or 2 seconds with Listen.
	Poll time.Duration

	// Listen, if it is not nil, waits for notifications of a channel on PostgreSQL, [Outbox.Channel],
	// and calls wake for each, which returns at once. It returns when it can listen no more, and is
	// called again after a pause; it must return when ctx ends. It takes a driver: see the guide in
	// docs/outbox.md.
	Listen func(ctx context.Context, channel string, wake func()) error

	// Lease is how long a relay that no longer renews its lease keeps others from its caches: the
	// lag after a crash. The default is 3 seconds. It is renewed three times as often.
	Lease time.Duration

	// Batch is the number of rows of a cache that are read, merged, applied and removed together. The default
	// is 500, the greatest 10000.
	Batch int

	// Concurrency is the number of invalidations in flight; a cache sends what is in flight
	// at the same time in shared round trips. The default is 64.
	Concurrency int

	// Timeout bounds each invalidation. The default is 10 seconds.
	Timeout time.Duration

	// MaxAttempts is how often a row may be refused before it becomes a dead letter. It does not
	// count that Redis is unavailable: rows wait for that as long as it takes. The default is 10.
	MaxAttempts int

	// MaxBackoff is the longest pause between attempts, which begin with 50 milliseconds and
	// double. The default is 5 seconds.
	MaxBackoff time.Duration

	// LagWarning is the lag from which on the relay logs that it has fallen behind. The default is
	// 10 seconds.
	LagWarning time.Duration

	// Logger gets a line for each change of state, without keys. The default is slog.Default().
	Logger *slog.Logger

	start sync.Once
	wake  chan struct{} // made by init; holds one signal

	mu      sync.Mutex // guards the fields below
	running bool
	stats   Stats
	known   map[string]known // by cache
}

const (
	defaultPoll        = 250 * time.Millisecond
	defaultListenPoll  = 2 * time.Second
	defaultLease       = 3 * time.Second
	defaultBatch       = 500
	greatestBatch      = 10_000
	defaultConcurrency = 64
	defaultTimeout     = 10 * time.Second
	defaultAttempts    = 10
	firstBackoff       = 50 * time.Millisecond
	defaultMaxBackoff  = 5 * time.Second
	defaultLagWarning  = 10 * time.Second
)

func (r *Relay) init() { r.start.Do(func() { r.wake = make(chan struct{}, 1) }) }

// Wake has the relay look at the table now. A process that has committed calls it to
// shorten the lag where nothing else does; it has no effect on the relays of other processes.
func (r *Relay) Wake() {
	r.init()
	select {
	case r.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Run invalidates until ctx ends, and then returns its error. It waits for what is in flight and
// leaves its caches to other relays at once. What it can't reach, Redis or the database, it tries
// again.
//
// Mistakes in the fields are errors that wrap cache.ErrInvalidOption, all at once, and so is a Run
// while another one of this Relay is running. If a target is closed, the error wraps
// cache.ErrClosed, and another relay takes over.
func (r *Relay) Run(ctx context.Context) error {
	r.init()
	run, err := r.prepare()
	if err != nil {
		return err
	}
	r.mu.Lock()
	if r.running {
		r.mu.Unlock()
		return mistake("this relay is running")
	}
	r.running = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.running = false
	}()
	return run.run(ctx)
}

// prepare returns a run with defaults where the fields say nothing.
func (r *Relay) prepare() (*run, error) {
	var mistakes []error
	wrong := func(text string) { mistakes = append(mistakes, mistake("Relay: "+text)) }
	if isNil(r.DB) {
		wrong("DB is nil")
	}
	if r.Outbox == nil || r.Outbox.table == "" {
		wrong("Outbox was not made by New")
	}
	targets := map[string][]Target{}
	var caches []string
	for _, t := range r.Targets {
		if isNil(t) {
			wrong("a target is nil")
			continue
		}
		name := t.Name()
		if len(name) == 0 || len(name) > maxName {
			wrong(fmt.Sprintf("a target has a name of %d bytes", len(name)))
		}
		if targets[name] == nil {
			caches = append(caches, name)
		}
		targets[name] = append(targets[name], t)
	}
	if len(r.Targets) == 0 {
		wrong("there are no targets")
	}
	poll := defaultPoll
	if r.Listen != nil {
		poll = defaultListenPoll
		if r.Outbox != nil && r.Outbox.Channel() == "" {
			wrong("Listen is set, and transactions of this outbox send no notifications")
		}
	}
	run := &run{
		Relay: r, targets: targets, caches: caches, log: reporter{log: r.Logger},
		poll: orDefault(r.Poll, poll, "Poll", wrong), lease: orDefault(r.Lease, defaultLease, "Lease", wrong),
		batch: orDefault(r.Batch, defaultBatch, "Batch", wrong), concurrency: orDefault(r.Concurrency, defaultConcurrency, "Concurrency", wrong),
		timeout: orDefault(r.Timeout, defaultTimeout, "Timeout", wrong), attempts: orDefault(r.MaxAttempts, defaultAttempts, "MaxAttempts", wrong),
		maxBackoff: orDefault(r.MaxBackoff, defaultMaxBackoff, "MaxBackoff", wrong), lagWarning: orDefault(r.LagWarning, defaultLagWarning, "LagWarning", wrong),
		states: map[string]*state{},
	}
	if run.batch > greatestBatch {
		wrong(fmt.Sprintf("Batch is %d, and may be %d", run.batch, greatestBatch))
	}
	if r.Lease > 0 && r.Lease < 10*time.Millisecond {
		wrong(fmt.Sprintf("Lease is %v, and is at least 10ms", r.Lease))
	}
	for _, c := range caches {
		run.states[c] = &state{}
	}
	return run, errors.Join(mistakes...)
}

func orDefault[T int | time.Duration](v, def T, name string, wrong func(string)) T {
	if v < 0 {
		wrong(fmt.Sprintf("%s is %v", name, v))
	}
	if v == 0 {
		return def
	}
	return v
}

// run is one call of Run. Its fields belong to the goroutine of that call.
type run struct {
	*Relay
	targets map[string][]Target
	caches  []string
	log     reporter

	poll, lease, timeout, maxBackoff, lagWarning time.Duration
	batch, concurrency, attempts                 int

	holder     string // identifies this run in the table of leases
	introduced bool   // every cache has its row in the table of leases
	states     map[string]*state
	look       time.Time // when leases are to be looked at again
	counted    time.Time // when rows are to be counted again
	dbFail     int       // failures of the database in a row
}

// state is what a run knows of a cache.
type state struct {
	until   time.Time // the lease: it is not applied to the cache after that
	held    bool
	failed  int       // looks in a row in which nothing new could be applied, because Redis is unavailable
	pause   time.Time // until then the cache is left alone
	waiting map[int64]retry
}

// retry is a row that waits because Redis did not acknowledge it.
type retry struct {
	at    time.Time
	tries int
}

func (s *state) holds(now time.Time) bool { return s.held && now.Before(s.until) }

func (n *run) run(ctx context.Context) error {
	n.holder = newHolder()
	stop := n.listen(ctx)
	defer stop()
	defer n.release(ctx)
	for {
		pause, err := n.step(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, cache.ErrClosed):
			return err
		case err != nil:
			n.dbFail++
			pause = n.backoff(n.dbFail)
			n.Relay.note(func(s *Stats) { s.DatabaseErrors++ })
			n.log.begin(slog.LevelWarn, "outbox: the database does not answer, invalidations wait", "", slog.Any("error", err))
		default:
			n.dbFail = 0
			n.log.end("outbox: the database does not answer, invalidations wait", "", "outbox: the database answers again")
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-n.wake:
			if err != nil {
				select { // a signal does not shorten the pause of a database that fails
				case <-ctx.Done():
				case <-timer.C:
				}
			}
			timer.Stop()
		case <-timer.C:
		}
	}
}

// step looks at the leases and at the table, and returns how long to wait for a signal.
func (n *run) step(ctx context.Context) (time.Duration, error) {
	if err := n.leases(ctx); err != nil {
		return 0, err
	}
	again, err := n.pass(ctx)
	if err == nil {
		err = n.count(ctx)
	}
	if err != nil || again {
		return 0, err
	}
	now := time.Now()
	pause := min(n.poll, n.look.Sub(now))
	for _, s := range n.states {
		if s.held && s.pause.After(now) {
			pause = min(pause, s.pause.Sub(now))
		}
	}
	return max(pause, 0), nil
}

// backoff is the pause after a number of failures in a row.
func (n *run) backoff(failures int) time.Duration {
	d := firstBackoff
	for i := 1; i < failures && d < n.maxBackoff; i++ {
		d *= 2
	}
	d = min(d, n.maxBackoff)
	return d - time.Duration(randomFraction()*float64(d)/4) // relays that failed together do not return together
}

// listen runs Listen until the function that it returns is called.
func (n *run) listen(ctx context.Context) (stop func()) {
	if n.Listen == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for failures := 0; ; {
			heard := false
			err := n.listenOnce(ctx, func() { heard = true; n.notified() })
			if ctx.Err() != nil {
				return
			}
			if heard {
				failures = 0
			}
			failures++
			n.log.once(slog.LevelWarn, "outbox: notifications are lost, the relay polls meanwhile", slog.Any("error", err))
			select {
			case <-ctx.Done():
				return
			case <-time.After(n.backoff(failures)):
			}
			n.Wake() // for what came in between
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (n *run) notified() {
	n.note(func(s *Stats) { s.Notifications++ })
	n.Wake()
}

func (n *run) listenOnce(ctx context.Context, wake func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("outbox: Listen panicked: %v", p)
		}
	}()
	return n.Listen(ctx, n.Outbox.Channel(), wake)
}
