package engine

import (
	"context"
	"errors"
	"strconv"

	"github.com/delqhi/cache/internal/breaker"
	"github.com/delqhi/cache/internal/client"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/metrics"
	"github.com/redis/go-redis/v9"
)

// observe is called for every remote operation.
func (c *remote) observe(ctx context.Context, o client.Observation) {
	op, err := o.Op, o.Err
	if client.IsAnswer(err) {
		err = nil
	}
	if !store.IsBackground(ctx) {
		o.Err = err
		c.remoteOp(ctx, o)
	} else if err != nil && !errors.Is(err, client.ErrClosed) && !errors.Is(err, client.ErrOpen) && !endedByCaller(ctx) {
		c.stats.remoteErrors.Add(1)
	}
	switch {
	case errors.Is(err, client.ErrClosed):
	case errors.Is(err, client.ErrOpen), errors.Is(err, client.ErrNoPlace): // Redis is not the reason
	case err != nil:
		if c.coherence != nil && !isReply(err) {
			c.coherence.OperationFailed()
		}
		if c.reports.Failed(op, c.client.Misfit(err), err) {
			c.stats.misfits.Add(1)
		}
	case ctx.Err() == nil: // else the outcome is not known
		c.reports.Succeeded(op)
		if c.outage != nil && !c.coherence.Subscribes() {
			c.outageOver() // no heartbeat says so
		}
	}
}

// remoteOp counts an operation, and tells the recorder of it.
func (c *remote) remoteOp(ctx context.Context, o client.Observation) {
	if !c.stats.remoteOp(ctx, o.Duration, o.Err) {
		return
	}
	wire := c.client.Wire(o)
	c.stats.recorder.RemoteOperation(ctx, metrics.RemoteEvent{
		Cache: c.name, Op: o.Op, Keys: o.Keys, Duration: o.Duration, Outcome: outcomeOf(o.Err),
		Command: wire.Command, Script: wire.Script, Commands: wire.Commands, Status: client.Status(o.Err), Server: c.server,
	})
}

// serverOf describes the servers of a client.
func serverOf(c *client.Client) metrics.RemoteServer {
	address, port, database, ok := c.Server()
	if !ok {
		return metrics.RemoteServer{}
	}
	return metrics.RemoteServer{Address: address, Port: port, Database: strconv.Itoa(database)}
}

// detoured is called once for each feature that the server does not support and for which
// there is a fallback.
func (c *remote) detoured(m store.Misfit) { c.reports.Detour(m) }

// circuitChanged is called when the circuit breaker of an endpoint of Redis changes its state.
func (c *remote) circuitChanged(ch breaker.Change) {
	state := breakerStates[ch.Worst]
	if c.stats.breaker.Swap(uint32(state)) != uint32(state) {
		c.stats.recorder.StateChange(metrics.StateEvent{Cache: c.name, Part: metrics.Breaker, State: state})
	}
	switch {
	case ch.State == breaker.Open:
		c.reports.Circuit(ch.Endpoint, true)
	case ch.Worst == breaker.Closed:
		c.reports.Circuit(ch.Endpoint, false)
		c.coherence.RedisUp()
	}
}

var breakerStates = [...]metrics.State{breaker.Closed: metrics.Closed, breaker.HalfOpen: metrics.HalfOpen, breaker.Open: metrics.Open}

// isReply reports whether an error is a reply of a server, which is then still the same
// server. A reply that a server gives while it takes over, as in a failover, does not count.
func isReply(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	for _, state := range []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"} {
		if redis.HasErrorPrefix(err, state) {
			return false
		}
	}
	return true
}
