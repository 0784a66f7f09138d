package cache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/delqhi/cache/internal/errs"
	"github.com/delqhi/cache/internal/redisstore"
	"github.com/delqhi/cache/internal/store"
	"github.com/delqhi/cache/internal/usercode"
	"github.com/redis/go-redis/v9"
)

// Support says whether a server has a feature.
type Support uint8

const (
	SupportUnknown Support = iota // it could not be tried, for example since the user may not use the probe's keys
	Supported                     // it works
	Unsupported                   // the server, or a proxy in front of it, does not have it
	NotPermitted                  // the user of the client may not use it
)

// String returns "unknown", "yes", "no" or "not permitted".
func (s Support) String() string {
	switch s {
	case Supported:
		return "yes"
	case Unsupported:
		return "no"
	case NotPermitted:
		return "not permitted"
	}
	return "unknown"
}

// MarshalText returns the text of String: in JSON, for example.
func (s Support) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// missing reports whether it is known that the feature can't be used.
func (s Support) missing() bool { return s == Unsupported || s == NotPermitted }

// Capabilities is what a server can do for caches, as [Probe] has found it. Of a cluster or a
// ring it is what one of its nodes can do.
type Capabilities struct {
	// Server is "Redis", "Valkey", "KeyDB", or another name, and Version its version, such as
	// "7.2.4". Both are empty if the server does not say them by INFO.
	Server, Version string

	// Cluster: the server is a node of a cluster.
	Cluster bool

	AllSlots    Support // keys of all slots, through a client that is none of a cluster
	Writes      Support // SET: a replica refuses it
	Scripts     Support // EVAL: each write of a cache is one
	ScriptFlags Support // scripts that also run when memory is full: Redis 7.0
	SetNXGet    Support // SET with NX and GET together: Redis 7.0
	ManyKeys    Support // keys of several slots in a command; unknown for a cluster or a ring, where none has
	PubSub      Support // what is published arrives
	RESP3       Support // version 3 of the protocol
	Tracking    Support // CLIENT TRACKING, over RESP3
	Streams     Support // streams
	Scan        Support // SCAN
	Info        Support // INFO

	// Eviction is the setting maxmemory-policy, empty if it is not told, and MaxMemory the limit of
	// memory in bytes, 0 for none, and -1 if it is not told.
	Eviction  string
	MaxMemory int64
}

// Shortcoming is something that a server lacks.
type Shortcoming struct {
	Lacks   string  // what is missing: "CLIENT TRACKING over RESP3"
	Means   string  // what that means for caches
	Do      string  // what to do; empty if there is nothing but another server
	Fatal   bool    // caches can't be used
	Support Support // Unsupported or NotPermitted
}

// String says in a line what is missing and what that means.
func (s Shortcoming) String() string {
	text := s.Lacks
	if s.Support == NotPermitted {
		text += " (not permitted)"
	}
	text += ": " + s.Means
	if s.Fatal && s.Do != "" {
		text += ": " + s.Do
	}
	return text
}

// Probe finds out what a server can do by trying it through rdb: a program may call it at its
// start, to log what caches will do without, or to stop. It uses keys and a channel of its own,
// whose names begin with "cache-probe:", and removes them; what remains if it is interrupted ends
// after 10 seconds. It takes some twenty round trips, and up to 5 seconds where published messages
// don't arrive, unless ctx ends before: then the error is that of ctx.
//
// A user of Redis who may not use keys of that name gets [SupportUnknown] for what was tried on
// them: cachectl doctor checks permissions on the keys of caches.
//
// The error matches [ErrUnavailable] if the server does not answer or refuses the client, and
// [ErrInvalidOption] if rdb is a client that no cache can use. That something is missing is no
// error of Probe: see [Capabilities.Err].
func Probe(ctx context.Context, rdb redis.UniversalClient) (Capabilities, error) {
	if usercode.IsNil(rdb) {
		return Capabilities{}, fmt.Errorf("cache: Probe: %w: the Redis client is nil", ErrInvalidOption)
	}
	s, err := redisstore.NewRedis(rdb)
	if err != nil {
		return Capabilities{}, fmt.Errorf("cache: Probe: %w: %w", ErrInvalidOption, err)
	}
	defer s.Close()
	p, err := s.Probe(ctx)
	switch {
	case err == nil:
		return capabilitiesOf(&p), nil
	case ctx.Err() != nil:
		return Capabilities{}, ctx.Err()
	}
	if m := s.Misfit(err); m != store.Fits {
		err = fmt.Errorf("%w: %s: %s", err, m.Problem(), m.Remedy())
	}
	return Capabilities{}, fmt.Errorf("cache: Probe: %w: %w", errs.ErrUnavailable, err)
}

