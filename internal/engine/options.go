package engine

import (
	"time"

	"github.com/delqhi/cache/strategy"
)

// Options are the options of one call. They are not modified once the call has begun.
type Options struct {
	SkipLocal  bool
	AllowStale bool
	MaxAge     time.Duration
	HasMaxAge  bool
	TTL        time.Duration
	HasTTL     bool
	Tags       []string
	KeepTTL    bool             // the value keeps the life of the one that it replaces
	SkipRemote bool             // ask and change the local tier only
	Policy     *strategy.Policy // of this call; nil: the cache's
	Peek       bool             // fill no tier
	Uncounted  bool             // not counted as a request in the metrics

	speculative   bool // Redis was not read before: load only keys that are empty there
	refresh       bool // the load is a refresh, not a caller's read
	background    bool // only if no other load of the key is in flight
	backgroundAge time.Duration
}

// kept returns the options for a load, which may outlive the call.
func (o *Options) kept() *Options {
	if o == &NoOptions {
		return o
	}
	kept := *o
	return &kept
}

// NoOptions are the options of a call without any.
var NoOptions Options

// IsZero reports whether they are the options of a call without any.
func (o *Options) IsZero() bool {
	return !o.SkipLocal && !o.AllowStale && !o.HasMaxAge && !o.HasTTL && len(o.Tags) == 0 && !o.KeepTTL && !o.SkipRemote && o.Policy == nil && !o.Peek && !o.Uncounted
}

func (o *Options) tooOld(info *Info) bool {
	return o.HasMaxAge && (o.MaxAge == 0 || info.Age > o.MaxAge)
}

// anew reports whether the call takes only a value that is loaded for it.
func (o *Options) anew() bool { return o.HasMaxAge && o.MaxAge == 0 }

// policyOf returns the policy of a call.
func (c *Cache) policyOf(o *Options) *strategy.Policy {
	if o.Policy != nil {
		return o.Policy
	}
	return &c.policy
}

// Policy returns the policy of the cache, which is not to be modified.
func (c *Cache) Policy() *strategy.Policy { return &c.policy }
