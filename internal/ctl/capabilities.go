package ctl

import (
	"context"
	"strings"

	"github.com/delqhi/cache"
)

// probe finds out what the server can do.
func (e *examination) probe(ctx context.Context) error {
	caps, err := cache.Probe(ctx, e.rdb)
	if err != nil {
		return err
	}
	e.caps = &caps
	e.Capabilities = map[string]string{}
	for _, c := range capabilities {
		e.Capabilities[c.name] = c.of(&caps).String()
	}
	return nil
}

var capabilities = []struct {
	name, says string
	of         func(*cache.Capabilities) cache.Support
}{
	{"AllSlots", "all keys", func(c *cache.Capabilities) cache.Support { return c.AllSlots }},
	{"Writes", "writes", func(c *cache.Capabilities) cache.Support { return c.Writes }},
	{"Scripts", "scripts", func(c *cache.Capabilities) cache.Support { return c.Scripts }},
	{"ScriptFlags", "flags of scripts", func(c *cache.Capabilities) cache.Support { return c.ScriptFlags }},
	{"SetNXGet", "SET NX GET", func(c *cache.Capabilities) cache.Support { return c.SetNXGet }},
	{"ManyKeys", "keys of several slots", func(c *cache.Capabilities) cache.Support { return c.ManyKeys }},
	{"PubSub", "pub/sub", func(c *cache.Capabilities) cache.Support { return c.PubSub }},
	{"RESP3", "RESP3", func(c *cache.Capabilities) cache.Support { return c.RESP3 }},
	{"Tracking", "tracking", func(c *cache.Capabilities) cache.Support { return c.Tracking }},
	{"Streams", "streams", func(c *cache.Capabilities) cache.Support { return c.Streams }},
	{"Scan", "SCAN", func(c *cache.Capabilities) cache.Support { return c.Scan }},
	{"Info", "INFO", func(c *cache.Capabilities) cache.Support { return c.Info }},
}

// checkCapabilities says what the server can do, and what it lacks. What is only not permitted is
// among the permissions.
func (e *examination) checkCapabilities() {
	if e.caps == nil {
		e.add("capabilities", unknown, "they were not tried", "", "leave out -no-trial")
		return
	}
	var has, untried []string
	for _, c := range capabilities {
		switch c.of(e.caps) {
		case cache.Supported:
			has = append(has, c.says)
		case cache.SupportUnknown:
			untried = append(untried, c.says)
		}
	}
	how, found := good, "it has "+strings.Join(has, ", ")
	if len(has) == 0 {
		how, found = unknown, "none could be tried"
	} else if e.isCluster() {
		found += " (of one node)"
	} else if len(untried) > 0 {
		found += "; not known: " + strings.Join(untried, ", ")
	}
	e.add("capabilities", how, found, "", "")
	for _, s := range e.caps.Missing() {
		if s.Support != cache.Unsupported {
			continue
		}
		how := note
		if s.Fatal {
			how = fault
		}
		e.add("capabilities", how, "it lacks "+s.Lacks, s.Means, s.Do)
	}
}