func capabilitiesOf(p *redisstore.Probed) Capabilities {
	c := Capabilities{
		AllSlots: Support(p.AllSlots), Writes: Support(p.Writes), Scripts: Support(p.Scripts), ScriptFlags: Support(p.ScriptFlags),
		SetNXGet: Support(p.SetNXGet), ManyKeys: Support(p.ManyKeys), PubSub: Support(p.PubSub), RESP3: Support(p.RESP3), Tracking: Support(p.Tracking),
		Streams: Support(p.Streams), Scan: Support(p.Scan), Info: Support(p.HasInfo),
		Cluster: p.Info["redis_mode"] == "cluster" || p.Info["server_mode"] == "cluster", Eviction: p.Config["maxmemory-policy"], MaxMemory: -1,
	}
	c.Server, c.Version = redisstore.ServerOf(p.Info)
	if n, err := strconv.ParseInt(p.Config["maxmemory"], 10, 64); err == nil {
		c.MaxMemory = n
	}
	return c
}

// shortcomings are what may be missing, the worst first.
var shortcomings = []struct {
	of func(*Capabilities) Support
	Shortcoming
}{
	{func(c *Capabilities) Support { return c.AllSlots }, Shortcoming{"the keys of other nodes", store.OneOfACluster.Problem(), store.OneOfACluster.Remedy(), true, Unsupported}},
	{func(c *Capabilities) Support { return c.Writes }, Shortcoming{"SET", "the server is a replica, or refuses writes", "connect to the master", true, Unsupported}},
	{func(c *Capabilities) Support { return c.Scripts }, Shortcoming{"EVAL and EVALSHA", "each write of a cache is a script, and fails; reads load from the source each time", store.NoScripts.Remedy(), true, Unsupported}},
	{func(c *Capabilities) Support { return c.PubSub }, Shortcoming{"SUBSCRIBE and PUBLISH", "notifications don't arrive: the local tier is not used", store.NoPubSub.Remedy(), false, Unsupported}},
	{func(c *Capabilities) Support { return c.Tracking }, Shortcoming{"CLIENT TRACKING over RESP3", "invalidate.Tracking is replaced by Broadcast, which does not notice what other programs change", "", false, Unsupported}},
	{func(c *Capabilities) Support { return c.Streams }, Shortcoming{"streams", "writes of caches with strategy.WriteBehind fail", "", false, Unsupported}},
	{func(c *Capabilities) Support { return c.Scan }, Shortcoming{"SCAN", "InvalidatePattern fails", "", false, Unsupported}},
	{func(c *Capabilities) Support { return c.SetNXGet }, Shortcoming{"SET with NX and GET", "a script is used in its place", "", false, Unsupported}},
	{func(c *Capabilities) Support { return c.ManyKeys }, Shortcoming{"keys of several slots in a command", "keys are sent one by one, in a pipeline", "", false, Unsupported}},
	{func(c *Capabilities) Support { return c.ScriptFlags }, Shortcoming{"flags of scripts", "older scripts are used in their place", "", false, Unsupported}},
	{func(c *Capabilities) Support { return c.Info }, Shortcoming{"INFO", "after each new connection, what was written in the last 10 seconds is checked key by key", "", false, Unsupported}},
}

// Missing returns what the server lacks, or what the user may not use, the worst first. What
// could not be tried is not among it.
func (c Capabilities) Missing() []Shortcoming {
	var out []Shortcoming
	for _, s := range shortcomings {
		if support := s.of(&c); support.missing() {
			if s.Support = support; support == NotPermitted {
				s.Do = store.Forbidden.Remedy()
			}
			out = append(out, s.Shortcoming)
		}
	}
	return out
}

// Err returns nil if caches can be used, though perhaps without something that
// [Capabilities.Missing] names. Otherwise the error names what is needed, and matches
// [errors.ErrUnsupported].
func (c Capabilities) Err() error {
	for _, s := range c.Missing() {
		if s.Fatal {
			return fmt.Errorf("cache: %s lacks %v: %w", c.name(), s, errors.ErrUnsupported)
		}
	}
	return nil
}

func (c Capabilities) name() string {
	if c.Server == "" {
		return "the server"
	}
	return c.Server + " " + c.Version
}

// String names the server and, each in a line, what it lacks.
func (c Capabilities) String() string {
	missing := c.Missing()
	var b strings.Builder
	b.WriteString(c.name())
	if c.Cluster {
		b.WriteString(", node of a cluster")
	}
	switch {
	case c.Eviction != "" && c.MaxMemory > 0:
		fmt.Fprintf(&b, ", evicts by %s at %d bytes", c.Eviction, c.MaxMemory)
	case c.MaxMemory == 0:
		b.WriteString(", without a limit of memory")
	}
	switch {
	case c.Err() != nil:
		b.WriteString(": caches can't be used")
	case len(missing) > 0:
		b.WriteString(": caches can be used, without all that they can use")
	default:
		b.WriteString(": has all that caches can use")
	}
	for _, s := range missing {
		b.WriteString("\nlacks " + s.String())
	}
	return b.String()
}
