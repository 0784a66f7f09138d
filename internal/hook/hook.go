// Package hook gives the tests below internal/ what programs do not get: a cache on a store of
// the test's own, its parts, and the times and limits that it keeps to. Package cache sets all
// variables when it is initialized.
package hook

import (
	"time"

	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/fence"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/store"
)

var (
	// Store returns a cache.Option for a cache on the store that open returns. The client is nil
	// then.
	Store func(open func() store.Store) any

	// Of returns the parts of a *cache.Cache.
	Of func(cache any) Parts
)

// Parts are parts of a cache.
type Parts struct {
	Names     store.Names
	Coherence *coherence.Coordinator // nil if it is LocalOnly
	Local     any                    // its *local.Cache; nil if there is no local tier
	Loads     func() int             // number of keys with a load in flight
	Refreshes func() int             // number of keys with a refresh in flight

	Fence        func(encoded string) fence.Token
	Invalidation invalidation.Policy
	Version      uint32 // of the values

	// NoLoads reports whether all slots of the load limit are free.
	NoLoads func() bool

	// NoFailures reports whether no failed load is remembered.
	NoFailures func() bool

	// PredictMiss makes the cache take each read that Redis could answer for a miss.
	PredictMiss func()
	// PredictsMiss reports whether it would now, after what the last reads have found.
	PredictsMiss func() bool
}

// Remote reports whether the cache has Redis.
func (p Parts) Remote() bool { return p.Coherence != nil }

// Times and limits; see the constants of the same names in package cache.
var (
	LeaseLife, LeasePoll, PollMost time.Duration
	FailureLife, DefaultTimeout    time.Duration
	ReleaseGrace, CloseGrace       time.Duration
	StatsEvery                     time.Duration
	QueueFactor, RefreshesAtOnce   int
	AskAgain, MissStreak           int
	ErrHardTimeout, ErrSoftTimeout error
	ErrWaitsForItself              error
	IsPeerLoadError, IsAbsentError func(error) bool
)
