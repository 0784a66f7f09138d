package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
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
//   - An idle lane may have been closed by the server. Each round of heartbeats includes a look at
//     all lanes, on one of them, and is complete when it is answered: see checkLanes.
//   - The server says on a lane that the connection is gone to which it is redirected.
//
// The id of a connection means something to its own server only. So a lane asks for the server's
// run_id first: several servers may be behind one address, and another one may have a connection
// of the same id.
//
// A lane has no deadlines: one that passes would close it, and a caller's impatience would empty the local
// tiers of all caches of the client. A caller whose context ends leaves the call, and the lane goes
// on reading the reply. A server that does not answer at all is found by the heartbeats.
type lanes struct {
	mu      sync.Mutex // guards what follows
	all     []*lane
	idle    []*lane      // the one that was used last is the last one
	waiting []chan *lane // callers; each gets a lane, or nil when the session has ended
	ended   bool
	opening bool
	beats   int       // how many a heartbeat uses
	retry   time.Time // another one is not opened before
	listed  bool      // the server tells the state of several connections at once
}

// lane is one connection, which carries out one call at a time.
type lane struct {
	rdb   *redis.Client
	store *Redis
	id    int64 // by which the server knows it; 0: it does not say
	close func()
}

// laneRetry is how long none is opened after one could not be.
const laneRetry = time.Second

var (
	// errLane ends a session of which a lane has ended.
	errLane = errors.New("redisstore: a connection whose reads are tracked has ended")
	// errNoLane: a command was not sent.
	errNoLane = errors.New("redisstore: no tracked connection to this server")
)

