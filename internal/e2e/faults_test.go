package e2e_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// fault is what comes over a site until ctx ends. The proxies are healed afterwards.
type fault struct {
	silent  bool // no command is answered
	servers bool // it comes over the servers themselves
	come    func(ctx context.Context, rnd *rand.Rand, s *site) error
}

func switched(f func(p *redistest.Proxy)) func(context.Context, *rand.Rand, *site) error {
	return func(ctx context.Context, _ *rand.Rand, s *site) error {
		s.each(f)
		<-ctx.Done()
		return nil
	}
}

// again calls f again and again.
func again(every time.Duration, f func(rnd *rand.Rand, p *redistest.Proxy)) func(context.Context, *rand.Rand, *site) error {
	return func(ctx context.Context, rnd *rand.Rand, s *site) error {
		for ctx.Err() == nil {
			s.each(func(p *redistest.Proxy) { f(rnd, p) })
			pause(ctx, every)
		}
		return nil
	}
}

// faults are what can happen between nodes and Redis.
var faults = map[string]fault{
	"cut":             {come: switched((*redistest.Proxy).Cut)},
	"reset":           {come: switched((*redistest.Proxy).Reset)},
	"resets":          {come: again(20*time.Millisecond, func(_ *rand.Rand, p *redistest.Proxy) { p.Reset() })},
	"black hole":      {silent: true, come: switched(func(p *redistest.Proxy) { p.Blackhole() })},
	"nothing arrives": {silent: true, come: switched(func(p *redistest.Proxy) { p.Blackhole(redistest.ToServer) })},
	"no answers":      {silent: true, come: switched(func(p *redistest.Proxy) { p.Blackhole(redistest.ToClient) })},
	"slow":            {come: switched(func(p *redistest.Proxy) { p.Delay(50 * time.Millisecond) })},
	"too slow":        {come: switched(func(p *redistest.Proxy) { p.Delay(400 * time.Millisecond) })},
	"cut replies":     {come: again(50*time.Millisecond, func(rnd *rand.Rand, p *redistest.Proxy) { p.CutReplies(rnd.IntN(1500)) })},
	"slices":          {come: switched(func(p *redistest.Proxy) { p.Slice(3) })},
	"bandwidth":       {come: switched(func(p *redistest.Proxy) { p.Limit(3000) })},

	"notifications frozen":   {come: switched(func(p *redistest.Proxy) { p.Only(redistest.News).Blackhole() })},
	"notifications late":     {come: switched(func(p *redistest.Proxy) { p.Only(redistest.News).Delay(600 * time.Millisecond) })},
	"notifications too late": {come: switched(func(p *redistest.Proxy) { p.Only(redistest.News).Delay(2 * time.Second) })},
	"notifications reset":    {come: switched(func(p *redistest.Proxy) { p.Only(redistest.News).Reset() })},
	"commands frozen":        {silent: true, come: switched(func(p *redistest.Proxy) { p.Only(redistest.Data).Blackhole() })},
	"commands late":          {come: switched(func(p *redistest.Proxy) { p.Only(redistest.Data).Delay(100 * time.Millisecond) })},
	"commands very late":     {come: switched(func(p *redistest.Proxy) { p.Only(redistest.Data).Delay(time.Second) })},

	"killed": {servers: true, come: func(ctx context.Context, _ *rand.Rand, s *site) error {
		for _, server := range s.servers {
			server.Kill()
		}
		pause(ctx, 300*time.Millisecond)
		var errs []error
		for _, server := range s.servers {
			errs = append(errs, server.Restart()) // with nothing
		}
		return errors.Join(errs...)
	}},
	"frozen": {servers: true, silent: true, come: func(ctx context.Context, _ *rand.Rand, s *site) error {
		var errs []error
		for _, server := range s.servers {
			errs = append(errs, server.Freeze())
		}
		<-ctx.Done()
		for _, server := range s.servers {
			errs = append(errs, server.Thaw())
		}
		return errors.Join(errs...)
	}},
}

// behind makes a node that reaches its server through a proxy.
func (w *world) behind(t *testing.T, s *redistest.Server, transport string, opts ...cache.Option) (*cache.Cache[string, int64], *redistest.Proxy) {
	t.Helper()
	p := redistest.NewProxy(t, s.Addr())
	o := s.Options()
	o.Addr = p.Addr()
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	c := w.node(rdb, append(opts, transports[transport]...)...)
	t.Cleanup(p.Heal) // before Close: what waits for an answer gets it
	return c, p
}

// P2 and P5 with a fault between a node and Redis, while another one writes: every read
// succeeds, and none is older than the bound; and when the fault is over, the node
// comes to see the latest of everything.
func TestFaultsBetweenANodeAndRedis(t *testing.T) {
	faultsBetween(t, 4*time.Second, func(direct, far *cache.Cache[string, int64]) (writer, reader *cache.Cache[string, int64]) {
		return direct, far
	})
}

// The same the other way round: the node that writes has a fault. What it can't tell is
// told when the fault is over, and it never sees anything older than what it wrote.
func TestFaultsBetweenAWriterAndRedis(t *testing.T) {
	faultsBetween(t, 2*time.Second, func(direct, far *cache.Cache[string, int64]) (writer, reader *cache.Cache[string, int64]) {
		return far, direct
	})
}

// faultsBetween has each fault of a network come for a while between a node, the far one, and its
// server, which another node reaches directly.
func faultsBetween(t *testing.T, last time.Duration, roles func(direct, far *cache.Cache[string, int64]) (writer, reader *cache.Cache[string, int64])) {
	onTransports(t, func(t *testing.T, transport string) {
		s := redistest.Start(t)
		sideBySide(t, names(faults), func(t *testing.T, name string) {
			if faults[name].servers {
				return // the nodes share it
			}
			w := newWorld(t)
			prefix := cache.WithPrefix(name + ":")
			direct := w.node(s.Client(t), append([]cache.Option{prefix}, transports[transport]...)...)
			far, p := w.behind(t, s, transport, prefix)
			writer, reader := roles(direct, far)
			stop := w.live(writer, map[string]*cache.Cache[string, int64]{"the reader": reader}, nil)
			defer stop()
			pause(t.Context(), 200*time.Millisecond)
			end := (&site{proxies: []*redistest.Proxy{p}}).suffers(t, name, rand.New(rand.NewPCG(1, 2)))
			pause(t.Context(), last)
			end()
			pause(t.Context(), 500*time.Millisecond)
			stop()
			w.settle(far, direct)
		})
	})
}
