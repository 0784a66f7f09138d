package prometheus

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/delqhi/cache/internal/metrictable"
	"github.com/delqhi/cache/metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// Collector collects what caches have counted, and relays of the module outbox. Its methods are safe
// for concurrent use. The zero Collector has no caches yet, and no namespace.
type Collector struct {
	descs *described // nil: descriptors

	mu     sync.Mutex      // guards the fields below
	caches []metrics.Cache // ordered by name
	relays []metrics.Relay
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector returns a Collector of caches; see [Collector.Add]. The names of its metrics have
// no namespace: see [Namespace.NewCollector].
func NewCollector(caches ...metrics.Cache) (*Collector, error) {
	return Namespace("").NewCollector(caches...)
}

// NewCollector returns a Collector of caches, whose metrics are in the namespace; see
// [Collector.Add]. The error says if the namespace can't begin the name of a metric.
func (n Namespace) NewCollector(caches ...metrics.Cache) (*Collector, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	c := new(Collector)
	if n != "" {
		c.descs = describe(n)
	}
	if err := c.Add(caches...); err != nil {
		return nil, err
	}
	return c, nil
}

// Add adds caches, all of them or, with an error, none. Their names must differ from each other
// and from those that the Collector has, because they distinguish the series. Caches of one
// name go into Collectors of their own, which are registered under different labels with
// [prometheus.WrapRegistererWith].
func (c *Collector) Add(caches ...metrics.Cache) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.caches)
	for _, added := range caches {
		if added == nil {
			return errors.New("cache: metrics for Prometheus: a cache is nil")
		}
		name := added.Name()
		at, found := search(all, name)
		if found {
			return fmt.Errorf("cache: metrics for Prometheus: there is a cache of the name %q already", name)
		}
		all = slices.Insert(all, at, added)
	}
	c.caches = all
	return nil
}

// AddRelays adds relays of the module outbox, for good, all of them or, with an error, none. What
// several relays of a process have counted of one cache is added up.
func (c *Collector) AddRelays(relays ...metrics.Relay) error {
	if slices.Contains(relays, nil) {
		return errors.New("cache: metrics for Prometheus: a relay is nil")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.relays = append(slices.Clip(c.relays), relays...)
	return nil
}

// Remove removes caches by their names, which may be used for others afterwards. Names that the
// Collector does not have are ignored. A cache that is closed may stay: its counters no longer
// change.
func (c *Collector) Remove(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Clone(c.caches)
	for _, name := range names {
		if at, found := search(all, name); found {
			all = slices.Delete(all, at, at+1)
		}
	}
	c.caches = all
}

func search(caches []metrics.Cache, name string) (at int, found bool) {
	return slices.BinarySearchFunc(caches, name, func(c metrics.Cache, name string) int { return strings.Compare(c.Name(), name) })
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	d := c.descriptors()
	for _, d := range slices.Concat(d.caches, d.outboxes) {
		descs <- d
	}
}

func (c *Collector) descriptors() *described {
	if c.descs != nil {
		return c.descs
	}
	return descriptors
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	caches, relays := c.caches, c.relays
	c.mu.Unlock()
	for _, cache := range caches {
		s := cache.Totals()
		collect(c.descriptors().caches, label(cache.Name()), metrictable.Of(&s), out)
	}
	for _, o := range metrictable.Outboxes(relays) {
		collect(c.descriptors().outboxes, label(o.Cache), metrictable.OfOutbox(&o), out)
	}
}

// label makes a valid label value of any text.
func label(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
