package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"
)

// With Subscription.ByKey, each connection of a session has lanes: connections to the same server
// on which commands are sent, and whose reads the server remembers (CLIENT TRACKING in its default
// mode, with REDIRECT to the connection of the session). It reports a change of a key that was
// read on any of them.
//
// What was read on a lane is not reported any more once the server has closed it, or the connection
// that it is redirected to. Either ends the session, and with that the validity of the local tier:
//
//   - go-redis closes a lane that has failed; its Close ends the session.
//   - An idle lane may have been closed by the server. Each round of heartbeats includes a command on
//     every lane, which only a master carries out, and is complete when all are answered: see
//     checkLanes.
//   - The server says on a lane that the connection is gone to which it is redirected.
//
// The id of a connection means something to its own server only. So a lane asks for the server's
// run_id first: several servers may be behind one address, and another one may have a connection
// of the same id.
type lanes struct {
	mu      sync.Mutex // guards what follows
	all     []*lane
	opening bool
	retry   time.Time // another one is not opened before
}

// lane is one connection, which carries out one call at a time.
type lane struct {
	rdb   *redis.Client
	store *Redis
	calls atomic.Int32 // that it carries out, or that wait for it

	ending atomic.Bool
	idle   chan struct{} // closed by drained
	once   sync.Once
}

const (
	// lanesMost is how many lanes a connection has at most. Another one is opened when all are in
	// use. They stay until the session ends.
	lanesMost = 8
	// laneRetry is how long none is opened after one could not be.
	laneRetry = time.Second
)

var (
	// errLane ends a session of which a lane has ended.
	errLane = errors.New("redisstore: a connection whose reads are tracked has ended")
	// errNoLane: a command was not sent.
	errNoLane = errors.New("redisstore: no tracked connection to this server")
)

// pick returns the lane with the fewest calls, for one more; the caller ends it by put.
func (c *listenConn) pick() *lane {
	l := &c.lanes
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return nil
	}
	best := slices.MinFunc(l.all, func(a, b *lane) int { return int(a.calls.Load() - b.calls.Load()) })
	if best.calls.Add(1) > 1 && len(l.all) < lanesMost && !l.opening && time.Now().After(l.retry) {
		l.opening = true
		c.session.store.background(func(context.Context) { c.openAnother() })
	}
	return best
}

func (l *lane) put() {
	if l.calls.Add(-1) == 0 && l.ending.Load() {
		l.drained()
	}
}

func (l *lane) drained() { l.once.Do(func() { close(l.idle) }) }

// drain waits until the calls have ended that are in progress when the session ends, for a time at
// most: they are not to fail because a heartbeat was late, or another lane broke.
func (l *lane) drain(most time.Duration) {
	if l.ending.Store(true); l.calls.Load() == 0 {
		l.drained()
	}
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-l.idle:
	case <-t.C:
	}
}

// openAnother opens a lane. If that fails, there is none more for a while: the others do.
func (c *listenConn) openAnother() {
	err := c.openLane(c.session.ctx)
	c.lanes.mu.Lock()
	defer c.lanes.mu.Unlock()
	c.lanes.opening = false
	if err != nil {
		c.lanes.retry = time.Now().Add(laneRetry)
	}
}

// openLane opens a lane, for as long as the session goes on.
func (c *listenConn) openLane(ctx context.Context) error {
	o := *c.master.options
	conn, err := dial(ctx, c.session.store, &o)
	if err != nil {
		return err
	}
	lonely(&o)
	var open atomic.Bool
	o.Dialer = onlyOnce(laneConn(conn, func() {
		if open.Load() {
			c.session.end(errLane)
		}
	}))
	o.ConnMaxIdleTime, o.ConnMaxLifetime = -1, -1
	o.Protocol = 3
	first := o.OnConnect
	connected := make(chan error, 1) // apart from what check returns, which may ignore a refusal
	o.OnConnect = func(ctx context.Context, cn *redis.Conn) (err error) {
		if first != nil {
			err = first(ctx, cn)
		}
		if err == nil {
			err = c.track(ctx, cn)
		}
		connected <- err
		return err
	}
	rdb := redis.NewClient(&o)
	closeAll := sync.OnceFunc(func() {
		_ = conn.Close()
		_ = rdb.Close()
	})
	one := &lane{rdb: rdb, idle: make(chan struct{})}
	most := max(o.ReadTimeout, c.session.key.timeout)
	stop := context.AfterFunc(c.session.ctx, func() {
		one.drain(most)
		closeAll()
	})
	fail := func(err error) error {
		stop()
		closeAll()
		return err
	}
	if err := rdb.RegisterPushNotificationHandler("tracking-redir-broken", redirectionBroken{c.session}, true); err != nil {
		return fail(err)
	}
	own, err := NewRedis(rdb)
	if err != nil {
		return fail(err)
	}
	one.store = own
	err = one.check(ctx)
	select {
	case failed := <-connected:
		err = cmp.Or(failed, err)
	default:
		err = cmp.Or(err, errNoLane)
	}
	if err != nil {
		own.Close()
		return fail(err)
	}
	context.AfterFunc(c.session.ctx, own.Close)
	own.lane = true
	own.noMget.Store(c.session.store.cluster != nil)
	open.Store(true)
	c.lanes.mu.Lock()
	defer c.lanes.mu.Unlock()
	c.lanes.all = append(c.lanes.all, one)
	return nil
}

