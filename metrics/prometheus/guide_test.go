package prometheus_test

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// relay has of an outbox.Relay what docs/outbox.md exports: its module is not one of this one's.
type relay struct{}

type relayStats struct {
	Caches map[string]struct{ Lag time.Duration }
}

func (relay) Stats() relayStats { return relayStats{} }

// The gauge of docs/outbox.md, so that it compiles.
var _ = func(registry *prometheus.Registry, relay relay) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cache_outbox_lag_seconds", ConstLabels: prometheus.Labels{"cache": "users"},
	}, func() float64 { return relay.Stats().Caches["users"].Lag.Seconds() }))
}
