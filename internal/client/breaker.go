package client

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/delqhi/cache/internal/breaker"
	"github.com/delqhi/cache/internal/store"
	"github.com/redis/go-redis/v9"
)

// ErrOpen is the error of an operation that was refused because the circuit breaker of its
// endpoint is open. Nothing was sent.
var ErrOpen = breaker.ErrOpen

// endpointBreaker refuses operations of a [Client] on endpoints that do not answer. A nil
// endpointBreaker refuses nothing.
type endpointBreaker struct {
	client *Client
	set    *breaker.Set
	// endpoint names the node that a key's commands go to; nil: there is only one.
	endpoint func(key string) string

	mu        sync.Mutex
	verifying map[string]bool // endpoints that verify has asked; guarded by mu
}

// Break makes the Client refuse operations while an endpoint does not answer: a single server
// is an endpoint, and so is each master of a cluster. It is to be called before first use;
// cfg.Probe is replaced by the Client's own.
//
// A failure is the absence of an answer that the client understands: a timeout, or a connection
// that can't be made or breaks. An error reply is an answer, and arrives at once. How long the
// caller waits has no influence. With many bytes in flight, a timeout does not mean that the
// endpoint does not answer: after the failure of a piece of a large batch, or of a large
// record, the endpoint is sent a small request, and its result counts, once for all that fail
// meanwhile.
func (g *Client) Break(cfg breaker.Config) {
	cfg.Probe = g.probe
	g.breaker = &endpointBreaker{client: g, set: breaker.New(cfg), endpoint: endpointsOf(g.store), verifying: map[string]bool{}}
}

// endpointsOf returns a function that names the node that a key's commands go to, nil if there
// is only one.
func endpointsOf(st store.Store) func(key string) string {
	if s, ok := st.(single); ok && s.Single() {
		return nil
	}
	if s, ok := st.(placed); ok {
		return s.Endpoint
	}
	return nil
}

func (g *Client) probe(_, key string) error {
	if err := g.begin(context.Background()); err != nil {
		return err
	}
	reply, err := run(g, context.Background(), nil, g.timeout, func(ctx context.Context) (store.Reply, error) {
		return g.store.Do(ctx, []store.Command{{Op: store.GetHeader, Key: key}})[0], nil
	})
	return cmp.Or(err, endpointErr(reply.Err))
}

func (b *endpointBreaker) close() {
	if b != nil {
		b.set.Close()
	}
}

// endpointErr returns err if it means that the endpoint does not answer, else nil.
func endpointErr(err error) error {
	if err == nil {
		return nil
	}
	var reply redis.Error
	if errors.As(err, &reply) || IsAnswer(err) {
		return nil
	}
	return err
}

// IsAnswer reports whether an error is an answer that was understood, such as that another
// process owns a partition of a queue: the endpoint has not failed.
func IsAnswer(err error) bool {
	return errors.Is(err, store.ErrNotOwner) || errors.Is(err, store.ErrOvertaken)
}

// entry is an operation that the breaker has admitted. A nil entry, and the zero one, is not
// tracked.
type entry struct {
	breaker       *endpointBreaker
	endpoint, key string
	large         bool // many bytes are in flight: a request about key decides
	pass          breaker.Pass
	settled       atomic.Bool
}

func (e *entry) tracked() bool { return e != nil && e.breaker != nil }

// enter admits an operation on a key as e, or refuses it. An operation without a key, which goes
// to any of several nodes, is always admitted.
func (b *endpointBreaker) enter(e *entry, key string, large bool) error {
	if b == nil || b.endpoint != nil && key == "" {
		return nil
	}
	endpoint := ""
	if b.endpoint != nil {
		endpoint = b.endpoint(key)
	}
	return b.enterAt(e, endpoint, key, large)
}

func (b *endpointBreaker) enterAt(e *entry, endpoint, key string, large bool) (err error) {
	if e.pass, err = b.set.Enter(endpoint, key); err != nil {
		return err
	}
	e.breaker, e.endpoint, e.key, e.large = b, endpoint, key, large
	return nil
}

