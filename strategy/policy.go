package strategy

import (
	"errors"
	"time"
)

// The defaults of strategies that a list does not contain.
const (
	defaultTTL         = 5 * time.Minute
	defaultJitter      = 0.1
	maxDefaultLocal    = time.Minute      // of LocalTTL, which follows the TTL
	maxDefaultNotFound = 30 * time.Second // of NotFoundTTL, which follows the TTL
	defaultHardTimeout = 30 * time.Second
	defaultRetryAfter  = 5 * time.Second
	defaultBatchSize   = 100
	defaultBatchDelay  = 100 * time.Millisecond
	defaultMaxAttempts = 10
)

// Policy is the result of a list of strategies: made by [Compile], and then only read, by any
// number of goroutines.
type Policy struct {
	// Strategies are the effective ones of the list, one of each kind, in the order of their
	// appearance. Defaults are not among them.
	Strategies []Strategy

	LocalEntries int           // LRU or TinyLFU; 0: no local tier
	LocalTinyLFU bool          // TinyLFU
	LocalBytes   int64         // 0: no bound
	LocalTTL     time.Duration // never 0

	LocalDuringOutage time.Duration // 0: off

	TTL     time.Duration // 0: no end (Forever)
	Jitter  float64       // 0: none
	Sliding time.Duration // 0: off

	RefreshAhead    float64 // 0: off
	EarlyExpiration float64 // 0: off

	StaleWhileRevalidate time.Duration // 0: off
	StaleIfError         time.Duration // 0: off
	RetryAfter           time.Duration // 0: every read loads

	SoftTimeout time.Duration // 0: off
	HardTimeout time.Duration // never 0
	Abandons    bool          // HardTimeout was given: no caller waits longer, whatever the loader does

	NotFoundTTL    time.Duration // 0: absence is not remembered
	NotFoundErrors []error       // errors that mean absence, besides the cache's own error; not modified
	ErrorTTL       time.Duration // 0: errors are not remembered

	BatchLoads int           // the most keys of a call of LoadMany for single loads; 0: they are not collected
	BatchWait  time.Duration // BatchLoads: how long they are collected

	Audit float64 // the fraction of local hits that are compared with Redis; 0: none

	Write       WriteMode
	BatchSize   int           // WriteBehind; never 0, also in other modes
	BatchDelay  time.Duration // WriteBehind; 0: a batch does not wait
	MaxAttempts int           // WriteBehind; never 0, also in other modes
}

// WriteMode is where a write goes.
type WriteMode uint8

const (
	ModeCache   WriteMode = iota // to the cache only
	ModeThrough                  // [WriteThrough]
	ModeAround                   // [WriteAround]
	ModeBehind                   // [WriteBehind]
)

// String is "cache", "through", "around" or "behind".
func (m WriteMode) String() string {
	switch m {
	case ModeCache:
		return "cache"
	case ModeThrough:
		return "through"
	case ModeAround:
		return "around"
	case ModeBehind:
		return "behind"
	}
	return "unknown"
}

// Compile merges the list by kind, the last of a kind being the effective one, and fills in the
// defaults. The error joins all mistakes, each with the remedy; it wraps
// cache.ErrInvalidOption, and the Policy then is empty. An invalid value is a mistake also
// where a later strategy replaces it; a combination is judged by the effective strategies. An
// empty list gives the defaults.
func Compile(list ...Strategy) (Policy, error) {
	var c compiler
	for i, s := range list {
		c.add(i, s)
	}
	p := c.policy()
	c.checkCombination(&p)
	if len(c.mistakes) > 0 {
		return Policy{}, errors.Join(c.mistakes...)
	}
	return p, nil
}

// compiler collects a list of strategies.
type compiler struct {
	held     [kinds]*setting // by slot: the last valid one
	broken   [kinds]bool     // by slot: an invalid one was among them
	order    []kind          // slots in the order of their appearance
	mistakes []error
}

func (c *compiler) add(i int, s Strategy) {
	if s == nil {
		c.mistake("strategy %d of the list is nil: leave it out", i+1)
		return
	}
	v, ok := s.(setting)
	if !ok { // a type that embeds Strategy
		c.mistake("strategy %d of the list is a %T: use the functions of package strategy", i+1, s)
		return
	}
	slot := v.kind.slot()
	if !c.checkAlone(v) {
		c.broken[slot] = true
		return
	}
	if c.held[slot] == nil {
		c.order = append(c.order, slot)
	}
	c.held[slot] = &v
}

// get returns the effective setting of a slot, or a setting of zeros.
func (c *compiler) get(slot kind) (setting, bool) {
	if s := c.held[slot]; s != nil {
		return *s, true
	}
	return setting{kind: slot}, false
}

// duration returns the effective duration of a slot, or its default.
func (c *compiler) duration(slot kind, otherwise time.Duration) time.Duration {
	if s, ok := c.get(slot); ok {
		return s.d
	}
	return otherwise
}

func (c *compiler) policy() Policy {
	value := func(slot kind) setting { s, _ := c.get(slot); return s }
	p := Policy{
		LocalEntries:         int(value(lru).n),
		LocalTinyLFU:         value(lru).kind == tinyLFU,
		LocalBytes:           value(localBytes).n,
		LocalDuringOutage:    value(localDuringOutage).d,
		TTL:                  c.duration(ttl, defaultTTL), // 0 in Forever's setting
		Jitter:               defaultJitter,
		Sliding:              value(sliding).d,
		RefreshAhead:         value(refreshAhead).x,
		EarlyExpiration:      value(earlyExpiration).x,
		StaleWhileRevalidate: value(staleWhileRevalidate).d,
		StaleIfError:         value(staleIfError).d,
		RetryAfter:           c.duration(retryAfter, defaultRetryAfter),
		SoftTimeout:          value(softTimeout).d,
		HardTimeout:          c.duration(hardTimeout, defaultHardTimeout),
		NotFoundErrors:       value(notFoundTTL).errors(),
		ErrorTTL:             value(errorTTL).d,
		BatchLoads:           int(value(batchLoads).n),
		BatchWait:            value(batchLoads).d,
		Audit:                value(audit).x,
		BatchSize:            defaultBatchSize,
		BatchDelay:           defaultBatchDelay,
		MaxAttempts:          defaultMaxAttempts,
	}
	if s, ok := c.get(jitter); ok {
		p.Jitter = s.x
	}
	_, p.Abandons = c.get(hardTimeout)
	p.LocalTTL = c.duration(localTTL, p.atMostTTL(maxDefaultLocal))
	p.NotFoundTTL = c.duration(notFoundTTL, p.atMostTTL(maxDefaultNotFound))
	if s, ok := c.get(writeThrough.slot()); ok {
		p.write(s)
	}
	for _, slot := range c.order {
		p.Strategies = append(p.Strategies, *c.held[slot])
	}
	return p
}

func (p *Policy) atMostTTL(d time.Duration) time.Duration {
	if p.TTL == 0 {
		return d
	}
	return min(p.TTL, d)
}

func (p *Policy) write(s setting) {
	switch s.kind {
	case writeThrough:
		p.Write = ModeThrough
	case writeAround:
		p.Write = ModeAround
	case writeBehind:
		p.Write = ModeBehind
		if s.hasSize {
			p.BatchSize = s.size
		}
		if s.hasDelay {
			p.BatchDelay = s.delay
		}
		if s.hasAttempts {
			p.MaxAttempts = s.attempts
		}
	}
}
