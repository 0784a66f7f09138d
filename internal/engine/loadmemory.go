package engine

import (
	"context"

	"github.com/delqhi/cache/internal/flight"
	"github.com/delqhi/cache/internal/local"
)

// loadMemory is the memory of the load of one key. What its loader may keep is no part of it: see
// loadContexts.
//
// That of a load in its caller's goroutine belongs to the read, as its key and the space for its
// value do, and is used again with these; see [Scratch.loaded]. A load that has a goroutine may
// outlive the read, and has its own.
type loadMemory struct {
	c        *Cache
	flight   flight.Single[string, beginning, *result]
	contexts *loadContexts
	load     inflightLoad
	loads    [1]*inflightLoad
	run      singleLoad
	at       int64 // local time when a load in its caller's goroutine begins; 0: it has a goroutine
}

// loadApart is the memory of a load that has a goroutine, in one allocation.
type loadApart struct {
	loadMemory
	contexts loadContexts
}

// redisLoadApart is that of a load whose result is stored in Redis.
type redisLoadApart struct {
	loadApart
	redisLoad
}

func (c *Cache) newLoadMemory() *loadMemory {
	if !c.inRedis {
		m := new(loadApart)
		m.loadMemory.contexts = &m.contexts
		return &m.loadMemory
	}
	m := new(redisLoadApart)
	m.loadMemory.contexts, m.load.redisLoad = &m.loadApart.contexts, &m.redisLoad
	return &m.loadMemory
}

// loadMemory returns memory for the load of a key in its caller's goroutine.
func (s *Scratch) loadMemory() *loadMemory {
	if s.load == nil {
		s.load = new(loadMemory)
	}
	if s.load.contexts == nil {
		s.load.contexts = new(loadContexts)
	}
	return s.load
}

// loaded is called when the load of a key in its caller's goroutine is over. Its memory, the key and
// the value are used again only if no other goroutine has seen them: no caller has joined the load,
// none waited for its claim, and the watchdog was not about to take it over.
func (s *Scratch) loaded(r *flight.Result[*result]) {
	switch m := s.load; {
	case m == nil || m.c == nil: // it has not been used
	case r.Shared || r.Refused || r.Err == nil && !r.Joined && !m.run.seen && !m.load.awaited:
		unused := m.contexts
		*m = loadMemory{}
		m.contexts = unused
	default:
		s.load, s.seen = nil, true
	}
}

// prepareLoad returns the memory for the load of a key, and what leads it. here: it is to run in the
// goroutine of its caller.
func (c *Cache) prepareLoad(s *Scratch, it *Lookup, j Loader, o *Options, here bool) *loadMemory {
	var m *loadMemory
	if here && !c.inRedis {
		m = s.loadMemory()
		m.load.key, m.run.space, m.run.o, m.at = it.key, it.space, o, local.Now()
	} else { // it may outlive the call: what it needs is copied
		m = c.newLoadMemory()
		m.load.key, m.run.space = c.types.KeepKey(it.key)
		m.run.o = o.kept()
	}
	m.c, m.run.j = c, j
	m.load.rk, m.load.place, m.load.down = it.rk, it.place, it.remoteErr != nil
	return m
}

// NewContext implements [flight.Leader].
func (m *loadMemory) NewContext(caller context.Context) flight.Context {
	x := m.contexts
	m.contexts, m.run.in = nil, &x.call
	x.work.values = caller
	x.work.expireAt(later(m.begins(), m.c.policyOf(m.run.o).HardTimeout))
	return &x.work
}

func (m *loadMemory) begins() int64 {
	if m.at != 0 {
		return m.at
	}
	return local.Now()
}

// Lead implements [flight.Leader].
func (m *loadMemory) Lead(ctx context.Context, mine []*flight.Call[string, beginning, *result]) {
	m.load.call, m.loads[0] = mine[0], &m.load
	m.c.lead(ctx, m.begins(), m.run.j, m.run.o, m.loads[:], &m.run)
}
