package redisstore

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// A client opens another connection when an operation finds none that is idle, and keeps it. Work
// that no caller waits for can wait until one is: so a process that is idle needs one connection for
// all of its caches, however many begin at once. The operations of such work take turns at each
// node, those of all stores of a client together, and let operations of callers end first, but do not
// wait for long.

const (
	// turnWait is how long an operation waits: short against the time that a heartbeat may take,
	// and long against that of an operation. patientWait is that of what is patient, such as the
	// touches of the clocks of many caches: one of these at a time waits with the others.
	turnWait    = 25 * time.Millisecond
	patientWait = 250 * time.Millisecond

	// turnLook is how often an operation looks whether a connection is idle.
	turnLook = time.Millisecond
)

// turns are those of the nodes that something waits for, or that are in use.
var turns = struct {
	sync.Mutex
	at map[redis.UniversalClient]*turnAt
}{at: map[redis.UniversalClient]*turnAt{}}

type turnAt struct {
	free chan struct{} // has a value if it is not taken
	calm chan struct{} // likewise, of what is patient
	of   int           // how many take it or wait for it
}

// Turn waits for a turn at the node of a key, and returns a function that ends it.
func (s *Redis) Turn(ctx context.Context, key string) (end func()) {
	node, _, err := s.node(ctx, key)
	if err != nil {
		return func() {}
	}
	return takeTurn(ctx, node)
}

// takeTurn waits for a turn at a node, and returns a function that ends it.
func takeTurn(ctx context.Context, node redis.UniversalClient) (end func()) {
	if !reflect.ValueOf(node).Comparable() {
		return func() {}
	}
	turns.Lock()
	at := turns.at[node]
	if at == nil {
		at = &turnAt{free: make(chan struct{}, 1), calm: make(chan struct{}, 1)}
		at.free <- struct{}{}
		at.calm <- struct{}{}
		turns.at[node] = at
	}
	at.of++
	turns.Unlock()
	ways, most := []chan struct{}{at.free}, turnWait
	if store.IsPatient(ctx) {
		ways, most = []chan struct{}{at.calm, at.free}, patientWait
	}
	if end, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(end)/4) // most of the time is for the operation
	}
	late := time.NewTimer(most)
	defer late.Stop()
	var took []chan struct{}
	for i, way := range ways {
		select {
		case <-way:
			took = append(took, way)
			if i == len(ways)-1 {
				waitForIdle(ctx, node, late.C)
			}
			continue
		case <-late.C:
		case <-ctx.Done():
		}
		break
	}
	return func() {
		for _, way := range took {
			way <- struct{}{}
		}
		turns.Lock()
		defer turns.Unlock()
		if at.of--; at.of == 0 {
			delete(turns.at, node)
		}
	}
}

// waitForIdle waits until a connection is idle, or there is none yet.
func waitForIdle(ctx context.Context, node redis.UniversalClient, late <-chan time.Time) {
	busy := func() bool {
		stats := node.PoolStats()
		return stats != nil && stats.TotalConns > 0 && stats.IdleConns == 0
	}
	if !busy() {
		return
	}
	look := time.NewTicker(turnLook)
	defer look.Stop()
	for busy() {
		select {
		case <-look.C:
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}
