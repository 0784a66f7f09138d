package redisstore

import "context"

// canceledCtx is a context for look-ups without I/O: an operation that would need I/O fails
// instead.
var canceledCtx = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Endpoint names the node that a key's commands go to, as far as the client knows: "" for a
// single server, and while the node is not known. It does no I/O.
func (s *Redis) Endpoint(key string) string {
	if s.single != nil {
		return ""
	}
	_, addr, err := s.node(canceledCtx, key)
	if err != nil {
		return ""
	}
	return addr
}

// Single reports whether the client is one of a single server: then Endpoint is always "".
func (s *Redis) Single() bool { return s.single != nil }

// PoolSize is how many connections to a node there are at most, or 0 if that is not known.
func (s *Redis) PoolSize() int {
	switch {
	case s.single != nil:
		return s.single.Options().PoolSize
	case s.cluster != nil:
		return s.cluster.Options().PoolSize
	case s.ring != nil:
		return s.ring.Options().PoolSize
	}
	return 0
}
