package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// Support is the outcome of trying a feature of a server.
type Support uint8

const (
	NotKnown  Support = iota // it could not be tried
	Supported                // it works
	Lacking                  // the server, or a proxy in front of it, does not have it
	Denied                   // the user may not use it
)

// Probed is what a server can do; see [Redis.Probe].
type Probed struct {
	Info   map[string]string // INFO; nil if it is not told
	Config map[string]string // settings; those that are not told are missing

	AllSlots, Writes, Scripts, ScriptFlags, SetNXGet, ManyKeys Support
	PubSub, RESP3, Tracking, Streams, Scan, HasInfo            Support
}

const (
	// probeLife is the lifetime in ms of what a probe stores.
	probeLife = 10_000
	// probePatience is how long a message that was published may take to arrive.
	probePatience = 2 * time.Second
	// probeSlots is how many keys, in as many slots, are read to see whether the client reaches
	// all nodes.
	probeSlots = 8
)

// probe is a Probe in progress.
type probe struct {
	Probed
	s    *Redis
	key  string
	node redis.UniversalClient
}

// Probe finds out what a server can do by trying it, on keys and a channel of its own, whose names
// begin with "cache-probe:". On a cluster or a ring one node is tried. The error says that the
// server did not answer, or refuses the client.
func (s *Redis) Probe(ctx context.Context) (Probed, error) {
	p := &probe{s: s}
	for _, step := range []func(context.Context) error{
		p.slots, p.info, p.writes, p.scripts, p.manyKeys, p.pubSub, p.tracking, p.others,
	} {
		if err := step(ctx); err != nil {
			return Probed{}, err
		}
	}
	return p.Probed, nil
}

// slots reads keys of several slots, and chooses one that can be read as the key of the probe.
func (p *probe) slots(ctx context.Context) error {
	p.AllSlots = Supported
	var err error
	for i := range probeSlots {
		key := "cache-probe:{" + strconv.Itoa(i) + "}:" + rand.Text()
		if p.node, _, err = p.s.node(ctx, key); err != nil {
			return err
		}
		switch err = p.node.Get(ctx, key).Err(); {
		case err == nil, errors.Is(err, redis.Nil), redis.HasErrorPrefix(err, "NOPERM"):
			p.key = key
		case p.s.Misfit(err) == store.OneOfACluster:
			p.AllSlots = Lacking
		default:
			return err
		}
	}
	if p.key == "" {
		return err
	}
	p.node, _, err = p.s.node(ctx, p.key)
	return err
}

// try runs f, and says what its error means. The error that it returns is that of a server that
// does not answer any more.
func (p *probe) try(ctx context.Context, f func() error) (Support, error) {
	err := f()
	var reply redis.Error
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return Supported, nil
	case ctx.Err() != nil:
		return NotKnown, ctx.Err()
	case errors.As(err, &reply):
		return p.supportOf(reply), nil
	case errors.Is(err, io.EOF), errors.Is(err, errNoMessage):
		// Some proxies close the connection at a command that they don't know.
		if err := p.node.Get(ctx, p.key).Err(); err != nil && !errors.As(err, &reply) {
			return NotKnown, err
		}
		return Lacking, nil
	}
	return NotKnown, err
}

func (p *probe) supportOf(err redis.Error) Support {
	text := strings.ToLower(err.Error())
	switch p.s.Misfit(err) {
	case store.Forbidden:
		if strings.Contains(text, " command") || strings.Contains(text, "to run the") {
			return Denied
		}
		return NotKnown // on the keys of the probe
	case store.Replica, store.OneOfACluster, store.Outdated, store.UnknownCommand, store.NoScripts, store.NoPubSub:
		return Lacking
	}
	if redis.HasErrorPrefix(err, "CROSSSLOT") || rejectsFlags(err) || strings.Contains(text, "unknown subcommand") {
		return Lacking
	}
	return NotKnown
}

