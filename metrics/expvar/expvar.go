// Package expvar publishes caches as package expvar of the standard library does, at
// /debug/vars:
//
//	err := expvar.Publish(users, orders)
//
// The variable "cache" is an object with what each cache has counted under its name:
// the hit rate and the fields of metrics.Snapshot. Latencies are given by their count,
// sum, mean and three quantiles.
//
// It is a package of its own because the standard library's expvar imports net/http and
// registers a handler with the default mux.
package expvar

import (
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"sync"

	"github.com/delqhi/cache/metrics"
)

// Name is the name of the variable.
const Name = "cache"

var (
	mu        sync.Mutex // guards the published caches
	published *expvar.Map
)

// Publish publishes caches, all of them or, with an error, none. Their names must differ
// from each other and from those that are published; and if the program has published a
// variable of the name "cache" itself, that is an error as well. It is safe for
// concurrent use.
func Publish(caches ...metrics.Cache) error {
	mu.Lock()
	defer mu.Unlock()
	names := make(map[string]bool, len(caches))
	for _, c := range caches {
		if c == nil {
			return errors.New("cache: expvar: a cache is nil")
		}
		name := c.Name()
		if names[name] || published != nil && published.Get(name) != nil {
			return fmt.Errorf("cache: expvar: a cache of the name %q is published already", name)
		}
		names[name] = true
	}
	if published == nil {
		if expvar.Get(Name) != nil {
			return fmt.Errorf("cache: expvar: there is another variable %q", Name)
		}
		published = expvar.NewMap(Name)
	}
	for _, c := range caches {
		published.Set(c.Name(), variable{c})
	}
	return nil
}

// Unpublish takes caches out again by their names. Those that are not published are
// ignored. A cache that is closed may stay: its counters stand still.
func Unpublish(names ...string) {
	mu.Lock()
	defer mu.Unlock()
	for _, name := range names {
		if published != nil {
			published.Delete(name)
		}
	}
}

type variable struct{ cache metrics.Cache }

// String implements [expvar.Var].
func (v variable) String() string {
	s := v.cache.Totals()
	text, err := json.Marshal(struct {
		HitRate float64
		metrics.Snapshot
	}{s.HitRate(), s})
	if err != nil {
		return "null" // can't happen: JSON can hold all numbers and names
	}
	return string(text)
}
