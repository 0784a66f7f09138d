package ctl_test

import (
	"testing"

	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// What the server lacks is found, said what it means, and is a fault only if caches can't be used.
func TestDoctorShowsWhatTheServerCanDo(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, tt := range map[string]struct {
		r      redistest.Restriction
		status string
		parts  []string
	}{
		"nothing":    {func([]string) string { return "" }, "ok", []string{"scripts", "SET NX GET", "pub/sub", "tracking"}},
		"scripts":    {redistest.NoScripts, "fault", []string{"it lacks EVAL and EVALSHA", "each write"}},
		"pub/sub":    {redistest.NoPubSub, "note", []string{"it lacks SUBSCRIBE and PUBLISH", "the local tier is not used"}},
		"tracking":   {redistest.NoTracking, "note", []string{"it lacks CLIENT TRACKING", "Broadcast"}},
		"RESP3":      {redistest.OnlyRESP2, "note", []string{"over RESP3"}},
		"SET NX GET": {redistest.OldSet, "note", []string{"it lacks SET with NX and GET", "a script"}},
		"many keys":  {redistest.OneSlot, "note", []string{"keys of several slots", "one by one"}},
		"INFO":       {redistest.NoInfo, "note", []string{"it lacks INFO"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front := redistest.NewFront(t, server.Addr(), tt.r)
			u := &user{t: t, connect: func() redis.UniversalClient {
				o := server.Options()
				o.Addr = front.Addr()
				return redis.NewClient(o)
			}}
			u.doctor().want(t, "capabilities", tt.status, tt.parts...)
			u.doctor("-no-trial").want(t, "capabilities", "unknown", "not tried")
		})
	}
}

// A plain client of a cluster is a fault where keys of other nodes can't be reached, and else a
// warning.
func TestDoctorOnNodesOfClusters(t *testing.T) {
	t.Parallel()
	for masters, status := range map[int]string{1: "warning", 3: "fault"} {
		node := redistest.StartCluster(t, masters).Nodes[0]
		u := &user{t: t, connect: func() redis.UniversalClient { return node.Client(t) }}
		u.doctor().want(t, "server", status, "node of a cluster", "NewClusterClient")
	}
}
