package cachetest

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// inbox has the bytes that have come from the server, each with the time at which the client
// may read it.
type inbox struct {
	mu       sync.Mutex // guards what follows
	parcels  []parcel
	delay    time.Duration
	deadline time.Time // of reads; zero for none
	err      error     // not nil: nothing is added any more
	changed  chan struct{}
}

type parcel struct {
	due  time.Time
	data []byte
}

func newInbox(delay time.Duration) *inbox {
	return &inbox{delay: delay, changed: make(chan struct{})}
}

// put adds a copy of p.
func (b *inbox) put(p []byte) {
	b.change(func() {
		if b.err == nil {
			b.parcels = append(b.parcels, parcel{time.Now().Add(b.delay), append([]byte(nil), p...)})
		}
	})
}

// read waits for bytes that are due, for the deadline, or for the end. After an end by the
// server, what it has sent before is read first.
func (b *inbox) read(p []byte) (int, error) {
	for {
		n, next, err := b.try(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		next.wait()
	}
}

// try is read without waiting. If there is nothing to read, it returns what to wait for.
func (b *inbox) try(p []byte) (n int, next pause, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	fail := func(err error) (int, pause, error) {
		return 0, next, &net.OpError{Op: "read", Net: "memory", Err: err}
	}
	switch {
	case !b.deadline.IsZero() && !now.Before(b.deadline):
		return fail(os.ErrDeadlineExceeded)
	case len(b.parcels) > 0 && !now.Before(b.parcels[0].due):
		first := &b.parcels[0]
		n = copy(p, first.data)
		if first.data = first.data[n:]; len(first.data) == 0 {
			b.parcels = b.parcels[1:]
		}
		return n, next, nil
	case len(b.parcels) == 0 && b.err == io.EOF:
		return 0, next, io.EOF
	case len(b.parcels) == 0 && b.err != nil:
		return fail(b.err)
	}
	next = pause{changed: b.changed, until: b.deadline}
	if len(b.parcels) > 0 && (next.until.IsZero() || b.parcels[0].due.Before(next.until)) {
		next.until = b.parcels[0].due
	}
	return 0, next, nil
}

// pause is what a read waits for: a change, or a time unless that is zero.
type pause struct {
	changed <-chan struct{}
	until   time.Time
}

func (p pause) wait() {
	if p.until.IsZero() {
		<-p.changed
		return
	}
	t := time.NewTimer(time.Until(p.until))
	defer t.Stop()
	select {
	case <-p.changed:
	case <-t.C:
	}
}

// end ends the inbox for a reason. io.EOF is for an end by the server: what it has sent can still
// be read, until another end. Of the others the first counts.
func (b *inbox) end(reason error) {
	b.change(func() {
		if b.err != nil && b.err != io.EOF {
			return
		}
		if b.err = reason; reason != io.EOF {
			b.parcels = nil
		}
	})
}

// ended returns the reason for the end, nil before it.
func (b *inbox) ended() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *inbox) setDelay(d time.Duration) { b.change(func() { b.delay = d }) }

func (b *inbox) setDeadline(t time.Time) { b.change(func() { b.deadline = t }) }

// hurry makes everything due.
func (b *inbox) hurry() {
	b.change(func() {
		for i := range b.parcels {
			b.parcels[i].due = time.Time{}
		}
	})
}

// change calls f and wakes those who read.
func (b *inbox) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}