// settle reports how the operation ended. Only the first call counts.
func (e *entry) settle(err error) {
	if !e.tracked() || !e.settled.CompareAndSwap(false, true) {
		return
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = &TimeoutError{After: e.breaker.client.timeout}
	}
	if err = endpointErr(err); err != nil && e.large {
		e.breaker.verify(e.endpoint, e.key, e.pass)
		return
	}
	e.pass.End(err)
}

// verify sends a small request to the endpoint of an operation that failed, and counts its
// result instead, once for all operations that fail meanwhile.
func (b *endpointBreaker) verify(endpoint, key string, pass breaker.Pass) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.verifying[endpoint] {
		return
	}
	b.verifying[endpoint] = b.client.background(func() {
		failure := b.client.probe(endpoint, key)
		b.mu.Lock()
		delete(b.verifying, endpoint)
		b.mu.Unlock()
		pass.End(failure)
	})
}

// admission is the entry of several commands, or the entries by endpoint. It must not be
// copied.
type admission struct {
	all entry // if all go to one endpoint

	// Otherwise:
	entries []*entry
	of      []int // by command: its entry, or -1 if it is refused
	refused int
	refusal error // of the last endpoint whose circuit is not closed
}

// admit admits commands as a, which is zero. It returns an error if all are refused.
func (b *endpointBreaker) admit(a *admission, cmds []store.Command, large bool) error {
	if b == nil || b.endpoint == nil || len(cmds) == 1 {
		return b.enter(&a.all, cmds[0].Key, large)
	}
	a.of = make([]int, len(cmds))
	known := map[string]int{}
	for i := range cmds {
		endpoint := b.endpoint(cmds[i].Key)
		n, ok := known[endpoint]
		if !ok {
			n = -1
			e := new(entry)
			if refusal := b.enterAt(e, endpoint, cmds[i].Key, large); refusal == nil {
				n = len(a.entries)
				a.entries = append(a.entries, e)
			} else {
				a.refusal = refusal
			}
			known[endpoint] = n
		}
		if a.of[i] = n; n < 0 {
			a.refused++
		}
	}
	if a.refused == len(cmds) {
		return a.refusal
	}
	return nil
}

// carryOut carries out the commands that were admitted.
func (a *admission) carryOut(ctx context.Context, st store.Store, cmds []store.Command) []store.Reply {
	if a.of == nil {
		replies := st.Do(ctx, cmds)
		a.all.settle(firstEndpointErr(replies, nil, 0))
		return replies
	}
	var replies []store.Reply
	if a.refused == 0 {
		replies = st.Do(ctx, cmds)
	} else {
		replies = a.some(ctx, st, cmds)
	}
	for i, e := range a.entries {
		e.settle(firstEndpointErr(replies, a.of, i))
	}
	return replies
}

// some carries out the commands that are not refused.
func (a *admission) some(ctx context.Context, st store.Store, cmds []store.Command) []store.Reply {
	let := make([]store.Command, 0, len(cmds)-a.refused)
	for i := range cmds {
		if a.of[i] >= 0 {
			let = append(let, cmds[i])
		}
	}
	got := st.Do(ctx, let)
	replies := make([]store.Reply, len(cmds))
	for i := range replies {
		if a.of[i] < 0 {
			replies[i].Err = a.refusal
		} else {
			replies[i], got = got[0], got[1:]
		}
	}
	return replies
}

// firstEndpointErr returns the first error that means that an endpoint does not answer, nil if
// there is none. of, if not nil, says which replies belong to entry n.
func firstEndpointErr(replies []store.Reply, of []int, n int) error {
	for i := range replies {
		if err := replies[i].Err; err != nil && (of == nil || of[i] == n) && endpointErr(err) != nil {
			return err
		}
	}
	return nil
}
