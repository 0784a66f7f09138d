package writebehind

import (
	"context"
	"slices"
	"sync"

	"github.com/delqhi/cache/internal/store"
)

// Limits of one request to Redis: the number of writes, and the bytes before the last one.
const (
	appendWrites = 256
	appendBytes  = 4 << 20
)

// Enqueue queues writes, in this order where keys are the same, and returns an error for each:
// nil if it is in Redis, [ErrFull] if there was no room for it, [ErrClosed]. After any other
// error, that of ctx included, it is not known whether the write is in Redis.
//
// Values are not modified, and must not be modified afterwards if there was an error.
func (q *Queue) Enqueue(ctx context.Context, writes []Write) []error {
	errs := make([]error, len(writes))
	if !q.begin() {
		return fill(errs, ErrClosed)
	}
	defer q.calls.Done()
	if err := ctx.Err(); err != nil {
		return fill(errs, err)
	}
	var tickets []*request
	var last [Partitions]*request
	for i := range writes {
		n := Partition(writes[i].Key)
		t := last[n]
		if t == nil || len(t.writes) == appendWrites || t.size >= appendBytes {
			t = &request{lane: &q.appenders[n], done: make(chan struct{})}
			tickets, last[n] = append(tickets, t), t
		}
		t.add(i, &writes[i])
	}
	for _, t := range tickets {
		t.lane.add(q, t)
	}
	for _, t := range tickets {
		ids, err := t.wait(ctx)
		for j, i := range t.index {
			switch {
			case err != nil:
				errs[i] = err
			case ids[j] == "":
				errs[i] = ErrFull
			}
		}
	}
	return errs
}

func fill(errs []error, err error) []error {
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// request holds the writes of one Enqueue for one partition.
type request struct {
	lane   *appender
	writes []Write
	index  []int // of the writes, in the call's slice
	size   int
	done   chan struct{} // closed when ids and err are written

	ids []string
	err error
}

func (t *request) add(i int, w *Write) {
	t.writes, t.index = append(t.writes, *w), append(t.index, i)
	t.size += len(w.Key) + len(w.Value) + len(w.Meta)
}

// wait waits for the answer, or else for the end of ctx.
func (t *request) wait(ctx context.Context) (ids []string, err error) {
	select {
	case <-t.done:
		return t.ids, t.err
	case <-ctx.Done():
	}
	t.lane.withdraw(t)
	select {
	case <-t.done: // both were ready
		return t.ids, t.err
	default:
		return nil, ctx.Err()
	}
}

// appender sends the writes of a partition: one request at a time. Writes that arrive while a
// request is in flight gather and are sent together in the next one. Besides being fast, this
// makes a request recognisable that a client library sends twice; see [store.Append].
type appender struct {
	worker *worker // of the same partition

	mu      sync.Mutex
	waiting []*request
	busy    bool // a goroutine is sending

	seq int64 // owned by the goroutine of send
}

func (l *appender) add(q *Queue, t *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, t)
	if !l.busy {
		l.busy = true
		q.calls.Go(l.send) // within a call that begin has counted
	}
}

// withdraw removes a request that was not sent yet.
func (l *appender) withdraw(t *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, t); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
}

// next returns the requests that are sent together; if there are none, the sender ends.
func (l *appender) next() []*request {
	l.mu.Lock()
	defer l.mu.Unlock()
	writes, size, n := 0, 0, 0
	for n < len(l.waiting) {
		t := l.waiting[n]
		if n > 0 && (writes+len(t.writes) > appendWrites || size >= appendBytes) {
			break
		}
		writes, size, n = writes+len(t.writes), size+t.size, n+1
	}
	batch := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	l.busy = n > 0
	return batch
}

func (l *appender) send() {
	w := l.worker
	for batch := l.next(); len(batch) > 0; batch = l.next() {
		l.seq++
		a := store.Append{Sender: w.q.sender, Seq: l.seq, Max: partitionBacklog}
		for _, t := range batch {
			a.Writes = append(a.Writes, t.writes...)
		}
		ids, err := w.q.store.Append(w.q.ctx, w.names, a)
		if err == nil {
			w.appended(ids)
		}
		for _, t := range batch {
			if t.err = err; err == nil {
				t.ids, ids = ids[:len(t.writes)], ids[len(t.writes):]
			}
			close(t.done)
		}
	}
}
