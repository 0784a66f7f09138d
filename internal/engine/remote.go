package engine

import (
	"context"
	"time"

	"github.com/delqhi/cache/internal/breaker"
	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/coherence"
	"github.com/delqhi/cache/internal/invalidation"
	"github.com/delqhi/cache/internal/keys"
	"github.com/delqhi/cache/internal/local"
	"github.com/delqhi/cache/metrics"
)

// remote is the backend on Redis.
type remote struct {
	*Cache
	client        *client.Client
	coherence     *coherence.Coordinator
	invalidator   *invalidation.Invalidator
	missPredictor missPredictor
	server        metrics.RemoteServer // for the recorder
}

var _ backend = (*remote)(nil)

// newRemote makes the backend of c, and connects it with the other processes.
func newRemote(c *Cache, cfg *Config) *remote {
	if s, ok := cfg.Store.(interface{ Database() int }); ok {
		c.names = c.names.In(s.Database())
	}
	if !cfg.Values {
		c.sealer = seals(c.codec)
	}
	r := &remote{Cache: c, client: client.New(cfg.Store, cfg.Timeout), missPredictor: missPredictor{streak: missStreak}}
	r.server = serverOf(r.client)
	c.misfit = r.client.Misfit
	r.client.Observe = r.observe
	r.client.Detours(r.detoured)
	r.client.Break(breaker.Config{Failures: cfg.Failures, Open: cfg.Open, Changed: r.circuitChanged})
	ac := coherence.Config{
		Client: r.client, Names: c.names, Fences: c.fences, Quote: keys.QuotePattern, Transport: coherence.Transport(cfg.Transport.Kind()), StartTimeout: cfg.Timeout, Policy: c.invalidation, NoRecords: cfg.Values, Events: &events{remote: r},
		Changed: func(encoded string) { c.failures.forget(c.prefix + encoded) }, ChangedAny: c.failures.forgetAll,
	}
	if c.local != nil {
		d := &localInvalidator{c.local, c.types, c.fences}
		ac.Local, ac.Outage = d, c.policy.LocalDuringOutage
		if cfg.Values || ac.Outage > 0 {
			ac.RemoveTagged = d.removeTagged
		}
	}
	r.coherence = coherence.New(ac)
	if ac.Outage > 0 {
		c.outage = newOutage(ac.Outage, r.coherence)
		c.reports.Outage = ac.Outage
	}
	parts := r.coherence.Parts()
	for i := range parts {
		c.clocks = append(c.clocks, r.coherence.Part(uint8(i)).Clock)
	}
	c.clock, c.receiveAll = c.clocks[0], r.coherence.ReceiveAll
	r.invalidator = &invalidation.Invalidator{Store: r.client, Names: c.names, Parts: parts, Policy: c.invalidation, Outbox: r.coherence.Outbox, Known: r.coherence.Claim, NoRecords: cfg.Values}
	if c.sealer != nil {
		r.invalidator.Sign = r.signAgain
	}
	c.refresher.prolongs = r.coherence.Send
	return r
}

func (c *remote) ready(ctx context.Context) (waited bool) { return c.coherence.Ready(ctx) }

func (c *remote) mayUseLocal(rk string, now int64) bool {
	return c.coherence.LocalValidFor(rk, now) && !c.coherence.Pending(rk)
}

// learn learns nothing: a local entry whose tombstones have not been received in time is read
// again from Redis.
func (c *remote) learn([]string) bool { return false }

func (c *remote) since(rk string, at int64) int64 { return c.coherence.Since(rk, at) }

func (c *remote) version(ctx context.Context, rk string) (s version, err error) {
	s.part = c.part(rk)
	s.epoch, s.time, err = c.coherence.Part(s.part).Version(ctx)
	return s, err
}

func (c *remote) watch(encoded ...string) (<-chan struct{}, func()) {
	w := c.coherence.Wait(encoded...)
	return w.C, w.Close
}

// watchesFirst: acquire takes a round trip, which would have to be made again.
func (c *remote) watchesFirst() bool { return true }

func (c *remote) pollEvery(pause time.Duration) time.Duration {
	if c.coherence.Connected(local.Now()) {
		return leasePoll
	}
	return pause
}

func (c *remote) copies(rk string, val Value) (next func() (Value, error), ok bool) {
	data, err := c.marshal(rk, nil, val)
	return func() (Value, error) { return c.unmarshal(rk, append([]byte(nil), data...)) }, err == nil
}

func (c *remote) listener() (s metrics.State) {
	switch {
	case !c.coherence.Subscribes():
		return s
	case c.coherence.Connected(local.Now()):
		return metrics.Up
	}
	return metrics.Down
}

// drainMost is how long Close waits for a logger, or a recorder, that blocks.
const drainMost = time.Second

func (c *remote) close() {
	c.coherence.Close()
	c.client.Close()
	c.reports.Aside.Drain(drainMost)
}
