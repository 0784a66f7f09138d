package cachetest

import (
	"context"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// TB is the part of a testing.TB that this package uses. *testing.T and *testing.B are such,
// and so are the types of other test frameworks.
type TB interface {
	Helper()
	Cleanup(func())
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Env is an embedded Redis with the processes that are connected to it. Its methods are safe
// for concurrent use, except Advance. Faults take effect before the method that causes them
// returns.
type Env struct {
	tb     TB
	server *miniredis.Miniredis
	began  time.Time
	first  *Process
	wg     sync.WaitGroup // a goroutine for each link

	mu        sync.Mutex // guards what follows
	processes []*Process
	faults    faults // of processes that are yet to come
}

// New starts an embedded Redis, which is empty. It ends with the test, when all caches have
// to be closed: one that still listens to notifications then is an error of the test.
//
// The server executes what a cache needs of Redis, and what most programs do: see the
// documentation of github.com/alicebob/miniredis/v2. It has no address: clients come from
// [Env.Client] and [Process.Client]. It is one server, not a cluster; it has no CLIENT
// TRACKING, so that a cache with invalidate.Tracking logs that and receives by
// invalidate.Broadcast, and no limit of memory, persistence, or users with permissions.
func New(tb TB) *Env {
	tb.Helper()
	e := &Env{tb: tb, began: time.Now().Round(0)}
	var err error
	if e.server, err = startServer(); err != nil {
		tb.Fatalf("cachetest: start the embedded Redis: %v", err)
	}
	tb.Cleanup(e.close)
	e.first = e.Process()
	return e
}

// Client returns a client for a test of one process. It is the same one at each call, and is
// closed with the test. Its settings are those of cache.NewClient.
func (e *Env) Client() redis.UniversalClient { return e.first.client }

// Process returns another process: a client with connections of its own, for caches that
// know of each other only through Redis. What the environment suffers from, it does too.
func (e *Env) Process() *Process {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := &Process{env: e, faults: e.faults, links: map[*link]struct{}{}}
	p.client = newClient(p.dial)
	e.processes = append(e.processes, p)
	return p
}

// FlushAll removes everything from Redis, as FLUSHALL does. No process is notified: what
// local tiers have stays there until it ends, or is invalidated.
func (e *Env) FlushAll() { e.server.FlushAll() }

func (e *Env) close() {
	e.tb.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.processes {
		if n := p.subscriptions(); n > 0 {
			e.tb.Errorf("cachetest: %d caches or subscriptions are still open at the end of the test: close them before, with defer or t.Cleanup", n)
		}
	}
	for _, p := range e.processes {
		_ = p.client.Close()
		p.close()
	}
	e.wg.Wait()
	e.server.Close()
}
