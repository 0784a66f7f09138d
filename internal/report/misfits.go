package report

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/delqhi/cache/internal/store"
)

// misfits detects permanent misconfigurations that no single error identifies, and remembers
// which ones were logged.
type misfits struct {
	said  [store.Misfits]atomic.Bool
	wrote atomic.Bool // a change was acknowledged

	open     atomic.Bool // readOnly or hangups is set
	mu       sync.Mutex  // guards what follows
	readOnly time.Time   // time of the first READONLY since a change was acknowledged
	hangups  map[string]*hangup
}

// hangup counts the consecutive times that a kind of operation ended with its connection.
type hangup struct {
	first  time.Time
	n      int
	others int // successes of other kinds meanwhile
}

const (
	// A server that refuses writes with READONLY may be a replica that is about to become a
	// master, but not for as long as replicaAfter. If it has never acknowledged a write of
	// this process, replicaAtFirst is enough.
	replicaAfter, replicaAtFirst = 30 * time.Second, time.Second

	// hangupsLeast hangups of one kind of operation over hangupsAfter, while as many other
	// operations succeed, are not caused by a broken network.
	hangupsLeast = 5
	hangupsAfter = 10 * time.Second
)

func (f *misfits) found(op string, m store.Misfit, err error) bool {
	switch {
	case m == store.Replica:
		f.mu.Lock()
		defer f.mu.Unlock()
		now := time.Now()
		if f.readOnly.IsZero() {
			f.readOnly = now
			f.open.Store(true)
		}
		least := replicaAfter
		if !f.wrote.Load() {
			least = replicaAtFirst
		}
		return now.Sub(f.readOnly) >= least
	case m != store.Fits:
		return true
	case errors.Is(err, io.EOF):
		f.mu.Lock()
		defer f.mu.Unlock()
		h := f.hangups[op]
		if h == nil {
			if f.hangups == nil {
				f.hangups = map[string]*hangup{}
			}
			h = &hangup{first: time.Now()}
			f.hangups[op] = h
			f.open.Store(true)
		}
		h.n++
		return h.n >= hangupsLeast && h.others >= hangupsLeast && time.Since(h.first) >= hangupsAfter
	}
	return false
}

func (f *misfits) succeeded(op string) {
	changes := false
	switch op {
	case "set", "set_nx", "compare_and_set", "delete", "read_clock", "add_tombstones", "append":
		changes = true
		if !f.wrote.Load() {
			f.wrote.Store(true)
		}
	}
	if !f.open.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if changes {
		f.readOnly = time.Time{}
	}
	delete(f.hangups, op)
	for _, h := range f.hangups {
		h.others++
	}
	f.open.Store(!f.readOnly.IsZero() || len(f.hangups) > 0)
}
