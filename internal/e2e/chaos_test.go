package e2e_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// background makes a node that reaches its server through a proxy.
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

// faults are what can happen between a node and Redis.
var faults = map[string]func(*redistest.Proxy){
	"cut":                  (*redistest.Proxy).Cut,
	"reset":                (*redistest.Proxy).Reset,
	"frozen":               func(p *redistest.Proxy) { p.Blackhole() },
	"nothing arrives":      func(p *redistest.Proxy) { p.Blackhole(redistest.ToServer) },
	"no answers":           func(p *redistest.Proxy) { p.Blackhole(redistest.ToClient) },
	"slow":                 func(p *redistest.Proxy) { p.Delay(50 * time.Millisecond) },
	"very slow":            func(p *redistest.Proxy) { p.Delay(400 * time.Millisecond) },
	"notifications frozen": func(p *redistest.Proxy) { p.Only(redistest.News).Blackhole() },
	"notifications late":   func(p *redistest.Proxy) { p.Only(redistest.News).Delay(600 * time.Millisecond) },
	"notifications too late": func(p *redistest.Proxy) {
		p.Only(redistest.News).Delay(2 * time.Second)
	},
	"notifications reset": func(p *redistest.Proxy) { p.Only(redistest.News).Reset() },
	"commands frozen":     func(p *redistest.Proxy) { p.Only(redistest.Data).Blackhole() },
	"commands late":       func(p *redistest.Proxy) { p.Only(redistest.Data).Delay(100 * time.Millisecond) },
	"commands very late":  func(p *redistest.Proxy) { p.Only(redistest.Data).Delay(time.Second) },
}

// P2 and P5 with a fault between a node and Redis, while another one writes: every read
// succeeds, and none is older than the bound; and when the fault is over, the node
// comes to see the latest of everything.
func TestFaultsBetweenANodeAndRedis(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s := redistest.Start(t)
		sideBySide(t, names(faults), func(t *testing.T, name string) {
			w := newWorld(t)
			prefix := cache.WithPrefix(name + ":")
			direct := w.node(s.Client(t), append([]cache.Option{prefix}, transports[transport]...)...)
			far, p := w.behind(t, s, transport, prefix)
			stop := w.live(direct, map[string]*cache.Cache[string, int64]{"the far node": far}, nil)
			defer stop()
			pause(t.Context(), 200*time.Millisecond)
			faults[name](p)
			pause(t.Context(), 4*time.Second)
			p.Heal()
			pause(t.Context(), 500*time.Millisecond)
			stop()
			w.settle(far, direct)
		})
	})
}

// The same the other way round: the node that writes has a fault. What it can't tell is
// told when the fault is over, and it never sees anything older than what it wrote.
func TestFaultsBetweenAWriterAndRedis(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		s := redistest.Start(t)
		sideBySide(t, names(faults), func(t *testing.T, name string) {
			w := newWorld(t)
			prefix := cache.WithPrefix(name + ":")
			direct := w.node(s.Client(t), append([]cache.Option{prefix}, transports[transport]...)...)
			far, p := w.behind(t, s, transport, prefix)
			stop := w.live(far, map[string]*cache.Cache[string, int64]{"the other node": direct}, nil)
			defer stop()
			pause(t.Context(), 200*time.Millisecond)
			faults[name](p)
			pause(t.Context(), 2*time.Second)
			p.Heal()
			pause(t.Context(), 500*time.Millisecond)
			stop()
			w.settle(far, direct)
		})
	})
}

// A load that began before a write elsewhere is not the answer of a read that began
// when this process had to know of the write.
func TestALateReaderOfALongLoad(t *testing.T) {
	onTransports(t, func(t *testing.T, transport string) {
		sideBySide(t, []string{"healthy", "cut"}, func(t *testing.T, name string) {
			sideBySide(t, []string{"set", "invalidate", "tag"}, func(t *testing.T, key string) {
				lateReader(t, transport, key, name == "cut")
			})
		})
	})
}

func lateReader(t *testing.T, transport, key string, cut bool) {
	ctx := t.Context()
	s := redistest.Start(t)
	w := newWorld(t)
	direct := w.node(s.Client(t), transports[transport]...)
	far, p := w.behind(t, s, transport)
	began, end := make(chan struct{}), make(chan struct{})
	slow := func(ctx context.Context, key string) (int64, error) {
		n, err := w.load(ctx, key)
		close(began)
		<-end
		return n, err
	}
	first := make(chan error, 1)
	go func() {
		_, err := far.GetOrLoad(ctx, key, slow)
		first <- err
	}()
	<-began
	if cut {
		p.Cut()
	}
	n, err := w.write(ctx, direct, key)
	if err != nil {
		t.Fatal(err)
	}
	if !cut && transport != "no local tier" {
		awaits(t, "the news of the write", func() error {
			if far.Metrics().InvalidationsReceived == 0 {
				return errors.New("none")
			}
			return nil
		})
	} else {
		pause(ctx, staleness)
	}
	late := make(chan error, 1)
	go func() { late <- sees(far, key, n) }()
	// He may wait for the load, since its lease is still there, and then has to load
	// himself; or he does not wait for it.
	select {
	case err = <-late:
		close(end)
	case <-time.After(2 * time.Second):
		close(end)
		err = <-late
	}
	if err != nil {
		t.Error(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}