func (p *probe) info(ctx context.Context) error {
	var err error
	p.HasInfo, err = p.try(ctx, func() error {
		text, err := p.node.Info(ctx).Result()
		if err == nil {
			p.Info = map[string]string{}
			for line := range strings.Lines(text) {
				if k, v, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
					p.Info[k] = v
				}
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	p.Config = map[string]string{}
	for _, setting := range []string{"maxmemory", "maxmemory-policy"} {
		if _, err := p.try(ctx, func() error {
			m, err := p.node.ConfigGet(ctx, setting).Result()
			if v, ok := m[setting]; ok {
				p.Config[setting] = v
			}
			return err
		}); err != nil {
			return err
		}
		if v, ok := p.Info[strings.ReplaceAll(setting, "-", "_")]; ok && p.Config[setting] == "" {
			p.Config[setting] = v
		}
	}
	return nil
}

// do runs a command on the node, and says what its error means.
func (p *probe) do(ctx context.Context, to *Support, args ...any) (err error) {
	*to, err = p.try(ctx, func() error { return p.node.Do(ctx, args...).Err() })
	return err
}

func (p *probe) writes(ctx context.Context) error {
	defer func() { _ = p.node.Unlink(context.WithoutCancel(ctx), p.key).Err() }() // otherwise it ends by itself
	if err := p.do(ctx, &p.Writes, "set", p.key, "0", "px", probeLife); err != nil {
		return err
	}
	return p.do(ctx, &p.SetNXGet, "set", p.key, "1", "nx", "get", "px", probeLife)
}

func (p *probe) scripts(ctx context.Context) error {
	err := p.do(ctx, &p.Scripts, "eval", "return redis.call('EXISTS', KEYS[1])", 1, p.key)
	if err != nil || p.Scripts != Supported {
		return err
	}
	return p.do(ctx, &p.ScriptFlags, "eval", onMasterText, 1, p.key)
}

func (p *probe) manyKeys(ctx context.Context) error {
	if p.s.single == nil {
		return nil // its commands are sent to each node by themselves
	}
	return p.do(ctx, &p.ManyKeys, "mget", p.key, "cache-probe:{other}:"+rand.Text())
}

// errNoMessage: what was published did not arrive.
var errNoMessage = errors.New("redisstore: what is published does not arrive")

func (p *probe) pubSub(ctx context.Context) (err error) {
	if p.s.single == nil && p.s.cluster == nil && p.s.ring == nil {
		return nil
	}
	p.PubSub, err = p.try(ctx, func() error {
		sub := p.node.Subscribe(ctx, p.key)
		defer sub.Close()
		if _, err := sub.ReceiveTimeout(ctx, probePatience); err != nil {
			return arrival(err)
		}
		if err := p.node.Publish(ctx, p.key, "").Err(); err != nil {
			return err
		}
		for end := time.Now().Add(probePatience); ; {
			msg, err := sub.ReceiveTimeout(ctx, max(time.Until(end), time.Millisecond))
			if err != nil {
				return arrival(err)
			}
			if _, ok := msg.(*redis.Message); ok {
				return nil
			}
		}
	})
	return err
}

// arrival distinguishes what does not arrive from what is refused.
func arrival(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w: %w", errNoMessage, err)
	}
	return err
}

// tracking speaks RESP3 on a connection of its own, and tracks keys there.
func (p *probe) tracking(ctx context.Context) (err error) {
	client, ok := p.node.(singleClient)
	if !ok {
		if client = p.s.single; client == nil {
			return nil
		}
	}
	o := *client.Options()
	lonely(&o)
	o.Protocol = 3
	rdb := redis.NewClient(&o)
	defer rdb.Close()
	cn := rdb.Conn()
	defer cn.Close()
	// The client falls back silently to the old protocol if HELLO is refused.
	p.RESP3, err = p.try(ctx, func() error { return cn.Hello(ctx, 3, "", "", "").Err() })
	if err != nil || p.RESP3 == Lacking || p.RESP3 == Denied {
		p.Tracking = p.RESP3
		return err
	}
	p.Tracking, err = p.try(ctx, func() error { return cn.Do(ctx, "client", "tracking", "on", "bcast", "prefix", p.key).Err() })
	return err
}

func (p *probe) others(ctx context.Context) error {
	if err := p.do(ctx, &p.Streams, "xlen", p.key); err != nil {
		return err
	}
	return p.do(ctx, &p.Scan, "scan", 0, "count", 1)
}

// ServerOf returns the name and version of a server by its INFO.
func ServerOf(info map[string]string) (name, version string) {
	for _, of := range []struct{ field, name string }{
		{"valkey_version", "Valkey"}, {"dragonfly_version", "Dragonfly"}, {"redict_version", "Redict"}, {"garnet_version", "Garnet"}, {"kvrocks_version", "Kvrocks"},
	} {
		if v := info[of.field]; v != "" {
			return of.name, strings.TrimPrefix(strings.TrimPrefix(v, "df-"), "v")
		}
	}
	version = info["redis_version"]
	switch _, keydb := info["mvcc_depth"]; {
	case version == "":
		return "", ""
	case keydb:
		return "KeyDB", version
	}
	return "Redis", version
}
