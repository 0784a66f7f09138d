package linearizability

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/delqhi/cache"
	"github.com/delqhi/cache/internal/redistest"
	"github.com/delqhi/cache/invalidate"
	"github.com/delqhi/cache/strategy"
	"github.com/redis/go-redis/v9"
)

var operations = flag.Int("operations", 400, "operations of each client")

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	redistest.Main(m)
}

const (
	processes = 3
	clients   = 4 // of each process
	keys      = 5
)

// history is what all clients did and were told.
type history struct {
	start time.Time

	mu  sync.Mutex
	ops []porcupine.Operation
}

func (h *history) now() int64 { return int64(time.Since(h.start)) }

func (h *history) record(client int, in input, out output, call, ret int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if out.unknown {
		if in.kind == get {
			return // says nothing
		}
		// It may take effect at any time from its call on, and may be revoked then.
		ret = math.MaxInt64
		h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: input{key: in.key, kind: maybeRemove}, Output: output{}, Call: call, Return: ret})
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: ret})
}

// do carries out one operation.
func do(ctx context.Context, c *cache.Cache[int, int64], in input) (out output) {
	var err error
	switch in.kind {
	case get:
		out.n, err = c.Get(ctx, in.key)
		if out.ok = err == nil; errors.Is(err, cache.ErrMiss) && !errors.Is(err, cache.ErrUnavailable) {
			err = nil
		}
	case set:
		err = c.Set(ctx, in.key, in.n)
	case remove:
		err = c.Delete(ctx, in.key)
	case setIfAbsent:
		out.ok, err = c.SetIfAbsent(ctx, in.key, in.n)
	case add:
		out.n, err = c.Update(ctx, in.key, func(old int64, _ bool) (int64, error) { return old + in.n, nil })
	case expire:
		err = c.Set(ctx, in.key, in.n, cache.TTL(0))
	case revoke:
		err = c.Invalidate(ctx, in.key)
	}
	if err != nil {
		return output{unknown: true}
	}
	return out
}

// run has all processes work on the same keys, and checks what they were told.
func run(t *testing.T, connect func(process int) redis.UniversalClient, prefix string, share float64, disturb func(stop <-chan struct{})) {
	h := &history{start: time.Now()}
	var wg sync.WaitGroup
	for p := range processes {
		c, err := cache.New[int, int64](connect(p), "r", cache.WithPrefix(prefix), cache.WithTimeout(2*time.Second), cache.WithBreaker(math.MaxInt, time.Hour),
			cache.WithStrategy(strategy.Forever()), cache.WithLogger(slog.New(slog.DiscardHandler)), cache.WithTransport(
				[]invalidate.Transport{invalidate.NoTransport(), invalidate.Broadcast(), invalidate.Tracking()}[p%3]))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i := range clients {
			client := p*clients + i
			wg.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(client)))
				for op := range int(float64(*operations) * share) {
					in := input{key: r.IntN(keys), kind: kind(r.IntN(int(maybeRemove))), n: int64(client*1_000_000 + op)}
					call := h.now()
					out := do(t.Context(), c, in)
					h.record(client, in, out, call, h.now())
				}
			})
		}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		disturb(stop)
	}()
	wg.Wait()
	close(stop)
	<-stopped
	unknown := 0
	for _, op := range h.ops {
		if op.Output.(output).unknown {
			unknown++
		}
	}
	switch porcupine.CheckOperationsTimeout(model(), h.ops, time.Minute) {
	case porcupine.Illegal:
		t.Errorf("%d operations are not linearizable", len(h.ops))
	case porcupine.Unknown:
		t.Errorf("a minute was not enough to check %d operations, %d of unknown outcome", len(h.ops), unknown)
	}
	t.Logf("%d operations, %d of unknown outcome, in %v", len(h.ops), unknown, time.Since(h.start).Round(time.Millisecond))
}

func calm(<-chan struct{}) {}

func TestAKeyIsLinearizable(t *testing.T) {
	redistest.Each(t, func(t *testing.T, b *redistest.Backend) {
		run(t, func(int) redis.UniversalClient { return b.NewClient(t) }, b.Prefix, 1, calm)
	})
}

// With connections that are cut at any moment, an operation may have been carried out
// or not, and what was read must fit all the same.
func TestAKeyIsLinearizableWhenConnectionsBreak(t *testing.T) {
	server := redistest.Start(t)
	proxies := make([]*redistest.Proxy, processes)
	for i := range proxies {
		proxies[i] = redistest.NewProxy(t, server.Addr())
	}
	connect := func(p int) redis.UniversalClient {
		o := server.Options()
		o.Addr = proxies[p].Addr()
		c := redis.NewClient(o)
		t.Cleanup(func() { c.Close() })
		return c
	}
	run(t, connect, "", 0.25, func(stop <-chan struct{}) {
		for i := range 15 {
			select {
			case <-stop:
				return
			case <-time.After(7 * time.Millisecond): // now and then, not in step with anything
				proxies[i%processes].Reset()
			}
		}
	})
}

// The checker must be able to find what is wrong: a value that was read after it had
// been replaced.
func TestTheModelFindsAStaleRead(t *testing.T) {
	op := func(client int, in input, out output, call, ret int64) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: ret}
	}
	good := []porcupine.Operation{
		op(0, input{kind: set, n: 1}, output{}, 0, 10),
		op(0, input{kind: set, n: 2}, output{}, 20, 30),
		op(1, input{kind: get}, output{ok: true, n: 1}, 21, 29),
		op(1, input{kind: add, n: 5}, output{n: 7}, 40, 50),
		op(1, input{kind: setIfAbsent, n: 5}, output{}, 60, 70),
		op(0, input{kind: remove}, output{unknown: true}, 75, math.MaxInt64),
		op(1, input{kind: get}, output{}, 80, 90),
	}
	if !porcupine.CheckOperations(model(), good) {
		t.Error("what is right is refused")
	}
	for what, bad := range map[string]porcupine.Operation{
		"a stale read":              op(2, input{kind: get}, output{ok: true, n: 1}, 31, 39),
		"a lost update":             op(2, input{kind: add, n: 1}, output{n: 2}, 51, 55),
		"a value from nowhere":      op(2, input{kind: get}, output{ok: true, n: 9}, 31, 39),
		"a value that is forgotten": op(2, input{kind: get}, output{}, 31, 39),
		"a value stored twice":      op(2, input{kind: setIfAbsent, n: 9}, output{ok: true}, 31, 39),
	} {
		if porcupine.CheckOperations(model(), append(good[:len(good):len(good)], bad)) {
			t.Errorf("%s is found to be right", what)
		}
	}
}
