package report

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Queue calls functions one after the other, in the order in which they were added, on a
// goroutine of its own, which exists while there are any. The program's logger and recorder are
// called by it for goroutines that must not wait for them. The zero value is ready for use; all
// methods are safe for concurrent use.
type Queue struct {
	mu      sync.Mutex // guards what follows
	waiting []func()
	idle    chan struct{} // closed when there are none any more; nil: there are none
}

// Add adds a function.
func (q *Queue) Add(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, f)
	if q.idle == nil {
		q.idle = make(chan struct{})
		go q.run()
	}
}

// Len is how many functions wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func (q *Queue) run() {
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			close(q.idle)
			q.waiting, q.idle = nil, nil
			q.mu.Unlock()
			return
		}
		f := q.waiting[0]
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		f()
	}
}

// Drain waits until all functions were called, for a time at most. Those that still wait then are
// left out.
func (q *Queue) Drain(most time.Duration) {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle == nil {
		return
	}
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
		q.mu.Lock()
		defer q.mu.Unlock()
		q.waiting = nil
	}
}

// linesMost is how many lines wait at most for a logger that blocks: those of an hour or more.
// Later ones are left out.
const linesMost = 256

// aside has lines written by a queue.
type aside struct {
	handler
	queue *Queue
}

// Enabled does not ask the program's handler: it may block.
func (a aside) Enabled(context.Context, slog.Level) bool { return true }

func (a aside) Handle(ctx context.Context, r slog.Record) error {
	if a.queue.Len() < linesMost {
		a.queue.Add(func() {
			if a.handler.Enabled(ctx, r.Level) {
				_ = a.handler.Handle(ctx, r)
			}
		})
	}
	return nil
}