// check makes sure that the lane lives, and its server is a master.
func (l *lane) check(ctx context.Context) error {
	eval := func(text string) error { return l.rdb.Eval(ctx, text, nil, noKey).Err() }
	err := l.store.byFlags(func() error { return eval(onMasterText) }, func() error { return eval(oldOnMasterText) })
	var answer redis.Error
	switch {
	case isDemoted(err):
		return fmt.Errorf("%w: %w", errDemoted, err)
	case errors.As(err, &answer):
		return nil // refused for another reason
	}
	return err
}

// track has the server remember what is read on a connection, for that of the session.
func (c *listenConn) track(ctx context.Context, cn *redis.Conn) error {
	if _, err := speakRESP3(ctx, cn); err != nil {
		return err
	}
	run, err := runID(ctx, cn)
	if err != nil {
		return err
	}
	if run != c.server {
		return fmt.Errorf("%w: another server answers", store.ErrNoKeyTracking)
	}
	return noTracking(cn.Do(ctx, "client", "tracking", "on", "redirect", c.id).Err())
}

// identify learns what the lanes need to know of the session's own connection, from the answer to
// its HELLO.
func (c *listenConn) identify(ctx context.Context, cn *redis.Conn, hello map[string]any) error {
	id, ok := hello["id"].(int64)
	if !ok {
		return fmt.Errorf("%w: the server does not say the id of a connection", store.ErrNoKeyTracking)
	}
	run, err := runID(ctx, cn)
	c.id, c.server = id, run
	return err
}

// runID asks for what distinguishes a server from all others.
func runID(ctx context.Context, cn *redis.Conn) (string, error) {
	info, err := cn.Info(ctx, "server").Result()
	var refused redis.Error
	if errors.As(err, &refused) && !refusedForNow(err) {
		return "", fmt.Errorf("%w: %w", store.ErrNoKeyTracking, err)
	}
	if err != nil {
		return "", err
	}
	run := field(info, "run_id")
	if run == "" {
		return "", fmt.Errorf("%w: the server does not say its run_id", store.ErrNoKeyTracking)
	}
	return run, nil
}

// checkLanes makes sure that the lanes of a connection live, for a round of heartbeats: what was read
// on them is reported then, up to that time at least. One that does not ends the session.
func (s *session) checkLanes(round string, conn int) {
	ctx, cancel := context.WithTimeout(s.ctx, s.key.timeout)
	defer cancel()
	c := s.conns[conn]
	c.lanes.mu.Lock()
	all := slices.Clone(c.lanes.all)
	c.lanes.mu.Unlock()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, l := range all {
		wg.Go(func() { errs[i] = l.check(ctx) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		s.end(c.explain(fmt.Errorf("%w: %w", errLane, err)))
		return
	}
	s.heard(round, len(s.conns)+conn)
}

// redirectionBroken takes the server's push message that a connection is gone which others are
// redirected to.
type redirectionBroken struct{ *session }

// HandlePushNotification implements push.NotificationHandler.
func (s redirectionBroken) HandlePushNotification(context.Context, push.NotificationHandlerContext, []any) error {
	s.end(errBroken)
	return nil
}

// onlyOnce returns a dialer that returns a connection, and then none.
func onlyOnce(conn net.Conn) func(context.Context, string, string) (net.Conn, error) {
	var used atomic.Bool
	return func(context.Context, string, string) (net.Conn, error) {
		if used.Swap(true) {
			return nil, &net.OpError{Op: "dial", Err: errBroken}
		}
		return conn, nil
	}
}

// laneConn returns conn with a Close that also calls closed. go-redis asks the socket of an idle
// connection whether it lives, if it is one.
func laneConn(conn net.Conn, closed func()) net.Conn {
	c := &closingConn{conn, closed}
	if sys, ok := conn.(syscall.Conn); ok {
		return &closingSocket{c, sys}
	}
	return c
}

type closingConn struct {
	net.Conn
	closed func()
}

func (c *closingConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

type closingSocket struct {
	*closingConn
	syscall.Conn
}

var _ net.Conn = (*closingSocket)(nil)