// take returns a lane that is idle, as soon as there is one; the caller ends its use by put. It asks
// for another lane to be opened if all are in use, up to as many as the client may have connections.
// A check goes before all calls, takes the lane that was not used for the longest time, and may have
// one more opened: calls that take long do not hold up the heartbeats.
func (c *listenConn) take(ctx context.Context, check bool) (*lane, error) {
	p := &c.lanes
	p.mu.Lock()
	if p.ended || len(p.all) == 0 {
		p.mu.Unlock()
		return nil, errNoLane
	}
	if n := len(p.idle); n > 0 {
		at := n - 1
		if check {
			at = 0
		}
		l := p.idle[at]
		p.idle = slices.Delete(p.idle, at, at+1)
		p.mu.Unlock()
		return l, nil
	}
	most := c.master.options.PoolSize
	if check {
		most++
	}
	if len(p.all) < most && !(check && p.beats == len(p.all)) && p.listed && !p.opening && time.Now().After(p.retry) {
		p.opening = c.session.store.background(func(context.Context) { c.openAnother() })
	}
	got := make(chan *lane, 1)
	if check {
		p.waiting = slices.Insert(p.waiting, 0, got)
	} else {
		p.waiting = append(p.waiting, got)
	}
	p.mu.Unlock()
	select {
	case l := <-got:
		if l == nil {
			return nil, errNoLane
		}
		return l, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	at := slices.Index(p.waiting, got)
	if at >= 0 {
		p.waiting = slices.Delete(p.waiting, at, at+1)
	}
	p.mu.Unlock()
	if at < 0 { // it was handed over meanwhile
		if l := <-got; l != nil {
			c.put(l)
		}
	}
	return nil, ctx.Err()
}

// beating counts a lane that a heartbeat uses: the next one waits for it.
func (p *lanes) beating(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beats += n
}

// put ends the use of a lane.
func (c *listenConn) put(l *lane) {
	p := &c.lanes
	p.mu.Lock()
	ended := p.ended
	switch {
	case ended:
	case len(p.waiting) > 0:
		next := p.waiting[0]
		p.waiting = p.waiting[1:]
		next <- l
	default:
		p.idle = append(p.idle, l)
	}
	p.mu.Unlock()
	if ended {
		l.close()
	}
}

// endLanes closes the lanes when the session has ended: those in use after the calls on them, which are
// not to fail because a heartbeat was late, or another lane broke, but after a time at the latest.
func (c *listenConn) endLanes() {
	p := &c.lanes
	p.mu.Lock()
	p.ended = true
	all, idle, waiting := slices.Clone(p.all), p.idle, p.waiting
	p.idle, p.waiting = nil, nil
	p.mu.Unlock()
	for _, w := range waiting {
		w <- nil
	}
	for _, l := range idle {
		l.close()
	}
	if len(idle) == len(all) {
		return
	}
	time.AfterFunc(max(c.master.options.ReadTimeout, c.session.key.timeout), func() {
		for _, l := range all {
			l.close()
		}
	})
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
	o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled = -1, -1, false
	o.Protocol = 3
	first := o.OnConnect
	one := &lane{}
	connected := make(chan error, 1)
	o.OnConnect = func(ctx context.Context, cn *redis.Conn) (err error) {
		if first != nil {
			err = first(ctx, cn)
		}
		if err == nil {
			err = c.track(ctx, cn, one)
		}
		connected <- err
		return err
	}
	one.rdb = redis.NewClient(&o)
	one.close = sync.OnceFunc(func() {
		_ = conn.Close()
		_ = one.rdb.Close()
		if one.store != nil {
			one.store.Close()
		}
	})
	// What has no deadline ends with the session, at the latest.
	stop := context.AfterFunc(c.session.ctx, func() { _ = conn.Close() })
	defer stop()
	err = one.rdb.RegisterPushNotificationHandler("tracking-redir-broken", redirectionBroken{c.session}, true)
	if err == nil {
		one.store, err = NewRedis(one.rdb)
	}
	listed := false
	if err == nil {
		_ = one.rdb.Eval(ctx, "return 1", nil).Err() // connects; it may be refused
		select {
		case err = <-connected:
		default:
			err = errNoLane
		}
	}
	if err == nil {
		listed, err = c.check(ctx, one, []*lane{one}, true)
	}
	if err != nil {
		one.close()
		return err
	}
	one.store.lane = true
	one.store.noMget.Store(c.session.store.cluster != nil)
	open.Store(true)
	c.lanes.mu.Lock()
	over := c.lanes.ended
	if !over {
		c.lanes.all = append(c.lanes.all, one)
		c.lanes.listed = listed
	}
	c.lanes.mu.Unlock()
	if over || !stop() {
		one.close()
		return errNoLane
	}
	c.put(one)
	return nil
}

// check makes sure that lanes live, by commands on one of them: that its server has the connections, and
// remembers what is read on them, for the one of the session; the first time also that it is a master. It is asked
// for their state by their ids, that of the connection itself included: a proxy may have replaced that
// one on its other side. The state of a single lane is that of the connection that asks. The first check
// finds out whether the server says it of others: if listed is false there must be none.
func (c *listenConn) check(ctx context.Context, on *lane, all []*lane, first bool) (listed bool, err error) {
	var master, redirected, list *redis.Cmd
	ask := func(text string) error {
		pipe := on.rdb.Pipeline()
		master, redirected, list = nil, nil, nil
		if first {
			master = pipe.Do(ctx, "eval", text, 0, noKey)
		}
		if len(all) == 1 {
			redirected = pipe.Do(ctx, "client", "getredir")
		}
		if len(all) > 1 || first {
			words := []any{"client", "list", "id"}
			for _, l := range all {
				words = append(words, l.id)
			}
			list = pipe.Do(ctx, words...)
		}
		_, err := pipe.Exec(ctx)
		switch {
		case err != nil && !slices.ContainsFunc([]*redis.Cmd{master, redirected, list}, func(cmd *redis.Cmd) bool { return cmd != nil && cmd.Err() != nil }):
			return err
		case master != nil:
			return master.Err()
		}
		return nil
	}
	err = on.store.byFlags(func() error { return ask(onMasterText) }, func() error { return ask(oldOnMasterText) })
	var answer redis.Error
	switch {
	case isDemoted(err):
		return false, fmt.Errorf("%w: %w", errDemoted, err)
	case err != nil && !errors.As(err, &answer): // otherwise it was refused for another reason
		return false, err
	}
	if redirected != nil {
		switch id, err := redirected.Int64(); {
		case err == nil && id != c.id:
			return false, fmt.Errorf("it is redirected to %d, and not to %d", id, c.id)
		case err != nil && !isRefusal(err):
			return false, err
		}
	}
	if list == nil {
		return false, nil
	}
	switch text, err := list.Text(); {
	case err == nil:
		return c.areTracked(text, all)
	case !isRefusal(err):
		return false, err
	case len(all) > 1:
		return false, err
	}
	return false, nil
}

// areTracked reads an answer of CLIENT LIST.
func (c *listenConn) areTracked(list string, all []*lane) (listed bool, err error) {
	states := map[string]bool{}
	for line := range strings.Lines(list) {
		f := map[string]string{}
		for _, word := range strings.Fields(line) {
			name, val, _ := strings.Cut(word, "=")
			f[name] = val
		}
		if f["flags"] == "" || f["redir"] == "" {
			continue // it is not said
		}
		states[f["id"]] = strings.Contains(f["flags"], "t") && !strings.Contains(f["flags"], "R") && f["redir"] == strconv.FormatInt(c.id, 10)
	}
	for _, l := range all {
		tracked, said := states[strconv.FormatInt(l.id, 10)]
		switch {
		case said && tracked:
		case len(all) == 1 && !said:
			return false, nil // it is the one that has answered
		default:
			return false, fmt.Errorf("the server does not have connection %d any more, or not for connection %d", l.id, c.id)
		}
	}
	return true, nil
}

// track has the server remember what is read on a connection, for that of the session.
func (c *listenConn) track(ctx context.Context, cn *redis.Conn, l *lane) error {
	hello, err := speakRESP3(ctx, cn)
	if err != nil {
		return err
	}
	l.id, _ = hello["id"].(int64)
	run, err := runID(ctx, cn)
	if err != nil {
		return err
	}
	if run != c.server {
		return errOtherServer
	}
	err = cn.Do(ctx, "client", "tracking", "on", "redirect", c.id).Err()
	if isRefusal(err) && !strings.Contains(err.Error(), "does not exist") { // the session's connection has ended
		return fmt.Errorf("%w: %w", store.ErrNoKeyTracking, err)
	}
	return err
}

// errOtherServer: several servers are behind one address, or another one has taken it over.
var errOtherServer = fmt.Errorf("%w: a connection to the same address leads to it", store.ErrOtherServer)

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

// publishByLane sends a heartbeat through a master on one of the lanes there, and then makes sure that all
// of them live: what was read on them is reported then, up to the time of the round at least. One that
// does not ends the session. The heartbeat shows that the server is a master.
func (s *session) publishByLane(round int64, conn int, count bool) {
	ctx, cancel := context.WithTimeout(s.ctx, s.key.timeout)
	defer cancel()
	c := s.conns[conn]
	l, err := c.take(ctx, true)
	if err != nil {
		s.published(err) // the round is not complete
		return
	}
	c.lanes.beating(1)
	by := s.masters[conn]
	by.rdb = l.rdb
	if err = s.publish(by, round, conn, count); err == nil {
		c.lanes.mu.Lock()
		all := slices.Clone(c.lanes.all)
		c.lanes.mu.Unlock()
		if _, err = c.check(ctx, l, all, false); err != nil {
			s.end(c.explain(fmt.Errorf("%w: %w", errLane, err)))
		}
	}
	c.lanes.beating(-1)
	c.put(l)
	if err == nil {
		s.heard(strconv.FormatInt(round, 10), len(s.conns)+conn)
	}
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
